"""What is promised, as checks of what one process sees at one moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from cqar import model
from cqar.answers import Decision, Resolution
from cqar.client import _lookup
from cqar.client._client import Client
from cqar.client._entries import symbol_key
from cqar.client._replica import Replica
from cqar.errors import CqarError, NotFoundError
from cqar.model import KINDS, fold
from cqar.rules.gate import MAX_AGE
from tests.simulator.folder import Violation
from tests.simulator.server import Server
from tests.simulator.world import MemoryIndex, State

NEVER_MIND = 1e-6  # seconds, by which sums of floats may differ
DEEP = 0.04  # part of the looks at which everything is compared


class Moments(Protocol):
    """The time."""

    now: float


class Witness:
    """Follows what one process sees, and raises Violation for what it must not see."""

    def __init__(self, server: Server, moments: Moments, client: Client) -> None:
        self._server, self._moments, self._client = server, moments, client
        self._seen: State | None = None
        self._compared: tuple[Any, ...] = ()

    @property
    def seen(self) -> State | None:
        """What it saw last."""
        return self._seen

    def look(self) -> None:
        """A read: prefix and monotonic."""
        replica = self._client._replica
        if not replica.head.chain:
            if self._seen is not None:
                raise Violation("there were data, and now there are none")
            return
        state = self._server.states.get(replica.head.chain)
        if state is None or state.token != replica.head or replica.position != state.position:
            raise Violation(f"prefix: the server never was at {replica.head}")
        if self._seen is not None:
            self._must_not_go_back(self._seen, state)
        self._seen = state
        what = (state, replica.generation, replica.version)
        if what != self._compared:
            self._compared = what
            compare_records(replica, state)

    def _must_not_go_back(self, last: State, state: State) -> None:
        if state is last or state.newest > last.newest:
            return
        line = self._server.lines[state.newest]
        if state.position < last.position:
            raise Violation(f"monotonic: from {last.position} back to {state.position}")
        if line.get(last.position) is not last:
            raise Violation(f"monotonic: position {state.position} is of a history that was undone before")

    def age(self) -> None:
        """Visible age: what is told is never smaller than the truth."""
        age = self._client.age
        self.look()
        claimed = self._moments.now - age
        if self._seen is None:
            if age < 1e9:
                raise Violation(f"age: {age} of nothing")
            return
        if claimed > self._seen.left_at + NEVER_MIND:
            raise Violation(
                f"age: said to be level {age:.6f} s ago at position {self._seen.position}, which the server left "
                f"{self._moments.now - self._seen.left_at:.6f} s ago"
            )

    def gate(self, asset_id: str) -> None:
        """The gate fails closed."""
        verdict = self._client.check_tradable(asset_id)
        self.look()
        since = self._server.warned.get(asset_id)
        if verdict.decision is Decision.ALLOW and since is not None:
            held = self._moments.now - since
            if held > MAX_AGE + NEVER_MIND:
                raise Violation(f"gate: ALLOW for {asset_id}, which has a critical flag for {held:.3f} s ({verdict})")

    def answers(self, asset: model.Asset) -> None:
        """What is remembered equals what is computed anew."""
        client, replica = self._client, self._client._replica
        for chain in (None, "ethereum"):
            for _ in range(2):  # asked for twice: remembered
                remembered = _answer(lambda: client.resolve(asset.symbol, chain=chain))  # noqa: B023
            version = replica.version
            anew = _answer(lambda: _lookup.resolve(replica, asset.symbol, chain or "")[0])  # noqa: B023
            if replica.version == version and remembered != anew:
                raise Violation(f"a remembered answer is another: {asset.symbol} {chain}: {remembered} not {anew}")
        self.look()


def _answer(ask: Callable[[], Resolution | None]) -> object:
    try:
        found = ask()
    except NotFoundError:
        return None
    except CqarError as error:
        return str(error)
    return None if found is None else (found.asset, found.deployment, found.flags, found.collisions)


def compare_records(replica: Replica, state: State) -> None:
    """Raise unless a replica shows exactly the records of a state."""
    if replica.unread != state.unread:
        raise Violation(f"unread at {state.position}: {set(replica.unread)} not {set(state.unread)}")
    generation, overlay = replica.generation.index, replica.overlay
    assert isinstance(generation, MemoryIndex)
    for kind, wanted in state.records.items():
        held, changed = generation.records[kind], overlay.records.get(kind)
        found = held
        if changed:
            found = {key: record for key, record in {**held, **changed}.items() if record is not None}
        if found is not wanted and found != wanted:
            differ = {key for key in {*found, *wanted} if found.get(key) != wanted.get(key)}
            raise Violation(f"prefix: {kind} {differ} are not those of position {state.position}")


def compare_everything(replica: Replica, state: State) -> None:
    """Raise unless every look-up gives what a generation built from the state gives."""
    compare_look_ups(replica, state)
    compare_candidates(replica, state)


def compare_look_ups(replica: Replica, state: State) -> None:
    """Raise unless records and postings are those of the state."""
    fresh = state.index
    for name, kind in KINDS.items():
        records = state.records[name]
        if [kind.key_of(record) for record in replica.all(name)] != sorted(records):
            raise Violation(f"all {name} at {state.position}")
        for key, record in records.items():
            if replica.get(name, key) != record:
                raise Violation(f"{name} {key} at {state.position}")
            for posting in kind.postings:
                for words in posting.words(record):
                    if replica.find(posting.name, *words) != fresh.found(posting.name, words):
                        raise Violation(f"{posting.name} {words} at {state.position}")


def compare_candidates(replica: Replica, state: State) -> None:
    """Raise unless every symbol has the candidates that it has in the state."""
    fresh = state.index
    for asset in state.records["asset"].values():
        assert isinstance(asset, model.Asset)
        for chain in ("", "ethereum", "solana"):
            folded = fold(asset.symbol)
            key = symbol_key(chain, folded)
            if replica.candidates(key, chain, folded) != fresh.candidates(key):
                raise Violation(f"candidates of {asset.symbol} on {chain or 'none'} at {state.position}")
