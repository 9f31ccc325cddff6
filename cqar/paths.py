"""Paths that are made of text from outside: a server, a manifest, a bucket, a head that another process wrote.

Whoever supplies a name chooses where files are written and which are removed. So every such path is made by `inside`, and what a
log id, a position and a chain look like is checked where they are read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from cqar.errors import SnapshotError
from cqar.model import FeedToken

_LOG_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LONGEST: Final = 255  # bytes of a file's name
_POSITIONS: Final = range(2**63)


def inside(folder: Path, *names: str) -> Path:
    """Return the path of `names`, one below the other, in a folder. SnapshotError (BAD_NAME) unless each is a plain file name."""
    for name in names:
        if not _is_plain(name):
            raise SnapshotError(
                f"{name[:100]!r} is no file name: one without a slash is expected, that leads nowhere else; refusing it",
                reason="BAD_NAME",
                name=name[:100],
            )
    return folder.joinpath(*names)


def _is_plain(name: str) -> bool:
    if not name or name in {".", ".."} or not name.isprintable() or {"/", "\\"} & set(name):
        return False
    try:
        return len(name.encode()) <= _LONGEST
    except UnicodeEncodeError:
        return False


def fault_of(token: FeedToken) -> str | None:
    """Return what is wrong with a token that came from outside; None if nothing is."""
    if not _LOG_ID.fullmatch(token.log_id):
        return f"a log id is a UUID in lower case, got {token.log_id[:100]!r}"
    if token.position not in _POSITIONS:
        return f"a position is a number from 0 on, got {token.position}"
    return None
