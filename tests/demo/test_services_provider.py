"""The provider's sandbox answers as Midtrans does; the social app stays on its host."""

import aiohttp
import pytest

from demo import seed
from demo.services.payments import authorization
from demo.services.social.app import create_app as social_app
from tests.demo.services import KEYS, serving, shops
from tests.support.databases import Databases

CHARGE = {"payment_type": "bank_transfer", "transaction_details": {"order_id": "A-1", "gross_amount": 145000}}


@pytest.mark.anyio
async def test_an_order_is_charged_once(databases: Databases) -> None:
    async with shops(databases) as world:
        own = {"Authorization": authorization(KEYS["social"])}
        first = await world.provider.post("/v2/charge", CHARGE, **own, **{"Idempotency-Key": "k1"})
        assert first[0] == 201
        assert (first[1]["gross_amount"], first[1]["transaction_status"]) == ("145000.00", "pending")
        assert first == await world.provider.post("/v2/charge", CHARGE, **own, **{"Idempotency-Key": "k1"})
        again = await world.provider.post("/v2/charge", CHARGE, **own, **{"Idempotency-Key": "k2"})
        assert (again[0], again[1]["status_code"]) == (406, "406")
        status, shown = await world.provider.get("/v2/A-1/status", **own)
        assert (status, shown["va_numbers"]) == (200, first[1]["va_numbers"])
        stranger = {"Authorization": authorization("unknown")}
        assert (await world.provider.get("/v2/A-1/status", **stranger))[0] == 401
        assert (await world.provider.get("/v2/A-2/status", **own))[0] == 404


@pytest.mark.anyio
async def test_the_social_app_leads_to_products_on_its_own_host(databases: Databases) -> None:
    seed.create_schemas(legacy=databases.source, marketplace=databases.target, social=databases.control)
    seeded = seed.seed(databases.source, databases.target, databases.control, shops=3, test_shops=1, buyers=5, orders=5)
    async with (
        serving(social_app(dsn=databases.control, buyer=seeded.buyers[0])) as url,
        aiohttp.ClientSession(url) as session,
    ):
        async with session.get("/api/feed") as response:
            promotions = (await response.json())["promotions"]
        assert [promotion["shop_id"] for promotion in promotions] == [str(shop.id) for shop in seeded.shops[:2]]
        assert seeded.test_shops == (seeded.shops[2].id,)
        async with session.get("/p/3", allow_redirects=False) as response:  # the test shop's, in no feed
            assert response.headers["Location"].startswith(f"/#/shops/{seeded.test_shops[0]}/products/")
        for promotion in promotions:
            async with session.get(promotion["link"], allow_redirects=False) as response:
                product = f"/#/shops/{promotion['shop_id']}/products/{promotion['product_id']}"
                assert (response.status, response.headers["Location"]) == (302, product)
            async with session.get(promotion["clip"], headers={"Range": "bytes=0-99"}) as response:
                assert (response.status, response.content_type) == (206, "video/webm")
        async with session.get("/") as response:
            assert response.headers["Content-Security-Policy"].startswith("default-src 'self';")
            assert f'content="{seeded.buyers[0]}"' in await response.text()
