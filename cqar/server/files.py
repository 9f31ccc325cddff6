"""How many files, and so connections, the process may have open: raised at the start, watched, and said before it runs out."""

from __future__ import annotations

import logging
import os
import resource
from typing import Final

from cqar.server.status import Component, Level

log = logging.getLogger(__name__)

_FULL: Final = 0.9  # the share of the limit from which on the server says that it is short of files
_OTHERS: Final = 200  # files besides connections: libraries, logs, snapshots, HTTP


def raise_limit() -> None:
    """Raise the soft limit of open files to the hard one. Does nothing where that is not allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            log.warning("the limit of open files stays %d: %s", soft, error)


def warn_if_few(connections: int) -> None:
    """Warn if the limit is too low for so many connections."""
    limit = _limit()
    if limit < connections + _OTHERS:
        log.warning(
            "this process may have %d files open and may need %d: beyond that, followers fail to connect; raise the limit"
            " (LimitNOFILE= of systemd, ulimit -Hn, --ulimit of a container), or lower --max-concurrent-rpcs",
            limit,
            connections + _OTHERS,
        )


def component() -> Component:
    """Tell whether nearly all files that the process may have are open."""
    limit = _limit()
    count = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208 - cheapest
    if count < limit * _FULL:
        return Component()
    return Component(
        Level.DEGRADED,
        f"{count} of {limit} files are open: more followers fail to connect; raise the limit of open files (LimitNOFILE=)",
    )


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft
