"""What the social app shows between its videos."""

import random
from collections.abc import Iterator

import psycopg
from faker import Faker

from demo.seed.databases import copy_in
from demo.seed.legacy import Row, Shop

CLIPS = ("senja", "laut", "sawah", "kota")
PROMOTIONS = 12


def fill_social(
    conn: psycopg.Connection, rng: random.Random, fake: Faker, shops: tuple[Shop, ...], test_shops: int
) -> None:
    """Write the promotions: one for each of the first shops, and one for each test shop that no feed shows."""
    columns = "promo_id creator caption clip shop_id product_id likes in_feed"
    copy_in(conn, "promotions", columns, _promotions(rng, fake, shops, len(shops) - test_shops))


def _promotions(rng: random.Random, fake: Faker, shops: tuple[Shop, ...], trading: int) -> Iterator[Row]:
    for i in (*range(min(PROMOTIONS, trading)), *range(trading, len(shops))):
        shop = shops[i]
        product = rng.choice(shop.products)
        clip = f"/static/{CLIPS[i % len(CLIPS)]}.webm"
        caption = f"{product.title} favoritku, langsung dari {shop.city}!"
        yield i + 1, f"@{fake.user_name()}", caption, clip, shop.id, product.id, rng.randrange(500, 90_000), i < trading
