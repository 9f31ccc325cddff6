"""Numbered steps from an empty database to the schema of this version; each only adds (expand first, contract later)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import URL, Connection, NullPool, create_engine, inspect, text

from cqar.errors import PreconditionError

if TYPE_CHECKING:
    from alembic.config import Config

_LOCK = "SELECT pg_advisory_lock(hashtextextended('cqar migrate', 0))"
_ALEMBIC = threading.Lock()  # what a migration runs in is global: threads would meet each other's database
_ARGUMENTS = {"application_name": "cqar migrate", "connect_timeout": 5}


class Schema(NamedTuple):
    """The revision that a database had when it was looked at, None if it was empty, and the one of this code."""

    found: str | None
    wanted: str

    @property
    def is_current(self) -> bool:
        """Whether this code can work with it."""
        return self.found == self.wanted


def look(url: URL) -> Schema:
    """Compare a database with this code; PreconditionError if it is of a newer version."""
    with create_engine(url, poolclass=NullPool, connect_args=_ARGUMENTS).connect() as connection:
        return _compared(connection, _config())


def upgrade(url: URL) -> Schema:
    """Run what is missing, one caller at a time; PreconditionError if the database is of a newer version than this code."""
    from alembic import command  # noqa: PLC0415 - 0.2 s that only a server's start has to spend

    config = _config()
    with create_engine(url, poolclass=NullPool, connect_args=_ARGUMENTS).connect() as connection:
        connection.execute(text("SET lock_timeout = '5min'"))  # as long as the other caller's migration may take
        connection.execute(text(_LOCK))
        connection.execute(text("SET lock_timeout = '5s'"))  # DDL that waits for a reader makes all others wait, too
        connection.commit()
        schema = _compared(connection, config)
        config.attributes["connection"] = connection
        with _ALEMBIC:
            command.upgrade(config, "head")
    return schema


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "cqar.server:migrations")
    config.set_main_option("path_separator", "os")
    return config


def _compared(connection: Connection, config: Config) -> Schema:
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory.from_config(config)
    found = _revision(connection)
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise PreconditionError(
            f"the database has the schema {found}, which this version does not know: upgrade cqar",
            reason="SCHEMA_NEWER",
            schema=found,
        )
    wanted = scripts.get_current_head()
    assert wanted is not None
    return Schema(found, wanted)


def _revision(connection: Connection) -> str | None:
    """Give the revision that the database has; None if it is empty."""
    has_any = inspect(connection).has_table("alembic_version")
    found = (
        connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none() if has_any else None
    )
    connection.commit()
    return found
