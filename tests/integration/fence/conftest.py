"""The fenced shop for these tests, in one pair of databases: making one costs a second."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from alih.postgres import fence
from alih.postgres.embedded import Cluster
from tests.support.databases import Databases, fresh_database
from tests.support.fenced_shop import FencedShop, fenced_shop


@pytest.fixture(scope="package")
def pair(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[Databases]:
    """One pair of databases for all these tests: making one costs a second."""
    with fresh_database(source_cluster) as source, fresh_database(target_cluster) as target:
        yield Databases(source=source, target=target, made_control=str)


@pytest.fixture(autouse=True)
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fence that cannot be had says so after 200 ms instead of a second."""
    monkeypatch.setattr(fence, "_LOCK_ATTEMPTS", 1)


@pytest.fixture
async def shop(pair: Databases, tmp_path: Path) -> AsyncIterator[FencedShop]:
    async with fenced_shop(pair, tmp_path) as shop:
        yield shop
