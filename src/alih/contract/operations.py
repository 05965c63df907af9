"""Operations of a contract: which call becomes which, and that each names one tenant and only known values."""

import re
from collections.abc import Iterator

from alih.contract import shape
from alih.contract.document import Step
from alih.contract.findings import Findings
from alih.contract.settings import PLACEHOLDER
from alih.contract.shape import ContractShape
from alih.model.contract import Coded, Contract, Each, Fixed, Operation, Shape, Value

Path = tuple[Step, ...]
_REQUEST_PARTS = ("path", "query", "headers", "request")
_SOURCES = {"request": ("path", "query", "header", "body"), "answer": ("body",)}


def convert(contract: ContractShape, findings: Findings) -> Iterator[Operation]:
    """The operations in the file's order."""
    for name, operation in contract.operations.items():
        path: Path = ("operations", name)
        front, target = operation.front.split(" ", 1), operation.target.split(" ", 1)
        yield Operation(
            name=name,
            front=(front[0], front[1]),
            target=(target[0], target[1]),
            purpose=operation.purpose,
            path=_object(operation.path),
            query=_object(operation.query),
            headers=_object(operation.headers),
            request=_object(operation.request),
            answer=_object(operation.answer),
            content=operation.content,
            place=findings.document.place(*path),
        )


def _object(members: shape.ObjectShape) -> Shape:
    return {name: _member(member) for name, member in members.root.items()}


def _member(member: shape.Member) -> Value | Each | Fixed | Shape:
    match member:
        case shape.ValueShape():
            return Value(path=member.path, cast=member.cast, coded=member.coded, link=member.link)
        case shape.EachShape():
            return Each(path=member.each, shape=_object(member.of))
        case shape.FixedShape():
            return Fixed(literal=member.value)
        case shape.ObjectShape():
            return _object(member)
        case _:
            return Value(path=str(member))


def judge(contract: Contract, findings: Findings) -> None:
    """Problems of the operations against the rest of the contract."""
    fronts: set[tuple[str, str]] = set()
    for operation in contract.operations:
        path: Path = ("operations", operation.name)
        front = (operation.front[0], _anonymous(operation.front[1]))
        if front in fronts:
            findings.add((*path, "front"), "a second operation for the same call", "keep one of the two")
        fronts.add(front)
        _judge_templates(operation, path, findings)
        _judge_reach(operation, contract, path, findings)
        _judge_tenants(operation, contract, path, findings)
        for part in (*_REQUEST_PARTS, "answer"):
            sources = _SOURCES["answer" if part == "answer" else "request"]
            _judge_object(getattr(operation, part), sources, (*path, part), contract, findings)
        for part in (*_REQUEST_PARTS,):
            _judge_path_values(getattr(operation, part), operation, (*path, part), findings)
        if operation.content == "html" and operation.answer:
            findings.add((*path, "answer"), "a document is passed on whole", "leave out `answer`, or `content: html`")


def _anonymous(template: str) -> str:
    return PLACEHOLDER.sub("{}", template)


def _judge_templates(operation: Operation, path: Path, findings: Findings) -> None:
    wanted = PLACEHOLDER.findall(operation.target[1])
    for name in sorted(set(wanted) - set(operation.path)):
        findings.add((*path, "target"), f"{{{name}}} has no value", f"add `path: {{{name}: …}}`")
    for name in sorted(set(operation.path) - set(wanted)):
        findings.add(
            (*path, "path", name), "is no placeholder of `target`", f"write {{{name}}} in `target`, or leave it out"
        )
    for side, template in (("front", operation.front[1]), ("target", operation.target[1])):
        names = PLACEHOLDER.findall(template)
        if re.search(r"[{}]", PLACEHOLDER.sub("", template)) or len(set(names)) != len(names):
            findings.add(
                (*path, side), "has a placeholder that cannot be read, or twice", "write {name}, each name once"
            )


def _judge_reach(operation: Operation, contract: Contract, path: Path, findings: Findings) -> None:
    if contract.gateway is None:
        return
    template = _anonymous(operation.front[1]) + "/"
    prefixes = (contract.gateway.tenant_path, *contract.gateway.shared_paths)
    if not any(template.startswith(_anonymous(p).rstrip("/") + "/") for p in prefixes):
        findings.add(
            (*path, "front"),
            "never leaves the front end: it is neither under tenant_from nor under shared_paths",
            "add its prefix to gateway.shared_paths, or drop the operation",
        )


def _judge_tenants(operation: Operation, contract: Contract, path: Path, findings: Findings) -> None:
    """Two values that each name a tenant could name two; a path's placeholder counts once however often it is read."""
    if contract.tenant_entity not in {e.name for e in contract.entities}:
        return
    key = contract.entity(str(contract.tenant_entity)).key[0][0]
    names = {key, *(PLACEHOLDER.findall(contract.gateway.tenant_path) if contract.gateway else ())}
    origins = {f"path.{name}" for name in PLACEHOLDER.findall(operation.front[1]) if name in names}
    for part in _REQUEST_PARTS:
        for value in _values(getattr(operation, part)):
            if value.link == contract.tenant_entity or value.path.rpartition(".")[2] in names:
                origins.add(value.path)
    if len(origins) > 1:
        findings.add(
            path,
            f"names two tenants: {', '.join(sorted(origins))}",
            "take the tenant from the path alone; split a call that is about two",
        )


def _values(members: Shape) -> Iterator[Value]:
    for member in members.values():
        match member:
            case Value():
                yield member
            case Each():
                yield from _values(member.shape)
            case Fixed():
                pass
            case _:
                yield from _values(member)


def _judge_path_values(members: Shape, operation: Operation, path: Path, findings: Findings) -> None:
    known = PLACEHOLDER.findall(operation.front[1])
    for name, member in members.items():
        if isinstance(member, Value) and member.path.startswith("path.") and member.path[5:] not in known:
            findings.add((*path, name), f"`front` has no {{{member.path[5:]}}}", "name one of its placeholders")


def _judge_object(members: Shape, sources: tuple[str, ...], path: Path, contract: Contract, findings: Findings) -> None:
    for name, member in members.items():
        here = (*path, name)
        match member:
            case Value():
                _judge_source(member.path, sources, here, findings)
                _judge_conversion(member, contract, here, findings)
            case Each():
                _judge_source(member.path, sources, here, findings)
                _judge_object(member.shape, (*sources, "item"), (*here, "of"), contract, findings)
            case Fixed():
                pass
            case _:
                _judge_object(member, sources, here, contract, findings)


def _judge_source(value: str, sources: tuple[str, ...], path: Path, findings: Findings) -> None:
    first, _, rest = value.partition(".")
    if first not in sources or not (rest or first in ("body", "item")):
        findings.add(path, f"`{value}` leads nowhere", f"begin with one of {', '.join(sources)}, then a dot and a name")


def _judge_conversion(value: Value, contract: Contract, path: Path, findings: Findings) -> None:
    if [value.cast, value.coded, value.link].count(None) < 2:
        findings.add(path, "has several conversions", "keep one of cast, coded and link")
    if value.coded is not None and not _is_coded(value.coded, contract):
        findings.add(path, f"{value.coded} has no code list", "name entity.target_column of a field with a `map`")
    if value.link is not None and not any(e.name == value.link and (e.link or e.offset) for e in contract.entities):
        findings.add(path, f"{value.link} is no entity with a link", "name an entity that has `link` or `offset`")


def _is_coded(name: str, contract: Contract) -> bool:
    entity, _, column = name.partition(".")
    return any(
        isinstance(field.rule, Coded) and field.target == column
        for e in contract.entities
        if e.name == entity
        for field in e.fields
    )
