"""Deliberate bugs: each takes a line out of the client or turns it round. The simulator must find every one of them."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

from cqar.client import _client, _head, _overlay, _recent, _replica, _sync, _tail, _view
from cqar.rules import choose
from tests.simulator import folder, server


class Mutant(NamedTuple):
    """A bug: in a function, by the name of its class if it has one, one text stands for another."""

    name: str
    module: Any
    function: str
    right: str
    wrong: str
    besides: tuple[Mutant, ...] = ()  # what would make up for it


MUTANTS = (
    Mutant("age told from when a message came", server, "Stream.poll", "self._pending.pop(0)[1]",
           "self._pending.pop(0)[1]._replace(as_of=self.caller.clock())"),
    Mutant("level before all is shown", _sync, "Syncer._tell_since_when", "if position <= end.position", "if True"),
    Mutant("level with what waits for a generation", _sync, "Syncer._tell_since_when", "if position <= end.position",
           "if position <= self._token.position"),
    # Not `if large:` alone: a tail that a call cannot read is compacted as well, only later.
    Mutant("a batch waits for ever", _sync, "Syncer._is_to_compact", "if self._head is None:", "if True:"),
    Mutant("a new generation shows less than the last one", _sync, "Syncer._show", "least=end.position if same else 0", "least=0"),
    Mutant("half of what is made ready is shown", _view, "View._reopen", "coming.twin.position >= coming.target", "True"),
    Mutant("times of another boot count", _head, "Head.is_timely", 'self.about.clock == clock != ""', "True"),
    Mutant("frames are not checked", _tail, "_payload", " and zlib.crc32(payload) == crc", ""),
    Mutant("positions go back", _view, "View._looked_at", "reached < replica.position", "False",
           (Mutant("", _sync, "Syncer._show", "token.position >= end.position", "True"),)),
    Mutant("remembered answers stay", _recent, "Recent.drop", "self.answers.pop(key, None)", "pass"),
    Mutant("deleted records come back", _overlay, "Overlay.put", "[key] = record", "[key] = record or self.records[kind].get(key)"),
    Mutant("unreadable records are forgotten", _replica, "Replica._follow", "if self.unread or unread:", "if False:"),
    Mutant("a compaction loses the rest", _sync, "Syncer._go_over", "new_tail(name, rest,", "new_tail(name, b'',"),
    Mutant("a deposed syncer goes on", _sync, "Syncer.step", "if not self._lock.held() or", "if False and"),
    Mutant("a syncer goes on in another's tail", folder, "Folder.new_tail",
           "file = place.tails[name] = TailData(self._process.number)",
           "file = place.tails[name] = next(iter(place.tails.values()), TailData(self._process.number))"),
    Mutant("an orphaned head is watched for ever", _view, "View._look_for_another", "self.seen = -1", "return"),
    Mutant("a reader meets the disk's errors", _view, "View._read_on", "except (CqarError, OSError)", "except CqarError"),
    Mutant("a builder's errors stop the syncer", _sync, "Syncer._look_at_compaction",
           "except (CqarError, OSError)", "except CqarError"),
    Mutant("damage is not repaired", _sync, "Syncer._look_at_every_byte", "wrong = error", "pass"),
    Mutant("a repair loses the rest", _sync, "Syncer._goes_on_from", "rest = frames[skipped:]", "rest = frames[skipped + 1 :]"),
    Mutant("a gap is taken for the end", _sync, "Syncer._append", "gap = True", "break"),
    Mutant("flags choose", choose, "winner", "if len(pool) > 1:",
           "pool = [c for c in pool if not c.flags or c.flags[0].severity < 4] or pool\n    if len(pool) > 1:"),
    Mutant("the gate does not look at the age", _client, "Client._judged", "age=age,", "age=0.0,"),
)  # fmt: skip


@contextmanager
def alive(mutant: Mutant) -> Iterator[None]:
    """Put a bug in place."""
    owner: Any = mutant.module
    *classes, name = mutant.function.split(".")
    for each in classes:
        owner = getattr(owner, each)
    held: Any = vars(owner)[name]
    source = textwrap.dedent(inspect.getsource(getattr(held, "fget", held)))
    if mutant.right not in source:
        raise LookupError(f"{mutant.function} does not say {mutant.right!r} any more: the mutant must follow")
    made: dict[str, Any] = {}
    code = compile(
        f"from __future__ import annotations\n{source.replace(mutant.right, mutant.wrong)}", mutant.name, "exec"
    )
    exec(code, vars(mutant.module), made)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(owner, name, made[name]))
        for other in mutant.besides:
            stack.enter_context(alive(other))
        yield
