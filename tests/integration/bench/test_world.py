"""Where benches take place."""

import pytest

from alih.bench.world import Servers, world
from alih.model.projection import Direction
from alih.model.side import Side
from alih.postgres.session import connect, only_row


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["same", "uuid", "text", "wide"])
async def test_every_kind_is_filled_and_its_contract_holds(both: Servers, kind: str) -> None:
    async with world(both, kind, 10) as made, await made.migration.connect(Side.SOURCE) as source:
        assert await only_row(await source.execute("SELECT count(*) FROM orders")) == (10,)


@pytest.mark.anyio
async def test_a_world_carries_its_rows_and_leaves_nothing(both: Servers) -> None:
    async with world(both, "mapped", 100) as made, made.installed(), made.following():
        await made.migration.engine(Direction.FORWARD).copy()
        async with made.migration.engine(Direction.FORWARD).verifier() as verifier:
            verdict = await verifier.everything()
        assert (verdict.rows, verdict.clean) == (100, True)
    for cluster in (both.source, both.target):
        async with await connect(cluster.dsn(), "a server of the bench") as connection:
            left = await connection.execute("SELECT count(*) FROM pg_database WHERE datname LIKE 'bench%'")
            assert await only_row(left) == (0,)
