"""The public face of the client: what it exports, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
import types

import cqar.client

HEAVY = ("grpc", "google.protobuf", "pyarrow", "duckdb", "sqlalchemy", "Crypto")


def test_all_is_exactly_what_is_public() -> None:
    """`__all__` is sorted and names everything public, so that the surface is a reviewed list."""
    public = {
        name
        for name, value in vars(cqar.client).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert sorted(public) == cqar.client.__all__


def test_importing_the_client_loads_no_heavy_library() -> None:
    """grpc, pyarrow and duckdb are loaded when they are first needed, not by the import."""
    program = f"import sys, cqar.client; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
