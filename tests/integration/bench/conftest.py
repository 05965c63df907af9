"""The session's clusters as the servers of a bench."""

from pathlib import Path

import pytest

from alih.bench.world import Servers
from alih.postgres.embedded import Cluster


@pytest.fixture
def both(source_cluster: Cluster, target_cluster: Cluster, tmp_path: Path) -> Servers:
    return Servers(source=source_cluster, target=target_cluster, directory=tmp_path)
