"""Fixtures of all tests: real clusters started once a session, fresh databases for each test."""

import signal
from collections.abc import Iterator
from functools import partial

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from alih.postgres.embedded import VERSIONS, Cluster
from tests.support.databases import Databases, fresh_database

_LONGEST_FIRST = (
    "demo/test_story.py",
    "integration/test_cli_faults.py",
    "scenarios/test_small_world.py",
    "integration/test_run.py",
    "integration/test_embedded.py",
)

# A server has no prepared transactions by default; alih has to notice them where there are.
_SETTINGS = {"max_prepared_transactions": "10"}


def pytest_configure() -> None:
    """A suite that a shell has put into the background ignores Ctrl-C, and so would the programs that it starts; what
    they do at Ctrl-C is tested."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pg",
        type=int,
        default=18,
        choices=sorted(VERSIONS),
        help="version of PostgreSQL that the clusters run (default 18)",
    )
    parser.addoption(
        "--walk", type=int, metavar="SEED", help="the one random walk to take (tests/scenarios/test_walks.py)"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes go first, so that no process is left with one of them when the others have ended."""
    items.sort(key=_place)  # a stable sort: the rest stays in order


def _place(item: pytest.Item) -> int:
    return next((n for n, file in enumerate(_LONGEST_FIRST) if item.path.match(file)), len(_LONGEST_FIRST))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def pg_version(request: pytest.FixtureRequest) -> int:
    version: int = request.config.getoption("--pg")
    return version


@pytest.fixture(scope="session")
def cluster_portal() -> Iterator[BlockingPortal]:
    """An event loop in a thread of its own for what lives as long as the session, so each test has a fresh loop."""
    with start_blocking_portal("asyncio") as portal:
        yield portal


def _cluster(
    name: str, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory, version: int
) -> Iterator[Cluster]:
    with portal.wrap_async_context_manager(Cluster(tmp_path_factory.mktemp(name), version, _SETTINGS)) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def source_cluster(
    cluster_portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory, pg_version: int
) -> Iterator[Cluster]:
    yield from _cluster("source", cluster_portal, tmp_path_factory, pg_version)


@pytest.fixture(scope="session")
def target_cluster(
    cluster_portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory, pg_version: int
) -> Iterator[Cluster]:
    yield from _cluster("target", cluster_portal, tmp_path_factory, pg_version)


@pytest.fixture(scope="session")
def control_cluster(cluster_portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from _cluster("control", cluster_portal, tmp_path_factory, 18)


@pytest.fixture
def source_database(source_cluster: Cluster) -> Iterator[str]:
    with fresh_database(source_cluster) as dsn:
        yield dsn


@pytest.fixture
def target_database(target_cluster: Cluster) -> Iterator[str]:
    with fresh_database(target_cluster) as dsn:
        yield dsn


@pytest.fixture
def control_database(control_cluster: Cluster) -> Iterator[str]:
    with fresh_database(control_cluster) as dsn:
        yield dsn


@pytest.fixture
def databases(source_database: str, target_database: str, request: pytest.FixtureRequest) -> Databases:
    return Databases(
        source=source_database,
        target=target_database,
        made_control=partial(request.getfixturevalue, "control_database"),
    )
