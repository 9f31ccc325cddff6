"""A PostgreSQL that allows the server 12 connections, and calls that want more of them.

Before, 40 % of the calls were refused at once (UNAVAILABLE), though each connection was free again within milliseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from cqar import wire
from cqar.client._remote import Remote
from cqar.errors import CqarError
from cqar.model import Asset, AssetType
from cqar.server.config import Config
from cqar.server.server import running_server
from cqar.v1 import registry_pb2 as pb
from tests.attacks.marks import attack

pytestmark = attack(
    "A25", by="a database with few connections", promise="calls wait for a connection before they are refused"
)


@pytest.fixture
def few(migrated_url: str) -> Iterator[str]:
    """Yield the address of the database for an account that may have 12 connections."""
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        name = f"few_{connection.info.dbname}"
        role = Identifier(name)
        connection.execute(SQL("CREATE ROLE {} LOGIN CONNECTION LIMIT 12").format(role))
        for what in ("TABLES", "SEQUENCES"):
            connection.execute(SQL(f"GRANT ALL ON ALL {what} IN SCHEMA public TO {{}}").format(role))
        yield migrated_url.replace("postgres@", f"{name}@")
        connection.execute(SQL("DROP OWNED BY {}").format(role))
        connection.execute(SQL("DROP ROLE {}").format(role))


def test_calls_wait_for_a_connection(few: str, config: Config, scale: int) -> None:
    """Of hundreds of writes and searches by 40 threads none is refused."""
    settings = msgspec.structs.replace(config, database=few, migrate=False)
    outcomes: Counter[str] = Counter()
    with running_server(settings) as server:
        remote = Remote(server.target, token=None, actor="test", timeout=20.0)

        def call(number: int) -> None:
            try:
                if number % 2:
                    asset = Asset(symbol=f"A{number}", name="Asset", asset_type=AssetType.TOKEN)
                    remote.call("CreateAsset", pb.CreateAssetRequest(asset=wire.record_to_wire(asset)))
                else:
                    remote.call("SearchAssets", pb.SearchAssetsRequest(query="asset"))
                outcomes["OK"] += 1
            except CqarError as error:
                outcomes[error.reason] += 1

        with ThreadPoolExecutor(40) as threads:
            list(threads.map(call, range(400 * scale)))
    assert outcomes == {"OK": 400 * scale}
