"""`alih.yaml` to the contract's values: what the file says together, judged without looking at a database."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from alih.contract import commerce, entities, operations, rules, settings, trying, wording
from alih.contract import document as yaml_document
from alih.contract.document import Data, Document
from alih.contract.findings import Findings
from alih.contract.problem import refused
from alih.contract.shape import ContractShape
from alih.model.contract import Contract, CopyLimits


def load(path: Path, environ: Mapping[str, str]) -> Contract:
    """The contract in the file at `path`; `environ` gives the values of its `$NAME`s.

    Refused lists every problem found, one a line: `file:line: path: what → remedy`.
    """
    return _judged(yaml_document.read(path), environ)


def load_engine(text: str, environ: Mapping[str, str]) -> Contract:
    """What the engine needs of a contract's text, the databases being `$ALIH_SOURCE` and `$ALIH_TARGET` of `environ`:
    no other secret is asked for, and no other file."""
    document = yaml_document.parsed(text, Path("alih.yaml"))
    data = document.data if isinstance(document.data, Mapping) else {}
    kept = {key: value for key, value in data.items() if key in _OF_THE_ENGINE}
    dsns: Mapping[str, Data] = {"source": {"dsn": "$ALIH_SOURCE"}, "target": {"dsn": "$ALIH_TARGET"}}
    return _judged(replace(document, data={**kept, **dsns}), environ)


_OF_THE_ENGINE = ("migration", "tenant", "entities", "tables_not_moved", "copy")


def _judged(document: Document, environ: Mapping[str, str]) -> Contract:
    try:
        shape = ContractShape.model_validate(document.data)
    except ValidationError as error:
        raise refused(wording.problems(error, document)) from None
    findings = Findings(document)
    contract = _contract(shape, findings, environ)
    operations.judge(contract, findings)
    commerce.judge(contract, findings)
    trying.judge(contract, findings)
    if findings.problems:
        raise refused(findings.problems)
    return contract


def _contract(shape: ContractShape, findings: Findings, environ: Mapping[str, str]) -> Contract:
    secrets = settings.Secrets(findings, environ)
    return Contract(
        name=shape.migration,
        source=settings.endpoint(shape.source, "source", secrets),
        target=settings.endpoint(shape.target, "target", secrets),
        control=settings.endpoint(shape.control, "control", secrets),
        tenant_entity=entities.tenant_entity(shape, findings),
        entities=tuple(entities.convert(shape, findings)),
        tables_not_moved={str(entities.table(name)): reason for name, reason in shape.tables_not_moved.items()},
        operations=tuple(operations.convert(shape, findings)),
        gateway=settings.gateway(shape.gateway, secrets),
        cohorts=tuple(settings.cohorts(shape, findings)),
        wave=shape.wave,
        sales=commerce.sales(shape.sales),
        payments=commerce.payments(shape.payments, secrets),
        trial=trying.trial(shape.trial),
        rules=rules.rules(shape, secrets),
        copying=CopyLimits(**shape.copying.model_dump()),
        file=findings.document.file,
        text=findings.document.text,
        sha256=findings.document.sha256,
    )
