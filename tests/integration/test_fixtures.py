"""The tests' own ground: databases are fresh, and what a test leaves in a cluster is gone before the next."""

import psycopg

from alih.postgres.embedded import Cluster
from tests.support.databases import Databases, fresh_database
from tests.support.pgtools import psql

LEFT_BEHIND = """
    CREATE ROLE mover LOGIN;
    GRANT SET ON PARAMETER session_replication_role TO mover;
    CREATE TABLE t (i integer PRIMARY KEY);
    GRANT SELECT ON t TO mover;
    SELECT pg_replication_origin_create('left_behind') IS NOT NULL;
"""
SLOT = "SELECT slot_name FROM pg_create_logical_replication_slot('left_behind', 'pgoutput')"
COUNTS = """
    SELECT (SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_replication_origin),
           (SELECT count(*) FROM pg_roles WHERE rolname !~ '^pg_'), (SELECT count(*) FROM pg_parameter_acl),
           (SELECT count(*) FROM pg_prepared_xacts)
"""


def test_three_databases_on_three_clusters(databases: Databases) -> None:
    identifier = "SELECT system_identifier FROM pg_control_system()"
    identifiers = {psql(dsn, identifier) for dsn in (databases.source, databases.target, databases.control)}
    assert len(identifiers) == 3
    assert psql(databases.source, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == "0"


def test_what_a_test_leaves_behind_goes_with_its_database(source_cluster: Cluster, pg_version: int) -> None:
    with fresh_database(source_cluster) as dsn:
        psql(dsn, LEFT_BEHIND)
        psql(dsn, SLOT)
        psql(dsn, "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'left_behind'")
        with psycopg.connect(dsn) as still_open:
            still_open.execute("SELECT 1")
            assert psql(source_cluster.dsn(), COUNTS) == "1|1|2|1|1"
            assert psql(dsn, "SHOW server_version_num")[:2] == str(pg_version)
    assert psql(source_cluster.dsn(), COUNTS) == "0|0|1|0|0"
