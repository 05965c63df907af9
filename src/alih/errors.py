"""Every way in which alih refuses or fails, sorted by what the reader has to do next.

    AlihError
    ├── Retryable       wait, then run the same command again
    ├── NeedsOperator   a person has to change something outside alih, then run it again
    ├── Refused         the request or the contract is wrong; nothing was changed
    └── Corrupt         an invariant is broken; stop and look before anything else runs

The exit code of the command line is the class's, so a script can tell them apart.
"""

from typing import ClassVar


class AlihError(Exception):
    """What happened and where; `remedy` says what to do about it.

    Neither text ever holds a row's value, a password or a DSN with one.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.remedy}"


class Retryable(AlihError):
    """Something was busy or away; the same command will do, later."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class NeedsOperator(AlihError):
    """A right, a setting, a row or a service outside alih has to change first."""

    exit_code = 69  # EX_UNAVAILABLE


class Refused(AlihError):
    """The contract or the command asks for what alih does not do; nothing was changed."""

    exit_code = 64  # EX_USAGE


class Corrupt(AlihError):
    """What must never happen was seen; alih stopped where it stood."""

    exit_code = 70  # EX_SOFTWARE
