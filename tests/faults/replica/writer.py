"""Who writes to the server while things go wrong: pairs in one transaction, assets that come and go, flags."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from cqar.client import (
    Asset,
    AssetType,
    FlagType,
    Group,
    GroupMember,
    QualityFlag,
    Severity,
)
from cqar.client._registry import Registry
from cqar.client._remote import Remote
from cqar.errors import CqarError
from tests.faults.replica.member import PAIR

SPEED = 100.0  # transactions a second


class Writer:
    """Writes at a steady pace between `start` and `stop`. `lost` counts the writes that failed."""

    def __init__(self, target: str, seed: int = 0) -> None:
        self._remote = Remote(target, token=None, actor="writer", timeout=30.0)
        self.registry = Registry(self._remote)
        self._random = random.Random(seed)
        self.lost = 0
        self.position = 0
        self.pair = [str(uuid.uuid4()), str(uuid.uuid4())]
        self._assets: list[str] = []
        self._flags: list[str] = []
        self._number = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._prepare()

    def _prepare(self) -> None:
        self.write_pair()
        group = self.registry.create_asset_group(Group(name="Pair", canonical_symbol=PAIR)).record
        for asset_id in self.pair:
            made = self.registry.add_asset_to_group(GroupMember(group_id=group.group_id, asset_id=asset_id))
            self.position = made.position

    def write_pair(self) -> int:
        """Rename both of the pair, in one transaction; give its position."""
        self._number += 1
        assets = [
            Asset(asset_id=key, symbol=f"PAIR{'AB'[place]}", name=f"name {self._number}", asset_type=AssetType.TOKEN)
            for place, key in enumerate(self.pair)
        ]
        _, self.position = self.registry.upsert_records(assets, replace=True)
        return self.position

    def _write(self) -> None:
        turn = self._random.random()
        if turn < 0.6 or not self._assets:
            self.write_pair()
        if turn < 0.75 or not self._assets:
            made = self.registry.create_asset(
                Asset(symbol=f"S{self._random.randrange(50)}", name="Some", asset_type=AssetType.TOKEN)
            )
            self._assets.append(made.asset.asset_id)
        elif turn < 0.85:
            self.registry.update_asset(self._random.choice(self._assets), name=f"Some {turn}")
        elif turn < 0.93:
            flag = QualityFlag(
                asset_id=self._random.choice(self._assets),
                flag_type=FlagType.PAUSED,
                severity=self._random.choice((Severity.LOW, Severity.CRITICAL)),
                source="test",
                reason=f"{turn}",
            )
            flag_id = self.registry.raise_quality_flag(flag).record.flag_id
            if flag_id not in self._flags:  # else it was one that is up already
                self._flags.append(flag_id)
        elif self._flags:
            self.registry.resolve_quality_flag(self._flags.pop(), reason="well")

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._write()
            except CqarError:
                self.lost += 1
            self._stopping.wait(max(0.0, 1 / SPEED - (time.monotonic() - began)))

    def start(self) -> None:
        """Begin."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(40)
            self._thread = None

    def close(self) -> None:
        """Leave nothing behind."""
        self.stop()
        self._remote.close()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Write while the block runs."""
        self.start()
        try:
            yield
        finally:
            self.stop()
