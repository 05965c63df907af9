"""Sales as the gateway saw them: its log of such calls is read as it grows, and kept where it can be asked.

Exactly once: how far the log has been read is stored in one transaction with what was read.
"""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import msgspec

from alih.errors import Retryable
from alih.gateway.offered import Template
from alih.model.contract import Contract
from alih.model.side import Side
from alih.postgres.seen import Call, Place, SeenStore
from alih.proof.history import History

_LOOK_EVERY_S = 0.2
_AT_ONCE = 1024 * 1024  # bytes
_LOG = logging.getLogger("alih.proof.seen")


class _Line(msgspec.Struct):
    """A line of the gateway's log. `side` is what the gate said, or the side whose cluster was asked."""

    at: datetime
    path: str
    status: int
    cluster: str | None = None
    side: str | None = None

    @property
    def answered_by(self) -> Side | None:
        """What the gate has said counts for nothing where it was not asked."""
        said = self.side if self.cluster == "gate" else self.cluster
        return Side(said) if said in set(Side) else None


class Reading:
    """How a line of the log becomes a call: by the path of the operation that is a sale (`sales.seen_by`)."""

    def __init__(self, contract: Contract) -> None:
        if contract.sales is None or contract.gateway is None:
            raise ValueError("the contract describes no sales, or has no gateway")
        operation = contract.operation(contract.sales.seen_by)
        self._path = Template(operation.front[1])
        self._order = contract.sales.order
        (self._tenant,) = Template(contract.gateway.tenant_path).names

    def calls(self, content: bytes) -> Iterator[Call]:
        """The calls in whole lines of the log."""
        for line in content.splitlines():
            try:
                read = msgspec.json.decode(line, type=_Line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                # Two runs of the gateway met in one line. What it lost is missed when the sale is traced.
                _LOG.warning("seen.unreadable_line bytes=%d", len(line))
                continue
            if (call := self._call(read)) is not None:
                yield call

    def _call(self, read: _Line) -> Call | None:
        names = self._path.match(read.path.partition("?")[0])
        if names is None:
            return None
        order, tenant = names[self._order], names[self._tenant]
        return Call(order=order, tenant=tenant, side=read.answered_by, epoch=None, at=read.at, status=read.status)


async def keep_seen(path: Path, contract: Contract, store: SeenStore) -> None:
    """Follow the gateway's log at `path` until cancelled. The log need not be there yet; another one in its place is
    read from its beginning. While the control database is away, nothing is lost: it is read later."""
    reading = Reading(contract)
    while True:
        try:
            while await keep_new(path, reading, store):
                pass
        except Retryable:
            _LOG.warning("seen.not_kept: the control database is away")
        await asyncio.sleep(_LOOK_EVERY_S)


async def keep_new(path: Path, reading: Reading, store: SeenStore) -> int:
    """Keep what was written since the last time, a megabyte at most; gives the bytes that were read."""
    before = await store.place()
    content, place = _grown(path, before)
    if place != before:
        calls = list(reading.calls(content))
        history = History(await store.turns({call.tenant for call in calls}))
        await store.keep([_dated(call, history) for call in calls], place)
    return len(content)


def _dated(call: Call, history: History) -> Call:
    period = call.side and history.answered(call.tenant, call.side, call.at)
    return replace(call, epoch=period.epoch) if period else call


def _grown(path: Path, place: Place) -> tuple[bytes, Place]:
    """Whole lines behind `place`, and the place behind them."""
    try:
        with path.open("rb") as log:
            found = path.stat()
            same = place.file == found.st_ino and place.offset <= found.st_size
            begin = place.offset if same else 0
            log.seek(begin)
            content = log.read(_AT_ONCE)
    except FileNotFoundError:
        return b"", place
    whole = content[: content.rfind(b"\n") + 1]
    return whole, Place(found.st_ino, begin + len(whole))
