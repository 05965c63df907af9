"""What a server's error means to the reader: one of alih's own errors, without a row's value.

The texts of PostgreSQL's data errors quote values, so only names and the error's class pass. What tells of the
server's state, of rights or of missing objects has no values in its first line, and passes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from alih.errors import AlihError, NeedsOperator, Retryable

_AWAY = ("08", "57")  # connection exceptions; shutdowns, cancelled by the server or its operator
_COLLIDED = ("40", "55P03")  # serialization failures and deadlocks; a lock not available
_VALUES = ("22", "23", "P0")  # their first lines may quote what a row holds


class Unmapped(NeedsOperator):
    """The contract's rules give no value for a column that needs one."""


@contextmanager
def named(what: str) -> Iterator[None]:
    """Turn a server's error within into an AlihError about `what`, unchained: the original may quote rows."""
    try:
        yield
    except psycopg.Error as failure:
        raise meaning(failure, what) from None


def meaning(failure: psycopg.Error, what: str) -> AlihError:
    """The AlihError that says what `failure` asks of the reader."""
    state = failure.sqlstate
    if isinstance(failure, errors.UniqueViolation):
        return NeedsOperator(
            f"{what}: a row that alih did not write stands in the way: {failure.diag.table_name} already has the key"
            f" of a row that crosses (constraint {failure.diag.constraint_name})",
            remedy="alih check --data names the rows; decide whose they are: remove or re-key one of the two, or link"
            " or offset them in the contract",
        )
    if isinstance(failure, errors.NotNullViolation):
        return Unmapped(
            f"{failure.diag.table_name}.{failure.diag.column_name} would become NULL: the contract's rule gives no"
            " value for a row that crosses (an unknown code, or a missing link)",
            remedy="complete the field's map or the entity's link in the contract, then run again",
        )
    if state is None or state.startswith(_AWAY):
        return Retryable(f"{what}: the connection was lost", remedy="the server or the network went away; run again")
    if state.startswith(_COLLIDED):
        return Retryable(f"{what}: another transaction was in the way ({state})", remedy="run the same command again")
    return NeedsOperator(
        f"{what}: {_words(failure, state)} ({state})",
        remedy="see the server's log; change the row, the right or the table that it names, then run again",
    )


def _words(failure: psycopg.Error, state: str) -> str:
    place = [
        f"{kind} {name}"
        for kind, name in (
            ("table", failure.diag.table_name),
            ("column", failure.diag.column_name),
            ("constraint", failure.diag.constraint_name),
        )
        if name
    ]
    if state.startswith(_VALUES):
        return ", ".join([type(failure).__name__, *place])
    return failure.diag.message_primary or type(failure).__name__
