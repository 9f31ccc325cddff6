"""Turns single bits of a generation's files and asks everything: `python -m tests.attacks.flips FOLDER SEED COUNT index|client`.

Each bit is turned while a process of its own has the files open, as memory or a disk would do it under a trading service, and that
process asks all questions to which the answers are known. It prints how many of the bits were of no matter, were told, gave an
answer that is another, or killed the process.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import random
import struct
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb  # noqa: F401  (once, rather than in each child)
import pyarrow as pa  # noqa: F401

from cqar.client._client import Client
from cqar.client._generation import INDEX, TABLES, Generation
from cqar.client._index import Index
from cqar.client._recent import Recent
from cqar.client._replica import Replica
from cqar.client._view import View
from cqar.errors import CqarError, NotFoundError
from cqar.model import KINDS

PAGE = 4096
Question = tuple[str, tuple[Any, ...]]
TOLD = "told"


def of_index(index: Index) -> list[Question]:
    """Return every read of an index by a key that is in it, some by keys that are not, and the lists."""
    asked: list[Question] = [("keys", (name,)) for name in KINDS]
    for name, kind in KINDS.items():
        for key in index.keys(name):
            record: Any = index.record(name, key)
            asked += [("record", (name, key)), ("record", (name, f"{key}~"))]
            asked += [("posting", (p.name, words)) for p in kind.postings for words in p.words(record)]
            if name == "asset":
                asked += [("gate", (key,)), ("posting", ("flag_by_asset", (key,)))]
    return asked


def of_client(client: Client) -> list[Question]:
    """Return what a service asks of each asset, ticker and group."""
    index, asked = client._replica.generation.index, list[Question]()
    for key in index.keys("asset"):
        asked += [(what, (key,)) for what in ("asset", "check", "flags", "deployments", "identifiers", "relationships")]
        asset: Any = index.record("asset", key)
        asked.append(("resolve", (asset.symbol,)))
    for key in index.keys("deployment"):
        deployment: Any = index.record("deployment", key)
        asked.append(("resolve_address", (deployment.chain_id, deployment.contract_address or "native")))
    for key in index.keys("group"):
        group: Any = index.record("group", key)
        asked.append(("group", (group.canonical_symbol,)))
    tables = [("sql", (f"SELECT count(*), bit_xor(hash(t)) FROM {kind.table} t",)) for kind in KINDS.values()]
    return [*asked, ("list_chains", ()), ("list_venues", ()), *tables]


class Asker:
    """Asks the index, or a client over it."""

    def __init__(self, folder: Path, what: str) -> None:
        self._index = Index(folder / INDEX) if what == "index" else None
        if self._index is None:
            self._client = Client(View(None, Replica(Generation(folder), Recent(1))))

    def questions(self) -> list[Question]:
        """Return all there are."""
        return of_client(self._client) if self._index is None else of_index(self._index)

    def ask(self, question: Question) -> Any:
        """Return an answer that can be compared: of errors the kind, of a doubt that it was told."""
        what, arguments = question
        try:
            if self._index is not None:
                found = getattr(self._index, what)(*arguments)
                return list(found) if isinstance(found, Iterator) else found
            if what == "check":
                verdict = self._client.check_tradable(*arguments, max_age=math.inf)
                return TOLD if verdict.decision == "UNKNOWN" else (verdict.decision, verdict.flags)
            if what == "sql":
                return self._client.sql(*arguments).fetchall()
            return getattr(self._client, what)(*arguments)
        except (NotFoundError, LookupError) as error:
            return type(error).__name__
        except CqarError as error:
            # What the truth raises too is an answer; what is about damage says so.
            return TOLD if error.reason in {"BAD_INDEX", "BAD_TABLES", "BAD_GENERATION", "SQL"} else error.reason


def in_child(run: Callable[[], Any]) -> Any:
    """Return what a function returns in a forked child, or the number of the signal that killed that."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(run(), pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else pickle.loads(data)


def place(data: bytes, source: random.Random, *, pages: bool) -> int:
    """Return the offset of a byte: of a file with pages of LMDB mostly in their headers, and in those of their entries."""
    if not pages or (chance := source.random()) < 0.3:
        return source.randrange(len(data))
    start = source.randrange(len(data) // PAGE) * PAGE
    lower: int = struct.unpack_from("<H", data, start + 12)[0]
    entries = (lower - 16) // 2
    if chance < 0.5 or not 0 < entries < PAGE // 2:
        return start + source.randrange(16)
    pointer = start + 16 + 2 * source.randrange(entries)
    if chance < 0.6:
        return pointer + source.randrange(2)
    entry: int = struct.unpack_from("<H", data, pointer)[0]
    return min(start + entry + source.randrange(40), len(data) - 1)  # its header, and its key


def flipped(path: Path, at: int, bit: int, then: Callable[[], Any]) -> Any:
    """Turn a bit, in the very file, while something is done, and turn it back."""

    def turn() -> None:
        with path.open("r+b", buffering=0) as file:
            byte = os.pread(file.fileno(), 1, at)
            os.pwrite(file.fileno(), bytes([byte[0] ^ bit]), at)

    turn()
    try:
        return then()
    finally:
        turn()


def main(folder: Path, seed: int, count: int, what: str) -> None:
    """Turn so many bits, one after the other."""

    def truth() -> list[tuple[Question, Any]]:
        asker = Asker(folder, what)
        return [(question, asker.ask(question)) for question in asker.questions()]

    known = in_child(truth)
    source, account = random.Random(seed), {"harmless": 0, "told": 0, "wrong": list[str](), "killed": list[str]()}
    contents = {name: (folder / name).read_bytes().rstrip(b"\0") for name in (INDEX, TABLES)}

    def check(name: str) -> tuple[list[str], bool]:
        try:
            asker = Asker(folder, what)
        except CqarError:
            return [], True
        # What is read of one file does not depend on the other.
        asked = [each for each in known if (each[0][0] == "sql") is (name == TABLES)]
        answers = [(question, right, asker.ask(question)) for question, right in asked]
        wrong = [
            f"{question}: {found}, not {right}" for question, right, found in answers if found not in (right, TOLD)
        ]
        return wrong, any(found != right for _, right, found in answers)

    began = time.monotonic()
    for _ in range(count):
        name = TABLES if what == "client" and source.random() < 0.2 else INDEX
        at, bit = place(contents[name], source, pages=name == INDEX), 1 << source.randrange(8)
        outcome = flipped(folder / name, at, bit, partial(in_child, partial(check, name)))
        if isinstance(outcome, int):
            account["killed"].append(f"{name} {at} {bit}: signal {outcome}")  # type: ignore[attr-defined]
            continue
        wrong, told = outcome
        account["wrong"] += [f"{name} {at} {bit}: {each}" for each in wrong[:3]]  # type: ignore[operator]
        if not wrong:
            account["told" if told else "harmless"] += 1  # type: ignore[operator]
    print(json.dumps(account | {"questions": len(known), "seconds": time.monotonic() - began}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
