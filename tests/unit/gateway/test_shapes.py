"""Values from one API's form to the other's, exactly or not at all."""

from decimal import Decimal

import pytest

from alih.gateway.offered import Template
from alih.gateway.shapes import Conversions, Datum, Unfit, Unlinked, as_it_is, shaped
from alih.model.contract import Shape, Value

pytestmark = pytest.mark.anyio


async def _link(entity: str, identifier: str) -> str | None:
    return {("shops", "17"): "777"}.get((entity, identifier))


async def _convert(datum: Datum, **conversion: str) -> Datum:
    conversions = Conversions(codes={"orders.status": {"UNPAID": "100"}}, link=_link, plain=as_it_is)
    shape: Shape = {"it": Value(path="body.it", **conversion)}
    return (await shaped(shape, {"body": {"it": datum}}, conversions))["it"]


@pytest.mark.parametrize(
    ("cast", "datum", "expected"),
    [
        ("text", 7_000_000_000_000_000_001, "7000000000000000001"),
        ("text", Decimal("1E+3"), "1000"),
        ("integer", "7000000001", 7_000_000_001),
        ("integer", -3, -3),
        ("rupiah_text", 145_000, "145000.00"),
        ("rupiah_text", "145000.5", "145000.50"),
        ("rupiah_text", Decimal("0.1"), "0.10"),
        ("rupiah_text", "-1", "-1.00"),
        ("rupiah", "145000.00", 145_000),
        ("rupiah", 9_999_999_999_999, 9_999_999_999_999),
    ],
)
async def test_casts_are_exact(cast: str, datum: Datum, expected: Datum) -> None:
    got = await _convert(datum, cast=cast)
    assert (got, type(got)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("cast", "datum"),
    [
        *(
            ("integer", d)
            for d in ("", "+1", "01", "1.0", "1e3", " 1", "١", Decimal("1.5"), True, [1], {"a": 1}, "9" * 20)
        ),
        *(("rupiah", d) for d in ("1.50", "1,000", "Rp1", Decimal("0.5"), False, "1e3", "", "NaN")),
        *(("rupiah_text", d) for d in ("1.005", Decimal("1E+30"), "١٠", "1_000", [1])),
        *(("text", d) for d in (True, [1], {"a": 1})),
    ],
)
async def test_what_does_not_fit_is_refused_without_its_value(cast: str, datum: Datum) -> None:
    with pytest.raises(Unfit) as refused:
        await _convert(datum, cast=cast)
    assert str(refused.value) == "body.it"


async def test_codes_and_links() -> None:
    assert await _convert("UNPAID", coded="orders.status") == "100"
    assert await _convert(17, link="shops") == "777"
    with pytest.raises(Unfit):
        await _convert("PAID", coded="orders.status")
    with pytest.raises(Unlinked):
        await _convert("18", link="shops")
    assert [await _convert(None, **{c: n}) for c, n in (("coded", "orders.status"), ("link", "shops"))] == [None, None]


def test_templates_match_whole_paths_and_fill_plain_values() -> None:
    template = Template("/api/shops/{shop}/orders/{order}")
    assert template.match("/api/shops/17/orders/a%2Fb") == {"shop": "17", "order": "a/b"}
    assert template.match("/api/shops/17/orders") is None
    assert template.match("/api/shops/17/orders/5/") is None
    assert template.filled({"shop": "17", "order": "a.b~c"}) == "/api/shops/17/orders/a.b~c"
    for order in ("", ".", "..", "a/b", "a b", "%2e", "é"):
        with pytest.raises(Unfit):
            template.filled({"shop": "17", "order": order})
