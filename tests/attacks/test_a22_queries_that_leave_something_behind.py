"""Callers' SQL tries to change what later queries see, and to read or do what is no business of a query.

Before, `EXPLAIN ANALYZE DROP VIEW …` was taken for a query, and all views were in one connection: later queries and searches saw
what was left. Now only a SELECT over the registry's tables is run, on a connection of its own, in a transaction that cannot write.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cqar.client import Client, InvalidError, LimitError, open_snapshot
from cqar.model import KINDS
from tests.attacks.marks import attack

pytestmark = attack(
    "A22", by="whoever writes the SQL", promise="no query changes what later ones see, nor reads anything else"
)

VERBS = (
    "DROP VIEW {t}",
    "DROP TABLE gen.{t}",
    "CREATE OR REPLACE VIEW {t} AS SELECT 1",
    "CREATE OR REPLACE TEMP VIEW {t} AS SELECT * FROM {t} LIMIT 0",
    "CREATE TEMP TABLE {t} AS SELECT 1",
    "CREATE MACRO lower(x) AS 'no'",
    "DELETE FROM {t}",
    "INSERT INTO {t} SELECT * FROM {t}",
    "UPDATE {t} SET created_at = NULL",
    "ALTER VIEW {t} RENAME TO other",
    "TRUNCATE {t}",
    "SET search_path = 'memory'",
    "SET threads = 1",
    "RESET ALL",
    "USE memory",
    "PRAGMA disable_optimizer",
    "PRAGMA database_list",
    "ATTACH ':memory:' AS other",
    "DETACH gen",
    "COPY {t} TO '{f}'",
    "COPY (SELECT 1) TO '{f}'",
    "EXPORT DATABASE '{f}'",
    "IMPORT DATABASE '{f}'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CALL enable_logging()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "PREPARE p AS DELETE FROM {t}",
    "EXECUTE p",
    "DEALLOCATE p",
    "SET VARIABLE v = 1",
    "CREATE SEQUENCE s",
    "CREATE SECRET (TYPE s3)",
    "SHOW TABLES",
    "SHOW ALL TABLES",
)
PREFIXES = ("", "EXPLAIN ", "EXPLAIN ANALYZE ", "SELECT 1; ", "DESCRIBE ", "WITH x AS (SELECT 1) ")
READS = (
    "SELECT * FROM gen.{t}",
    "SELECT * FROM memory.main.{t}",
    "SELECT * FROM temp.{t}",
    "SELECT * FROM information_schema.tables",
    "FROM duckdb_settings()",
    "FROM duckdb_databases",
    "FROM sqlite_master",
    "FROM pragma_database_list",
    "FROM pragma_table_info('{t}')",
    "FROM enable_logging()",
    "FROM checkpoint()",
    "FROM query('SELECT 1')",
    "FROM query_table('{t}')",
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "FROM '{f}'",
    'FROM "{f}"',
    "FROM read_csv('{f}')",
    "FROM read_text('/etc/passwd')",
    "FROM read_blob('/etc/passwd')",
    "FROM glob('/etc/*')",
    "FROM read_parquet('http://127.0.0.1:9/x')",
    "FROM parquet_scan('{f}')",
    "FROM sniff_csv('{f}')",
    "SELECT (SELECT count(*) FROM read_text('/etc/passwd'))",
    "SELECT * FROM {t} WHERE EXISTS (FROM glob('*'))",
    "WITH x AS (FROM read_text('/etc/passwd')) FROM x",
    "WITH x AS (DELETE FROM {t} RETURNING *) FROM x",
    "SELECT sleep_ms(60000)",
    "SELECT nextval('s')",
    "SELECT setseed(0.5)",
    "SELECT write_log('x')",
    "SELECT * FROM client",  # a variable of the caller's
    "SELECT * FROM new_{t}",
    "SELECT * FROM result",
    "SELECT 1) LIMIT 1; DROP VIEW {t}; --",
    "SELECT 1) , (SELECT 2",
    "with a as (" * 8 + "SELECT 1" + ")" * 8 + " SELECT 1",
)
WELL = (
    "SELECT * FROM {t} LIMIT 2",
    "FROM {t} LIMIT 1;",
    "DESCRIBE {t}; -- done",
    "SUMMARIZE {t}",
    "WITH x AS (FROM {t}), y AS (SELECT count(*) AS n FROM x) SELECT n FROM y, range(2)",
    "WITH {t} AS (SELECT 1 AS one) SELECT one FROM {t}",
    "SELECT random() < 2, upper('a'), [x + 1 FOR x IN [1]], TIMESTAMPTZ '2026-01-01 00:00:00+00' AT TIME ZONE 'UTC'",
    "SELECT count(*) FROM {t} AS a JOIN {t} AS b ON a.created_at = b.created_at WHERE a.created_at > '2020-01-01'",
    "SELECT 1 UNION ALL SELECT 2 ORDER BY 1",
    "VALUES (1), (2)",
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Yield a client of the bundled catalogue."""
    with open_snapshot(replica_dir=tmp_path_factory.mktemp("replica")) as opened:
        yield opened


def seen(client: Client) -> list[Any]:
    """Return what queries and searches see."""
    tables = [
        client.sql(f"SELECT count(*), bit_xor(hash(t)) FROM {kind.table} AS t").fetchall() for kind in KINDS.values()
    ]
    settings = client.sql("SELECT current_setting('TimeZone'), current_setting('threads'), lower('A')").fetchall()
    return [tables, settings, client.search("USDC"), client.list_assets(chain="ethereum", limit=20)]


def tried(client: Client, query: str) -> bool:
    """Report whether a query is answered; any error but the two that a query may have is a failure."""
    try:
        client.sql(query, timeout=5).fetchall()
    except (InvalidError, LimitError):
        return False
    return True


def test_what_is_no_query_is_refused_and_leaves_nothing(client: Client, tmp_path: Path, scale: int) -> None:
    """Each statement, behind each prefix, on each table that a random choice gives; afterwards all is as it was."""
    before = seen(client)
    tables = [kind.table for kind in KINDS.values()]
    file = tmp_path / "file.csv"
    file.write_text("secret\n1\n")
    dice = random.Random(22)
    statements = [prefix + verb for prefix, verb in itertools.product(PREFIXES, VERBS)] + list(READS)
    dice.shuffle(statements)
    for _ in range(scale):
        for number, statement in enumerate(statements):
            query = statement.format(t=dice.choice(tables), f=file)
            assert not tried(client, query), query
            if not number % 60:
                assert seen(client) == before, query
        assert seen(client) == before
    assert [path.name for path in tmp_path.iterdir()] == ["file.csv"]


@pytest.mark.parametrize("query", WELL)
def test_queries_are_still_queries(client: Client, query: str) -> None:
    """What only reads is answered, for every table."""
    for kind in KINDS.values():
        client.sql(query.format(t=kind.table)).fetchall()


def test_what_is_done_with_a_result_is_not_seen_by_queries(client: Client) -> None:
    """A result is a relation, and relations can write: into a database of their own."""
    before = seen(client)
    result = client.sql("SELECT 1 AS one")
    result.create_view("assets", replace=True)
    result.create("venues")
    assert seen(client) == before
