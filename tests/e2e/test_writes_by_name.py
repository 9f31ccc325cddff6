"""R22, U1, U2: bearers of a symbol that are easily overlooked count, and what only looks alike does not."""

from __future__ import annotations

from pathlib import Path

from cqar.client import Client, connect
from cqar.model import Asset, AssetType, Deployment
from tests.e2e.conftest import CommandLine

CRITICAL = ("--type", "depegged", "--severity", "critical", "--source", "watchdog", "--reason", "0.93")


def made(client: Client, symbol: str, name: str, *addresses: int, chain: str = "ethereum") -> Asset:
    """Create a token with deployments, the first of which is canonical if the asset is a "Genuine" one."""
    places = [
        Deployment(
            asset_id="",
            chain_id=chain,
            contract_address=f"0x{number:040x}",
            decimals=18,
            is_canonical=name.startswith("Genuine") and number == addresses[0],
        )
        for number in addresses
    ]
    asset = Asset(symbol=symbol, name=name, asset_type=AssetType.TOKEN)
    return client.registry.create_asset(asset, deployments=places).asset


def test_a_bearer_whose_name_looks_like_the_answer_s_counts(cqar: CommandLine, tmp_path: Path) -> None:
    """An impostor copies symbol and name, in Cyrillic: it is marked as a look-alike, and still bears the very symbol."""
    with connect(cqar.target, replica_dir=tmp_path, call_timeout=20) as client:
        genuine = made(client, "USDeX", "Genuine USDe", 0x701)
        impostor = made(client, "USDeX", "G\u0435nuine USDe", 0x702)
        for _ in range(2):  # a watchdog that says it again
            refused = cqar("flag", "raise", "usdex", "--chain", "ethereum", *CRITICAL)
            assert refused.code == 3
            assert genuine.asset_id in refused.stdout
            assert impostor.asset_id in refused.stdout
        for each in (genuine, impostor):
            assert list(client.registry.list_quality_flags(asset_id=each.asset_id)) == []
        flag = cqar("flag", "raise", impostor.asset_id, *CRITICAL, "--json").json
        assert flag["asset"]["name"] == impostor.name
        for typed in ("USDeX", "usdex"):
            blocked = cqar("flag", "check", typed, "--chain", "ethereum")
            assert blocked.code == 4
            assert blocked.stdout.splitlines()[0].split() == ["asset", "USDeX", "Genuine", "USDe", genuine.asset_id]
        assert cqar("flag", "check", genuine.asset_id).code == 0
        client.registry.delete_asset(impostor.asset_id)
    cleared = cqar("flag", "clear", flag["flag"]["flag_id"], "--reason", "gone")
    assert (cleared.code, impostor.asset_id in cleared.stdout) == (0, True)


def test_a_token_with_a_native_asset_s_symbol_counts(cqar: CommandLine, tmp_path: Path) -> None:
    """A token called ETH bears the symbol of Ether: a write by ETH is refused as long as it lives."""
    with connect(cqar.target, replica_dir=tmp_path, call_timeout=20) as client:
        token = made(client, "ETH", "Ether token", 0x703)
        refused = cqar("flag", "raise", "ETH", *CRITICAL)
        assert (refused.code, token.asset_id in refused.stdout) == (3, True)
        client.registry.delete_asset(token.asset_id)
    assert cqar("asset", "update", "ETH", "--category", "platform").code == 0


def test_another_place_of_the_same_asset_is_no_other_bearer(cqar: CommandLine, tmp_path: Path) -> None:
    """Two contracts of one asset on a chain: whichever is meant, the asset is certain."""
    with connect(cqar.target, replica_dir=tmp_path, call_timeout=20) as client:
        asset = made(client, "TWOFOLD", "Genuine two", 0x704, 0x705)
    done = cqar("asset", "update", "TWOFOLD", "--chain", "ethereum", "--category", "x")
    assert (done.code, asset.asset_id in done.stdout) == (0, True)


def test_what_only_looks_alike_is_told_and_not_hit(cqar: CommandLine, tmp_path: Path) -> None:
    """Asked for where only a Cyrillic twin is: exit code 1, the twin is shown, and nothing is written."""
    with connect(cqar.target, replica_dir=tmp_path, call_timeout=20) as client:
        made(client, "ALIKES", "Genuine", 0x706)
        twin = made(client, "ALIKE\u0405", "Genuine", 0x707, chain="base")
        for line in (("resolve", "ALIKES"), ("flag", "check", "ALIKES"), ("flag", "raise", "ALIKES", *CRITICAL)):
            result = cqar(*line, "--chain", "base")
            assert result.code == 1
            assert twin.asset_id in result.stdout
            assert "look-alike" in result.stdout
        assert list(client.registry.list_quality_flags(asset_id=twin.asset_id)) == []
    assert cqar("flag", "check", twin.symbol, "--chain", "base").code == 0
    assert cqar("asset", "update", "ALIKES", "--category", "x").code == 0  # its twin does not bear the symbol
