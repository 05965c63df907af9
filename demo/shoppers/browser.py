"""One HTTP call of the front end: sent through the gateway, followed by hand, written down.

Redirects are not followed by the client library, so that each host that an answer points to is seen before it is gone
to. A host other than the gateway's is never called: that the answer named it is the finding.
"""

import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl, urljoin, urlsplit

import aiohttp
import msgspec

from demo.shoppers.diary import Diary
from demo.shoppers.shapes import header_names

T = TypeVar("T")

TIMEOUT = aiohttp.ClientTimeout(total=10)
"""Longer than the gate's hard limit of 5 s on a held request, so that the limit's own answer is what is seen."""

IDS = {"static": "file", "p": "promo", "shops": "shop_id", "products": "product_id", "orders": "order_id"}
_ID = re.compile(rf"/({'|'.join(IDS)})/[^/]+")
_NAMESPACE = re.compile(r"""\sxmlns(:\w+)?=["'][^"']*["']""")
_ABSOLUTE = re.compile(r"""(?:https?:|(?<=["'=(]))//([\w.-]+(?::\d+)?)""")


class Broken(Exception):
    """The journey cannot go on from here; what happened already stands in the diary."""


class Unanswered(Broken):
    """No answer or a server's error: whether the call had its effect is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: the parsed JSON or the text, and where a redirect points."""

    call: str
    status: int
    body: Any
    location: str


def template_of(path: str) -> str:
    """A path without its ids; of one that the front end does not know, without its numbers."""
    return re.sub(r"\d+", "{n}", _ID.sub(lambda match: f"/{match[1]}/{{{IDS[match[1]]}}}", path))


def hosts_named(body: Any) -> Iterator[str]:
    """The host of every absolute URL in a JSON document or an HTML page."""
    return (match[1] for match in _ABSOLUTE.finditer(_NAMESPACE.sub("", text_of(body))))


def text_of(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body)


@dataclass(frozen=True, slots=True)
class Browser:
    """The front end in one shopper's hands; it waits for its `turn` before each call."""

    session: aiohttp.ClientSession
    base_url: str
    diary: Diary
    turn: Callable[[], Awaitable[None]]

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).netloc

    async def get(self, link: str, buyer: str) -> Answer:
        return await self.send("GET", link, buyer)

    async def post(self, link: str, buyer: str, body: Any, key: str = "") -> Answer:
        return await self.send("POST", link, buyer, body, key)

    async def send(self, method: str, link: str, buyer: str, body: Any = None, key: str = "") -> Answer:
        """Send one call and return its answer; raises Broken if it was refused, failed or leads to another host."""
        url = urljoin(self.base_url, link)
        parts = urlsplit(url)
        template = template_of(parts.path)
        call = f"{method} {template}"
        self.diary.host(parts.netloc, f"a link to {template}")
        self.expect(parts.netloc == self.host, call, f"leads to another host, {parts.netloc}")
        headers = {"X-Buyer-Id": buyer} | ({"Idempotency-Key": key} if key else {})
        await self.turn()
        began = time.perf_counter()
        try:
            async with self.session.request(method, url, json=body, headers=headers, allow_redirects=False) as reply:
                text = await reply.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.diary.request(call, self.host, 0, _ms_since(began), "failed", type(error).__name__)
            raise Unanswered from error
        ms = _ms_since(began)
        location = reply.headers.get("Location", "")
        answer = Answer(call=call, status=reply.status, body=_content(reply, text), location=location)
        self.diary.shape(f"{call} → {reply.status}", _document(reply, parts.query, body, answer.body))
        self._see_hosts(answer)
        self._judge(answer, ms)
        return answer

    def read(self, answer: Answer, form: type[T]) -> T:
        """The answer's body as the front end understands it; an answer that it cannot read is a contradiction."""
        try:
            return msgspec.convert(answer.body, form)
        except msgspec.ValidationError as error:
            self.doubt(answer.call, str(error))

    def expect(self, fact: bool, call: str, why: str, **ids: str) -> None:
        """Doubt the answer of `call` unless `fact` holds."""
        if not fact:
            self.doubt(call, why, **ids)

    def doubt(self, call: str, why: str, **ids: str) -> NoReturn:
        """Write down that an answer contradicts what the shopper knows, and end this way; always raises Broken."""
        self.diary.contradiction(call, why, ids)
        raise Broken(why)

    def _judge(self, answer: Answer, ms: float) -> None:
        code = answer.body.get("error", "") if answer.status >= 400 and isinstance(answer.body, dict) else ""
        sold_out = answer.status == 409 and code == "out_of_stock"
        verdict = "ok" if answer.status < 400 else "refused" if sold_out else "failed"
        self.diary.request(answer.call, self.host, answer.status, ms, verdict, code)
        if verdict != "ok":
            raise Unanswered(code) if answer.status >= 500 else Broken(code)

    def _see_hosts(self, answer: Answer) -> None:
        for host in hosts_named(answer.body):
            self.diary.host(host, f"the answer of {answer.call}")
        if answer.location:
            self.diary.host(urlsplit(urljoin(self.base_url, answer.location)).netloc, f"a redirect of {answer.call}")


def _ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)


def _content(reply: aiohttp.ClientResponse, text: str) -> Any:
    if reply.content_type != "application/json":
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text  # whoever reads it will find that it is no object


def _document(reply: aiohttp.ClientResponse, query: str, sent: Any, got: Any) -> dict[str, Any]:
    """The call as one document, for its shape."""
    asked = {"headers": header_names(reply.request_info.headers), "query": dict(parse_qsl(query)), "body": sent}
    return {"request": asked, "answer": {"headers": header_names(reply.headers), "body": got}}
