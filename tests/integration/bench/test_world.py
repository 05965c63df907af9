"""Where benches take place."""

from pathlib import Path

import pytest

from alih.bench.world import Servers, world
from alih.model.projection import Direction
from alih.postgres.embedded import Cluster
from alih.postgres.session import connect, only_row


@pytest.fixture
def both(source_cluster: Cluster, target_cluster: Cluster, tmp_path: Path) -> Servers:
    return Servers(source=source_cluster, target=target_cluster, directory=tmp_path)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["mapped", "same"])
async def test_a_kind_is_filled_its_contract_carries_it_and_nothing_is_left(both: Servers, kind: str) -> None:
    async with world(both, kind, 100) as made, made.installed(), made.following():
        await made.migration.engine(Direction.FORWARD).copy()
        async with made.migration.engine(Direction.FORWARD).verifier() as verifier:
            verdict = await verifier.everything()
        assert (verdict.rows, verdict.clean) == (100, True)
    for cluster in (both.source, both.target):
        async with await connect(cluster.dsn(), "a server of the bench") as connection:
            left = await connection.execute("SELECT count(*) FROM pg_database WHERE datname LIKE 'bench%'")
            assert await only_row(left) == (0,)
