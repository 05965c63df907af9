"""A world to move: shops that have sold for half a year, and the marketplace accounts that their sellers have.

The same seed number gives the same rows. Everything is written as the databases' owners, through every constraint.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from faker import Faker

from demo.seed.databases import create_database, create_roles, create_schemas
from demo.seed.legacy import Shop, fill_legacy
from demo.seed.marketplace import fill_marketplace
from demo.seed.social import fill_social

__all__ = ["Seeded", "Shop", "create_database", "create_roles", "create_schemas", "seed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeded:
    """What there is to move, for shoppers and tests: shops with their products, buyers, and the marketplace account
    of each shop (shop id → merchant id).

    The last shops are for trials: they have never sold, and shoppers keep away from them and from the test buyer."""

    shops: tuple[Shop, ...]
    test_shops: tuple[int, ...]
    buyers: tuple[int, ...]
    test_buyer: int
    orders: int
    merchants: Mapping[int, int]


def seed(
    legacy_dsn: str,
    marketplace_dsn: str,
    social_dsn: str | None = None,
    *,
    seed: int = 31,
    shops: int = 300,
    buyers: int = 3_000,
    orders: int = 20_000,
    test_shops: int = 3,
) -> Seeded:
    """Fill empty databases that have their schemas; one transaction each. Without `social_dsn` no promotions.

    The last `test_shops` shops and the last buyer are for trials."""
    rng, fake = random.Random(seed), Faker("id_ID")
    fake.seed_instance(seed)
    with psycopg.connect(legacy_dsn) as conn:
        made, people = fill_legacy(conn, rng, fake, shops=shops, test_shops=test_shops, buyers=buyers, orders=orders)
    with psycopg.connect(marketplace_dsn) as conn:
        merchants = fill_marketplace(conn, rng, fake, made)
    if social_dsn is not None:
        with psycopg.connect(social_dsn) as conn:
            fill_social(conn, rng, fake, made, test_shops)
    tests = tuple(shop.id for shop in made[shops - test_shops :])
    *buying, test_buyer = people
    return Seeded(
        shops=made,
        test_shops=tests,
        buyers=tuple(buying),
        test_buyer=test_buyer,
        orders=orders,
        merchants=merchants,
    )
