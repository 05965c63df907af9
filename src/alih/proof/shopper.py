"""A synthetic shopper: makes the clicks of a trial through the gateway, one after another, and keeps what it was told.

It follows no redirect by itself and never leaves the gateway's host: a link that leads elsewhere is noted, not visited.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import aiohttp
import msgspec
from yarl import URL

from alih.contract.settings import PLACEHOLDER
from alih.contract.trying import needed, scalar_text
from alih.model.commerce import TrialStep
from alih.proof.invoice import hosts

_MOST_BYTES, _AT_ONCE = 4 * 1024 * 1024, 64 * 1024
_OWN_HEADERS = {"User-Agent": "alih-trial", "Accept": "application/json, text/html"}
_NOTHING = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How patient a trial is, in seconds: with one answer, with a state that has to come, with records that have to
    be there; and how long it pauses between two looks. A notice that the provider lost is found by the status sweep
    within about 15 s, so `until_s` is longer than that."""

    answer_s: float = 10.0
    until_s: float = 30.0
    records_s: float = 10.0
    pause_s: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Click:
    """A step as it went. `ms` is from the first request to the end of the last answer; `status` None: no answer, or
    never asked (`made` False); `why` says what was not as it had to be."""

    name: str
    ms: int = 0
    status: int | None = None
    why: str | None = None
    made: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    url: str
    location: str | None
    text: str
    body: Any  # JSON, or _NOTHING
    html: bool

    def part(self, path: str) -> Any:  # JSON, or _NOTHING
        """What stands at `location` or `body.a.0.b`."""
        if path == "location":
            return _NOTHING if self.location is None else _within_host(urljoin(self.url, self.location))
        value = self.body
        for name in path.split(".")[1:]:
            value = _inner(value, name)
        return _NOTHING if value is None else value

    def links(self) -> set[str]:
        """The hosts that the answer names."""
        text = self.text if self.body is _NOTHING else json.dumps(self.body, ensure_ascii=False)
        named = hosts(text, html=self.html)
        return named | ({urlsplit(urljoin(self.url, self.location)).netloc} if self.location else set())


class _Unfit(Exception):
    """A click that cannot be made, or an answer that is not as it has to be; its text says why."""


class Shopper:
    """One purchase. `gateway` is its base URL without a slash at the end; `names` are known from the start."""

    def __init__(
        self, session: aiohttp.ClientSession, gateway: str, names: Mapping[str, str], limits: Limits | None = None
    ) -> None:
        self.told: dict[str, Any] = dict(names)
        self.hosts: set[str] = set()
        self._session = session
        self._gateway = gateway
        self._limits = limits or Limits()

    @property
    def host(self) -> str:
        """The gateway's own."""
        return urlsplit(self._gateway).netloc.lower()

    async def click(self, step: TrialStep) -> Click:
        """Make a step, and keep what it takes. Nothing that the shop does raises: it stands in `why`."""
        if missing := [name for name in needed(step) if name not in self.told]:
            return Click(name=step.name, why=f"{', '.join(missing)} is not known", made=False)
        loop = asyncio.get_running_loop()
        began = loop.time()
        status, why = await self._made(step, began + self._limits.until_s)
        return Click(name=step.name, ms=round((loop.time() - began) * 1000), status=status, why=why)

    async def _made(self, step: TrialStep, until: float) -> tuple[int | None, str | None]:
        status = None
        try:
            while True:
                answer = await self._answered(step)
                status = answer.status
                if status != step.status:
                    return status, f"answered {status}, not {step.status}"
                if not (waited := _other(step, answer)):
                    break
                if asyncio.get_running_loop().time() > until:
                    return status, f"{waited} was not {step.until[waited]} within {self._limits.until_s:g} s"
                await asyncio.sleep(self._limits.pause_s)
            for name, path in step.takes.items():
                self.told[name] = self._taken(name, path, step, answer)
        except _Unfit as unfit:
            return status, str(unfit)
        except ValueError:  # a link that is no URL, a header that HTTP cannot carry
            return status, "holds what HTTP cannot carry"
        return status, None

    async def _answered(self, step: TrialStep) -> _Answer:
        url = self._url(step.path)
        headers = _OWN_HEADERS | {name: self._text(value) for name, value in step.headers.items()}
        content = None
        if step.body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(self._filled(step.body), ensure_ascii=False).encode()
        try:
            request = self._session.request(
                step.method, URL(url, encoded=True), headers=headers, data=content, allow_redirects=False
            )
            async with request as response:
                answer = await _read(response, url)
        except (aiohttp.ClientError, TimeoutError) as failure:
            late = isinstance(failure, TimeoutError) or isinstance(failure.__cause__, TimeoutError)
            raise _Unfit("no answer in time" if late else f"no answer: {type(failure).__name__}") from None
        self._note(answer.links())
        return answer

    def _note(self, named: set[str]) -> None:
        self.hosts |= {host.rpartition("@")[2].lower() for host in named} - {""}

    def _url(self, path: str) -> str:
        """The address of a click. A path that begins with a name is a link that was taken, and stays as it is."""
        link = path.startswith("{")
        filled = PLACEHOLDER.sub(lambda m: self._word(m[1]) if link else quote(self._word(m[1]), safe=""), path)
        url = urljoin(f"{self._gateway}/", filled).partition("#")[0]
        self._note({urlsplit(url).netloc})
        if urlsplit(url).scheme != urlsplit(self._gateway).scheme or urlsplit(url).netloc.lower() != self.host:
            raise _Unfit("leads to another host")
        return url

    def _word(self, name: str) -> str:
        return scalar_text(self.told[name])

    def _text(self, template: str) -> str:
        return PLACEHOLDER.sub(lambda match: self._word(match[1]), template)

    def _filled(self, value: Any) -> Any:  # JSON
        """`value` with names replaced; a text that is nothing but a name becomes the value as it was told."""
        if isinstance(value, str):
            alone = PLACEHOLDER.fullmatch(value)
            return self.told[alone[1]] if alone else self._text(value)
        if isinstance(value, Mapping):
            return {name: self._filled(inner) for name, inner in value.items()}
        return [self._filled(inner) for inner in value] if isinstance(value, list) else value

    def _taken(self, name: str, path: str, step: TrialStep, answer: _Answer) -> Any:  # a JSON scalar
        value = answer.part(path)
        if value is _NOTHING or isinstance(value, Mapping | list):
            raise _Unfit(f"tells no {name} ({path})")
        if name not in step.patterns:
            return value
        found = re.fullmatch(self._pattern(step.patterns[name], name), scalar_text(value))
        if found is None:
            raise _Unfit(f"its {path} is not like {step.patterns[name]}")
        return unquote(found[1])

    def _pattern(self, template: str, taken: str) -> str:
        """A template as a regular expression that finds `taken`; other names stand for what is known of them."""
        parts = []
        for part in re.split(r"(\{[a-z_][a-z0-9_]*\})", template):
            name = part[1:-1] if PLACEHOLDER.fullmatch(part) else None
            parts.append("([^/?#&]+)" if name == taken else re.escape(self._word(name) if name else part))
        return "".join(parts)


def _within_host(url: str) -> str:
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.path}{query}" + (f"#{parts.fragment}" if parts.fragment else "")


def _inner(value: Any, name: str) -> Any:  # JSON, or _NOTHING
    if isinstance(value, Mapping):
        return value.get(name, _NOTHING)
    if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
        return value[int(name)]
    return _NOTHING


def _other(step: TrialStep, answer: _Answer) -> str | None:
    """The first part that has not the value that is waited for."""
    return next((part for part, value in step.until.items() if _said(answer.part(part)) != value), None)


def _said(value: Any) -> str | None:  # JSON, or _NOTHING
    return None if value is _NOTHING or isinstance(value, Mapping | list) else scalar_text(value)


async def _read(response: aiohttp.ClientResponse, url: str) -> _Answer:
    content, html = await _content(response), "html" in response.content_type
    try:
        body = _NOTHING if html else msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        body = _NOTHING
    return _Answer(
        status=response.status,
        url=url,
        location=response.headers.get("Location"),
        text=content.decode("utf-8", "replace"),
        body=body,
        html=html,
    )


async def _content(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for part in response.content.iter_chunked(_AT_ONCE):
        content += part
        if len(content) > _MOST_BYTES:
            raise _Unfit(f"answered more than {_MOST_BYTES} bytes")
    return bytes(content)
