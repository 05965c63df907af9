"""What the social app shows between its videos."""

import random
from collections.abc import Iterator

import psycopg
from faker import Faker

from demo.seed.databases import copy_in
from demo.seed.legacy import Row, Shop

CLIPS = ("senja", "laut", "sawah", "kota")
PROMOTIONS = 12


def fill_social(conn: psycopg.Connection, rng: random.Random, fake: Faker, shops: tuple[Shop, ...]) -> None:
    """Write the promotions: one for each of the first shops."""
    columns = "promo_id creator caption clip shop_id product_id likes"
    copy_in(conn, "promotions", columns, _promotions(rng, fake, shops[:PROMOTIONS]))


def _promotions(rng: random.Random, fake: Faker, shops: tuple[Shop, ...]) -> Iterator[Row]:
    for i, shop in enumerate(shops):
        product = rng.choice(shop.products)
        clip = f"/static/{CLIPS[i % len(CLIPS)]}.webm"
        caption = f"{product.title} favoritku, langsung dari {shop.city}!"
        yield i + 1, f"@{fake.user_name()}", caption, clip, shop.id, product.id, rng.randrange(500, 90_000)
