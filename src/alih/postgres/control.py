"""The control database: owners, phases and the journal; the commands of operators and their answers."""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from alih.errors import Corrupt, Refused
from alih.evidence.entry import Entry
from alih.model import phase as phases
from alih.model.finding import Verdict
from alih.model.phase import Phase
from alih.model.projection import Direction
from alih.model.side import SHARED, Ownership, Side
from alih.postgres import evidence
from alih.postgres.line import Line
from alih.postgres.session import Connection, only_row
from alih.postgres.sql import query

_LEADING = 0x616C6969
"""The advisory lock that the one alih serve of a migration holds as long as it lives."""


class Control:
    """alih's durable state. Calls on one `line` come one after another; its loss raises Retryable."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def _execute(self, statement: LiteralString, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        async with self._line.connection() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def _one(self, statement: LiteralString, parameters: Sequence[object] = ()) -> Any:
        ((value, *_),) = await self._execute(statement, parameters)
        return value

    async def install(self) -> None:
        async with self._line.connection() as connection:
            await connection.execute(query("control"))
            await connection.execute(query("evidence"))

    async def installed(self) -> bool:
        """Whether alih serve has ever been started for this migration."""
        return bool(await self._one("SELECT to_regclass('alih_control.command') IS NOT NULL"))

    async def remove(self) -> None:
        """Forget the migration."""
        await self._execute("SET client_min_messages = warning")
        await self._execute("DROP SCHEMA IF EXISTS alih_control CASCADE")

    async def led(self) -> bool:
        """Whether an alih serve runs."""
        return bool(
            await self._one(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 0"
                " AND objid = %s AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
                (_LEADING,),
            )
        )

    async def admit(self, tenants: Mapping[str, str]) -> None:
        """Put tenants (id → cohort) into their cohorts; ones that are not known yet are owned by the source."""
        async with self._line.connection() as connection, connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO alih_control.tenant (tenant, cohort, side) VALUES (%s, %s, 'source')"
                " ON CONFLICT (tenant) DO UPDATE SET cohort = excluded.cohort"
                " WHERE alih_control.tenant.cohort <> excluded.cohort",
                list(tenants.items()),
            )

    # --- the journal of cutovers ----------------------------------------------------------------------------

    async def owner(self, tenant: str) -> Ownership:
        side, epoch, _, _ = await self._row(tenant)
        return Ownership(tenant, Side(side), epoch)

    async def phase(self, tenant: str) -> Phase:
        _, _, word, detail = await self._row(tenant)
        return phases.decode(word, detail)

    async def enter(self, tenant: str, phase: Phase) -> None:
        """Journal a change of phase, before its effect. Raises Corrupt if the phase may not follow."""
        await self._enter(tenant, phase)

    async def settle(self, tenant: str, owner: Side, epoch: int, phase: Phase) -> None:
        """Name the owner, in one row and one transaction with the phase: the flip, or the end of an abort.
        Raises Corrupt if the epoch is not newer than the row's."""
        await self._enter(tenant, phase, (owner.value, epoch))

    async def _enter(self, tenant: str, phase: Phase, owner: tuple[str, int] | None = None) -> None:
        async with self._line.connection() as connection, connection.transaction():
            row = await (await connection.execute(_ROW + " FOR UPDATE", (tenant,))).fetchone()
            side, epoch, word, detail = _known(tenant, row)
            phases.advance(phases.decode(word, detail), phase)
            if owner is not None and owner[1] <= epoch:
                raise Corrupt(
                    f"tenant {tenant} is at epoch {epoch} already", remedy="stop all but one alih serve, start it again"
                )
            await _write(connection, tenant, phase, owner or (side, epoch))

    async def enter_all(self, phase: Phase, before: type[Phase]) -> None:
        """Move every tenant that is in the phase `before` to `phase`."""
        for tenant in await self.in_phase(before):
            await self.enter(tenant, phase)

    async def in_phase(self, *kinds: type[Phase]) -> list[str]:
        words = [kind.__name__.lower() for kind in kinds]
        return await self._names("SELECT tenant FROM alih_control.tenant WHERE phase = ANY(%s) ORDER BY tenant", words)

    async def _row(self, tenant: str) -> tuple[Any, ...]:
        rows = await self._execute(_ROW, (tenant,))
        return _known(tenant, rows[0] if rows else None)

    # --- what faces show ------------------------------------------------------------------------------------

    async def cohort(self, name: str) -> list[str]:
        return await self._names("SELECT tenant FROM alih_control.tenant WHERE cohort = %s ORDER BY tenant", name)

    async def owned_by(self, side: Side) -> list[str]:
        return await self._names("SELECT tenant FROM alih_control.tenant WHERE side = %s ORDER BY tenant", side.value)

    async def _names(self, statement: LiteralString, parameter: object) -> list[str]:
        return [name for (name,) in await self._execute(statement, (parameter,))]

    async def counts(self) -> dict[str, dict[str, int]]:
        """Tenants by cohort and phase."""
        counts: dict[str, dict[str, int]] = {}
        for cohort, phase, count in await self._execute(
            "SELECT cohort, phase, count(*) FROM alih_control.tenant GROUP BY 1, 2 ORDER BY 1, 2"
        ):
            counts.setdefault(cohort, {})[phase] = count
        return counts

    async def split(self) -> bool:
        """Whether some tenant is at the target while the shared rows are at the source."""
        return bool(
            await self._one(
                "SELECT EXISTS (SELECT FROM alih_control.tenant WHERE side = 'target')"
                " AND NOT EXISTS (SELECT FROM alih_control.tenant WHERE tenant = %s AND side = 'target')",
                (SHARED,),
            )
        )

    async def record_holds(self, samples: Sequence[tuple[str, float]]) -> None:
        async with self._line.connection() as connection, connection.cursor() as cursor:
            await cursor.executemany("INSERT INTO alih_control.hold (tenant, waited_ms) VALUES (%s, %s)", samples)

    async def holds_ms(self) -> list[float]:
        """How long each held request waited, in milliseconds, shortest first."""
        return [waited for (waited,) in await self._execute("SELECT waited_ms FROM alih_control.hold ORDER BY 1")]

    async def record(self, entry: Entry) -> None:
        """Leave an entry of evidence whose effect is nowhere else in this database."""
        async with self._line.connection() as connection:
            await evidence.outbox(connection, entry)

    async def record_verdict(self, verdict: Verdict, direction: Direction, scope: str = "all") -> None:
        """Leave what a verification found: of all rows, or of one cohort's."""
        counts = {"rows": verdict.rows, "findings": len(verdict.findings), "undecided": verdict.undecided}
        where = {"scope": scope, "direction": direction.value, "position": str(verdict.position)}
        await self.record(Entry("verification", {**where, **counts}))

    # --- commands -------------------------------------------------------------------------------------------

    async def ask(self, kind: str, argument: str, by: str = "operator") -> int:
        """Leave a command for alih serve; returns its number. `by` is who gave it: a name of an account, for the
        evidence."""
        async with self._line.connection() as connection, connection.transaction():
            await evidence.outbox(connection, Entry("approval", {"command": kind, "argument": argument, "by": by}))
            cursor = await connection.execute(
                "INSERT INTO alih_control.command (kind, argument) VALUES (%s, %s) RETURNING id", (kind, argument)
            )
            (number,) = await only_row(cursor)
            await connection.execute("NOTIFY alih_command")
        return int(number)

    async def next_command(self) -> tuple[int, str, str] | None:
        """The oldest command without an answer, as (number, kind, argument)."""
        rows = await self._execute(
            "SELECT id, kind, argument FROM alih_control.command WHERE answered_at IS NULL ORDER BY id LIMIT 1"
        )
        return (rows[0][0], rows[0][1], rows[0][2]) if rows else None

    async def answer(self, command: int, exit_code: int, answer: Mapping[str, Any]) -> None:
        async with self._line.connection() as connection, connection.transaction():
            cursor = await connection.execute(
                "UPDATE alih_control.command SET answered_at = clock_timestamp(), exit_code = %s, answer = %s"
                " WHERE id = %s RETURNING kind, argument",
                (exit_code, Jsonb(dict(answer)), command),
            )
            kind, argument = await only_row(cursor)
            await evidence.outbox(connection, _answered(kind, argument, exit_code, answer))
            await connection.execute("NOTIFY alih_command")

    async def answered(self, command: int) -> tuple[int, dict[str, Any]] | None:
        rows = await self._execute(
            "SELECT exit_code, answer FROM alih_control.command WHERE id = %s AND answered_at IS NOT NULL", (command,)
        )
        return (rows[0][0], rows[0][1]) if rows else None

    async def stirred(self, within_s: float) -> None:
        """Return when a command or an answer came, or after `within_s` seconds."""
        async with self._line.connection() as connection:
            await connection.execute("LISTEN alih_command")
            async for _ in connection.notifies(timeout=within_s, stop_after=1):
                pass


async def lead(connection: Connection) -> bool:
    """Become the one conductor, for as long as the connection lives; false if there is another."""
    ((leads,),) = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", (_LEADING,))).fetchall()
    return bool(leads)


_ROW: LiteralString = "SELECT side, epoch, phase, detail FROM alih_control.tenant WHERE tenant = %s"


def _known(tenant: str, row: tuple[Any, ...] | None) -> tuple[Any, ...]:
    if row is None:
        raise Refused(f"there is no tenant {tenant}", remedy="alih status lists the tenants and their cohorts")
    return row


async def _write(connection: Connection, tenant: str, phase: Phase, owner: tuple[str, int]) -> None:
    """The row, the journal and the evidence, in one statement: the tenant's shoppers may be waiting for it."""
    now, data = phases.encode(phase)
    side, epoch = owner
    said = {"tenant": tenant, "phase": now, "epoch": data.get("epoch"), "side": side, "cut": data.get("cut")}
    values = {"tenant": tenant, "phase": now, "detail": Jsonb(data), "side": side, "epoch": epoch}
    await connection.execute(query("journal"), values | {"entry": Entry("state", said).encode()})


def _answered(kind: str, argument: str, exit_code: int, answer: Mapping[str, Any]) -> Entry:
    """Tenants by name only: the reasons of what was aborted are in the answer."""
    done = {"moved": answer.get("moved", 0), "aborted": sorted(answer.get("aborted", {}))}
    return Entry("answer", {"command": kind, "argument": argument, "exit_code": exit_code, **done})
