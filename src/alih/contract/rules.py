"""What the public asks of the migration: `rules.yaml` of the directory that a contract names."""

from datetime import datetime, time, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import ValidationError

from alih.contract import document as yaml_document
from alih.contract import wording
from alih.contract.findings import Findings
from alih.contract.settings import NAME, Secrets
from alih.contract.shape import ContractShape, RulesShape
from alih.model.commerce import Rules

FILE = "rules.yaml"
_LAST_MOMENT = time(23, 59, 59)


def rules(shape: ContractShape, secrets: Secrets) -> Rules | None:
    """The rules of the directory, or none where the contract names no directory.

    A deadline without a time of day is the last second of that day in the zone of `sales`, else in UTC.
    """
    if shape.rules is None:
        return None
    file = secrets.findings.document.directory / shape.rules / FILE
    if not file.is_file():
        secrets.findings.add(("rules",), f"{file} is not there", f"name a directory that holds a {FILE}")
        return None
    document = yaml_document.read(file)
    try:
        given = RulesShape.model_validate(document.data)
    except ValidationError as error:
        secrets.findings.problems.extend(wording.problems(error, document))
        return None
    own = Findings(document)
    found = _rules(given, _zone(shape), Secrets(own, secrets.environ))
    secrets.findings.problems.extend(own.problems)
    return found


def _rules(given: RulesShape, zone: tzinfo, secrets: Secrets) -> Rules:
    weights = given.weights.model_dump()
    if sum(weights.values()) != 100:
        secrets.findings.add(("weights",), f"their sum is {sum(weights.values())}", "give percent whose sum is 100")
    return Rules(
        weights=weights,
        articles=tuple(article.model_dump() for article in given.articles),
        deadline=None if given.deadline is None else _deadline(given.deadline, zone, secrets),
    )


def _deadline(given: str, zone: tzinfo, secrets: Secrets) -> datetime | None:
    text = secrets.value(given, ("deadline",)) if NAME.fullmatch(given) else given
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        secrets.findings.add(("deadline",), "is no date", "write it as in 2024-04-12, or with time and zone")
        return None
    if len(text) == len("2024-04-12"):
        moment = datetime.combine(moment, _LAST_MOMENT)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def _zone(shape: ContractShape) -> tzinfo:
    try:
        return ZoneInfo(shape.sales.zone if shape.sales else "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")  # a zone that is unknown is named where it stands
