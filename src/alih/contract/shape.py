"""The shape of `alih.yaml`: which keys there are and what kind of value each holds (pydantic, at this edge only).

What the values mean together is `alih.contract.load`'s to judge.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, StringConstraints, Tag

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Code = str | int
Scalar = str | int | float | bool | None
Call = Annotated[str, StringConstraints(pattern=r"^(GET|HEAD|POST|PUT|PATCH|DELETE) /[^\s?#]*$")]
Count = Annotated[int, Field(ge=1)]
Click = Annotated[str, StringConstraints(pattern=r"^(GET|HEAD|POST|PUT|PATCH|DELETE) [/{][^\s#]*$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*$")]


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class EndpointShape(Shape):
    kind: Literal["postgres"] = "postgres"
    dsn: Text | None = None
    embedded: Literal[True] | None = None
    version: Literal[16, 18] = 18


class TenantShape(Shape):
    entity: Text
    key: Text


class ViaShape(Shape):
    via: Text
    column: Text


class Classified(Shape):
    data: Literal["general", "specific"] | None = None


class PlainShape(Classified):
    source: Text = Field(alias="from")


class CodedShape(Classified):
    source: Text = Field(alias="from")
    map: Annotated[dict[str, Code], Field(min_length=1)]
    other: Code | None = Field(default=None, alias="else")
    reverse: dict[str, Code] = {}
    reverse_else: Code | None = None


class LinkShape(Classified):
    link: Text
    source: Text = Field(alias="from")


class OffsetShape(Classified):
    offset: Text
    source: Text = Field(alias="from")


class SqlShape(Classified):
    sql: Text
    reverse: Text | None = None


class ConstantShape(Shape):
    value: Scalar


def _first_key(*keys: str) -> Discriminator:
    """Tells shapes apart by the first of `keys` that a mapping has; `<` keeps the tag from being taken for a key."""

    def tag(value: Any) -> str | None:  # any YAML value, right or wrong
        if isinstance(value, Mapping):
            return next((f"<{k}>" for k in keys if k in value), None)
        return "<text>" if isinstance(value, str) else None

    return Discriminator(
        tag,
        custom_error_type="one_of",
        custom_error_message=f"should be a word, or have one of the keys {', '.join(keys)}",
    )


Rule = Annotated[
    Annotated[Text, Tag("<text>")]
    | Annotated[ConstantShape, Tag("<value>")]
    | Annotated[SqlShape, Tag("<sql>")]
    | Annotated[LinkShape, Tag("<link>")]
    | Annotated[OffsetShape, Tag("<offset>")]
    | Annotated[CodedShape, Tag("<map>")]
    | Annotated[PlainShape, Tag("<from>")],
    _first_key("value", "sql", "link", "offset", "map", "from"),
]
Tenancy = Annotated[Annotated[Text, Tag("<text>")] | Annotated[ViaShape, Tag("<via>")], _first_key("via")]


class EntityShape(Shape):
    source: Text = Field(alias="from")
    target: Text = Field(alias="to")
    key: Annotated[dict[str, Text], Field(min_length=1)]
    tenant: Tenancy | None = None
    scope: Literal["tenant", "shared", "reference"] | None = None
    history: Literal["moves", "stays"] = "moves"
    ours: Text | None = None
    link: Text | None = None
    offset: int | None = None
    purpose: Text
    fields: Annotated[dict[str, Rule], Field(min_length=1)]
    reverse: dict[str, Text] = {}
    keep: dict[str, Text] = {}
    not_moved: dict[str, Text] = {}


class CohortShape(Shape):
    name: Text
    tenants: list[Text] | None = None
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    rest: Literal[True] | None = None


class TenantFromShape(Shape):
    path: Text


class GatewayShape(Shape):
    listen: Text
    front: Text
    source: Text
    target: Text
    tenant_from: TenantFromShape
    shared_paths: list[Text] = []
    request_max_ms: Count
    operator_secret: Text | None = None


class ValueShape(Shape):
    path: Text = Field(alias="from")
    cast: Literal["text", "integer", "rupiah_text", "rupiah"] | None = None
    coded: Text | None = None
    link: Text | None = None


class FixedShape(Shape):
    value: str | int | bool


class EachShape(Shape):
    each: Text
    of: "ObjectShape"


class ObjectShape(RootModel[dict[str, "Member"]]):
    """An object of values, lists and objects."""


def _member(value: Any) -> str | None:  # any YAML value, right or wrong
    if isinstance(value, Mapping):
        return next((f"<{k}>" for k in ("from", "each", "value") if k in value), "<object>")
    return "<text>" if isinstance(value, str) else None


Member = Annotated[
    Annotated[Text, Tag("<text>")]
    | Annotated[ValueShape, Tag("<from>")]
    | Annotated[EachShape, Tag("<each>")]
    | Annotated[FixedShape, Tag("<value>")]
    | Annotated[ObjectShape, Tag("<object>")],
    Discriminator(
        _member, custom_error_type="one_of", custom_error_message="should be a path such as body.id, or a mapping"
    ),
]


class OperationShape(Shape):
    front: Call
    target: Call
    purpose: Text
    path: ObjectShape = ObjectShape({})
    query: ObjectShape = ObjectShape({})
    headers: ObjectShape = ObjectShape({})
    request: ObjectShape = ObjectShape({})
    answer: ObjectShape = ObjectShape({})
    content: Literal["json", "html"] = "json"


class OrdersShape(Shape):
    entity: Text
    order: Text
    amount: Text
    at: Text


class ChargesShape(Shape):
    entity: Text
    order: Text
    payee: Text
    amount: Text
    reference: Text
    settled: Text
    at: Text
    settled_at: Text


class RefundsShape(Shape):
    entity: Text
    order: Text
    key: Text
    amount: Text
    settled: Text
    at: Text


class BooksShape(Shape):
    entity: Text
    entry: Text
    order: Text
    received: Text
    at: Text


class SalesShape(Shape):
    zone: Text = "UTC"
    seen_by: Text
    order: Name
    invoice: Text
    orders: OrdersShape
    charges: ChargesShape
    refunds: RefundsShape | None = None
    books: BooksShape


class PayeeShape(Shape):
    name: Text
    key: Text


class PayeesShape(Shape):
    source: PayeeShape
    target: PayeeShape


class PaymentsShape(Shape):
    provider: Literal["midtrans"]
    api: Text
    notices: Text
    payees: PayeesShape


class CutShape(Shape):
    source: Text = Field(alias="from")
    like: Text


Taken = Annotated[
    Annotated[Text, Tag("<text>")] | Annotated[CutShape, Tag("<from>")],
    Discriminator(
        lambda value: "<from>" if isinstance(value, Mapping) else "<text>" if isinstance(value, str) else None,
        custom_error_type="one_of",
        custom_error_message="should be a path such as body.price, or {from: path, like: template}",
    ),
]


class StepShape(Shape):
    call: Click
    headers: dict[str, Code] = {}
    body: Any = None
    status: Annotated[int, Field(ge=100, le=599)] = 200
    take: dict[Name, Taken] = {}
    until: dict[str, Scalar] = {}


class TrialShape(Shape):
    tab: Text
    tenants: Annotated[dict[str, dict[Name, Code]], Field(min_length=1)]
    steps: Annotated[dict[str, StepShape], Field(min_length=1)]


Percent = Annotated[int, Field(ge=0, le=100)]


class WeightsShape(Shape):
    payment: Percent
    data: Percent
    merchant: Percent


class AsksShape(Shape):
    en: Text
    id: Text


class ArticleShape(Shape):
    article: Text
    source: Text
    asks: AsksShape
    measured: Annotated[list[Text], Field(min_length=1)]


class RulesShape(Shape):
    """`rules.yaml`, a file of its own."""

    deadline: Text | None = None
    weights: WeightsShape = WeightsShape(payment=60, data=20, merchant=20)
    articles: list[ArticleShape] = []


class CopyShape(Shape):
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    rate_mb_per_s: Count | None = None
    max_replica_lag_ms: Count | None = None
    max_target_latency_ms: Count | None = None


class ContractShape(Shape):
    migration: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    source: EndpointShape
    target: EndpointShape
    control: EndpointShape = EndpointShape(embedded=True)
    tenant: TenantShape | None = None
    entities: Annotated[dict[str, EntityShape], Field(min_length=1)]
    tables_not_moved: dict[str, Text] = {}
    copying: CopyShape = Field(default=CopyShape(), alias="copy")
    cohorts: list[CohortShape] = []
    wave: Count = 20
    gateway: GatewayShape | None = None
    operations: dict[str, OperationShape] = {}
    sales: SalesShape | None = None
    payments: PaymentsShape | None = None
    trial: TrialShape | None = None
    rules: Text | None = None
