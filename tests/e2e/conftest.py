"""A server with a small registry, and the command line in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cqar.client import connect
from cqar.model import Asset as AssetRecord
from cqar.model import AssetType as Type
from cqar.model import Chain, Deployment, MarketKind, Venue, VenueSymbol, VenueType
from cqar.server.config import Config
from cqar.server.postgres import EmbeddedPostgres
from cqar.server.server import running_server
from tests.conftest import temporary_folder

USDC = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"


class Ran(NamedTuple):
    """What a command line did."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The document that it printed."""
        return json.loads(self.stdout)


class CommandLine:
    """Runs `python -m cqar` with a clean environment of CQAR_* variables."""

    def __init__(self, target: str, replica_dir: Path) -> None:
        self.target = target
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CQAR_")}
        self.environment = {**kept, "CQAR_TARGET": target, "CQAR_REPLICA_DIR": str(replica_dir)}

    def __call__(self, *arguments: str, **environment: str) -> Ran:
        """Run a command line to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "cqar", *arguments],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**self.environment, **environment},
        )
        assert "Traceback" not in done.stdout + done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command line; the caller ends it."""
        return subprocess.Popen(
            [sys.executable, "-m", "cqar", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.environment, **environment},
        )


@pytest.fixture(scope="module")
def cqar(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Yield the command line of a host whose server has two chains, ether, USDC with an impostor, and a venue."""
    import psycopg
    from psycopg.sql import SQL, Identifier

    name = f"cli_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    with temporary_folder() as folder:
        config = Config(
            listen="127.0.0.1:0", database=postgres.url_for(name), data_dir=folder, heartbeat_interval=0.2, workers=4
        )
        with running_server(config) as server:
            _fill(server.target, tmp_path_factory.mktemp("filler"))
            yield CommandLine(server.target, tmp_path_factory.mktemp("replica"))
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def _fill(target: str, replica_dir: Path) -> None:
    with connect(target, replica_dir=replica_dir, call_timeout=20) as client:
        registry = client.registry
        for slug, number in (("ethereum", 1), ("base", 8453)):
            registry.create_chain(
                Chain(
                    chain_id=slug,
                    name=slug.title(),
                    namespace="eip155",
                    caip2=f"eip155:{number}",
                    network_id=number,
                    slip44=60,
                )
            )
        ether = registry.create_asset(
            AssetRecord(symbol="ETH", name="Ether", asset_type=Type.NATIVE),
            deployments=[Deployment(asset_id="", chain_id="ethereum", decimals=18, is_native=True, is_canonical=True)],
        )
        usdc = registry.create_asset(
            AssetRecord(symbol="USDC", name="USD Coin", asset_type=Type.STABLECOIN),
            deployments=[
                Deployment(
                    asset_id="", chain_id="ethereum", contract_address=USDC.lower(), decimals=6, is_canonical=True
                )
            ],
        )
        registry.create_asset(AssetRecord(symbol="USDC", name="Not the coin", asset_type=Type.TOKEN))
        registry.create_venue(Venue(venue_id="binance", name="Binance", venue_type=VenueType.CEX))
        registry.create_venue_symbol(
            VenueSymbol(
                venue_id="binance",
                symbol="ETHUSDC",
                market_kind=MarketKind.SPOT,
                asset_id=ether.asset.asset_id,
                quote_asset_id=usdc.asset.asset_id,
            )
        )
