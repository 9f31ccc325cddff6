"""A registry of any size, for measuring only: names are made up, shapes are those of the real catalogue."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from cqar import snapshot
from cqar.model import Asset, AssetType, Chain, Deployment, FeedToken, Record
from tests.worlds import NOW

CHAINS = 50
PER_ASSET = 2  # deployments
LOG_ID = "00000000-0000-4000-8000-00000000beef"


def _uuid(number: int, sort: int) -> str:
    return f"{sort:08x}-0000-4000-8000-{number:012x}"


def _chains() -> Iterator[Record]:
    for number in range(CHAINS):
        yield Chain(
            chain_id=f"chain-{number:02d}", name=f"Chain {number}", namespace="eip155", network_id=10_000 + number
        )


def _assets(deployments: int) -> Iterator[Record]:
    for number in range(deployments // PER_ASSET):
        yield Asset(
            asset_id=_uuid(number, 1),
            symbol=symbol_of(number),
            name=f"Synthetic Asset {number}",
            asset_type=AssetType.TOKEN,
            website="https://example.org",
            provenance="synthetic",
            created_at=NOW,
            updated_at=NOW,
        )


def symbol_of(number: int) -> str:
    """Symbol of an asset: in one case in twenty, one that another asset has too."""
    return f"SYN{number - number % 20 if number % 20 == 1 else number}"


def _deployments(deployments: int) -> Iterator[Record]:
    for number in range(deployments):
        yield Deployment(
            deployment_id=_uuid(number, 2),
            asset_id=_uuid(number // PER_ASSET, 1),
            chain_id=chain_of(number),
            contract_address=f"0x{(number + 1) * 0x9E3779B97F4A7C15 % 2**160:040x}",
            decimals=18,
            is_canonical=number // PER_ASSET % 20 != 1,
            provenance="synthetic",
            created_at=NOW,
            updated_at=NOW,
        )


def chain_of(number: int) -> str:
    """Chain of a deployment."""
    return f"chain-{(number * 7 + number // CHAINS) % CHAINS:02d}"


def questions(deployments: int, count: int, seed: int = 1) -> list[tuple[str, str]]:
    """Random, distinct (symbol, chain) pairs that have an answer."""
    picked = random.Random(seed).sample(range(deployments), count)
    return list({(symbol_of(number // PER_ASSET), chain_of(number)) for number in picked})


def publish(root: Path, deployments: int) -> snapshot.Snapshot:
    """Write the registry as a snapshot, if it is not there yet."""
    head = FeedToken(log_id=LOG_ID, position=deployments, chain=bytes(16))
    final = root / LOG_ID / f"{deployments:020d}"
    if final.exists():
        return snapshot.load_manifest(final)
    records = {"chain": _chains(), "asset": _assets(deployments), "deployment": _deployments(deployments)}
    return snapshot.write(root, head, NOW, records)
