"""Numbered steps from an empty database to the schema of this version; each only adds (expand first, contract later)."""

from __future__ import annotations

from sqlalchemy import URL, Connection, NullPool, create_engine, inspect, text

from cqar.errors import PreconditionError

_LOCK = "SELECT pg_advisory_lock(hashtextextended('cqar migrate', 0))"


def upgrade(url: URL) -> None:
    """Run what is missing, one caller at a time; PreconditionError if the database is of a newer version than this code."""
    from alembic import command  # noqa: PLC0415 - 0.2 s that only a server's start has to spend
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "cqar.server:migrations")
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    engine = create_engine(url, poolclass=NullPool, connect_args={"application_name": "cqar migrate"})
    with engine.connect() as connection:
        connection.execute(text("SET lock_timeout = '5min'"))  # as long as the other caller's migration may take
        connection.execute(text(_LOCK))
        connection.execute(text("SET lock_timeout = '5s'"))  # DDL that waits for a reader makes all others wait, too
        connection.commit()
        found = _revision(connection)
        if found is not None and found not in known:
            raise PreconditionError(
                f"the database has the schema {found}, which this version does not know: upgrade cqar",
                reason="SCHEMA_NEWER",
                schema=found,
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    """Give the revision that the database has; None if it is empty."""
    has_any = inspect(connection).has_table("alembic_version")
    found = (
        connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none() if has_any else None
    )
    connection.commit()
    return found
