# ruff: noqa: INP001
"""Builds the bundled catalogue: `python snapshots/build.py` turns `sources/` and `curated/` into `catalogue/`.

Equal files give equal bytes. Prints what is in it and what was left out, with the reason; exits 1, and writes nothing, if
the files contradict each other, naming each contradiction in one line.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from assets import Assets
from checks import problems
from markets import Markets
from notes import Notes
from tables import CREATED, HERE, Report, uid

from cqar import snapshot
from cqar.model import KINDS, FeedToken, Record

POSITION = 1


def records(report: Report) -> dict[str, list[Record]]:
    """Give the records of each kind, sorted by key."""
    assets = Assets(report)
    notes = Notes(assets, report)
    markets = Markets(assets, report)
    made: dict[str, Sequence[Record]] = {
        "chain": list(assets.chains.values()),
        "asset": list(assets.assets.values()),
        "deployment": list(assets.deployments.values()),
        "identifier": notes.identifiers,
        "relationship": list(assets.relationships.values()),
        "group": list(notes.groups.values()),
        "group_member": list(notes.members.values()),
        "quality_flag": notes.flags,
        "venue": list(markets.venues.values()),
        "venue_symbol": list(markets.symbols.values()),
    }
    return {name: sorted(made[name], key=kind.key_of) for name, kind in KINDS.items()}


def publish(root: Path, made: dict[str, list[Record]]) -> snapshot.Snapshot:
    """Write the snapshot and put it in the place of the one that is there."""
    digest = hashlib.sha256(msgspec.json.encode(made)).digest()
    head = FeedToken(log_id=uid("log"), position=POSITION, chain=digest[:16])
    with tempfile.TemporaryDirectory(dir=root.parent) as work:
        snapshot.write(Path(work), head, CREATED, made)
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        (Path(work) / head.log_id).rename(root / head.log_id)
    return snapshot.latest(root)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, check, write and report."""
    parser = argparse.ArgumentParser(description="Build the bundled catalogue.")
    parser.add_argument("--out", type=Path, default=HERE / "catalogue", help="folder that becomes the snapshot root")
    out = parser.parse_args(arguments).out.resolve()
    report = Report()
    made = records(report)
    say = sys.stdout.write
    for name, rows in made.items():
        say(f"{len(rows):7,} {name}\n")
    say("left out:\n")
    for reason, count in sorted(report.left_out.items()):
        say(f"{count:7,} {reason}\n")
    found = report.problems + problems(made)
    if found:
        sys.stderr.write("".join([f"error: {text}\n" for text in found]))
        return 1
    written = publish(out, made)
    say(f"{written.path}: {written.size:,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
