"""The gate: the proxy for tenants in transition. It forwards, counts, and holds.

It stores nothing: who owns a tenant is read for each request, and no answer means hold. Its counts are exact: a
request counts from the moment it is let through until the back end has answered it whole, whether or not its client
is still there. What Envoy can tell is only when clients leave (it then lets go of a request that still runs).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from yarl import URL

from alih.errors import AlihError, Refused
from alih.gateway.flight import Call, Flight, only_what_came
from alih.gateway.passage import Passage, Transit
from alih.gateway.routes import SIDE_HEADER, TENANT_HEADER, UNCLEAN_HEADER
from alih.gateway.wire import BODY_BYTES, application, end_to_end, listening, never_sent, problem, upstream_session
from alih.model.side import SHARED, Side

_ASK_AGAIN_S = 0.02  # between two readings of an owner row that gave no owner
_HELD_SAMPLES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the gate waits for at most.

    `request_max_s` is how long the source may work on a request; a request whose connection broke counts as unclean
    for that long. `upstream_s` is never shorter.
    """

    hold_s: float = 5.0
    barrier_s: float = 2.0
    request_max_s: float = 10.0
    upstream_s: float = 60.0
    body_bytes: int = BODY_BYTES
    grace_s: float = 10.0  # for running requests, when the gate is closed


class _NotLet(Exception):
    """The request does not go on."""


class Gate:
    """`track` a tenant, `hold` it, wait until it is `drained`, `release` it to whoever owns it then, `forget` it."""

    def __init__(
        self,
        *,
        owner_of: Callable[[str], Awaitable[Side | None]],
        upstreams: Mapping[Side, str],
        barrier: Callable[[], Awaitable[None]],
        limits: Limits | None = None,
    ) -> None:
        """`owner_of` reads the owner row, once a request: None or an exception hold the request.

        `upstreams` are `host:port`, the target's being the adapter. `barrier` is awaited before each request of a
        shared path: it returns when the side that is asked has what the other side had; an AlihError gives a 503.
        """
        self._owner_of = owner_of
        self._upstreams = {side: f"http://{address}" for side, address in upstreams.items()}
        self._barrier = barrier
        self._limits = limits or Limits()
        if self._limits.upstream_s < self._limits.request_max_s:
            raise Refused("the gate would give up requests that still run", remedy="raise upstream_s to request_max_s")
        self._passages: dict[str, Passage] = {}
        self._flights: dict[Hashable, Flight] = {}
        self.held_ms: deque[tuple[str, float]] = deque(maxlen=_HELD_SAMPLES)
        """(tenant, milliseconds) of requests that had to wait, in the order in which their waiting ended."""

    def track(self, tenant: str) -> None:
        """From here on the tenant's requests are counted exactly, and it may be held."""
        passage = self._passage(tenant)
        if passage.tracked and passage.tenant != tenant:
            raise Refused("two tenants' ids differ only in case", remedy="rename one; routing ignores case")
        passage.tenant = tenant  # a request before may have spelled it otherwise
        passage.tracked = True

    def forget(self, tenant: str) -> None:
        """The tenant is in transition no more. Requests that still come are forwarded, and held ones released."""
        if (passage := self._passages.get(tenant.lower())) is not None:
            passage.tracked = False
            if passage.held:
                passage.release()
            self._tidy(passage)

    def hold(self, tenant: str) -> None:
        """Let no further request of the tenant through. Refused for a tenant that is not tracked."""
        self._tracked(tenant).hold()

    def release(self, tenant: str) -> None:
        """Let held requests go, in batches, to the owner that is read for each from here on."""
        self._tracked(tenant).release()

    def in_flight(self, tenant: str) -> int:
        """Requests of the tenant that a back end has not answered whole."""
        passage = self._passages.get(tenant.lower())
        return 0 if passage is None else passage.in_flight

    def unclean(self, tenant: str) -> int:
        """Requests that broke after they were sent, within the last `request_max_s`: they may still be running."""
        passage = self._passages.get(tenant.lower())
        return 0 if passage is None else passage.unclean

    async def drained(self, tenant: str, within_s: float) -> bool:
        """Wait until none of the tenant's requests runs or may run; False when that takes longer than `within_s`."""
        try:
            async with asyncio.timeout(within_s):
                await self._tracked(tenant).drained()
        except TimeoutError:
            return False
        return True

    def take_held_ms(self) -> list[tuple[str, float]]:
        """The samples since the last call."""
        taken = list(self.held_ms)
        self.held_ms.clear()
        return taken

    @asynccontextmanager
    async def serving(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Serve while the context is open; gives `host:port`. Hold what has to be held before."""
        app = application(self._handle, self._limits.body_bytes)
        app.on_response_prepare.append(only_what_came)
        async with (
            upstream_session(self._limits.upstream_s) as self._session,
            listening(app, host, port, grace_s=self._limits.grace_s) as address,
        ):
            yield address

    def _passage(self, tenant: str) -> Passage:
        known = self._passages.get(tenant.lower())
        if known is None:
            known = self._passages[tenant.lower()] = Passage(tenant, self._limits.request_max_s)
        return known

    def _tracked(self, tenant: str) -> Passage:
        passage = self._passages.get(tenant.lower())
        if passage is None or not passage.tracked:
            raise Refused(f"tenant {tenant!r} is not tracked", remedy="track it for request_max_ms first")
        return passage

    def _tidy(self, passage: Passage) -> None:
        if passage.forgettable:
            self._passages.pop(passage.tenant.lower(), None)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        tenant = request.headers.get(TENANT_HEADER)
        if not tenant:
            return problem(400, "bad_path")
        try:
            call = Call.of(request, await request.read())
        except web.HTTPRequestEntityTooLarge:
            return problem(413, "too_large")
        except (ConnectionError, web.RequestPayloadError):  # the client has left in the middle of it
            return problem(400, "bad_body")
        identity = call.identity(tenant.lower())
        if identity is not None and identity in self._flights:
            return await self._flights[identity].join(request)
        flight = Flight(request, shared=identity is not None)
        if identity is None:
            return await self._fly(tenant, call, flight)
        self._flights[identity] = flight
        try:
            return await self._fly(tenant, call, flight)
        finally:
            del self._flights[identity]

    async def _fly(self, tenant: str, call: Call, flight: Flight) -> web.StreamResponse:
        passage = self._passage(tenant)
        try:
            with passage.visit():
                side, transit = await self._let_through(passage, flight)
                try:
                    await self._relay(side, call, flight, transit)
                finally:
                    passage.left(transit)
        except _NotLet:
            return flight.end(503, "unavailable")
        finally:
            self._tidy(passage)
        return flight.end(502, "upstream")

    async def _let_through(self, passage: Passage, flight: Flight) -> tuple[Side, Transit]:
        """Wait for an owner and an open passage; the request is counted in the step that decides."""
        clock = asyncio.get_running_loop()
        arrived = clock.time()
        waited = False
        try:
            async with asyncio.timeout(self._limits.hold_s):
                while True:
                    side = await self._side(passage)
                    if side is not None:
                        if not flight.wanted:
                            waited = False
                            raise _NotLet
                        return side, passage.entered()
                    waited = True
        except TimeoutError:
            waited = True
            raise _NotLet from None
        finally:
            if waited:
                self.held_ms.append((passage.tenant, (clock.time() - arrived) * 1000))

    async def _side(self, passage: Passage) -> Side | None:
        """Who owns the tenant at this very moment; None, after some waiting, when that cannot be said."""
        if passage.held:
            await passage.reopened()
            return None
        generation = passage.generation
        if passage.tenant == SHARED:
            await self._past_barrier()
        side = await self._owner(passage.tenant)
        if side is None:
            await asyncio.sleep(_ASK_AGAIN_S)
        return side if generation == passage.generation else None

    async def _owner(self, tenant: str) -> Side | None:
        try:
            return await self._owner_of(tenant)
        except Exception:  # noqa: BLE001 - whatever keeps the row from being read, the answer is to hold
            return None

    async def _past_barrier(self) -> None:
        try:
            async with asyncio.timeout(self._limits.barrier_s):
                await self._barrier()
        except (AlihError, TimeoutError) as error:
            raise _NotLet from error

    async def _relay(self, side: Side, call: Call, flight: Flight, transit: Transit) -> None:
        """Send the call once and pass the answer on, reading it to its end even when nobody waits for it."""
        url = URL(self._upstreams[side] + call.path, encoded=True)
        try:
            async with self._session.request(
                call.method, url, headers=call.headers, data=call.body or None, allow_redirects=False
            ) as answer:
                headers = end_to_end(answer.headers)
                headers[SIDE_HEADER] = side.value
                await flight.start(answer.status, answer.reason, headers)
                async for chunk in answer.content.iter_any():
                    await flight.carry(chunk)
                transit.clean = UNCLEAN_HEADER not in answer.headers
                flight.land()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            transit.clean = never_sent(error)
