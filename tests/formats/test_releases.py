"""F23: the previous release, from its wheel and in processes of its own, with the present one: every pair works together."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from cqar import snapshot
from cqar.client import connect, open_snapshot
from cqar.client._generation import FORMAT, verify
from cqar.model import KINDS, FlagType, QualityFlag, Record, Severity
from cqar.server.config import Config
from cqar.server.export import export_snapshot
from cqar.server.server import running_server
from cqar.server.store import Store
from tests.conftest import temporary_folder
from tests.faults.replica.host import until
from tests.formats.releases import FORMATS, Interpreter, Release, ToldError, newest_wheel
from tests.processes import process
from tests.worlds import World, excerpt

SYMBOLS = ("USDC", "ETH", "WETH")

# Run by both releases. What each makes of the whole registry, in a form that two interpreters can compare.
PROBE = """
def probe(client):
    def told(call):
        try:
            return msgspec.to_builtins(call())
        except cqar.errors.CqarError as error:
            return [type(error).__name__, error.reason]

    def every_form(asset_id):  # which of them are given unasked differs by release
        return client.variants(asset_id, types=tuple(cqar.model.RelationshipType))

    def of(found):
        return [found.asset, found.deployment, found.flags, sorted(each.asset_id for each in found.collisions)]

    assets = sorted(client.list_assets(), key=lambda asset: asset.asset_id)
    chains = [chain.chain_id for chain in client.list_chains(include_inactive=True)]
    return {
        "assets": assets,
        "places": [client.list_chains(include_inactive=True), client.list_venues(include_inactive=True)],
        "resolved": [[chain, a.symbol, told(lambda: of(client.resolve(a.symbol, chain=chain)))]
                     for a in assets for chain in [None, "ethereum", "base", *chains[:2]]],
        "facts": [[told(lambda: each(a.asset_id)) for each in (
            client.deployments, client.identifiers, client.relationships, every_form)] for a in assets],
        "flags": [client.flags(a.asset_id, include_resolved=True) for a in assets],
        "gate": [[v.decision, v.reasons] for a in assets
                 for v in [client.check_tradable(a.asset_id, max_age=float("inf"))]],
        "tickers": sorted(client.sql("SELECT venue_id, symbol, multiplier::text FROM venue_symbols").fetchall()),
        "groups": [told(lambda: client.group(symbol))
                   for (symbol,) in client.sql("SELECT canonical_symbol FROM asset_groups ORDER BY 1").fetchall()],
    }
"""


def probed(client: Any) -> Any:
    """Give what the present release makes of a registry."""
    names: dict[str, Any] = {}
    exec("import msgspec, cqar.errors, cqar.model\nimport cqar\n" + PROBE, names)
    return msgspec.json.decode(msgspec.json.encode(names["probe"](client)))


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Unpack the last release."""
    return Release(newest_wheel(), tmp_path_factory.mktemp("release"))


@pytest.fixture
def old(previous: Release) -> Iterator[Interpreter]:
    """A Python with the last release, which can make probes."""
    with previous.interpreter() as interpreter:
        interpreter(PROBE + FILL)
        yield interpreter


@pytest.fixture
def seed(tmp_path: Path) -> snapshot.Snapshot:
    """Some well-known assets with all that hangs on them."""
    return World(excerpt(SYMBOLS)).publish(tmp_path / "seed")


def everything(found: snapshot.Snapshot) -> dict[str, list[Record]]:
    """Give the records of a snapshot by kind."""
    return {kind: list(snapshot.read(found, kind)) for kind in KINDS}


# Run by the last release: it writes a snapshot's records to a server.
FILL = """
def fill(client, root):
    from pathlib import Path
    from cqar import snapshot

    found = snapshot.latest(Path(root))
    records = [record for kind in KINDS for record in snapshot.read(found, kind)]
    assets = {r.asset_id for r in records if isinstance(r, Asset)}
    chains = [r for r in records if isinstance(r, Chain) and r.native_asset_id in assets]  # whose assets come after them
    first = [msgspec.structs.replace(r, native_asset_id=None) if isinstance(r, Chain) else r for r in records]
    outcomes = []
    for batch in (first, chains):
        for start in range(0, len(batch), 1000):
            results, position = client.registry.upsert_records(batch[start:start + 1000])
            outcomes += [each.outcome for each in results]
    client.wait_for(position)
    return sorted(set(outcomes))
"""


def connected(interpreter: Interpreter, target: str, replica_dir: Path) -> None:
    """Have the last release connect."""
    interpreter(f"client = connect({target!r}, replica_dir={str(replica_dir)!r}, call_timeout=20, timeout=30)")


def warning(of: str) -> QualityFlag:
    """Give a warning that closes the gate."""
    return QualityFlag(
        asset_id=of, flag_type=FlagType.EXPLOITED, severity=Severity.CRITICAL, source="desk", reason="of the test"
    )


@pytest.mark.parametrize("real", [True, False], ids=["well-known assets", "values at their bounds"])
def test_the_previous_client_reads_what_is_published_now(
    real: bool, old: Interpreter, seed: snapshot.Snapshot, tmp_path: Path
) -> None:
    """From the same folder of snapshots both releases make the same of every asset."""
    bounds = everything(snapshot.latest(FORMATS / str(snapshot.FORMAT_VERSION)))
    made = seed if real else World([each for held in bounds.values() for each in held]).publish(tmp_path / "bounds")
    root = made.path.parent.parent
    old(f"client = open_snapshot({str(root)!r}, replica_dir={str(tmp_path / 'old')!r})")
    with open_snapshot(root, replica_dir=tmp_path / "new") as client:
        mine = probed(client)
        assert len(mine["assets"]) > 5
        assert old("probe(client)") == mine
        assert old("client.status().quarantined") == 0


def test_releases_share_the_generations_of_a_host(old: Interpreter, tmp_path: Path) -> None:
    """A generation that the last release built and has open is used, or another is built beside it; it answers on either way."""
    root = FORMATS / str(snapshot.FORMAT_VERSION)
    old(f"client = open_snapshot({str(root)!r}, replica_dir={str(tmp_path)!r})")
    before = old("probe(client)")
    with open_snapshot(root, replica_dir=tmp_path) as client:
        assert probed(client) == before
        shared = Path(old("client.status().generation"))
        assert shared.is_dir()
        if Path(client.status().generation) == shared:
            verify(shared)
    assert old("probe(client)") == before
    old(f"again = open_snapshot({str(root)!r}, replica_dir={str(tmp_path)!r})")
    assert old("probe(again)") == before


def test_the_previous_client_follows_and_writes_to_the_present_server(
    previous: Release, old: Interpreter, seed: snapshot.Snapshot, database_url: str, tmp_path: Path
) -> None:
    """It writes, loads a snapshot, follows, closes and opens the gate, and shares a replica with the present client."""
    config = Config(
        listen="127.0.0.1:0", database=database_url, data_dir=tmp_path, snapshot_interval=0, heartbeat_interval=0.2
    )
    with running_server(config) as server:
        connected(old, server.target, tmp_path / "writer")
        assert "REFUSED" not in old(f"fill(client, {str(seed.path.parent.parent)!r})")
        store = Store(database_url)
        published = export_snapshot(store, config.snapshot_root)
        store.close()
        shared = tmp_path / "shared"
        connected(old, server.target, shared)  # from the snapshot
        assert f"gen-{published.manifest.position:020d}" in old("client.status().generation")
        assert old("client.status().is_syncer")
        with connect(server.target, replica_dir=shared, call_timeout=20, timeout=30) as client:
            mine = probed(client)
            assert len(mine["assets"]) > 5
            assert old("probe(client)") == mine
            usdc = client.resolve("USDC", chain="ethereum").asset.asset_id
            gate = f"client.check_tradable({usdc!r}).decision"
            assert old(gate) == client.check_tradable(usdc).decision == "ALLOW"
            raised = client.registry.raise_quality_flag(warning(usdc))
            old(f"client.wait_for({raised.position})")
            client.wait_for(raised.position)
            assert old(gate) == client.check_tradable(usdc).decision == "BLOCK"
            flag = raised.record.flag_id
            cleared = old(f"client.registry.resolve_quality_flag({flag!r}, reason='over', cleared_by='desk').position")
            client.wait_for(cleared)
            assert client.check_tradable(usdc).decision == "ALLOW"
            # The syncer of the host dies: the other release takes its tail over, and the other way round.
            old.close()
            until(lambda: client.status().is_syncer, "the present client leads", 30)
            name = client.registry.update_asset(usdc, website="https://one.example").position
            client.wait_for(name)
            with previous.interpreter() as other:
                other(PROBE)
                connected(other, server.target, shared)
                assert other(f"client.asset({usdc!r}).website") == "https://one.example"
                shared_by_both = other("cqar.client._generation.FORMAT") == FORMAT  # else each has a folder of its own
                assert other("client.status().is_syncer") is not shared_by_both
                client.rebuild(timeout=20)  # under the eyes of the other
                assert other("probe(client)") == probed(client)
                client.close()
                until(lambda: other("client.status().is_syncer"), "the previous client leads", 30)
                written = other(f"client.registry.update_asset({usdc!r}, website='https://two.example').position")
                other(f"client.wait_for({written})")
                with connect(server.target, replica_dir=shared, timeout=30) as again:
                    again.wait_for(written)
                    assert other("probe(client)") == probed(again)
                    assert again.asset(usdc).website == "https://two.example"


def _but_for(symbol: str, probe: Any) -> Any:
    """Return a probe without the answers for a symbol that a flagged asset bears: which of them flags prefer differs by release."""
    return {**probe, "resolved": [row for row in probe["resolved"] if row[1].casefold() != symbol.casefold()]}


def test_the_present_client_follows_the_previous_server_and_the_present_server_takes_its_database_over(
    previous: Release, old: Interpreter, seed: snapshot.Snapshot, database_url: str
) -> None:
    """Clients may be upgraded first, and go on when the server is: nothing is lost, reloaded or read differently after."""
    with temporary_folder() as folder:
        flags = (
            "--database",
            database_url,
            "--data-dir",
            str(folder),
            "--snapshot-interval",
            "0",
            "--drain-seconds",
            "0",
        )
        with process(*flags, environment=previous.environment) as server:
            connected(old, server.target, folder / "writer")
            assert "REFUSED" not in old(f"fill(client, {str(seed.path.parent.parent)!r})")
            with connect(server.target, replica_dir=folder / "replica", call_timeout=20, timeout=30) as client:
                client.wait_for(old("client.position"))
                usdc = client.resolve("USDC", chain="ethereum").asset.asset_id
                flag = client.registry.raise_quality_flag(warning(usdc))
                client.wait_for(flag.position)
                assert client.check_tradable(usdc).decision == "BLOCK"
                before, target = probed(client), server.target
                assert len(before["assets"]) > 5
                # What was filled in is more than a call reads: the syncer makes a generation of it, and needs no other afterwards.
                until(
                    lambda: f"gen-{0:020d}" not in str(client.status().generation), "the next generation is there", 30
                )
                generation = client.status().generation
                server.signal(signal.SIGTERM)
                assert server.exit_code() == 0
                theirs = _exported_by(old, database_url, folder / "theirs")
                config = Config(
                    listen=target,
                    database=database_url,
                    data_dir=folder / "present",
                    snapshot_interval=0,
                    heartbeat_interval=0.2,
                )
                with running_server(config):
                    store = Store(database_url)
                    mine = export_snapshot(store, folder / "mine")
                    store.close()
                    assert (mine.manifest.head, everything(mine)) == (theirs.manifest.head, everything(theirs))
                    until(lambda: client.status().state == "fresh", "it is connected again", 30)
                    assert probed(client) == before
                    renamed = client.registry.update_asset(usdc, website="https://new.example")
                    client.wait_for(renamed.position, timeout=20)
                    old(f"client.wait_for({renamed.position}, timeout=20)")
                    assert client.status().generation == generation
                    assert client.check_tradable(usdc).decision == "BLOCK"
                    after = probed(client)
                    assert after["resolved"] != before["resolved"]
                    assert _but_for("USDC", old("probe(client)")) == _but_for("USDC", after)
                    _fields_of_the_future(database_url)
                    with connect(target, replica_dir=folder / "from the log", timeout=30) as fresh:
                        assert fresh.position == renamed.position
                        assert probed(fresh) == after
                    assert _back_again(old, database_url) in {"current", "PreconditionError, upgrade cqar"}
                    entries = list(client.admin.list_audit_entries(asset_id=usdc))
                    assert {each.position for each in entries} >= {flag.position, renamed.position}


def _exported_by(old: Interpreter, database_url: str, root: Path) -> snapshot.Snapshot:
    """Have the last release export a database."""
    old("from pathlib import Path\nfrom cqar.server.store import Store\nfrom cqar.server.export import export_snapshot")
    old(f"store = Store({database_url!r}); made = export_snapshot(store, Path({str(root)!r})); store.close()")
    return snapshot.latest(root)


def _back_again(old: Interpreter, database_url: str) -> str:
    """Tell what the last release says to a database that the present one has migrated."""
    try:
        return "current" if old(f"Store({database_url!r}).schema().is_current") else "another schema"
    except ToldError as error:
        return f"{error.kind}, {'upgrade cqar' if 'upgrade cqar' in str(error) else error}"


def _fields_of_the_future(database_url: str) -> None:
    """Write fields that this version does not know into the change log, as a newer server that was rolled back has."""
    with psycopg.connect(database_url) as connection:
        for column in ("record", "before"):
            more = f"""UPDATE changes SET {column} = ({column}::jsonb || '{{"of_the_future": {{"a": [1]}}}}')::json"""
            connection.execute(f"{more} WHERE {column} IS NOT NULL".encode())
