"""The message in a database's log that says whose writes count from here on; pure."""

import json
from dataclasses import dataclass

from alih.model.projection import Direction
from alih.model.side import Side


@dataclass(frozen=True, slots=True)
class Turn:
    """From this place in the log on, `side` owns the tenant, under `epoch`."""

    tenant: str
    side: Side
    epoch: int

    def applies(self, direction: Direction) -> bool:
        """Whether a stream that reads this log applies the tenant's rows that follow."""
        return self.side is direction.reads

    def encode(self) -> str:
        return json.dumps({"tenant": self.tenant, "side": self.side.value, "epoch": self.epoch})

    @classmethod
    def decode(cls, content: bytes) -> "Turn":
        read = json.loads(content)
        return cls(read["tenant"], Side(read["side"]), read["epoch"])
