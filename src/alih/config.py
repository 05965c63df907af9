"""What the environment says: variables, the account, and the place of alih's state. The only reader of `os.environ`."""

import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Self

from alih.errors import NeedsOperator, Refused

_MIGRATION = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The environment as it was when alih started. Its values never show: a DSN holds a password."""

    variables: Mapping[str, str] = field(repr=False)

    @classmethod
    def of_process(cls) -> Self:
        """Read the environment of this process, once."""
        return cls(variables=MappingProxyType(dict(os.environ)))

    def variable(self, name: str) -> str:
        """The value of the variable `name`; one that is missing or empty is the operator's to set."""
        value = self.variables.get(name, "")
        if not value:
            raise NeedsOperator(
                f"the environment variable {name} is not set",
                remedy=f"export {name}=…, or name another source for it in alih.yaml",
            )
        return value

    @property
    def account(self) -> str:
        """Whose account alih runs under: for the record of who gave a command."""
        return self.variables.get("SUDO_USER") or _account_name()

    def state_dir(self, migration: str) -> Path:
        """The directory of one migration's state, made if need be and closed to others (mode 700)."""
        if not _MIGRATION.fullmatch(migration):
            raise Refused(
                f"{migration!r} cannot name a migration",
                remedy="use a lower-case letter, then up to 30 letters, digits and hyphens",
            )
        directory = self._state_home() / "alih" / migration
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.chmod(0o700)
        return directory

    def _state_home(self) -> Path:
        # The XDG base directory specification has a relative path ignored.
        named, home = (Path(self.variables.get(name, "")) for name in ("XDG_STATE_HOME", "HOME"))
        if named.is_absolute():
            return named
        if home.is_absolute():
            return home / ".local" / "state"
        raise NeedsOperator(
            "there is no place for alih's state: neither XDG_STATE_HOME nor HOME names one",
            remedy="export XDG_STATE_HOME=/a/directory/of/yours",
        )


def _account_name() -> str:
    """The account's name; its number, where a container has none for it."""
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
