"""Whether a replica shows a write: positions are numbers, and count only within one history.

A server that was restored from a backup goes on from an earlier position with another history, under the same name or, after
`cqar database new-log`, under another one. A replica of the old history may be at a higher number and not have the write.
"""

from __future__ import annotations

import sys

from cqar.answers import Position
from cqar.client._arguments import optional_text, whole
from cqar.client._view import View
from cqar.errors import UnavailableError
from cqar.model import FeedToken


def wanted(position: object, log_id: object) -> Position:
    """Return what is waited for; InvalidError for what is no position."""
    number = whole(position, "position", 0, sys.maxsize)
    known = number if isinstance(number, Position) else Position(number)
    named = optional_text(log_id, "log_id")
    return known if named is None else Position(known, named, known.chain if named == known.log_id else b"")


def shown(view: View, position: Position) -> bool | None:
    """Report whether a view shows the write of a position; None if it cannot tell which way it came there."""
    head = view.replica.head
    if head.position < position or (position.log_id and head.log_id != position.log_id):
        return False
    if not position.chain:
        return True
    chain = view.chain_at(position)
    return None if chain is None else chain == position.chain


def not_yet(head: FeedToken, position: Position, timeout: float) -> UnavailableError:
    """Return the error for a write that the replica does not show in time."""
    reason, why = "NOT_YET", f"the replica is at {head.position}, not yet at {int(position)}"
    if position.log_id and head.log_id != position.log_id:
        reason, why = "OTHER_LOG", f"the replica is of the log {head.log_id}, and the write in {position.log_id}"
    elif head.position >= position:
        reason = "OTHER_HISTORY"
        why = f"the replica came to {head.position} by another history than that of the write at {int(position)}"
    return UnavailableError(
        f"{why}, after {timeout:g} s", reason=reason, position=int(position), log_id=position.log_id
    )
