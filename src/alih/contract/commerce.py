"""Sales and payments of a contract: where money is recorded, who collects it, and how the provider tells of it."""

import re
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from alih.contract import expression, shape, ways
from alih.contract.document import Step
from alih.contract.expression import Row, UnfitError
from alih.contract.findings import Findings
from alih.contract.settings import NAME, PLACEHOLDER, Secrets
from alih.model.commerce import Payee, Payments, Records, Sales
from alih.model.contract import Contract, Entity, Operation, Scope
from alih.model.side import Side

Path = tuple[Step, ...]
_ROLES: tuple[Literal["orders", "charges", "refunds", "books"], ...] = ("orders", "charges", "refunds", "books")
_URL = re.compile(r"https?://[^\s/?#@]+")


def sales(given: shape.SalesShape | None) -> Sales | None:
    """Where sales are recorded, as the file says it."""
    if given is None:
        return None
    return Sales(
        orders=_records(given.orders),
        charges=_records(given.charges),
        refunds=None if given.refunds is None else _records(given.refunds),
        books=_records(given.books),
        zone=given.zone,
        seen_by=given.seen_by,
        order=given.order,
        invoice=given.invoice,
    )


def _records(
    given: shape.OrdersShape | shape.ChargesShape | shape.RefundsShape | shape.BooksShape,
) -> Records:
    return Records(entity=given.entity, columns=given.model_dump(exclude={"entity"}))


def payments(given: shape.PaymentsShape | None, secrets: Secrets) -> Payments | None:
    """The provider's address and both accounts; the keys are secrets, the address may be the `$NAME` of one."""
    if given is None:
        return None
    api = secrets.value(given.api, ("payments", "api")) if NAME.fullmatch(given.api) else given.api
    if api and not _URL.fullmatch(api):
        secrets.findings.add(("payments", "api"), "is no http(s)://host[:port]", "write it without a path or a slash")
    both = {Side.SOURCE: given.payees.source, Side.TARGET: given.payees.target}
    payees = {side: _payee(payee, side, secrets) for side, payee in both.items()}
    _judge_payees(payees[Side.SOURCE], payees[Side.TARGET], secrets.findings)
    return Payments(provider=given.provider, api=api, notices=given.notices, payees=payees)


def _payee(given: shape.PayeeShape, side: Side, secrets: Secrets) -> Payee:
    return Payee(name=given.name, key=secrets.value(given.key, ("payments", "payees", side.value, "key")))


def _judge_payees(source: Payee, target: Payee, findings: Findings) -> None:
    path: Path = ("payments", "payees", "target")
    if source.name == target.name:
        findings.add((*path, "name"), "is the source's payee as well", "name each side's own account")
    if source.key and source.key == target.key:
        findings.add(
            (*path, "key"), "is the source's key as well", "give each account its own: it tells whose notice it is"
        )


def judge(contract: Contract, findings: Findings) -> None:
    """Problems of both sections against entities and operations."""
    if contract.sales is not None:
        _judge_needs("sales", contract, findings)
        _judge_zone(contract.sales.zone, findings)
        for role in _ROLES:
            records: Records | None = getattr(contract.sales, role)
            if records is not None:
                _judge_records(records, contract, ("sales", role), findings)
        for name in ("seen_by", "invoice"):
            _judge_names_order(contract.sales, name, contract, findings)
    if contract.payments is not None:
        _judge_needs("payments", contract, findings)
        _judge_notices(contract.payments, contract, findings)


def _judge_needs(section: str, contract: Contract, findings: Findings) -> None:
    if contract.tenant_entity is None:
        findings.add((section,), "needs tenants to account by", "add `tenant: {entity: …, key: …}` at the top")
    if contract.gateway is None:
        findings.add((section,), "needs a gateway to see them at", "add `gateway:`")


def _judge_zone(zone: str, findings: Findings) -> None:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # unknown, no relative path, a directory such as `Asia`
        findings.add(("sales", "zone"), f"{zone} is no time zone", "write it as in Asia/Jakarta")


def _judge_records(records: Records, contract: Contract, path: Path, findings: Findings) -> None:
    entity = next((e for e in contract.entities if e.name == records.entity), None)
    if entity is None:
        findings.add((*path, "entity"), f"there is no entity {records.entity}", "name one of `entities`")
    elif entity.scope is not Scope.TENANT:
        findings.add((*path, "entity"), f"the rows of {entity.name} are no tenant's", "name an entity with a tenant")
    for column, sql in records.columns.items():
        _judge_column(sql, entity, (*path, column), findings)


def _judge_column(sql: str, entity: Entity | None, path: Path, findings: Findings) -> None:
    try:
        read = expression.parse(sql).columns
    except UnfitError as unfit:
        findings.add(path, unfit.what, unfit.remedy)
        return
    if entity is None:
        return
    for column in sorted(read):
        if not _comes_back(entity, column):
            findings.add(path, f"reads {column}, which the target's rows do not tell", _remedy(entity, column))


def _comes_back(entity: Entity, column: str) -> bool:
    """On the target the expression runs over what the way back gives; other columns are not there, or not whole."""
    try:
        return column not in {**entity.not_moved, **entity.keep} and ways.backward(entity, column, Row("r")) is not None
    except UnfitError:
        return True  # an expression of the entity itself is unfit, and named there


def _remedy(entity: Entity, column: str) -> str:
    if column in entity.not_moved:
        return "it is not moved: use columns that cross"
    if column in entity.keep:
        return "it is kept at the source, for it does not come back whole: use other columns"
    return "use columns that cross and come back, or add the way back to the entity's `reverse`"


def operation(contract: Contract, name: str) -> Operation | None:
    """The operation of that name."""
    return next((o for o in contract.operations if o.name == name), None)


def _judge_names_order(given: Sales, key: str, contract: Contract, findings: Findings) -> None:
    name = str(getattr(given, key))
    found = _operation_of_tenant(name, contract, ("sales", key), findings)
    if found is not None and given.order not in PLACEHOLDER.findall(found.front[1]):
        findings.add(
            ("sales", key),
            f"the front path of {name} has no {{{given.order}}}",
            "name an operation whose front path names the order, and its placeholder under `order`",
        )


def _judge_notices(given: Payments, contract: Contract, findings: Findings) -> None:
    path: Path = ("payments", "notices")
    found = _operation_of_tenant(given.notices, contract, path, findings)
    if found is None:
        return
    if found.front[0] != "POST":
        findings.add(path, f"{given.notices} is no POST", "name the operation by which notices enter")
    if len(PLACEHOLDER.findall(found.front[1])) != 1:
        findings.add(path, f"the front path of {given.notices} names more than the tenant", "notices name the rest")


def _operation_of_tenant(name: str, contract: Contract, path: Path, findings: Findings) -> Operation | None:
    found = operation(contract, name)
    if found is None:
        findings.add(path, f"there is no operation {name}", "name one of `operations`")
    elif contract.gateway is not None and not under_tenant(found.front[1], contract.gateway.tenant_path):
        findings.add(path, f"the front path of {name} names no tenant", "name an operation under gateway.tenant_from")
        return None
    return found


def under_tenant(path: str, tenant_path: str) -> bool:
    """Whether a path template lies under the tenants' prefix; placeholders may be called otherwise."""
    prefix = PLACEHOLDER.sub("{}", tenant_path).rstrip("/")
    bare = PLACEHOLDER.sub("{}", path)
    return bare == prefix or bare.startswith(prefix + "/")
