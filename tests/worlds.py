"""Registries in memory for tests: real records of the bundled catalogue, and random histories of writes to them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from uuid import UUID

import msgspec
import pyarrow as pa

from cqar import arrow, model, snapshot
from cqar.client._build import build_index, sorted_out
from cqar.client._generation import INDEX, META, TABLES, USERS, Generation, Meta, digest, packed
from cqar.client._place import bundled_catalogue
from cqar.model import KINDS, Batch, Change, FeedToken, Op, Record

LOG_ID = "00000000-0000-4000-8000-000000000001"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@cache
def catalogue() -> dict[str, tuple[Record, ...]]:
    """All records of the bundled catalogue by kind."""
    newest = snapshot.latest(bundled_catalogue())
    return {kind: tuple(snapshot.read(newest, kind)) for kind in KINDS}


def chain_hash(position: int) -> bytes:
    """A stand-in for the running hash: unlike for each position."""
    return position.to_bytes(16, "big")


class World:
    """All live records at a position. `commit` gives the batch that the feed would bring."""

    def __init__(self, records: Iterable[Record] = (), position: int = 1) -> None:
        self.position = position
        self.records: dict[str, dict[str, Record]] = {kind: {} for kind in KINDS}
        self.removed: dict[tuple[str, str], int] = {}  # kind and key -> position
        for record in records:
            self._put(record)

    def _put(self, record: Record) -> None:
        kind = model.KIND_OF[type(record)]
        self.records[kind.name][kind.key_of(record)] = record
        self.removed.pop((kind.name, kind.key_of(record)), None)

    def all(self, kind: str) -> list[Record]:
        """The records of a kind, sorted by key."""
        return [record for _, record in sorted(self.records[kind].items())]

    @property
    def head(self) -> FeedToken:
        """Where the world is."""
        return FeedToken(log_id=LOG_ID, position=self.position, chain=chain_hash(self.position))

    def commit(self, puts: Iterable[Record] = (), removes: Iterable[Record] = ()) -> Batch:
        """Write and remove records as one transaction."""
        changes = []
        for record in removes:
            kind = model.KIND_OF[type(record)]
            key = kind.key_of(record)
            del self.records[kind.name][key]
            self.removed[kind.name, key] = self.position + 1
            changes.append(Change(op=Op.REMOVE, kind=kind.name, key=key))
        for record in puts:
            kind = model.KIND_OF[type(record)]
            self._put(record)
            changes.append(Change(op=Op.PUT, kind=kind.name, key=kind.key_of(record), record=record))
        self.position += 1
        return Batch(position=self.position, chain=chain_hash(self.position), committed_at=NOW, changes=tuple(changes))

    def generation(self, folder: Path) -> Generation:
        """Build and open an index of the world, without tables: what most tests need, and quicker."""
        folder.mkdir(parents=True)
        rows = {
            name: sorted_out(name, pa.Table.from_batches([arrow.to_arrow(kind.record, self.all(name))]))[0]
            for name, kind in KINDS.items()
        }
        build_index(folder / INDEX, rows, pa.Table.from_batches([arrow.to_arrow(model.Tombstone, self.tombstones())]))
        (folder / TABLES).touch()
        meta = Meta(
            log_id=LOG_ID,
            position=self.position,
            chain=chain_hash(self.position).hex(),
            created_at=NOW.isoformat(),
            rows={},
            sizes={},
            digests={name: digest(folder / name) for name in (INDEX, TABLES)},
        )
        (folder / META).write_bytes(packed(meta))
        (folder / USERS).touch()
        return Generation(folder)

    def publish(self, root: Path) -> snapshot.Snapshot:
        """Write the world as a snapshot."""
        rows = {kind: self.all(kind) for kind in KINDS}
        return snapshot.write(root, self.head, NOW, {**rows, snapshot.TOMBSTONES: self.tombstones()})

    def tombstones(self) -> list[model.Tombstone]:
        """What was removed and is not there again, sorted by kind and key."""
        return [
            model.Tombstone(kind=kind, key=key, position=position)
            for (kind, key), position in sorted(self.removed.items())
        ]


# Latin letters that have a Cyrillic twin, to it.
DISGUISE = str.maketrans(
    "ACEHKMOPSTXaceopsxy",
    "\u0410\u0421\u0415\u041d\u041a\u041c\u041e\u0420\u0405\u0422\u0425\u0430\u0441\u0435\u043e\u0440\u0455\u0445\u0443",
)


def excerpt(symbols: Iterable[str]) -> list[Record]:
    """The catalogue's chains, venues and groups, and the assets with these symbols with all that hangs on them."""
    whole = catalogue()
    wanted = set(symbols)
    assets = {a.asset_id for a in whole["asset"] if isinstance(a, model.Asset) and a.symbol in wanted}

    def belongs(record: Record) -> bool:
        owners = [getattr(record, name, None) for name in ("asset_id", "parent_asset_id", "child_asset_id")]
        sides = [getattr(record, name, None) for name in ("quote_asset_id", "settle_asset_id")]
        return all(owner in assets for owner in owners if owner) and all(side in assets for side in sides if side)

    return [
        record
        for kind, records in whole.items()
        for record in records
        if kind in {"chain", "venue", "group"} or belongs(record)
    ]


class Story:
    """A seeded history of writes of every sort to a world."""

    def __init__(self, seed: int, world: World) -> None:
        self.random = random.Random(seed)
        self.world = world

    def _id(self) -> str:
        return str(UUID(int=self.random.getrandbits(128), version=4))

    def _any(self, kind: str) -> Record | None:
        records = self.world.all(kind)
        return self.random.choice(records) if records else None

    def step(self) -> Batch:
        """Do something and give its batch."""
        verbs = [
            self.rename,
            self.create,
            self.deploy,
            self.move,
            self.undeploy,
            self.delete,
            self.flag,
            self.clear,
            self.lead,
            self.leave,
            self.regroup,
            self.identify,
            self.relist,
            self.derive,
        ]
        while True:
            batch = self.random.choice(verbs)()
            if batch is not None:
                return batch

    def _symbol(self) -> str:
        """A symbol that is often somebody else's, in some case, or looks like it (R18)."""
        other = self._any("asset")
        symbol = other.symbol if isinstance(other, model.Asset) else "NEW"
        return self.random.choice([symbol, symbol.swapcase(), f"{symbol}X"[:64], symbol.translate(DISGUISE)])

    def rename(self) -> Batch | None:
        """Give an asset another symbol."""
        asset = self._any("asset")
        return self.world.commit([msgspec.structs.replace(asset, symbol=self._symbol())]) if asset else None

    def create(self) -> Batch | None:
        """Create an asset with a deployment."""
        asset = model.Asset(
            asset_id=self._id(), symbol=self._symbol(), name="created", asset_type=model.AssetType.TOKEN
        )
        return self.world.commit([asset, self._deployment(asset.asset_id)])

    def _deployment(self, asset_id: str) -> model.Deployment:
        chain = self._any("chain")
        assert isinstance(chain, model.Chain)
        return model.Deployment(
            deployment_id=self._id(),
            asset_id=asset_id,
            chain_id=self.random.choice([chain.chain_id, "ethereum"]),
            contract_address=f"0x{self.random.getrandbits(160):040x}",
            decimals=6,
            is_canonical=self.random.random() < 0.5,
        )

    def deploy(self) -> Batch | None:
        """Put an asset on a chain."""
        asset = self._any("asset")
        return self.world.commit([self._deployment(asset.asset_id)]) if isinstance(asset, model.Asset) else None

    def move(self) -> Batch | None:
        """Give a deployment another chain and address."""
        deployment = self._any("deployment")
        if not isinstance(deployment, model.Deployment):
            return None
        other = self._deployment(deployment.asset_id)
        return self.world.commit([msgspec.structs.replace(other, deployment_id=deployment.deployment_id)])

    def undeploy(self) -> Batch | None:
        """Take an asset off a chain."""
        deployment = self._any("deployment")
        return self.world.commit(removes=[deployment]) if deployment else None

    def delete(self) -> Batch | None:
        """Delete an asset with its cascade (R12): its relationships and flags stay."""
        asset = self._any("asset")
        if not isinstance(asset, model.Asset):
            return None
        gone: list[Record] = [asset]
        for kind in ("deployment", "identifier", "group_member", "venue_symbol"):
            gone += [r for r in self.world.all(kind) if getattr(r, "asset_id", None) == asset.asset_id]
        self.random.shuffle(gone)  # in whatever order the server lists them
        return self.world.commit(removes=gone)

    def flag(self) -> Batch | None:
        """Warn of an asset."""
        asset = self._any("asset")
        if not isinstance(asset, model.Asset):
            return None
        flag = model.QualityFlag(
            flag_id=self._id(),
            asset_id=asset.asset_id,
            flag_type=self.random.choice(list(model.FlagType)),
            severity=self.random.choice(list(model.Severity)),
            source="story",
            reason="of the story",
        )
        return self.world.commit([flag])

    def clear(self) -> Batch | None:
        """Clear a flag."""
        flag = self._any("quality_flag")
        return self.world.commit([msgspec.structs.replace(flag, cleared_at=NOW, cleared_by="story")]) if flag else None

    def lead(self) -> Batch | None:
        """Make an asset the canonical member of a group."""
        group, asset = self._any("group"), self._any("asset")
        if not isinstance(group, model.Group) or not isinstance(asset, model.Asset):
            return None
        former = [
            msgspec.structs.replace(m, is_canonical=False)
            for m in self.world.all("group_member")
            if isinstance(m, model.GroupMember) and m.group_id == group.group_id and m.is_canonical
        ]
        return self.world.commit(
            [*former, model.GroupMember(group_id=group.group_id, asset_id=asset.asset_id, is_canonical=True)]
        )

    def leave(self) -> Batch | None:
        """Take an asset out of a group."""
        member = self._any("group_member")
        return self.world.commit(removes=[member]) if member else None

    def regroup(self) -> Batch | None:
        """Give a group another symbol."""
        group = self._any("group")
        return self.world.commit([msgspec.structs.replace(group, canonical_symbol=self._symbol())]) if group else None

    def identify(self) -> Batch | None:
        """Let a data source's id name another asset (R7)."""
        identifier, asset = self._any("identifier"), self._any("asset")
        if identifier is None or not isinstance(asset, model.Asset):
            return None
        return self.world.commit([msgspec.structs.replace(identifier, asset_id=asset.asset_id)])

    def relist(self) -> Batch | None:
        """Let a ticker mean another asset."""
        row, asset = self._any("venue_symbol"), self._any("asset")
        if not isinstance(row, model.VenueSymbol) or not isinstance(asset, model.Asset):
            return None
        return self.world.commit([msgspec.structs.replace(row, asset_id=asset.asset_id)])

    def derive(self) -> Batch | None:
        """Derive an asset from another."""
        parent, child = self._any("asset"), self._any("asset")
        if not isinstance(parent, model.Asset) or not isinstance(child, model.Asset) or parent == child:
            return None
        edge = model.Relationship(
            relationship_id=self._id(),
            parent_asset_id=parent.asset_id,
            child_asset_id=child.asset_id,
            relationship_type=model.RelationshipType.WRAPS,
        )
        return self.world.commit([edge])
