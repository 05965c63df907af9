"""The route table and the filter that names tenants, as text."""

import json
from pathlib import Path
from typing import Any

import pytest

from alih.errors import Refused
from alih.gateway.bootstrap import Addresses, bootstrap, tenant_filter
from alih.gateway.routes import Destination, IdForm, closed_table, route_table
from alih.model.contract import Gateway

SOURCE, TARGET, GATE = Destination.SOURCE, Destination.TARGET, Destination.GATE


def _gateway(tenant_path: str = "/api/shops/{shop_id}", shared_paths: tuple[str, ...] = ("/api/me",)) -> Gateway:
    return Gateway(
        listen="127.0.0.1:8080",
        front="127.0.0.1:9001",
        source="127.0.0.1:9002",
        target="127.0.0.1:9003",
        tenant_path=tenant_path,
        shared_paths=shared_paths,
        request_max_ms=2000,
    )


def _domains(table: dict[str, Any]) -> dict[str, list[str]]:
    return {host["name"]: host["domains"] for host in table["resources"][0]["virtual_hosts"]}


def test_only_what_differs_from_the_default_is_listed() -> None:
    table = route_table(7, SOURCE, {"2": TARGET, "10": TARGET, "3": GATE, "4": SOURCE, "@shared": GATE})
    assert table["version_info"] == "7"
    assert _domains(table) == {
        "undecided": ["@undecided"],
        "refused": ["@refused"],
        "front paths": ["-"],
        "default": ["*"],
        "target": ["10", "2"],
        "gate": ["3", "@shared"],
    }


def test_the_default_can_be_swapped() -> None:
    domains = _domains(route_table(8, TARGET, {"2": TARGET, "3": SOURCE}))
    assert (domains["default"], domains["source"], "target" in domains) == (["*"], ["3"], False)


def test_the_closed_table_routes_nobody() -> None:
    assert "cluster" not in json.dumps(closed_table())


@pytest.mark.parametrize("tenant", ["*", "a*", "*a", "", "-", "@x", "a b", "a/b", "é", "a" * 129, "[::1]", "a:1"])
def test_ids_that_no_path_can_carry_are_refused(tenant: str) -> None:
    with pytest.raises(Refused, match="cannot be told from a path"):
        route_table(1, SOURCE, {tenant: TARGET})


def test_ids_that_differ_only_in_case_are_refused() -> None:
    with pytest.raises(Refused, match=r"'Toko' and 'TOKO' differ only in case"):
        route_table(1, SOURCE, {"Toko": TARGET, "TOKO": SOURCE})


@pytest.mark.parametrize("path", ["/api/shops", "/{a}/{b}", "/api/shop-{id}", "/api/{x}y"])
def test_a_template_names_one_tenant_in_a_segment_of_its_own(path: str) -> None:
    with pytest.raises(Refused):
        tenant_filter(_gateway(tenant_path=path), IdForm.TEXT)


@pytest.mark.parametrize("path", ["/", "/api/{x}", '/a"b', "/a\\b", "/%41"])
def test_shared_paths_are_plain_prefixes(path: str) -> None:
    with pytest.raises(Refused):
        tenant_filter(_gateway(shared_paths=(path,)), IdForm.TEXT)


def test_the_filter_is_told_template_and_shared_paths() -> None:
    lines = tenant_filter(_gateway(shared_paths=("/api/me", "/cart")), IdForm.INTEGER).splitlines()[:4]
    assert lines == [
        'local TEMPLATE = {"api", "shops", false}',
        'local SHARED = {{"api", "me"}, {"cart"}}',
        'local IDS = "integer"',
        'local HEADER = "x-alih-tenant"',
    ]


def test_nothing_is_tried_twice_timed_out_or_logged() -> None:
    config = bootstrap(
        _gateway(),
        directory=Path("/d"),
        addresses=Addresses(adapter="127.0.0.1:1", gate="127.0.0.1:2"),
        ids=IdForm.TEXT,
    )
    text = json.dumps([config, route_table(1, SOURCE, {"1": GATE, "2": TARGET})])
    assert [word for word in ("retry_policy", "access_log", "per_try") if word in text] == []
    assert text.count('"timeout": "0s"') == 2 * 4
    assert text.count('"max_retries": 0') == 4
