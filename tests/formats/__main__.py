"""Write the fixtures of the present formats that are not there yet: before a release, `python -m tests.formats`.

What is there is never written again, but with the version of the wheel: raise the version first.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import msgspec

from cqar import snapshot
from cqar.client._generation import FORMAT
from cqar.model import KINDS, Record
from tests.formats.releases import FORMATS, RECORDS, WHEELS, contract, replica_format
from tests.records import moments, normalised, nth, registry_of
from tests.worlds import World

ROOT = Path(__file__).parents[2]
EACH = 16  # records of each kind: more than the values of any enum


def example() -> World:
    """Give a small registry with every kind, every value of every enum, and values at their bounds."""
    records = [
        msgspec.structs.replace(each, created_at=nth(moments(), n), updated_at=nth(moments(), n + 1))
        for n, each in enumerate(normalised(registry_of(EACH)))
    ]
    return World(records, position=7)


def noted(records: dict[str, list[Record]]) -> bytes:
    """Give records in a form that needs none of our code to be read."""
    return msgspec.json.format(msgspec.json.encode(records), indent=1) + b"\n"


def write_snapshot() -> None:
    """Publish the example in the present snapshot format."""
    folder = FORMATS / str(snapshot.FORMAT_VERSION)
    if not folder.exists():
        world = example()
        world.publish(folder)
        (folder / RECORDS).write_bytes(noted({kind: world.all(kind) for kind in KINDS}))


def write_wheel(target: Path) -> None:
    """Build the wheel of the present code, and keep it without the catalogue, which would make it three times as large."""
    with tempfile.TemporaryDirectory(prefix="cqar-wheel-") as work:
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", work, str(ROOT)]
        subprocess.run(command, check=True)
        (built,) = Path(work).glob("*.whl")
        with (
            zipfile.ZipFile(built) as whole,
            zipfile.ZipFile(target, "w", zipfile.ZIP_LZMA) as kept,
        ):
            for entry in whole.infolist():
                if not entry.filename.startswith("cqar/_catalogue/"):
                    kept.writestr(entry.filename, whole.read(entry))


def main() -> None:
    """Write what is missing."""
    FORMATS.mkdir(exist_ok=True)
    write_snapshot()
    release = version("cqar")
    described = FORMATS / f"contract-{release}.binpb"
    if not described.exists():
        described.write_bytes(contract().SerializeToString(deterministic=True))
    replica = FORMATS / f"replica-{FORMAT}.json"
    if not replica.exists():
        replica.write_bytes(msgspec.json.format(msgspec.json.encode(replica_format()), indent=1) + b"\n")
    wheel = WHEELS / f"cqar-{release}-py3-none-any.whl"
    if not wheel.exists():
        write_wheel(wheel)


if __name__ == "__main__":
    main()
