"""`make fuzz`: thousands of requests for every method of a server that is thrown away afterwards.

Options: `--count N` requests per method (default 10,000; also `FUZZ_COUNT`), `--seed N` to get the same choices again as far
as the server's answers are the same, `--only TEXT` for methods with this in their name. A request that fails is printed so
that it can be sent again to a fresh server: `--method NAME --request HEX`. The server's log is kept in build/fuzz/.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

from google.protobuf.text_format import MessageToString

from cqar.server.postgres import EmbeddedPostgres
from tests.conftest import temporary_folder
from tests.faults import audit
from tests.fuzz.attack import GROWTH, Attack, Failed, attack
from tests.fuzz.target import parsed, shown

ROUND = 100  # requests for each method
SHOWN = 3  # failures of one sort


def main() -> int:
    """Attack, or send one request again; give the exit code."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=int(os.environ.get("FUZZ_COUNT", "10000")))
    parser.add_argument(
        "--seed", type=int, default=int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(2**32))
    )
    parser.add_argument("--assets", type=int, default=2000, help="real assets to begin with")
    parser.add_argument("--only", default="")
    parser.add_argument("--method", default="")
    parser.add_argument("--request", type=bytes.fromhex, default=b"")
    options = parser.parse_args()
    kept = Path("build/fuzz")
    kept.mkdir(parents=True, exist_ok=True)
    with temporary_folder() as folder:
        log = folder / "server.log"
        try:
            with EmbeddedPostgres(folder / "pg", fsync=False) as postgres:
                with attack(postgres.url, folder, options.assets) as attacked:
                    if options.method:
                        return again(attacked, options.method, options.request)
                    failed = storm(attacked, options)
                audit.check(postgres.url)
                say("the change log is whole, the tables are what it says, and all live records keep the rules")
        finally:
            if log.exists():
                shutil.copy(log, kept)
    return 1 if failed else 0


def say(text: str) -> None:
    """Print at once: an attack takes a while."""
    print(text, flush=True)  # noqa: T201 - it is for the terminal


def storm(attacked: Attack, options: argparse.Namespace) -> bool:
    """Send everything, in rounds; tell whether anything failed."""
    attacked.target.methods[:] = [method for method in attacked.target.methods if options.only in method.full_name]
    methods = attacked.target.methods
    say(f"seed {options.seed}: {options.count} requests for each of {len(methods)} methods")
    source = random.Random(options.seed)
    sorts: Counter[tuple[str, str]] = Counter()
    begun, sent = time.monotonic(), 0
    while sent < options.count:
        size = min(ROUND, options.count - sent)
        for failure in attacked.round(source, size):
            tell(failure, sorts)
        sent += size
        rate = sent * len(methods) / (time.monotonic() - begun)
        say(
            f"{sent:6} of {options.count} per method, {rate:5.0f} a second, {attacked.memory[-1] >> 20} MiB, {sorts.total()} failed"
        )
    for method in methods:
        codes = ", ".join([f"{code} {count}" for code, count in attacked.codes[method.full_name].most_common()])
        say(f"{method.full_name}: {codes}")
    growth = attacked.growth()
    say(f"the server's memory grew by {growth / 2**20:.1f} MiB after the first third; {GROWTH >> 20} may be")
    return sorts.total() > 0 or growth > GROWTH or not attacked.process.runs


def tell(failure: Failed, sorts: Counter[tuple[str, str]]) -> None:
    """Show a failure, unless there were enough of its sort."""
    sort = failure.method.full_name, failure.why[:20]
    sorts[sort] += 1
    if sorts[sort] <= SHOWN:
        say(f"FAILED {failure}")


def again(attacked: Attack, name: str, request: bytes) -> int:
    """Send one request and show what comes back."""
    (method,) = [method for method in attacked.target.methods if method.full_name == name]
    answer = attacked.target.call(method, request)
    why = attacked.judged(method, answer)
    say(f"{shown(method, request)}\n{answer.code.name} {answer.text}")
    for data in answer.messages:
        say(MessageToString(parsed(method.output_type, data)))  # type: ignore[arg-type]
    say(f"FAILED {why}\n{attacked.process.log}" if why else "as it should be")
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
