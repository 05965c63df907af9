"""Entities of a contract: tables, keys, tenancy and the rule of each field."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from alih.contract import expression, shape
from alih.contract.document import Step
from alih.contract.expression import UnfitError
from alih.contract.findings import Findings
from alih.contract.shape import ContractShape, EntityShape
from alih.model.contract import (
    Coded,
    Constant,
    Entity,
    Expression,
    Field,
    History,
    Linked,
    Own,
    PersonalData,
    Plain,
    Rule,
    Scope,
    Shifted,
    Table,
    Via,
)

Path = tuple[Step, ...]


def table(name: str) -> Table:
    """`orders` or `sales.orders`; the schema is public unless it is named."""
    schema, _, bare = name.rpartition(".")
    return Table(schema or "public", bare)


def tenant_entity(contract: ContractShape, findings: Findings) -> str | None:
    """The name of the entity whose rows are the tenants."""
    if contract.tenant is None:
        return None
    entity = contract.entities.get(contract.tenant.entity)
    if entity is None:
        findings.add(("tenant", "entity"), f"there is no entity {contract.tenant.entity}", "name one of `entities`")
    elif list(entity.key) != [contract.tenant.key]:
        findings.add(
            ("tenant", "key"),
            "is not the key of that entity",
            f"write the source column of its one-column key: {', '.join(entity.key)}",
        )
    elif entity.tenant != contract.tenant.key:
        findings.add(
            ("entities", contract.tenant.entity),
            "is the tenant, but its rows are not the tenant's",
            f"add `tenant: {contract.tenant.key}`",
        )
    return contract.tenant.entity


def convert(contract: ContractShape, findings: Findings) -> Iterator[Entity]:
    """The entities in the file's order."""
    for name, entity in contract.entities.items():
        path: Path = ("entities", name)
        _judge_name(name, path, findings)
        if entity.history == "stays":
            findings.add(
                (*path, "history"), "rows that stay are not offered yet", "write `history: moves`, or leave it out"
            )
        tenant = _tenant(entity, contract, path, findings)
        yield Entity(
            name=name,
            source=table(entity.source),
            target=table(entity.target),
            key=tuple(entity.key.items()),
            scope=Scope(entity.scope or "tenant"),
            tenant=tenant,
            history=History(entity.history),
            fields=tuple(_fields(entity, contract, path, findings)),
            reverse=_reverse(entity, path, findings),
            not_moved=dict(entity.not_moved),
            ours=_sql(entity.ours, (*path, "ours"), findings),
            link=_link(entity, path, findings),
            offset=_offset(entity, path, findings),
            keep=dict(entity.keep),
            purpose=entity.purpose,
            place=findings.document.place(*path),
        )
    _judge_tables(contract, findings)


def _judge_name(name: str, path: Path, findings: Findings) -> None:
    if not name.isidentifier():
        findings.add(path, "is no name", "use letters, digits and _")


def _judge_tables(contract: ContractShape, findings: Findings) -> None:
    for side in ("source", "target"):
        count = Counter(table(getattr(e, side)) for e in contract.entities.values())
        for name, entity in contract.entities.items():
            own = table(getattr(entity, side))
            if count[own] > 1:
                key = "from" if side == "source" else "to"
                findings.add(
                    ("entities", name, key), f"{own} stands in {count[own]} entities", "give each table one entity"
                )


def _tenant(entity: EntityShape, contract: ContractShape, path: Path, findings: Findings) -> Own | Via | None:
    needed = entity.scope in (None, "tenant")
    if needed != (entity.tenant is not None):
        remedy = (
            "write `tenant: column`, `tenant: {via: entity, column: column}`, `scope: shared` or `scope: reference`"
        )
        findings.add(path, "whose rows it holds is not said" if needed else "has both a tenant and a scope", remedy)
        return None
    if entity.tenant is not None and contract.tenant is None:
        findings.add((*path, "tenant"), "the contract names no tenant", "add `tenant: {entity: …, key: …}` at the top")
    if isinstance(entity.tenant, shape.ViaShape):
        return _via(entity.tenant, contract, path, findings)
    return None if entity.tenant is None else Own(entity.tenant)


def _via(via: shape.ViaShape, contract: ContractShape, path: Path, findings: Findings) -> Via:
    seen, name = {str(path[-1])}, via.via
    while True:
        parent = contract.entities.get(name)
        if parent is None:
            findings.add((*path, "tenant", "via"), f"there is no entity {name}", "name one of `entities`")
        elif name in seen:
            findings.add((*path, "tenant", "via"), "leads in a circle", "end the way at an entity with a tenant column")
        elif parent.tenant is None:
            findings.add((*path, "tenant", "via"), f"{name} belongs to no tenant", "go via an entity with a tenant")
        elif len(parent.key) != 1:
            findings.add(
                (*path, "tenant", "via"),
                f"the key of {name} has several columns",
                "go via an entity with a one-column key",
            )
        elif isinstance(parent.tenant, shape.ViaShape):
            seen.add(name)
            name = parent.tenant.via
            continue
        return Via(via.via, via.column)


def _fields(entity: EntityShape, contract: ContractShape, path: Path, findings: Findings) -> Iterator[Field]:
    for target, rule in entity.fields.items():
        here = (*path, "fields", target)
        data = rule.data if isinstance(rule, shape.Classified) else None
        yield Field(
            target=target,
            rule=_rule(rule, contract, entity.keep, here, findings),
            data=None if data is None else PersonalData(data),
            place=findings.document.place(*here),
        )


def _rule(rule: shape.Rule, contract: ContractShape, keep: Mapping[str, str], path: Path, findings: Findings) -> Rule:
    match rule:
        case shape.ConstantShape():
            return Constant(sql=_literal(rule.value))
        case shape.SqlShape():
            return Expression(
                sql=_sql(rule.sql, path, findings) or "", reverse=_sql(rule.reverse, path, findings, "reverse")
            )
        case shape.LinkShape():
            judge_link(rule.link, contract, (*path, "link"), findings)
            return Linked(source=rule.source, entity=rule.link)
        case shape.OffsetShape():
            return Shifted(source=rule.source, entity=rule.offset, by=_shift(rule.offset, contract, path, findings))
        case shape.CodedShape():
            return _coded(rule, keep, path, findings)
        case shape.PlainShape():
            return Plain(source=rule.source)
        case _:
            return Plain(source=str(rule))


def judge_link(name: str, contract: ContractShape, path: Path, findings: Findings) -> None:
    """A problem unless `name` is an entity with a link table and a one-column key."""
    entity = contract.entities.get(name)
    if entity is None:
        findings.add(path, f"there is no entity {name}", "name one of `entities`")
    elif entity.link is None:
        findings.add(
            path, f"{name} has no link", f"give {name} a `link:`, SQL on the target for (source id, target id)"
        )
    elif len(entity.key) != 1:
        findings.add(path, f"the key of {name} has several columns", "link entities with a one-column key")


def _shift(name: str, contract: ContractShape, path: Path, findings: Findings) -> int:
    """What the ids of the entity `name` have more on the target."""
    entity = contract.entities.get(name)
    if entity is None:
        findings.add((*path, "offset"), f"there is no entity {name}", "name one of `entities`")
    elif entity.offset is None:
        findings.add((*path, "offset"), f"{name} has no offset", f"give {name} an `offset:`, or write the plain column")
    return entity.offset or 0 if entity else 0


def _offset(entity: EntityShape, path: Path, findings: Findings) -> int | None:
    if entity.offset is not None and entity.link is not None:
        findings.add((*path, "offset"), "stands beside a link", "keep one of the two: it says what the ids become")
    if entity.offset is not None and len(entity.key) != 1:
        findings.add((*path, "offset"), "the key has several columns", "offset entities with a one-column key")
    if entity.offset == 0:
        findings.add((*path, "offset"), "moves no id", "leave it out: the ids stay the same")
    return entity.offset


def _coded(rule: shape.CodedShape, keep: Mapping[str, str], path: Path, findings: Findings) -> Coded:
    forward = {code: str(target) for code, target in rule.map.items()}
    backward = {str(target): str(code) for target, code in rule.reverse.items()}
    others = [None if code is None else str(code) for code in (rule.other, rule.reverse_else)]
    _judge_codes(forward, backward, path, findings, kept=rule.source in keep)
    if others[0] is not None and rule.source not in keep:
        findings.add((*path, "else"), "loses the code that stood there", f"add `keep: {{{rule.source}: reason}}`")
    if others[1] is not None and others[1] not in forward:
        findings.add((*path, "reverse_else"), f"{others[1]} is no code of `map`", "name one of the source's codes")
    return Coded(source=rule.source, forward=forward, backward=backward, other=others[0], reverse_other=others[1])


def _judge_codes(
    forward: Mapping[str, str], backward: Mapping[str, str], path: Path, findings: Findings, *, kept: bool
) -> None:
    for code, target in forward.items():
        first = next(c for c, t in forward.items() if t == target)
        if first != code and not kept:
            findings.add(
                (*path, "map", code),
                f"{target} already stands for {first}",
                "give each code one of its own, or add the column to `keep`, or the way back is lost",
            )
    for target, code in backward.items():
        if target in forward.values():
            findings.add(
                (*path, "reverse", target), "the map already leads here", "leave it out: the way back of `map` is known"
            )
        elif code not in forward:
            findings.add((*path, "reverse", target), f"{code} is no code of `map`", "name one of the source's codes")


def _literal(value: shape.Scalar) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case str():
            return expression.literal(value)
        case _:
            return str(value)


def _reverse(entity: EntityShape, path: Path, findings: Findings) -> Mapping[str, str]:
    for part in ("reverse", "keep"):
        for column in getattr(entity, part).keys() & entity.not_moved.keys():
            findings.add((*path, part, column), "stands under not_moved too", "keep one of the two")
    return {c: _sql(sql, (*path, "reverse", c), findings) or "" for c, sql in entity.reverse.items()}


def _sql(sql: str | None, path: Path, findings: Findings, key: str = "") -> str | None:
    if sql is not None:
        _judge(expression.parse, sql, (*path, key) if key else path, findings)
    return sql


def _link(entity: EntityShape, path: Path, findings: Findings) -> str | None:
    if entity.link is not None:
        _judge(expression.check_link, entity.link, (*path, "link"), findings)
    return entity.link


def _judge(reader: Callable[[str], object], sql: str, path: Path, findings: Findings) -> None:
    try:
        reader(sql)
    except UnfitError as unfit:
        findings.add(path, unfit.what, unfit.remedy)
