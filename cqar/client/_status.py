"""How a client's replica is."""

from __future__ import annotations

import enum
import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from cqar.client import _head
from cqar.client._clock import difference
from cqar.client._place import catalogue_logs
from cqar.rules.gate import MAX_AGE

if TYPE_CHECKING:
    from cqar.client._client import Client
    from cqar.client._folder import Folder
    from cqar.client._sync import Syncer
    from cqar.client._view import View

log = logging.getLogger(__name__)

WATCHED_EVERY = 0.1  # seconds between two looks at the state for those who want to be told


class State(enum.StrEnum):
    """What the replica's relation to its server is."""

    FRESH = "fresh"  # level with the server a moment ago
    STALE = "stale"  # not known to be level for so long that the gate says UNKNOWN
    CATCHING_UP = "catching up"  # connected, behind the server's head
    DISCONNECTED = "disconnected"  # the server cannot be reached; answers go on from the replica
    RESYNCING = "resyncing"  # loading a snapshot: the feed could not continue
    NOT_READY = "not ready"  # there are no data yet; the server is asked for everything
    OFFLINE = "offline"  # opened from a snapshot, follows no server
    CLOSED = "closed"


# What a syncer tells of itself, by the number that stands for it in the head.
TOLD = (State.DISCONNECTED, State.FRESH, State.CATCHING_UP, State.RESYNCING)


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the replica. `age` is in seconds; infinite if it is not known to have been level with its server."""

    state: State
    target: str | None
    log_id: str
    position: int
    head_position: int  # the server's, as last heard
    age: float
    generation: str  # its folder; empty if there is none
    changes_since_generation: int
    quarantined: int  # records that this version could not read whole
    syncer: int | None  # process id of who syncs this host's replica, or did last
    is_syncer: bool  # whether that is this client
    feed: str | None  # where that one has the feed from: a server, or a NATS
    catalogue: bool  # whether answers are those of the bundled catalogue, for want of a server
    last_error: str | None
    refused_replies: int = 0  # from a server of another registry than the replica's: its address leads elsewhere now


def status(
    view: View,
    *,
    folder: Folder | None,
    syncer: Syncer | None,
    target: str | None,
    age: float,
    closed: bool,
    refused: int,
) -> Status:
    """Look at a replica."""
    head, replica = view.head, view.replica
    leads = syncer is not None and syncer.leads
    trouble = view.trouble or (None if head is None else difference(head.about.clock) or head.trouble)
    if trouble is None and head is None and syncer is not None and syncer.error is not None:
        trouble = str(syncer.error)
    return Status(
        state=_state(view, syncer, age, closed=closed),
        target=target,
        log_id=replica.head.log_id,
        position=replica.position,
        head_position=replica.position if head is None else max(replica.position, head.words[_head.SERVER]),
        age=age,
        generation="" if view.is_empty else str(replica.generation.path),
        changes_since_generation=len(replica.overlay),
        quarantined=len(replica.unread),
        syncer=None if folder is None else folder.beat()[0] or None,
        is_syncer=leads,
        feed=None if head is None else head.about.feed or None,
        catalogue=target is not None and replica.head.log_id in catalogue_logs(),
        last_error=trouble,
        refused_replies=refused,
    )


def _state(view: View, syncer: Syncer | None, age: float, *, closed: bool) -> State:
    if closed:
        return State.CLOSED
    head = view.head
    if head is None:
        if not view.is_empty:
            return State.OFFLINE
        return State.RESYNCING if syncer is not None and syncer.state is State.RESYNCING else State.NOT_READY
    return State.STALE if view.state is State.FRESH and age > MAX_AGE else view.state


def watch(client: weakref.ref[Client], callback: Callable[[Status], object]) -> None:
    """Tell a callback of every change of a client's state, until the client is closed or gone."""

    def run() -> None:
        last: State | None = None
        while (held := client()) is not None:
            found = held.status()
            del held
            if found.state is not last:
                last = found.state
                try:
                    callback(found)
                except Exception:
                    log.exception("the callback for the state failed")
            if last is State.CLOSED:
                return
            time.sleep(WATCHED_EVERY)

    threading.Thread(target=run, name="cqar-state", daemon=True).start()
