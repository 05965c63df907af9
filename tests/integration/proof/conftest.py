"""One sold shop for each module; every test begins with it empty."""

from collections.abc import AsyncIterator, Iterator

import pytest

from alih.postgres.embedded import Cluster
from tests.support.databases import Databases, fresh_database
from tests.support.sold_shop import SoldShop, sold_shop


@pytest.fixture(scope="module")
def shop_databases(source_cluster: Cluster, target_cluster: Cluster, control_cluster: Cluster) -> Iterator[Databases]:
    with (
        fresh_database(source_cluster) as source,
        fresh_database(target_cluster) as target,
        fresh_database(control_cluster) as control,
    ):
        yield Databases(source=source, target=target, made_control=lambda: control)


@pytest.fixture(scope="module")
async def opened_shop(shop_databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SoldShop]:
    async with sold_shop(shop_databases, tmp_path_factory.mktemp("shop")) as opened:
        yield opened


@pytest.fixture
def shop(opened_shop: SoldShop) -> SoldShop:
    opened_shop.empty()
    return opened_shop
