"""The public face of the client: what it exports, and what importing it costs."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
from typer.main import get_command

import cqar.client
from cqar.cli import app
from cqar.client import Client, Resolution, VenueSymbol, Verdict, connect, open_snapshot
from cqar.client._registry import Registry
from cqar.v1 import registry_pb2

HEAVY = ("grpc", "google.protobuf", "pyarrow", "duckdb", "sqlalchemy", "Crypto")


def test_all_is_exactly_what_is_public() -> None:
    """`__all__` is sorted and names everything public, so that the surface is a reviewed list."""
    public = {
        name
        for name, value in vars(cqar.client).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name not in {"Any", "TYPE_CHECKING"}
    }
    assert inspect.isclass(cqar.client.AsyncClient)  # which is not there before it is used
    assert sorted({*public, "AsyncClient", "AsyncVenueView"}) == cqar.client.__all__


def test_importing_the_client_loads_no_heavy_library() -> None:
    """grpc, pyarrow and duckdb are loaded when they are first needed, not by the import."""
    program = f"import sys, cqar.client; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# What users rely on: positional parameters, then keywords. A signature may gain keywords with defaults.
SIGNATURES: list[tuple[Callable[..., Any], str, str]] = [
    (connect, "target", "token snapshots replica_dir"),
    (open_snapshot, "location", ""),
    (Client.resolve, "symbol", "chain"),
    (Client.resolve_address, "chain address", ""),
    (Client.resolve_venue_symbol, "venue symbol", "kind"),
    (Client.resolve_identifier, "source external_id", ""),
    (Client.resolve_many, "symbols", "chain"),
    (Client.asset, "asset_id", ""),
    (Client.deployments, "asset_id", "chain"),
    (Client.identifiers, "asset_id", ""),
    (Client.relationships, "asset_id", "type direction"),
    (Client.flags, "asset_id", "min_severity include_resolved"),
    (Client.group, "canonical_symbol", ""),
    (Client.variants, "asset_id", "types"),
    (Client.check_tradable, "asset_id", "block_at max_age"),
    (Client.require_tradable, "asset_id", "block_at max_age"),
    (Client.search, "text", "chain venue type limit"),
    (Client.list_assets, "", ""),
    (Client.list_chains, "", ""),
    (Client.list_venues, "", ""),
    (Client.sql, "query parameters", ""),
    (Client.status, "", ""),
    (Client.wait_for, "position timeout", ""),
    (Client.close, "", ""),
]


@pytest.mark.parametrize(("function", "positional", "keywords"), SIGNATURES, ids=lambda v: getattr(v, "__name__", None))
def test_signatures_are_those_that_users_rely_on(function: Callable[..., Any], positional: str, keywords: str) -> None:
    """The same positional parameters in the same order, the same keywords, and whatever came since has a default."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    keyword_only = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert [p.name for p in parameters if p not in keyword_only] == positional.split()
    assert set(keywords.split()) <= {p.name for p in keyword_only}
    assert all(p.default is not p.empty for p in keyword_only)
    assert inspect.getdoc(function)


def test_answers_and_properties_have_the_names_that_users_rely_on() -> None:
    """What a resolution, a verdict and a ticker carry, and what a client tells of itself."""
    fields = "asset deployment flags collisions position source"
    assert set(fields.split()) <= set(Resolution.__struct_fields__)
    assert {"decision", "reasons", "position", "age"} <= set(Verdict.__struct_fields__)
    assert {"asset_id", "quote_asset_id", "multiplier"} <= set(VenueSymbol.__struct_fields__)
    assert all(isinstance(vars(Client)[name], property) for name in ("position", "age", "registry"))
    assert all(hasattr(Client, name) for name in ("__enter__", "__exit__"))


def test_the_registry_surface_has_a_method_for_each_rpc() -> None:
    """The client's write and admin surface is the whole service."""
    methods = registry_pb2.DESCRIPTOR.services_by_name["AssetRegistry"].methods
    snakes = {re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower() for method in methods}
    assert snakes - set(dir(Registry)) == set()


def test_every_command_is_there_and_says_what_it_is_for() -> None:
    """The command line's names, with a help text each."""
    command: Any = get_command(app)
    names = {"": "serve migrate import snapshot replica resolve asset flag group doctor bench"}
    names |= {"snapshot": "export list verify prune", "replica": "run status rebuild", "flag": "raise clear list check"}
    names |= {"asset": "show search list create update delete", "group": "show list create add remove"}
    for group, expected in names.items():
        commands = (command.commands[group] if group else command).commands
        assert set(expected.split()) <= set(commands), group
        assert all(commands[name].help for name in expected.split()), group
