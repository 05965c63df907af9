"""The one front end: a page, its feed, and links from promotions into shops.

The page calls the shops' API under its own host and knows nothing of who answers.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from demo.services.web import answer, database, db, service

HERE = Path(__file__).parent
POLICY = {"Content-Security-Policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"}

_templates = Jinja2Templates(HERE / "templates")


async def page(request: Request) -> Response:
    return _templates.TemplateResponse(request, "page.html", {"buyer": request.state.buyer}, headers=POLICY)


async def feed(request: Request) -> Response:
    return answer({"promotions": await db(request).rows("feed")})


async def follow_promotion(request: Request) -> Response:
    """Lead to the promoted product: on this host, whoever sells it."""
    promoted = await db(request).row("promotion", **request.path_params)
    return RedirectResponse(f"/#/shops/{promoted['shop_id']}/products/{promoted['product_id']}", 302)


def create_app(*, dsn: str, buyer: int) -> Starlette:
    """The service on the database `dsn`; whoever opens the page shops as `buyer` (there are no accounts here)."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with database(dsn, "social") as opened:
            yield {"db": opened, "buyer": buyer}

    routes = [
        Route("/", page),
        Route("/api/feed", feed),
        Route("/p/{promo:int}", follow_promotion),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    return service(routes, lifespan)
