"""Connections outside the pool, for what lasts longer than a call: the lock of a leader, and wake-ups.

Each is in autocommit mode and holds a session of its own, so a pooler that hands sessions round between transactions
(PgBouncer in transaction mode) is no good here: what is listened for or locked is then another client's. Give the server
the address of PostgreSQL itself, or of a pool in session mode. Both ends notice within half a minute that the other host
is gone, so a lock does not outlive its holder for longer.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, Connection

from cqar.server.store import database_url

log = logging.getLogger(__name__)

_SETTINGS: Final = {
    "statement_timeout": "5s",
    "synchronous_commit": "off",  # nothing that is written here has to survive
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_told: set[str] = set()


def connect(url: str, name: str) -> Connection[Any]:
    """Open a session; `name` says in PostgreSQL's views what it is for. Raises what psycopg raises."""
    connection = psycopg.connect(**_parameters(url, name))
    try:
        reply = connection.execute("SELECT pg_backend_pid()")
        _warn_of_a_pooler(name, connection.info.backend_pid, reply.fetchone())
    except BaseException:
        connection.close()
        raise
    return connection


async def connect_async(url: str, name: str) -> AsyncConnection[Any]:
    """Open a session for use in the event loop; else like `connect`."""
    connection = await AsyncConnection.connect(**_parameters(url, name))
    try:
        reply = await connection.execute("SELECT pg_backend_pid()")
        _warn_of_a_pooler(name, connection.info.backend_pid, await reply.fetchone())
    except BaseException:
        await connection.close()
        raise
    return connection


def _parameters(url: str, name: str) -> dict[str, Any]:
    address = database_url(url)
    _, parameters = address.get_dialect()().create_connect_args(address)
    return {
        **parameters,
        "autocommit": True,
        "options": " ".join([f"-c {setting}={value}" for setting, value in _SETTINGS.items()]),
        "application_name": f"cqar {name} {socket.gethostname()}:{os.getpid()}",
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
    }


def _warn_of_a_pooler(name: str, promised: int, row: tuple[int] | None) -> None:
    """Tell, once for each use, that another process answers than the one that the connection was made to."""
    if row is not None and row[0] != promised and name not in _told:
        _told.add(name)
        log.warning("a pooler stands before the database; `%s` needs a session of its own, or it has no effect", name)
