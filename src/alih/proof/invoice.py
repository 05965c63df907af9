"""Whether an invoice is shown where the shop is: through the gateway, with no link to any other host."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Self
from urllib.parse import urljoin, urlsplit

import aiohttp

from alih.gateway.offered import Template
from alih.gateway.shapes import Unfit
from alih.model.contract import Contract

_MOST_REDIRECTS = 5
_WITHIN = aiohttp.ClientTimeout(total=15)
_MOST_BYTES, _AT_ONCE = 4 * 1024 * 1024, 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LINKING = frozenset({
    "href", "src", "action", "formaction", "srcset", "poster", "data", "cite", "ping", "background", "longdesc",
    "manifest", "xlink:href", "style", "content",
})  # fmt: skip
# A host in a text: behind a scheme, or behind `//` where a link may begin.
_HOST = re.compile(r"""(?:\b[a-z][a-z0-9+.-]*:|(?:^|[\s"'(,=]))//([^\s/?#"'<>()\\,;]+)""", re.IGNORECASE)


class Invoices:
    """Invoices as a buyer opens them. `gateway` is the base URL of the shop, `path` the front path of the invoice
    operation, with the placeholders `tenant` and `order`."""

    def __init__(self, session: aiohttp.ClientSession, gateway: str, path: str, *, tenant: str, order: str) -> None:
        self._session = session
        self._gateway = gateway
        self._path = Template(path)
        self._tenant, self._order = tenant, order

    @classmethod
    def of(cls, contract: Contract, session: aiohttp.ClientSession, gateway: str) -> Self:
        """The invoices of a contract that describes sales and has a gateway, at the base URL `gateway`."""
        if contract.sales is None or contract.gateway is None:
            raise ValueError("the contract describes no sales, or has no gateway")
        operation = contract.operation(contract.sales.invoice)
        (tenant,) = Template(contract.gateway.tenant_path).names
        return cls(session, gateway, operation.front[1], tenant=tenant, order=contract.sales.order)

    async def fault(self, tenant: str, order: str) -> str | None:
        """Why the invoice is not as it has to be; None if it is shown (2xx), without leaving the gateway's host."""
        try:
            url = self._gateway + self._path.filled({self._tenant: tenant, self._order: order})
            return await self._opened(url)
        except Unfit:
            return "the ids do not fit into a path"
        except (aiohttp.ClientError, TimeoutError) as failure:
            return f"the gateway does not show it: {type(failure).__name__}"

    async def _opened(self, url: str) -> str | None:
        for _ in range(_MOST_REDIRECTS):
            async with self._session.get(url, allow_redirects=False, timeout=_WITHIN) as answer:
                location = answer.headers.get("Location")
                if answer.status not in _REDIRECTS or location is None:
                    return await self._document(answer)
                url = urljoin(url, location)
            if foreign := self._foreign([urlsplit(url).netloc]):
                return f"redirects to {foreign}"
        return "redirects without end"

    async def _document(self, answer: aiohttp.ClientResponse) -> str | None:
        if not 200 <= answer.status <= 299:
            return f"the answer is {answer.status}"
        content = bytearray()
        async for part in answer.content.iter_chunked(_AT_ONCE):
            content += part
            if len(content) > _MOST_BYTES:
                return f"is longer than {_MOST_BYTES} bytes"
        foreign = self._foreign(hosts(content.decode("utf-8", "replace"), html="html" in answer.content_type))
        return f"links to {foreign}" if foreign else None

    def _foreign(self, hosts_: "list[str] | set[str]") -> str:
        """The hosts (with their ports) that are not the gateway's own."""
        own = urlsplit(self._gateway).netloc.lower()
        return ", ".join(sorted({host.rpartition("@")[2].lower() for host in hosts_} - {own, ""}))


def hosts(document: str, *, html: bool) -> set[str]:
    """The hosts that a document links to or names as a link; in HTML, names of namespaces are none."""
    if not html:
        return set(_HOST.findall(document.replace("\\/", "/")))
    reader = _Links()
    reader.feed(document)
    reader.close()
    return {host for text in reader.texts for host in _HOST.findall(text)}


class _Links(HTMLParser):
    """Collects what may hold a link: such attributes, texts, scripts and styles; entities are resolved."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - HTMLParser's
        self.texts.extend(_linking(attrs))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.replace("\\/", "/"))  # as scripts write it


def _linking(attributes: list[tuple[str, str | None]]) -> Iterator[str]:
    """Tabs and line ends within a link do not count, as in a browser; a backslash is a slash there."""
    for name, value in attributes:
        if value and (name in _LINKING or name.startswith(("data-", "on"))):
            yield re.sub(r"[\t\r\n]", "", value).strip().replace("\\", "/")
