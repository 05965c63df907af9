"""What goes wrong at a payment provider, on demand: drawn by a seeded generator, off unless asked for."""

import random
from typing import Annotated, Literal

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Kind = Literal["late", "repeated", "reordered", "lost", "timeout_after_success", "slow"]


class Faults(msgspec.Struct, forbid_unknown_fields=True):
    """The share of each kind, 0 to 1. A late notice waits `late_s` seconds, a reordered one for the next one of its
    charge; a lost one is never sent. A slow buyer pays after `slow_s` seconds."""

    seed: int = 0
    late: Share = 0.0
    repeated: Share = 0.0
    reordered: Share = 0.0
    lost: Share = 0.0
    timeout_after_success: Share = 0.0
    slow: Share = 0.0
    late_s: float = 4.0
    slow_s: float = 20.0


class Chance:
    """Decides, charge by charge and notice by notice."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._rng = random.Random(faults.seed)

    def strikes(self, kind: Kind) -> bool:
        share: float = getattr(self.faults, kind)
        return self._rng.random() < share


class Unanswered(Response):
    """The connection ends where the answer should stand. (A server has to begin one, so a status line is seen.)"""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
