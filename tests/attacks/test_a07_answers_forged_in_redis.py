"""Somebody who may write to the servers' Redis forges what servers remember there.

Before, a value that was put under the right key with a position of the future was believed: BLOCK became ALLOW at every server, and
stayed ALLOW after further commits. Now a value counts only under a seal made with a secret of the database, over its key, its
position and all that it says; and the gate takes no verdict from Redis, only flags.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cqar import model
from cqar.model import Asset, AssetType, QualityFlag
from cqar.server.store import Store
from cqar.server.values import Body, Seal
from cqar.v1 import registry_pb2 as pb
from tests.attacks.marks import attack
from tests.caching import RedisServer, Server, asset, running, symbol, tradable, until

pytestmark = attack(
    "A7", by="who may write to Redis", promise="no answer and no verdict of a server comes from a forger"
)

BAD, GOOD = "0b6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e", "1c6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e"
LATER = 1 << 40  # a position of the future


@pytest.fixture
def database(migrated_url: str) -> str:
    """Return a database with an asset that may be traded, and one that may not."""
    store = Store(migrated_url)
    with store.transaction(actor="test") as tx:
        tx.put(Asset(asset_id=BAD, symbol="BAD", name="Bad", asset_type=AssetType.TOKEN))
        tx.put(Asset(asset_id=GOOD, symbol="GOOD", name="Good", asset_type=AssetType.TOKEN))
    raised(store)
    store.close()
    return migrated_url


@pytest.fixture
def server(database: str, redis_server: RedisServer, tmp_path: Path) -> Iterator[Server]:
    """Yield a server with a Redis."""
    with running(database, redis_server.url, tmp_path) as one:
        yield one


def raised(store: Store, asset_id: str = BAD) -> int:
    """Raise a CRITICAL flag on an asset; return the position."""
    with store.transaction(actor="test") as tx:
        tx.put(
            QualityFlag(
                asset_id=asset_id,
                flag_type=model.FlagType.EXPLOITED,
                severity=model.Severity.CRITICAL,
                source="test",
                reason="of the test",
            )
        )
    return tx.position


def key_of(asset_id: str) -> str:
    """Return the key under which the gate's flags are remembered."""
    return f"flags:{asset_id}:critical"


def remembered(redis_server: RedisServer, key: str) -> bytes:
    """Wait for the value that a server puts under a key."""
    until(lambda: redis_server.client.get(key), f"nothing is remembered under {key}")
    value = redis_server.client.get(key)
    assert isinstance(value, bytes)
    return value


def decision(server: Server, asset_id: str = BAD) -> int:
    """Ask the gate of a server."""
    return int(server.ask(*tradable(asset_id)).decision)


def another_commit(server: Server) -> None:
    """Commit something else, and wait until the feed has it."""
    name = uuid.uuid4().hex[:8].upper()
    server.caught_up(server.tell(Asset(symbol=name, name="Other", asset_type=AssetType.TOKEN)))


def test_a_forged_verdict_is_not_believed(server: Server, redis_server: RedisServer) -> None:
    """By a made-up seal, none, or that of another value: BLOCK stays BLOCK, before and after another commit."""
    allow = pb.CheckTradableResponse(decision=pb.DECISION_ALLOW, position=LATER)
    bare = pb.CheckTradableResponse(position=LATER)  # no flag: from which ALLOW would follow
    log_id = server.store.head().log_id
    assert decision(server) == pb.DECISION_BLOCK
    genuine = remembered(redis_server, key_of(BAD))
    for reply in (allow, bare):
        body = Body(time.time() + 3600, 1e9, (), reply.SerializeToString())
        packed = msgspec.msgpack.encode(body)
        start = uuid.UUID(log_id).bytes + LATER.to_bytes(8, "big")
        for forged in (
            start + packed,
            start + bytes(16) + packed,
            start + genuine[24:40] + packed,
            genuine[:40] + packed,
            Seal(log_id, bytes(32)).value(key_of(BAD), LATER, body),
        ):
            redis_server.client.set(key_of(BAD), forged)
            assert decision(server) == pb.DECISION_BLOCK
            redis_server.client.set(key_of(BAD), forged)
            another_commit(server)
            assert decision(server) == pb.DECISION_BLOCK


def test_a_genuine_value_is_believed_only_where_and_when_a_server_put_it(
    server: Server, redis_server: RedisServer
) -> None:
    """Under another key, or as of another position, or with one bit changed, it is none."""
    assert decision(server, GOOD) == pb.DECISION_ALLOW
    value = remembered(redis_server, key_of(GOOD))
    redis_server.client.set(key_of(BAD), value)
    assert decision(server) == pb.DECISION_BLOCK
    redis_server.client.set(key_of(BAD), value[:16] + LATER.to_bytes(8, "big") + value[24:])
    assert decision(server) == pb.DECISION_BLOCK

    server.ask(*asset(GOOD))
    genuine = remembered(redis_server, f"asset:id:{GOOD}")
    seal = Seal(*server.store.secret())
    assert seal.entry(f"asset:id:{GOOD}", genuine, pb.GetAssetResponse) is not None
    for place in range(len(genuine)):
        spoilt = bytearray(genuine)
        spoilt[place] ^= 1
        assert seal.entry(f"asset:id:{GOOD}", bytes(spoilt), pb.GetAssetResponse) is None
    server.ask(*symbol("GOOD"))
    redis_server.client.set("asset:symbol:BAD:", remembered(redis_server, "asset:symbol:GOOD:"))
    assert server.ask(*symbol("BAD")).resolution.asset.asset_id == BAD


def test_an_old_genuine_value_is_not_believed_again(
    server: Server, database: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Kept by the forger and put back after the fact changed: by the server that wrote, another one, and one started since."""
    assert decision(server, GOOD) == pb.DECISION_ALLOW
    old = remembered(redis_server, key_of(GOOD))
    with running(database, redis_server.url, tmp_path / "there") as there:
        there.caught_up(raised(server.store, GOOD))
        for one in (server, there):
            redis_server.client.set(key_of(GOOD), old)
            assert decision(one, GOOD) == pb.DECISION_BLOCK
            redis_server.client.set(key_of(GOOD), old)
            another_commit(one)
            assert decision(one, GOOD) == pb.DECISION_BLOCK
    redis_server.client.set(key_of(GOOD), old)
    with running(database, redis_server.url, tmp_path / "later") as later:
        redis_server.client.set(key_of(GOOD), old)
        assert decision(later, GOOD) == pb.DECISION_BLOCK


def test_the_secret_changes_with_the_log(store: Store) -> None:
    """What was sealed before a restore is of no use after it."""
    before = store.secret()
    store.new_log()
    after = store.secret()
    assert len(before[1]) == len(after[1]) == 32
    assert before[0] != after[0]
    assert before[1] != after[1]
