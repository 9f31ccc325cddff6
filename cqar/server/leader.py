"""Who of several servers does what only one should do: the one that holds an advisory lock of PostgreSQL.

The lock belongs to a session, which ends with its process, however that dies, and a candidate takes it with the next look.
It is no fence: a holder that was cut off may believe for a moment longer that it leads. So what a leader does must be right
if two do it, only wasteful; and it should look again before it makes its work seen.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import psycopg

from cqar.server import dedicated
from cqar.server.faults import translated

log = logging.getLogger(__name__)

_KEY: Final = "hashtextextended('cqar leader ' || %(role)s, 0)"
# Who holds it already may take it again; with the session all of it ends.
_TAKE: Final = f"SELECT pg_try_advisory_lock({_KEY})"
_HOLDER: Final = f"""
    SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted
      AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (pg_locks.classid::bigint << 32) | pg_locks.objid::bigint = {_KEY}
"""


class Leader:
    """One candidate for one role among the servers of a database. Not thread-safe; nothing happens before `leads`."""

    def __init__(self, url: str, role: str) -> None:
        self.leading = False  # at the last look
        self._url = url
        self._role = role
        self._session: psycopg.Connection[Any] | None = None
        self._holder = ""  # that was logged last

    def leads(self) -> bool:
        """Tell whether this process leads now, and take the lead if nobody has it.

        Blocks for one round trip. Raises UnavailableError if the database cannot be reached: then it does not lead.
        """
        was_leading, self.leading = self.leading, False
        with translated():
            try:
                self.leading = self._take()
            except psycopg.OperationalError:
                if self._session is None:
                    raise
                self.close()  # the session was lost, and the lock with it
                if was_leading:
                    log.warning("the lead in %s was lost with the connection to the database", self._role)
                self.leading = self._take()
        return self.leading

    def close(self) -> None:
        """Give the lead to whoever asks next."""
        self.leading, self._holder = False, ""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _take(self) -> bool:
        if self._session is None:
            self._session = dedicated.connect(self._url, self._role)
        (taken,) = self._ask(self._session, _TAKE) or (False,)
        (holder,) = self._ask(self._session, _HOLDER) or ("",)
        if holder != self._holder:
            self._holder = holder
            log.info("%s leads in %s: %s", "this server" if taken else "another server", self._role, holder)
        return bool(taken)

    def _ask(self, connection: psycopg.Connection[Any], query: str) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = connection.execute(query.encode(), {"role": self._role}).fetchone()
        return row
