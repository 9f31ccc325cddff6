"""How a client's replica is."""

from __future__ import annotations

import enum

import msgspec


class State(enum.StrEnum):
    """What the replica's relation to its server is."""

    FRESH = "fresh"  # level with the server when it last spoke, a moment ago
    CATCHING_UP = "catching up"  # connected, behind the server's head
    DISCONNECTED = "disconnected"  # the server cannot be reached; answers go on from the replica
    RESYNCING = "resyncing"  # loading a snapshot: the feed could not continue
    OFFLINE = "offline"  # opened from a snapshot, follows no server
    CLOSED = "closed"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the replica. `age` is in seconds; infinite if it never was level with its server."""

    state: State
    target: str | None
    log_id: str
    position: int
    head_position: int  # the server's, as last heard
    age: float
    generation: str  # its folder
    changes_since_generation: int
    quarantined: int  # records of the feed that this version could not read
    last_error: str | None
