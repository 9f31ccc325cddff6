"""The migrations make the declared schema, once, whoever asks for it."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy

from cqar.errors import InvalidError, PreconditionError, UnavailableError
from cqar.server import schema
from cqar.server.store import Store
from cqar.server.store import database_url as sqlalchemy_url
from tests.conftest import database_url

another_url = database_url

COLUMNS = """
    SELECT table_name, column_name, data_type, udt_name, collation_name, is_nullable, column_default,
           numeric_precision, numeric_scale
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'
"""
INDEXES = """
    SELECT tablename, indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'public' AND tablename <> 'alembic_version'
"""
OPTIONS = "SELECT relname, reloptions::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"


def described(url: str, query: str) -> set[tuple[object, ...]]:
    """Give what the catalogue says."""
    with psycopg.connect(url) as connection:
        return {tuple(row) for row in connection.execute(query.encode()).fetchall()}


@pytest.mark.parametrize(
    "query", [COLUMNS, CONSTRAINTS, INDEXES, OPTIONS], ids=["columns", "constraints", "indexes", "options"]
)
def test_migrations_make_the_declared_schema(migrated_url: str, database_url: str, query: str) -> None:
    """Up from empty gives what `schema` declares: every column, constraint and index, to the letter."""
    engine = sqlalchemy.create_engine(sqlalchemy_url(database_url))
    with engine.begin() as connection:
        for extension in ("btree_gist", "pg_trgm"):
            connection.exec_driver_sql(f"CREATE EXTENSION {extension}")
        schema.metadata.create_all(connection)
    engine.dispose()
    migrated = {row for row in described(migrated_url, query) if row[0] != "alembic_version"}
    assert migrated == described(database_url, query)


def test_three_servers_may_migrate_at_once(database_url: str) -> None:
    """Servers that start together do not fall over each other, and there is one clock."""
    stores = [Store(database_url) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(Store.migrate, stores))
    assert len({store.head() for store in stores}) == 1
    assert stores[0].head().position == 0
    for store in stores:
        store.close()


def test_two_databases_may_be_migrated_at_once(database_url: str, another_url: str) -> None:
    """Servers in threads of one process do not migrate each other's database."""
    stores = [Store(database_url), Store(another_url)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Store.migrate, stores))
    assert len({store.head().log_id for store in stores}) == 2
    for store in stores:
        assert store.schema().is_current
        store.close()


def test_migrating_again_changes_nothing(store: Store) -> None:
    """The log goes on after a restart."""
    head = store.head()
    store.migrate()
    assert store.head() == head


def test_a_newer_database_is_refused(migrated_url: str, store: Store) -> None:
    """Code that does not know the schema does not touch it, and says what to do."""
    with psycopg.connect(migrated_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(PreconditionError) as caught:
        store.migrate()
    assert caught.value.reason == "SCHEMA_NEWER"
    assert "upgrade cqar" in caught.value.message


def test_a_database_that_is_not_there_is_unavailable() -> None:
    """No address and no password is in the error."""
    store = Store("postgresql://someone:secret@127.0.0.1:9/nowhere")
    for attempt in (store.migrate, store.head, store.ping):
        with pytest.raises(UnavailableError) as caught:
            attempt()
        assert "secret" not in str(caught.value)
        assert "127.0.0.1" not in str(caught.value)
    store.close()


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://h/d", "sqlite:///x"])
def test_a_url_of_another_database_is_refused(url: str) -> None:
    """Only PostgreSQL will do."""
    with pytest.raises(InvalidError, match="postgresql://"):
        Store(url)


def test_a_migration_that_is_killed_half_way_is_completed_by_the_next(database_url: str, migrated_url: str) -> None:
    """After kill -9 in the middle nothing of the step is there; the next caller makes all of it."""
    with psycopg.connect(database_url) as blocking:
        blocking.execute(
            "CREATE TABLE venues ()"
        )  # not committed: the migration waits for it with half of its tables made
        command = [sys.executable, "-m", "cqar", "migrate", "--database", database_url]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as migrating:
            while not described(database_url, "SELECT pid FROM pg_locks WHERE NOT granted"):
                assert migrating.poll() is None
            migrating.kill()
        blocking.rollback()
    store = Store(database_url)
    assert store.schema().found is None
    assert store.migrate().found is None
    assert store.schema().is_current
    assert store.head().position == 0
    store.close()
    for query in (COLUMNS, CONSTRAINTS, INDEXES, OPTIONS):
        assert described(database_url, query) == described(migrated_url, query)
