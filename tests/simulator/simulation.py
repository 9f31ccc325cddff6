"""One seed: a server, a host with some processes, and what befalls them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from cqar.client import _client, _clock, _head, _sync, _tail
from cqar.client._client import Client
from cqar.client._generation import Nothing
from cqar.client._recent import Recent
from cqar.client._replica import Replica
from cqar.client._sync import Syncer
from cqar.client._view import View
from cqar.model import Asset
from tests.simulator.folder import Disk, Folder, Page, Violation
from tests.simulator.properties import DEEP, Witness, compare_everything
from tests.simulator.scheduler import Killed, Task
from tests.simulator.server import CALM, Server, Source, Weather

TURNS = 110  # of bad weather
CALM_TURNS = 1500  # within which everything must be well again
LEVEL = 6.0  # seconds of age that a replica may have when all is well: some heartbeats


class Process:
    """A process of the host, until it is killed."""

    def __init__(self, simulation: Simulation, *, syncs: bool) -> None:
        self.simulation, self.syncs = simulation, syncs
        self.number = simulation.numbers
        simulation.numbers += 1
        self.dead = False
        self.frozen_until = 0.0
        self.appended = 0
        disk: Any = simulation.disk
        folder: Any = Folder(disk, self)  # it stands for the real one
        self.view = View(folder, Replica(Nothing(), Recent(64)), self.clock)
        self.client = Client(self.view, folder=folder)
        self.witness = Witness(simulation.server, simulation, self.client)
        self.tasks = [Task(f"reader {self.number}", self._read)]
        self.syncer: Syncer | None = None
        if syncs:
            directly = simulation.directly
            source: Any = Source(simulation, simulation.server, disk, self, directly=directly)
            self.syncer = Syncer(folder, source, self.clock)
            self.syncer._random = random.Random(simulation.random.getrandbits(32))
            self.tasks.append(Task(f"syncer {self.number}", self._sync))
        for task in self.tasks:
            task.due = simulation.now

    def clock(self) -> float:
        """Give the time of the host."""
        return self.simulation.now - self.simulation.booted

    # --- what it does -------------------------------------------------------------------------------------------------

    def _sync(self) -> float:
        syncer = self.syncer
        assert syncer is not None
        lock: Any = syncer._lock
        deposed = lock is not None and self.simulation.disk.lock is not lock.file
        appended = self.appended
        wait = syncer.step()
        if deposed and (self.appended != appended or syncer._lock is lock):
            raise Violation(f"{self.number} was deposed and went on")
        return wait

    def _read(self) -> float:
        simulation, client, witness = self.simulation, self.client, self.witness
        chance = simulation.random.random
        client.position  # noqa: B018  (a look at what is new)
        witness.look()
        what = chance()
        if what < 0.4:
            witness.age()
        elif what < 0.7:
            assets = list(simulation.server.warned) or [simulation.asset().asset_id]
            witness.gate(simulation.random.choice(assets))
        elif what < 0.8:
            witness.answers(simulation.asset())
        elif what < 0.8 + DEEP and witness.seen is not None:
            compare_everything(client._replica, witness.seen)
        elif what < 0.9:
            client.status()
        return chance() * 0.3

    # --- what is done to it -------------------------------------------------------------------------------------------

    def point(self, what: str) -> None:
        """Come to where the process may be killed or put aside."""
        if self.dead:
            raise Killed
        simulation = self.simulation
        weather = simulation.weather
        if weather is CALM or simulation.current is None:
            return
        chance = simulation.random.random()
        if chance >= weather.killed + weather.frozen + weather.overtaken:
            return
        if chance < weather.killed:
            simulation.note(f"{self.number} killed before: {what}")
            simulation.kill(self)
            raise Killed
        pause = simulation.random.random() * 0.2
        if chance < weather.killed + weather.frozen:
            pause = simulation.random.random() * 25.0
            self.frozen_until = simulation.now + pause
            simulation.note(f"{self.number} frozen for {pause:.3f} s before: {what}")
        elif simulation.tracing:
            simulation.note(f"{simulation.current.name} put aside before: {what}")
        task = simulation.current
        task.due = simulation.now + pause
        task.put_aside()
        if self.dead:
            raise Killed

    def pause(self, seconds: float) -> None:
        """Have the next step of the task that has its turn wait."""
        assert self.simulation.current is not None
        self.simulation.current.pause(seconds)

    def wake(self, moment: float) -> None:
        """Have the syncer wait no longer than that."""
        if not self.tasks[-1].is_aside:
            self.tasks[-1].due = min(self.tasks[-1].due, max(moment, self.simulation.now))


class Simulation:
    """A server, and a host with its processes."""

    def __init__(self, seed: int, *, tracing: bool = False, turns: int = TURNS) -> None:
        self.seed, self.tracing, self.trace = seed, tracing, list[str]()
        self.random = random.Random(seed)
        self.now = 1_000.0
        self.booted = self.now - self.random.choice([0.0, 30.0, 1e6])
        self.boots = 0
        self.numbers = 1
        self.current: Task | None = None
        self.weather = self._weather()
        # Some seeds have one sort of event again and again: most bugs need two of a sort, or one at the right time.
        self._favourite = self.random.choice(_EVENTS) if self.random.random() < 0.4 else None
        self.directly = self.random.random() < 0.3
        self.server = Server(self)
        self.server.prunes = self.directly or self.random.random() < 0.5
        self.disk = Disk()
        self.disk.used_by.append(self._in_use)
        self.processes: list[Process] = []
        self.wanted = [True, *[self.random.random() < 0.7 for _ in range(self.random.randrange(1, 3))]]
        self._turns = turns
        self._ticks = 0.0
        for syncs in self.wanted:
            self.processes.append(Process(self, syncs=syncs))

    def _weather(self) -> Weather:
        """Choose what goes wrong in this seed: each thing in some seeds only, so that each is also seen alone."""
        chance = self.random.random

        def rate(often: float, least: float, most: float) -> float:
            return least + chance() * (most - least) if chance() < often else 0.0

        return Weather(
            killed=rate(0.5, 0.0005, 0.006),
            frozen=rate(0.5, 0.0005, 0.004),
            overtaken=rate(0.8, 0.002, 0.05),
            lost=rate(0.3, 0.01, 0.1),
            repeated=rate(0.3, 0.01, 0.1),
            reordered=rate(0.3, 0.01, 0.2),
            late=rate(0.4, 0.01, 0.1),
            cut=rate(0.4, 0.01, 0.1),
            unreadable=rate(0.5, 0.02, 0.2),
            failed=rate(0.3, 0.05, 0.4),
            events=rate(0.9, 0.02, 0.25),
        )

    def note(self, text: str) -> None:
        """Write into the trace."""
        if self.tracing:
            self.trace.append(f"{self.now:10.3f}  {text}")

    def _in_use(self) -> set[str]:
        return {process.view.replica.generation.path.name for process in self.processes}

    def asset(self) -> Asset:
        """Give some asset of the server's."""
        assets = self.server._story.world.all("asset")
        if not assets:
            return Asset(asset_id="00000000-0000-4000-8000-000000000001", symbol="ETH", name="", asset_type="NATIVE")  # type: ignore[arg-type]
        found = self.random.choice(assets)
        assert isinstance(found, Asset)
        return found

    # --- turns --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Go through bad weather and into the calm; raises Violation for a promise broken."""
        with self._in_place():
            try:
                for _ in range(self._turns):
                    self._turn()
                self._clear_up()
                self._settle()
            except Violation:
                raise
            except Exception as error:
                raise Violation(f"a reader met {type(error).__name__}: {error}") from error
            finally:
                self.weather = CALM
                for process in list(self.processes):
                    self.kill(process)

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        """Put the simulation's host and smaller limits in the place of the real ones."""
        with ExitStack() as stack:
            for module, name, value in (
                (_clock, "clock_id", self._clock_id),
                (_head, "clock_id", self._clock_id),
                (_sync, "clock_id", self._clock_id),
                (_client, "_clock", lambda _: self.now - self.booted),
                (_sync, "TAIL_CHANGES", 12),
                (_tail, "PORTION", 4),
                (_sync, "wall_clock", lambda: self.now),
                (_sync, "FAR", 10),
                (_sync, "FROZEN", 2.0),
                (_sync, "SILENT", 4.0),
                (_sync, "CLEAN", 0.2),
                (_sync, "REPAIR", 1.0),
                (_sync, "VERIFY", 2.0),
                (_sync, "SOON", 0.2),
            ):
                stack.enter_context(mock.patch.object(module, name, value))
            yield

    def _clock_id(self) -> str:
        return f"boot {self.boots}"

    def _turn(self) -> None:
        self.now += self.random.random() * 0.02
        if self.weather.events and self.random.random() < self.weather.events:
            self._event()
        if self.random.random() < 0.3:
            self.server.commit()
        ready = [t for p in self.processes if p.frozen_until <= self.now for t in p.tasks if t.due <= self.now]
        if not ready:
            dues = [max(t.due, p.frozen_until) for p in self.processes for t in p.tasks]
            self.now = max(self.now, min([*dues, self._ticks]))
        if self._ticks <= self.now:
            self._ticks = self.now + self.random.random() * 0.3
            self.server.tick(read=self.random.random() < 0.9 or self.weather is CALM)
        if ready:
            self._give(self.random.choice(ready))

    def _give(self, task: Task) -> None:
        self.current = task
        try:
            task.turn(self.now)
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"{task.name} failed: {type(error).__name__}: {error}") from error
        finally:
            self.current = None

    def kill(self, process: Process) -> None:
        """Kill a process: its locks are free, its threads vanish, what it has half done stays."""
        process.dead = True
        if process in self.processes:
            self.processes.remove(process)
        lock = self.disk.lock
        if lock is not None and lock.holder is not None and lock.holder.belongs_to(process):
            lock.holder = None
        current = self.current
        for task in process.tasks:
            if task.is_aside and task is not current:
                self.current = task
                task.turn(self.now)
        self.current = current

    # --- what befalls them --------------------------------------------------------------------------------------------

    def _event(self) -> None:
        what: Callable[[Simulation], None] = self.random.choice(_EVENTS)
        if self._favourite is not None and self.random.random() < 0.5:
            what = self._favourite
        what(self)

    def _burst(self) -> None:
        for _ in range(self.random.randrange(1, 15)):
            self.server.commit()

    def _time_passes(self) -> None:
        self.now += self.random.random() * self.random.choice([1.0, 6.0, 20.0, 4000.0])
        self.note("time passes")

    def _server_goes_or_comes(self) -> None:
        if self.server.up:
            self.server.stop()
        else:
            self.server.start()

    def _somebody_dies(self) -> None:
        if self.processes:
            process = self.random.choice(self.processes)
            self.note(f"{process.number} killed")
            self.kill(process)

    def _somebody_freezes(self) -> None:
        if self.processes:
            process = self.random.choice(self.processes)
            process.frozen_until = self.now + self.random.random() * 25
            self.note(f"{process.number} frozen")

    def _somebody_starts(self) -> None:
        if len(self.processes) < len(self.wanted) + 1:
            process = Process(self, syncs=self.random.random() < 0.7)
            self.processes.append(process)
            self.note(f"{process.number} starts, {'syncs' if process.syncs else 'only reads'}")

    def _somebody_ends(self) -> None:
        """A process ends in good order."""
        leading = [p for p in self.processes if p.syncer is not None and not p.tasks[-1].is_aside]
        if leading:
            process = self.random.choice(leading)
            self.note(f"{process.number} ends")
            assert process.syncer is not None
            process.syncer.stop()
            self.kill(process)

    def _disk_fills_or_empties(self) -> None:
        self.disk.full = not self.disk.full
        self.note(f"disk full: {self.disk.full}")

    def _disk_ails(self) -> None:
        self.disk.ill = not self.disk.ill
        self.note(f"disk ill: {self.disk.ill}")

    def _bits_flip(self) -> None:
        tails = [(name, tail) for g in self.disk.generations.values() for name, tail in g.tails.items() if tail.data]
        if tails:
            name, tail = self.random.choice(tails)
            tail.data[self.random.randrange(len(tail.data))] ^= 1 << self.random.randrange(8)
            self.note(f"a bit of {name} flips")

    def _generation_breaks(self) -> None:
        if self.disk.generations:
            name = self.random.choice(list(self.disk.generations))
            self.disk.generations[name].damaged = True
            self.note(f"{name} breaks")

    def _head_is_overwritten(self) -> None:
        """Somebody writes garbage over the head, in the very file."""
        page = self.disk.head
        if page is not None:
            page.garbled = self.random.random() < 0.7  # else what it describes stays
            page.words = [self.random.getrandbits(64) for _ in page.words]
            self.note("the head is overwritten")

    def _lock_vanishes(self) -> None:
        self.disk.lock = None
        self.note("the lock's file is removed")

    def _power_fails(self) -> None:
        """Everything on the host ends; of what was not made durable some is lost."""
        self.note("power fails")
        for process in list(self.processes):
            self.kill(process)
        self.now += 1.0 + self.random.random() * 10
        self.booted, self.boots = self.now, self.boots + 1
        page = self.disk.head
        if page is not None:
            self.disk.head = self._after_power_failure(page)
        for place in self.disk.generations.values():
            for name, tail in list(place.tails.items()):
                chance = self.random.random()
                cut = self.random.randrange(len(tail.data) + 1)
                if chance < 0.3:
                    del tail.data[cut:]
                elif chance < 0.5:
                    tail.data[cut:] = bytes(len(tail.data) - cut)
                elif chance < 0.6:
                    tail.data[cut:] = self.random.randbytes(len(tail.data) - cut)
                elif chance < 0.65:
                    del place.tails[name]
        late = self.random.random() < 0.5  # then those that sync start some time after those that only read
        for syncs in self.wanted:
            self.processes.append(Process(self, syncs=syncs and not late))

    def _after_power_failure(self, page: Page) -> Page | None:
        chance = self.random.random()
        if chance < 0.2:
            return None
        found = Page(page.about, self.disk.number())
        found.words = list(page.words)
        if chance < 0.5:
            for index in range(7):
                if self.random.random() < 0.4:
                    found.words[index] = self.random.randrange(found.words[index] + 1)
        return found

    def _folder_is_lost(self) -> None:
        """Somebody removes the replica under running processes."""
        self.disk.head, self.disk.lock = None, None
        self.disk.generations.clear()
        self.note("the replica is removed")

    # --- the calm -----------------------------------------------------------------------------------------------------

    def _clear_up(self) -> None:
        """End all faults."""
        self.note("calm")
        self.weather = CALM
        self.disk.full = self.disk.ill = False
        if not self.server.up:
            self.server.start()
        self.server.commit()
        self.server.prunes = True
        self.server.export()
        for process in self.processes:
            process.frozen_until = 0.0
        while len(self.processes) < 2 or not any(process.syncs for process in self.processes):
            self.processes.append(Process(self, syncs=True))

    def _settle(self) -> None:
        """Go on until all is well."""
        wrong = "nothing"
        for turn in range(CALM_TURNS):
            if turn % 8 == 0 and not (wrong := self._wrong()):
                for process in self.processes:
                    process.witness.look()
                    process.witness.age()
                    assert process.witness.seen is not None
                    compare_everything(process.client._replica, process.witness.seen)
                    process.witness.gate(self.asset().asset_id)
                return
            self._calm_turn()
        raise Violation(f"reliable: after {CALM_TURNS} turns of calm {wrong}")

    def _calm_turn(self) -> None:
        tasks = [task for process in self.processes for task in process.tasks]
        task = min(tasks, key=lambda each: each.due)
        self.now = max(self.now, min(task.due, self._ticks)) + 0.001
        if self._ticks <= self.now:
            self._ticks = self.now + 0.2
            self.server.tick(read=True)
        if task.due <= self.now:
            self._give(task)

    def _wrong(self) -> str:
        """Tell what is not yet well, if anything."""
        if any(task.is_aside for process in self.processes for task in process.tasks):
            return "somebody is in the middle of something"
        leaders = [process for process in self.processes if process.syncer is not None and process.syncer.leads]
        held = [p for p in leaders if p.syncer is not None and p.syncer._lock is not None and p.syncer._lock.held()]
        if len(leaders) != 1 or held != leaders:
            return f"{len(leaders)} lead, {len(held)} of them with the lock"
        for process in self.processes:
            position, age = process.client.position, process.client.age
            if process.client._replica.head != self.server.head.token:
                return f"{process.number} is at position {position}, not {self.server.head.position}"
            if not age < LEVEL or math.isnan(age):
                return f"{process.number} tells an age of {age} s"
        page = self.disk.head
        place = None if page is None else self.disk.generations.get(page.about.generation)
        if page is None or page.garbled or place is None or place.damaged:
            return "what readers see is damaged"
        return ""


_EVENTS: list[Callable[[Simulation], None]] = [
    *[Simulation._burst, Simulation._time_passes, Simulation._somebody_starts] * 3,
    *[Simulation._somebody_dies, Simulation._server_goes_or_comes] * 2,
    Simulation._somebody_freezes,
    Simulation._somebody_ends,
    Simulation._disk_fills_or_empties,
    Simulation._disk_ails,
    Simulation._bits_flip,
    Simulation._generation_breaks,
    Simulation._head_is_overwritten,
    Simulation._lock_vanishes,
    *[Simulation._power_fails] * 3,
    Simulation._folder_is_lost,
    *[lambda self: self.server.export(), lambda self: self.server.trim()] * 2,
    lambda self: self.server.restore(),
]


def run(seed: int, *, tracing: bool = False) -> list[str]:
    """Run one seed; raises Violation. Gives the trace if it was asked for."""
    simulation = Simulation(seed, tracing=tracing)
    simulation.run()
    return simulation.trace
