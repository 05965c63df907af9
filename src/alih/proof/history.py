"""Who owned a tenant when, and under which epoch; pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from alih.model.side import Side
from alih.postgres.seen import Turned


@dataclass(frozen=True, slots=True)
class Period:
    """`side` owned the tenant under `epoch` from `since` until the next period."""

    since: datetime
    side: Side
    epoch: int


_FIRST = Period(datetime.min.replace(tzinfo=UTC), Side.SOURCE, 0)


class History:
    """The periods of every tenant; one that has never turned is the source's."""

    def __init__(self, turns: Iterable[Turned]) -> None:
        """`turns` are oldest first."""
        self._periods: dict[str, list[Period]] = {}
        for turn in turns:
            periods = self._periods.setdefault(turn.tenant, [_FIRST])
            periods.append(Period(turn.at, turn.side or periods[-1].side, turn.epoch))

    def at(self, tenant: str, moment: datetime) -> Period:
        """The period that held then."""
        return next(p for p in reversed(self._of(tenant)) if p.since <= moment)

    def answered(self, tenant: str, side: Side, began: datetime) -> Period | None:
        """The period in which `side` answered a call that began then: a call that was held comes into the next
        period of that side. None if the side never owned the tenant."""
        periods = [p for p in self._of(tenant) if p.side is side]
        now = self.at(tenant, began)
        if now.side is side:
            return now
        return next((p for p in periods if p.since > began), periods[-1] if periods else None)

    def _of(self, tenant: str) -> list[Period]:
        return self._periods.get(tenant, [_FIRST])
