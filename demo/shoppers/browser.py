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

from demo.shoppers.diary import Diary, Request
from demo.shoppers.shapes import header_names

T = TypeVar("T")

TIMEOUT = aiohttp.ClientTimeout(total=10)
"""Longer than the gate's hard limit of 5 s on a held request, so that the limit's own answer is what is seen."""

TEMPLATES = (
    "/",
    "/static/{file}",
    "/api/feed",
    "/p/{promo}",
    "/api/me/orders",
    "/api/me/profile",
    "/api/shops/{shop_id}",
    "/api/shops/{shop_id}/products",
    "/api/shops/{shop_id}/products/{product_id}",
    "/api/shops/{shop_id}/cart",
    "/api/shops/{shop_id}/cart/items",
    "/api/shops/{shop_id}/orders",
    "/api/shops/{shop_id}/orders/{order_id}",
    "/api/shops/{shop_id}/orders/{order_id}/payment",
    "/api/shops/{shop_id}/orders/{order_id}/invoice",
)
_PATTERNS = [(template, re.compile(re.sub(r"\{\w+\}", "[^/]+", template))) for template in TEMPLATES]
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
    """The front end's own name for a path; of an unknown one, the path with its numbers taken out."""
    known = (template for template, pattern in _PATTERNS if pattern.fullmatch(path))
    return next(known, re.sub(r"\d+", "{n}", path))


def hosts_named(body: Any) -> Iterator[str]:
    """The host of every absolute URL in a JSON document or an HTML page."""
    text = body if isinstance(body, str) else json.dumps(body)
    return (match[1] for match in _ABSOLUTE.finditer(_NAMESPACE.sub("", text)))


class Browser:
    """The front end in one shopper's hands."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        diary: Diary,
        shopper: int,
        turn: Callable[[], Awaitable[None]],
    ) -> None:
        self._session = session
        self._turn = turn
        self._base_url = base_url
        self._diary = diary
        self._shopper = shopper
        self.host = urlsplit(base_url).netloc

    async def get(self, link: str, buyer: str) -> Answer:
        return await self.send("GET", link, buyer)

    async def post(self, link: str, buyer: str, body: Any, key: str = "") -> Answer:
        return await self.send("POST", link, buyer, body, key)

    async def send(self, method: str, link: str, buyer: str, body: Any = None, key: str = "") -> Answer:
        """Send one call and return its answer; raises Broken if it was refused, failed or leads to another host."""
        url = urljoin(self._base_url, link)
        parts = urlsplit(url)
        template = template_of(parts.path)
        self._diary.host(parts.netloc, f"a link to {template}")
        if parts.netloc != self.host:
            self.doubt(f"{method} {template}", f"leads to another host, {parts.netloc}")
        headers = {"X-Buyer-Id": buyer} | ({"Idempotency-Key": key} if key else {})
        await self._turn()
        began = time.perf_counter()
        try:
            async with self._session.request(method, url, json=body, headers=headers, allow_redirects=False) as reply:
                text = await reply.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._write(method, template, 0, began, "", "failed", type(error).__name__)
            raise Unanswered from error
        content = _content(reply, text)
        answer = Answer(
            call=f"{method} {template}", status=reply.status, body=content, location=reply.headers.get("Location", "")
        )
        shape = self._diary.shape(f"{answer.call} → {reply.status}", _document(reply, parts.query, body, content))
        self._see_hosts(answer)
        self._judge(method, template, began, shape, answer)
        return answer

    def read(self, answer: Answer, form: type[T]) -> T:
        """The answer's body as the front end understands it; an answer that it cannot read is a contradiction."""
        try:
            return msgspec.convert(answer.body, form)
        except msgspec.ValidationError as error:
            self.doubt(answer.call, str(error))

    def doubt(self, call: str, why: str, **ids: str) -> NoReturn:
        """Write down that an answer contradicts what the shopper knows, and end this way; always raises Broken."""
        self._diary.contradiction(call, why, ids)
        raise Broken(why)

    def _judge(self, method: str, template: str, began: float, shape: str, answer: Answer) -> None:
        code = answer.body.get("error", "") if answer.status >= 400 and isinstance(answer.body, dict) else ""
        sold_out = answer.status == 409 and code in {"sold_out", "out_of_stock"}
        verdict = "ok" if answer.status < 400 else "refused" if sold_out else "failed"
        self._write(method, template, answer.status, began, shape, verdict, code)
        if verdict == "ok":
            return
        raise Unanswered(code) if answer.status >= 500 else Broken(code)

    def _write(self, method: str, template: str, status: int, began: float, shape: str, verdict: str, why: str) -> None:
        request = Request(
            shopper=self._shopper,
            method=method,
            template=template,
            host=self.host,
            shape=shape,
            status=status,
            ms=round((time.perf_counter() - began) * 1000, 2),
            verdict=verdict,
            why=why,
        )
        self._diary.request(request)

    def _see_hosts(self, answer: Answer) -> None:
        for host in hosts_named(answer.body):
            self._diary.host(host, f"the answer of {answer.call}")
        if answer.location:
            self._diary.host(urlsplit(urljoin(self._base_url, answer.location)).netloc, f"a redirect of {answer.call}")


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
