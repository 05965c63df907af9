"""The demo's contract, asked of the demo's rows: each crosses, and comes back as it was."""

import psycopg
import pytest

from alih.contract import check, load, rehearse
from alih.postgres import catalog, links, rehearsal
from alih.postgres.sql import query
from demo.seed import create_schemas, seed
from tests.demo.services import CONTRACT, NAMES
from tests.support.databases import Databases

pytestmark = pytest.mark.anyio


async def test_every_row_of_the_demo_would_cross_and_come_back(databases: Databases) -> None:
    create_schemas(legacy=databases.source, marketplace=databases.target)
    seed(databases.source, databases.target, shops=20, buyers=100, orders=400)
    contract = load(CONTRACT, NAMES)
    async with (
        await psycopg.AsyncConnection.connect(databases.source, autocommit=True) as source,
        await psycopg.AsyncConnection.connect(databases.target, autocommit=True) as target,
    ):
        here, there = await catalog.read(source), await catalog.read(target)
        assert check(contract, here, there) == []
        for side in (source, target):
            await side.execute(query("schema"))
        await links.refresh(source, target, contract.entities)
        assert await rehearsal.obstacles(source, target, rehearse(contract, here, there)) == []
