"""What a contract says about money: where sales are recorded, who collects, and how a purchase is tried.

Sales are described once, in the source's terms. On the target they are read through the way back, so that one
description serves both sides and cannot drift apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from alih.model.side import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """One role of an entity's rows. `columns` are SQL expressions over the *source's* columns, by fixed names:

    orders   order (text), amount (integer rupiah), at (timestamptz)
    charges  order, payee (text), amount, reference (text: what the provider calls it), settled (boolean),
             at, settled_at (timestamptz or null)
    refunds  order, key (text: names the refund at the provider), amount, settled (boolean), at
    books    entry (text), order, received (integer rupiah, signed: money in minus money out; 0 for other accounts), at
    """

    entity: str
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sales:
    """Where a sale is recorded.

    `zone` is the time zone whose midnight ends a day of the books. `seen_by` names the operation whose call is a
    sale seen at the gateway, and `order` the placeholder of its front path that holds the order's id; `invoice`
    names the operation that shows the invoice (its front path has the same placeholder).
    """

    orders: Records
    charges: Records
    refunds: Records | None
    books: Records
    zone: str
    seen_by: str
    order: str
    invoice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Payee:
    """An account at the payment provider. `name` is what charges call it; `key` signs its notices."""

    name: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payments:
    """The payment provider: `provider` is the dialect ("midtrans"), `api` its base URL without a slash at the end,
    `notices` the operation by which its notices enter, `payees` the account of each side's operator."""

    provider: str
    api: str
    notices: str
    payees: Mapping[Side, Payee]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStep:
    """One click of the synthetic shopper.

    `{name}` in path, headers and body (nested lists and mappings of JSON) is replaced by what was taken before, and
    by what the contract says of the test tenant, and by `key` (a text of this trial alone). `takes` names parts of the
    answer: `body.a.b`, `body.items.0.price`, or `location` (the Location header's path and fragment; a value is cut out
    of it by a template, see `patterns`). `until` repeats the step, within some seconds, until these parts have these
    values.
    """

    name: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any  # JSON, or None for no body
    status: int
    takes: Mapping[str, str]
    patterns: Mapping[str, str]  # name taken → template such as /#/shops/{tenant}/products/{product}
    until: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A purchase that is tried automatically. `tenants` are the marked test tenants by cohort; each gives `tenant`, its
    id, and whatever else the steps name. Their sales are never counted as sales.

    Steps have to take: `order`; the amounts `shown`, `ordered` and `charged` (rupiah as an integer or as text with
    two zero decimals); `invoice`, a link; `refunded`, an amount. The step that opens the Shop tab is `tab`.
    """

    tenants: Mapping[str, Mapping[str, str]]
    steps: tuple[TrialStep, ...]
    tab: str

    @property
    def test_tenants(self) -> Mapping[str, str]:
        """Cohort → test tenant."""
        return {cohort: names["tenant"] for cohort, names in self.tenants.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the public asks of the migration, as data: a directory's files, read whole.

    `weights` are percent by score group (payment, data, merchant; 60, 20, 20 unless the files say otherwise);
    `articles` are the files' own mappings, for the report; `deadline` ends the time that was given.
    """

    weights: Mapping[str, int]
    articles: tuple[Mapping[str, Any], ...]
    deadline: datetime | None
