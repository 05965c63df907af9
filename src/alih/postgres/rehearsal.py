"""Looks at the rows that are there before any of them crosses: would each arrive, and would it come back?

The source answers what concerns its own rows, by one scan of each table. What stands on the target is met there: the
values that have to be unique cross into a temporary table, and the target itself says which it already has, by its own
idea of equal. That costs room for the unique values on the target, and nothing of alih's memory.

Not asked: CHECK and exclusion constraints, unique indexes over expressions or a part of the table.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql

from alih.model.contract import Scope, Table
from alih.model.rehearsal import Obstacle, Question, Rehearsed, Unique
from alih.model.side import SHARED
from alih.postgres.failures import named
from alih.postgres.session import only_row
from alih.postgres.statements import trusted

Connection = AsyncConnection[tuple[Any, ...]]

_EXAMPLES = 5
_MOST_SHOWN = 60  # characters of a code or an id


async def obstacles(source: Connection, target: Connection, entities: Iterable[Rehearsed]) -> list[Obstacle]:
    """All that would keep rows from crossing or from coming back. Both connections are in autocommit; the source has
    `alih.link` filled. Nothing is changed."""
    with named("asking the rows"):
        return [obstacle for entity in entities for obstacle in await _obstacles(source, target, entity)]


async def _obstacles(source: Connection, target: Connection, entity: Rehearsed) -> list[Obstacle]:
    found = [o async for o in _of_rows(source, entity, entity.questions, None)]
    if any(o.fatal for o in found):
        return found  # the values that are to be unique may fail as well
    found += [o async for o in _alike(source, entity)]
    foreign = await _foreign(target, entity)
    if foreign is not None:
        found += [o async for o in _met(source, target, entity, foreign)]
    return found


async def losses(source: Connection, entities: Iterable[Rehearsed], tenants: Sequence[str]) -> list[Obstacle]:
    """What these tenants' rows (or the shared ones) would lose on the way back."""
    found = []
    with named("asking the rows"):
        for entity in entities:
            questions = [q for q in entity.questions if q.back]
            if questions and (SHARED in tenants if entity.scope is Scope.SHARED else entity.scope is Scope.TENANT):
                whose = None if entity.scope is Scope.SHARED else tenants
                found += [o async for o in _of_rows(source, entity, questions, whose)]
    return found


# --- rows of the source -------------------------------------------------------------------------------------


async def _of_rows(
    source: Connection, entity: Rehearsed, questions: Sequence[Question], tenants: Sequence[str] | None
) -> AsyncIterator[Obstacle]:
    """What the questions are true of; those that are asked first, if they are true of anything, are asked alone."""
    for part in ([q for q in questions if q.first], [q for q in questions if not q.first]):
        counted = await _counts(source, entity, part, tenants)
        for question, rows in counted:
            yield await _obstacle(source, entity, question, rows, tenants)
        if counted:
            return


async def _counts(
    source: Connection, entity: Rehearsed, questions: Sequence[Question], tenants: Sequence[str] | None
) -> list[tuple[Question, int | None]]:
    """How many rows each question is true of, of those where it is any; None where it cannot be evaluated."""
    if not questions:
        return []
    counts = sql.SQL(", ").join(sql.SQL("count(*) FILTER (WHERE {})").format(trusted(q.sql)) for q in questions)
    statement = sql.SQL("SELECT {} FROM {} r WHERE {}").format(counts, _table(entity.source), _of(entity, tenants))
    try:
        row: Sequence[int | None] = await only_row(await source.execute(statement))
    except psycopg.DataError:
        if len(questions) > 1:  # one of them fails on a row: find out which
            return [pair for q in questions for pair in await _counts(source, entity, [q], tenants)]
        row = [None]
    return [(q, rows) for q, rows in zip(questions, row, strict=True) if rows != 0]


async def _obstacle(
    source: Connection, entity: Rehearsed, question: Question, rows: int | None, tenants: Sequence[str] | None
) -> Obstacle:
    if rows is None:
        what = f"an expression fails, so nobody can say whether {question.what}"
        remedy = "correct the expression, or the row that it fails on"
        return Obstacle(entity=entity.entity, what=what, rows=None, examples=(), remedy=remedy, fatal=True)
    shown = _key(entity.key) if question.shows is None else trusted(question.shows)
    statement = sql.SQL("SELECT DISTINCT left({}, {}) FROM {} r WHERE {} AND ({}) ORDER BY 1 LIMIT {}").format(
        shown,
        sql.Literal(_MOST_SHOWN),
        _table(entity.source),
        _of(entity, tenants),
        trusted(question.sql),
        sql.Literal(_EXAMPLES),
    )
    return Obstacle(
        entity=entity.entity,
        what=question.what,
        rows=rows,
        examples=await _texts(source, statement),
        remedy=question.remedy,
        fatal=question.first,
    )


def _of(entity: Rehearsed, tenants: Sequence[str] | None) -> sql.Composable:
    if tenants is None or entity.tenant is None:
        return sql.SQL("true")
    return sql.SQL("({}) = ANY({}::text[])").format(trusted(entity.tenant), sql.Literal(list(tenants)))


async def _alike(source: Connection, entity: Rehearsed) -> AsyncIterator[Obstacle]:
    """Rows of the source that would become equal where the target wants them to differ."""
    for unique in entity.uniques:
        if not unique.alike:
            continue
        values = sql.SQL(", ").join(trusted(text) for _, _, text in unique.columns)
        whole = sql.SQL(" AND ").join(sql.SQL("({}) IS NOT NULL").format(trusted(t)) for _, _, t in unique.columns)
        statement = sql.SQL(
            "SELECT coalesce(sum(n), 0)::bigint, (array_agg(one))[1:{}]"
            " FROM (SELECT count(*) AS n, min({}) AS one FROM {} r WHERE {} GROUP BY {} HAVING count(*) > 1) x"
        ).format(sql.Literal(_EXAMPLES), _key(entity.key), _table(entity.source), whole, values)
        rows, examples = await only_row(await source.execute(statement))
        if rows:
            yield Obstacle(
                entity=entity.entity,
                what=f"they would be equal in {unique}, which is unique on the target",
                rows=rows,
                examples=tuple(examples),
                remedy="change the rule so that different rows stay different, or the rows",
            )


# --- rows of the target -------------------------------------------------------------------------------------


async def _foreign(target: Connection, entity: Rehearsed) -> sql.Composable | None:
    """Which rows of the target are not alih's, as a condition over `w`; None where there are none, or where nothing
    tells them from rows that have crossed."""
    condition: sql.Composable = sql.SQL("true")
    if await _begun(target, entity):
        if entity.ours is None:
            return None
        condition = sql.SQL("({}) IS NOT TRUE").format(trusted(entity.ours))
    statement = sql.SQL("SELECT EXISTS (SELECT FROM {} w WHERE {})").format(_table(entity.target), condition)
    (there,) = await only_row(await target.execute(statement))
    return condition if there else None


async def _begun(target: Connection, entity: Rehearsed) -> bool:
    (installed,) = await only_row(await target.execute("SELECT to_regclass('alih.chunk') IS NOT NULL"))
    if not installed:
        return False
    cursor = await target.execute(
        "SELECT FROM alih.chunk WHERE direction = 'forward' AND entity = %s AND state <> 'not started' LIMIT 1",
        (entity.entity,),
    )
    return await cursor.fetchone() is not None


async def _met(
    source: Connection, target: Connection, entity: Rehearsed, foreign: sql.Composable
) -> AsyncIterator[Obstacle]:
    if entity.shifted is not None:
        async for obstacle in _within(source, target, entity, entity.shifted, foreign):
            yield obstacle
    for unique in entity.uniques:
        async with target.transaction(force_rollback=True):
            await _carry(source, target, entity, unique)
            rows, examples = await _equal(target, entity, unique, foreign)
        if rows:
            yield Obstacle(
                entity=entity.entity,
                what=f"the target already has a row with the same {unique}, which alih did not write; its key there",
                rows=rows,
                examples=examples,
                remedy="decide whose row it is: remove or re-key one of the two, or `link` or `offset` the ids",
            )


async def _within(
    source: Connection, target: Connection, entity: Rehearsed, shifted: tuple[str, str], foreign: sql.Composable
) -> AsyncIterator[Obstacle]:
    """The target's own rows where the ids of rows that cross will lie, now or later."""
    column, made = shifted
    lowest = sql.SQL("SELECT min({})::text FROM {} r").format(trusted(made), _table(entity.source))
    (begin,) = await only_row(await source.execute(lowest))
    if begin is None:
        return
    beyond = sql.SQL("FROM {} w WHERE w.{} >= {}::numeric AND {}").format(
        _table(entity.target), sql.Identifier(column), sql.Literal(begin), foreign
    )
    (rows,) = await only_row(await target.execute(sql.SQL("SELECT count(*) {}").format(beyond)))
    if rows:
        yield Obstacle(
            entity=entity.entity,
            what=f"the target's own ids reach to where the offset leads ({begin} and above)",
            rows=rows,
            examples=await _examples(target, entity, beyond),
            remedy="use an offset beyond all ids of the target",
        )


async def _carry(source: Connection, target: Connection, entity: Rehearsed, unique: Unique) -> None:
    """The unique values as they would cross, as binary blocks that nobody here reads."""
    shape = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), trusted(type_)) for name, type_, _ in unique.columns
    )
    await target.execute(sql.SQL("CREATE TEMP TABLE alih_met ({}) ON COMMIT DROP").format(shape))
    values = sql.SQL(", ").join(trusted(made) for _, _, made in unique.columns)
    out = sql.SQL("COPY (SELECT {} FROM {} r) TO STDOUT (FORMAT binary)").format(values, _table(entity.source))
    async with (
        source.cursor().copy(out) as rows,
        target.cursor().copy("COPY alih_met FROM STDIN (FORMAT binary)") as met,
    ):
        async for block in rows:
            await met.write(block)
    await target.execute("ANALYZE alih_met")


async def _equal(
    target: Connection, entity: Rehearsed, unique: Unique, foreign: sql.Composable
) -> tuple[int, tuple[str, ...]]:
    same = sql.SQL(" AND ").join(
        sql.SQL("m.{} = w.{}").format(sql.Identifier(name), sql.Identifier(name)) for name, _, _ in unique.columns
    )
    met = sql.SQL("FROM {} w WHERE EXISTS (SELECT FROM alih_met m WHERE {}) AND {}").format(
        _table(entity.target), same, foreign
    )
    (rows,) = await only_row(await target.execute(sql.SQL("SELECT count(*) {}").format(met)))
    return rows, await _examples(target, entity, met) if rows else ()


async def _examples(target: Connection, entity: Rehearsed, where: sql.Composable) -> tuple[str, ...]:
    statement = sql.SQL("SELECT {} {} ORDER BY {} LIMIT {}").format(
        _key(entity.write_key),
        where,
        sql.SQL(", ").join(trusted(column) for column in entity.write_key),
        sql.Literal(_EXAMPLES),
    )
    return await _texts(target, statement)


# --- parts --------------------------------------------------------------------------------------------------


async def _texts(connection: Connection, statement: sql.Composed) -> tuple[str, ...]:
    return tuple(str(text) for (text,) in await (await connection.execute(statement)).fetchall())


def _table(table: Table) -> sql.Identifier:
    return sql.Identifier(table.schema, table.name)


def _key(columns: Sequence[str]) -> sql.Composable:
    """A key as one text: its columns with a slash between."""
    return sql.SQL(" || '/' || ").join(sql.SQL("({})::text").format(trusted(column)) for column in columns)
