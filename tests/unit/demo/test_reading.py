"""What shoppers read out of paths, pages and amounts, and how the live percentiles are taken."""

import ast
from pathlib import Path

import msgspec
import pytest

import demo.audit
from demo.shoppers.answers import Cart, rupiah
from demo.shoppers.browser import hosts_named, template_of
from demo.shoppers.diary import percentile


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/", "/"),
        ("/p/v1", "/p/{promo}"),
        ("/api/shops/1000000001/orders/7/invoice", "/api/shops/{shop_id}/orders/{order_id}/invoice"),
        ("/invoices/2024/17", "/invoices/{n}/{n}"),
    ],
)
def test_a_path_is_known_by_the_front_ends_own_name(path: str, template: str) -> None:
    assert template_of(path) == template


@pytest.mark.parametrize(
    ("body", "hosts"),
    [
        ({"a": [{"invoice_url": "https://other.example:8443/i/1"}]}, ["other.example:8443"]),
        ({"a": "//cdn.example/x.png"}, ["cdn.example"]),
        ({"a": "/static/x.png", "b": "half // half"}, []),
        ('<svg xmlns="http://www.w3.org/2000/svg"/><a href="http://old.example/i">x</a>', ["old.example"]),
    ],
)
def test_every_absolute_url_names_its_host(body: object, hosts: list[str]) -> None:
    assert list(hosts_named(body)) == hosts


def test_money_is_never_rounded() -> None:
    assert rupiah(msgspec.convert({"items": [], "total_amount": "145000.00"}, Cart).total_amount) == 145000
    with pytest.raises(msgspec.ValidationError, match="total_amount"):
        msgspec.convert({"items": [], "total_amount": "145000.50"}, Cart)


def test_percentiles() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99), percentile([], 0.5)) == (
        50.0,
        99.0,
        7.0,
        0.0,
    )


def test_the_audit_imports_nothing_of_the_program_that_it_audits() -> None:
    allowed = {"collections", "dataclasses", "demo.audit", "enum", "json", "pathlib", "psycopg", "typing"}
    files = list(Path(demo.audit.__path__[0]).rglob("*.py"))
    imported = {module for file in files for module in _imports(ast.parse(file.read_text(encoding="utf-8")))}
    assert len(files) >= 4
    assert {module for module in imported if not any(_within(module, name) for name in allowed)} == set()


def _within(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")


def _imports(tree: ast.Module) -> set[str]:
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return plain | {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
