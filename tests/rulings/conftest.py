"""One real server for all rulings, with an excerpt of the bundled catalogue, and a client whose replica follows it.

`Realm` asks the replica and the server the same question, and fails if they do not give the same answer: a ruling about answers
is proven for both at once.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psycopg
import pytest
from psycopg.sql import SQL
from psycopg.sql import Identifier as Name

from cqar import model
from cqar.answers import Resolution, Ticker, Verdict
from cqar.client import Client, connect
from cqar.client._registry import Outcome, Registry, UpsertResult
from cqar.client._remote import Remote
from cqar.errors import AmbiguousError, CqarError, NotFoundError
from cqar.model import (
    Asset,
    AssetType,
    Deployment,
    FlagType,
    MarketKind,
    QualityFlag,
    Record,
    Severity,
    VenueSymbol,
)
from cqar.server.config import Config
from cqar.server.postgres import EmbeddedPostgres
from cqar.server.server import running_server
from cqar.v1 import registry_pb2 as pb
from tests.conftest import temporary_folder
from tests.worlds import excerpt

SYMBOLS = (
    *("ETH", "WETH", "stETH", "wstETH", "cbETH", "rETH", "USDC", "USDC.e", "USDT", "BTC", "RBTC", "OP", "CELO", "cUSD"),
    *("LUNA", "LUNC", "SHIB", "PEPE", "Pepe", "pepe", "MATIC", "POL", "SOL", "USDS"),
)
NOBODY = "00000000-0000-4000-8000-000000000000"
T = TypeVar("T")


class Realm:
    """A server, its client, and questions to both."""

    def __init__(self, target: str, client: Client, database: str) -> None:
        self.target, self.client, self.database = target, client, database
        self.remote = Remote(target, token=None, actor="rulings", timeout=20)
        self._numbers = itertools.count(1)

    @property
    def registry(self) -> Registry:
        """The server's operations."""
        return self.client.registry

    def level(self) -> None:
        """Wait until the replica shows all that was written."""
        self.client.wait_for(self.remote.head().position)

    # --- questions to replica and server

    def resolve(self, symbol: str, chain: str | None = None) -> Resolution:
        """Resolve a symbol."""
        return self._same(
            lambda: self.client.resolve(symbol, chain=chain), lambda: self.registry.resolve(symbol, chain=chain)
        )

    def address(self, chain: str, address: str) -> Resolution:
        """Resolve an address."""
        key = pb.ResolveRequest(address=pb.ChainAddress(chain=chain, address=address))
        return self._same(lambda: self.client.resolve_address(chain, address), lambda: self.remote.resolve(key))

    def identifier(self, source: str, external_id: str) -> Resolution:
        """Resolve a source's name."""
        key = pb.ResolveRequest(identifier=pb.SourceKey(source=source, external_id=external_id))
        return self._same(lambda: self.client.resolve_identifier(source, external_id), lambda: self.remote.resolve(key))

    def ticker(self, venue: str, symbol: str, kind: MarketKind | None = None) -> VenueSymbol:
        """Tell what a ticker means now: the row."""
        return self.meaning(venue, symbol, kind).record

    def meaning(self, venue: str, symbol: str, kind: MarketKind | None = None) -> Ticker:
        """Tell it with the other kinds that bear the ticker."""
        found = self._same(
            lambda: self.client.resolve_venue_symbol(venue, symbol, kind=kind),
            lambda: self.registry.get_venue_symbol(venue=venue, symbol=symbol, kind=kind),
        )
        assert isinstance(found, Ticker)
        return found

    def verdict(self, asset_id: str, block_at: Severity = Severity.CRITICAL) -> Verdict:
        """Ask whether an asset may be traded."""
        return self._same(
            lambda: self.client.check_tradable(asset_id, block_at=block_at),
            lambda: self.registry.check_tradable(asset_id, block_at=block_at),
        )

    def flags(self, asset_id: str, **filters: Any) -> set[QualityFlag]:
        """Give an asset's flags."""
        return self._same(
            lambda: {*self.client.flags(asset_id, **filters)},
            lambda: {*self.registry.list_quality_flags(asset_id=asset_id, **filters)},
        )

    def _same(self, local: Callable[[], T], remote: Callable[[], T]) -> T:
        """Give the answer, or raise the error, of the replica; it must be that of the server."""
        self.level()
        mine, theirs = _outcome(local), _outcome(remote)
        if isinstance(mine, Resolution):
            assert mine.source == "replica"
        assert _plain(mine) == _plain(theirs)
        if isinstance(mine, CqarError):
            raise mine
        return mine

    # --- things to write

    def number(self) -> int:
        """Give a number that no other test has."""
        return next(self._numbers)

    def fresh_address(self) -> str:
        """Give an EVM address that nothing is at."""
        return f"0x{self.number():08x}{uuid.uuid4().hex}"

    def asset(self, symbol: str | None = None, **values: Any) -> Asset:
        """Create a token; without a symbol with one of its own."""
        symbol = f"T{self.number()}" if symbol is None else symbol
        values = {"name": f"{symbol} token", "asset_type": AssetType.TOKEN} | values
        return self.registry.create_asset(Asset(symbol=symbol, **values)).asset

    def deploy(self, asset: Asset, chain: str = "ethereum", **values: Any) -> Deployment:
        """Put an asset on a chain."""
        values = {"contract_address": self.fresh_address(), "decimals": 18, **values}
        deployment = Deployment(asset_id=asset.asset_id, chain_id=chain, **values)
        return self.registry.create_asset_deployment(deployment).record

    def flag(self, asset: Asset, severity: Severity = Severity.CRITICAL, **values: Any) -> QualityFlag:
        """Raise a flag."""
        values = {"flag_type": FlagType.SCAM, "source": "auditor", "reason": "because"} | values
        raised = self.registry.raise_quality_flag(QualityFlag(asset_id=asset.asset_id, severity=severity, **values))
        return raised.record

    def venue(self) -> str:
        """Register a venue."""
        slug = f"venue-{self.number()}"
        self.registry.create_venue(model.Venue(venue_id=slug, name=slug, venue_type=model.VenueType.CEX))
        return slug

    def upsert(self, *records: Record, **options: Any) -> list[UpsertResult]:
        """Write many records at once."""
        return self.registry.upsert_records(records, **options)[0]

    def sql(self, statement: str, *parameters: Any) -> list[Any]:
        """Ask the database itself."""
        with psycopg.connect(self.database) as connection:
            cursor = connection.execute(SQL(statement), parameters)
            return cursor.fetchall() if cursor.description else []

    def position(self) -> int:
        """Tell where the registry is."""
        return self.remote.head().position


def _outcome(ask: Callable[[], T]) -> T | CqarError:
    try:
        return ask()
    except CqarError as error:
        return error


def _plain(answer: Any) -> Any:
    """Give what replica and server must agree on: all but where and when they knew it."""
    match answer:
        case Resolution():
            return msgspec.structs.replace(answer, source="server", position=0)
        case Verdict():
            return msgspec.structs.replace(answer, age=0.0, position=0)
        case AmbiguousError():
            return type(answer), answer.reason, answer.candidates
        case NotFoundError():
            return type(answer), answer.reason, answer.look_alikes
        case CqarError():
            return type(answer), answer.reason
        case _:
            return answer


def load(registry: Registry, records: Sequence[Record]) -> None:
    """Write records of the catalogue; what they name outside of the excerpt is left out."""
    assets = {record.asset_id for record in records if isinstance(record, Asset)}
    known = [
        msgspec.structs.replace(record, native_asset_id=None)
        if isinstance(record, model.Chain) and record.native_asset_id not in assets
        else record
        for record in records
    ]
    for start in range(0, len(known), 1000):
        results, _ = registry.upsert_records(known[start : start + 1000])
        assert {result.outcome for result in results} == {Outcome.CREATED}


@pytest.fixture(scope="session")
def realm(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    """Yield the realm of all rulings."""
    name = f"rulings_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {} STRATEGY file_copy").format(Name(name)))
    url = postgres.url_for(name)
    with temporary_folder() as folder:
        config = Config(
            listen="127.0.0.1:0", database=url, data_dir=folder, snapshot_interval=0, heartbeat_interval=0.1, workers=4
        )
        replica: Path = tmp_path_factory.mktemp("rulings-replica")
        with (
            running_server(config) as server,
            connect(server.target, replica_dir=replica, actor="rulings", call_timeout=20) as client,
        ):
            load(client.registry, excerpt(SYMBOLS))
            realm = Realm(server.target, client, url)
            yield realm
            realm.remote.close()
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Name(name)))
