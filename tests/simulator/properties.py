"""What is promised, as checks of what one process sees at one moment."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from cqar import model
from cqar.answers import Decision, Resolution
from cqar.client import _lookup
from cqar.client._client import Client
from cqar.client._entries import symbol_key
from cqar.client._replica import Replica
from cqar.errors import CqarError
from cqar.model import KINDS, fold
from cqar.rules.choose import choose
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
        """What was remembered, some time ago perhaps, equals what is computed anew."""
        client = self._client
        for chain in (None, "ethereum"):
            for _ in range(2):  # asked for twice: remembered
                with contextlib.suppress(CqarError):
                    client.resolve(asset.symbol, chain=chain)
        self.look()
        for chain in ("", "ethereum"):
            _flags_choose_nothing(client._replica, asset.symbol, chain)
        for key, held in list(client._recent.answers.items()):
            if isinstance(held, Resolution) and isinstance(key, tuple):
                _compare_answer(client._replica, key, held)


def _compare_answer(replica: Replica, key: tuple[Any, ...], held: Resolution) -> None:
    symbol, chain = key
    try:
        anew, _ = _lookup.resolve(replica, symbol, chain or "")
    except CqarError as error:
        raise Violation(f"a remembered answer is another: {key}: {held}, not {error}") from error
    if anew is None or msgspec.structs.replace(anew, position=held.position) != held:
        raise Violation(f"a remembered answer is another: {key}: {held}, not {anew}")


def _flags_choose_nothing(replica: Replica, symbol: str, chain: str) -> None:
    """A symbol means what it would mean if nothing were flagged: so no flags lead it from one asset to another (R2)."""
    folded = fold(symbol)
    candidates = replica.candidates(symbol_key(chain, folded), chain, folded)
    if not candidates:
        return

    def meaning(ask: Callable[[], Resolution | None]) -> str:
        try:
            found = ask()
        except CqarError as error:
            return error.reason
        return "none" if found is None else found.asset.asset_id

    bare = [msgspec.structs.replace(each, flags=()) for each in candidates]
    told = meaning(lambda: _lookup.resolve(replica, symbol, chain)[0])
    unflagged = meaning(lambda: choose(bare, symbol, replica.position, "replica", symbol))
    if told != unflagged:
        raise Violation(f"flags: {symbol} on {chain or 'none'} means {told}, and without flags {unflagged}")


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
    _compare_candidates(replica, state)


def _compare_candidates(replica: Replica, state: State) -> None:
    fresh = state.index
    for asset in state.records["asset"].values():
        assert isinstance(asset, model.Asset)
        for chain in ("", "ethereum", "solana"):
            folded = fold(asset.symbol)
            key = symbol_key(chain, folded)
            if replica.candidates(key, chain, folded) != fresh.candidates(key):
                raise Violation(f"candidates of {asset.symbol} on {chain or 'none'} at {state.position}")
