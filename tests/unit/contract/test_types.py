"""Types between two databases: as what a value travels, what is refused and why, and what a plain cast loses."""

from dataclasses import replace
from pathlib import Path

import pytest

from alih.contract import check, compile, losses, types
from alih.model.catalog import Catalog, ColumnInfo, TypeInfo, TypeKind
from alih.model.projection import ReadColumn
from tests.unit.contract.shop import (
    ORDERS,
    PESANAN,
    SOURCE,
    TARGET,
    TEXT,
    catalog,
    column,
    exchanged,
    line_of,
    loaded,
    spoilt,
    with_column,
)

MOOD = TypeInfo(name="public.mood", kind=TypeKind.ENUM, made_of=("sad", "ok"))
PRICE = TypeInfo(name="public.price", kind=TypeKind.DOMAIN, made_of=("numeric", "numeric(18,2)"), parts=("numeric",))
MOODY = TypeInfo(name="public.moody", kind=TypeKind.DOMAIN, made_of=("public.mood",) * 2, parts=("public.mood",))
TAGS = TypeInfo(name="public.tags", kind=TypeKind.DOMAIN, made_of=("text[]", "text[]"), parts=("text[]",))
PAIR = TypeInfo(
    name="public.pair",
    kind=TypeKind.COMPOSITE,
    made_of=("a integer", "b public.mood"),
    parts=("integer", "public.mood"),
)
OWNED = TypeInfo(name="public.owned", kind=TypeKind.COMPOSITE, made_of=("a regclass",), parts=("regclass",))
CITEXT = TypeInfo(name="public.citext", kind=TypeKind.BASE, made_of=("citext",))
MUTE = TypeInfo(name="public.mute", kind=TypeKind.BASE, binary=False)
ALL = {t.name: t for t in (MOOD, PRICE, MOODY, TAGS, PAIR, OWNED, CITEXT, MUTE)}


def database(*made: TypeInfo) -> Catalog:
    return Catalog(types={t.name: t for t in made})


TRAVELS = [
    ("bigint", "bigint", "bigint", None),
    ("text[]", "text[]", "text[]", None),
    ("public.mood", "text", "text", "public.mood"),
    ("public.mood[]", "text[]", "text[]", "public.mood[]"),
    ("public.price", "numeric", "numeric(18,2)", None),
    ("public.price[]", "numeric[]", "numeric(18,2)[]", None),
    ("public.moody", "text", "text", "public.mood"),
    ("public.moody[]", "text[]", "text[]", "public.mood[]"),
    ("public.tags", "text[]", "text[]", None),
    ("public.pair[]", "public.pair[]", "public.pair[]", None),
]


@pytest.mark.parametrize(("name", "bare", "full", "enum"), TRAVELS, ids=[t[0] for t in TRAVELS])
def test_as_what_a_value_travels(name: str, bare: str, full: str, enum: str | None) -> None:
    own = column("x", name)
    found = types.travelling(own, ALL)
    assert (found.type, found.full_type, types.enum(own, ALL)) == (bare, full, enum)


OBSTACLES = [
    ("bigint", TypeKind.BASE, database(), None),
    ("public.mood[]", TypeKind.ENUM, database(), None),
    ("public.price", TypeKind.DOMAIN, database(), None),
    ("public.pair", TypeKind.COMPOSITE, database(PAIR, MOOD), None),
    (
        "public.pair[]",
        TypeKind.COMPOSITE,
        database(MOOD),
        "of the composite public.pair, which the other database does not have → create the type public.pair there, or"
        " leave the column out, or change its type",
    ),
    (
        "public.pair",
        TypeKind.COMPOSITE,
        database(replace(PAIR, made_of=("a integer", "b text")), MOOD),
        "of the composite public.pair, which is made otherwise in the other database → make the two types alike",
    ),
    (
        "public.pair",
        TypeKind.COMPOSITE,
        database(PAIR, replace(MOOD, made_of=("ok",))),
        "of the enum public.mood, which is made otherwise in the other database → make the two types alike",
    ),
    ("public.pair", TypeKind.COMPOSITE, database(PAIR, replace(MOOD, made_of=("ok", "sad"))), None),
    (
        "public.owned",
        TypeKind.COMPOSITE,
        database(OWNED),
        "of type regclass, whose values are numbers of this server's own objects → leave the column out, or use bigint",
    ),
    (
        "public.citext",
        TypeKind.BASE,
        database(),
        "of the type public.citext, which the other database does not have → CREATE EXTENSION citext SCHEMA public"
        " there, or leave the column out, or change its type",
    ),
    ("public.citext", TypeKind.BASE, database(CITEXT), None),
    (
        "public.mute",
        TypeKind.BASE,
        database(MUTE),
        "of type public.mute, that has no binary form → leave the column out, or change its type",
    ),
    (
        "money",
        TypeKind.BASE,
        database(),
        "of type money, whose digits mean what lc_monetary says → change it to numeric, or leave the column out",
    ),
    (
        "xml[]",
        TypeKind.BASE,
        database(),
        "of type xml, whose binary form depends on how the server was built → change it to text, or leave the column"
        " out",
    ),
    (
        "oid",
        TypeKind.BASE,
        database(),
        "of type oid, whose values are numbers of this server's own objects → leave the column out, or use bigint",
    ),
    (
        "public.tags[]",
        TypeKind.DOMAIN,
        database(),
        "an array of a domain over an array (public.tags[]) → leave the column out, or change its type",
    ),
    (
        "public.orders",
        TypeKind.COMPOSITE,
        database(),
        "of the row type of a table (public.orders) → CREATE TYPE … AS (…) on both sides; or leave the column out, or"
        " change its type",
    ),
]


@pytest.mark.parametrize(("name", "kind", "there", "says"), OBSTACLES, ids=[o[0] for o in OBSTACLES])
def test_what_cannot_travel(name: str, kind: TypeKind, there: Catalog, says: str | None) -> None:
    found = types.obstacle(column("x", name, kind=kind), Catalog(types=ALL), there)
    assert (found and " → ".join(found)) == says


LOSSES = [
    ("numeric(18,2)", "numeric(18,4)", "cannot hold as many digits"),
    ("numeric(18,2)", "numeric(20,4)", None),
    ("numeric(18,2)", "numeric(18,1)", "rounds"),
    ("numeric(18,0)", "bigint", None),
    ("numeric(18,2)", "bigint", "rounds"),
    ("double precision", "numeric", "rounds"),
    ("bigint", "double precision", "rounds"),
    ("integer", "double precision", None),
    ("integer", "real", "rounds"),
    ("character varying(40)", "character varying(20)", "cannot hold what is longer"),
    ("character varying(20)", "character varying(40)", None),
    ("text", "character varying(40)", None),
    ("bit(8)", "bit(7)", "cuts off or fills up bits"),
    ("json", "jsonb", "forgets spaces, the order of keys and repeated keys"),
    ("jsonb", "json", None),
    ("inet", "cidr", "clears the bits of the host"),
    ("public.price", "bigint", "rounds"),
    ("public.price", "public.price", None),
]


@pytest.mark.parametrize(("source", "target", "says"), LOSSES)
def test_what_a_plain_cast_loses(source: str, target: str, says: str | None) -> None:
    assert losses.loss(column("a", source), column("b", target), ALL, ALL) == says


def test_fewer_digits_of_a_second_round() -> None:
    fine = ColumnInfo(name="a", type="timestamp with time zone", full_type="timestamp with time zone")
    coarse = replace(fine, full_type="timestamp(3) with time zone")
    assert losses.loss(fine, coarse, {}, {}) == "rounds"
    assert losses.loss(coarse, fine, {}, {}) is None


def enums(here: TypeInfo, there: TypeInfo, text: str) -> tuple[str, Catalog, Catalog]:
    """The contract's text with one enum mapped to another, and the two catalogs."""
    source = exchanged(SOURCE, with_column(ORDERS, column("mood", here.name, kind=TypeKind.ENUM)))
    target = exchanged(TARGET, with_column(PESANAN, column("rasa", there.name, kind=TypeKind.ENUM)))
    changed = spoilt("      channel: {value: social}\n", f"      channel: {{value: social}}\n      rasa: {text}\n")
    return (
        changed,
        replace(catalog(*source), types={here.name: here}),
        replace(catalog(*target), types={there.name: there}),
    )


RASA = TypeInfo(name="public.rasa", kind=TypeKind.ENUM, made_of=("ok", "senang"))


def test_enums_with_other_labels_need_a_map(tmp_path: Path) -> None:
    text, here, there = enums(MOOD, RASA, "mood")
    place = f"alih.yaml:{line_of(text, 'rasa: mood')}: entities.orders.fields.rasa"
    remedy = "add the label to the type, or write a `map:` and say under"
    assert [str(p) for p in check(loaded(tmp_path, text), here, there)] == [
        f"{place}: the enum public.rasa has no label sad → {remedy} `map:` what it becomes",
        f"{place}: the enum public.mood has no label senang → {remedy} `reverse:` what it becomes",
    ]
    mapped, here, there = enums(MOOD, RASA, "{from: mood, map: {sad: senang, ok: ok}}")
    assert check(loaded(tmp_path, mapped), here, there) == []


def test_an_enum_is_staged_as_text_and_cast_where_it_is_written(tmp_path: Path) -> None:
    text, here, there = enums(MOOD, replace(RASA, made_of=MOOD.made_of), "mood")
    orders = next(p for p in compile(loaded(tmp_path, text), here, there).forward if p.entity == "orders")
    assert orders.read_columns[-1] == ReadColumn("mood", "public.mood", False, "text")
    assert (orders.assignments[-1].sent, orders.assignments[-1].sql) == (
        '((r."mood"::text))::text',
        '(((r."mood"::text))::text)::public.rasa',
    )


def test_a_column_that_the_target_computes_is_not_filled(tmp_path: Path) -> None:
    target = exchanged(TARGET, with_column(PESANAN, column("channel", "text", generated=True)))
    found = [str(p) for p in check(loaded(tmp_path, TEXT), catalog(*SOURCE), catalog(*target))]
    place = f"alih.yaml:{line_of(TEXT, 'channel: {value')}: entities.orders.fields.channel"
    assert f"{place}: public.pesanan computes channel itself → leave the field out of `fields`" in found


def test_an_identity_that_no_update_may_set_is_refused(tmp_path: Path) -> None:
    target = exchanged(TARGET, with_column(PESANAN, column("amount_idr", "bigint", identity=True, always=True)))
    (problem,) = check(loaded(tmp_path, TEXT), catalog(*SOURCE), catalog(*target))
    assert problem.what == "public.pesanan.amount_idr is GENERATED ALWAYS AS IDENTITY, which no UPDATE may set"
    assert problem.remedy == 'ALTER TABLE "public"."pesanan" ALTER COLUMN "amount_idr" SET GENERATED BY DEFAULT'
