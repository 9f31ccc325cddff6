"""Building generations, and reading object storage, in another process: `python -m cqar.client._builder`.

It ends with whoever started it, runs at a lower priority, and tells how far it is on its standard output.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from cqar.client import _tail, _trust
from cqar.client._folder import Folder
from cqar.client._generation import Generation, Progress
from cqar.errors import InternalError, InvalidError, SnapshotError, UnavailableError

NICE = 5
LOCATION = "CQAR_BUILDER_LOCATION"  # a URI may hold secrets: all accounts can read another process's arguments
_ERRORS = {each.__name__: each for each in (SnapshotError, UnavailableError, InvalidError)}


class _Line(msgspec.Struct, omit_defaults=True):
    """A line of the output."""

    what: str = ""
    part: float = 0.0
    made: str = ""  # name of the generation, a path, or JSON
    error: str = ""
    kind: str = ""  # of the error
    reason: str = ""


def build(snapshot: Path, folder: Folder, progress: Progress | None, cancelled: threading.Event) -> str:
    """Build the generation of a snapshot; give its name. Raises SnapshotError if the snapshot is damaged."""
    from cqar import snapshot as snapshots  # noqa: PLC0415

    found = snapshots.load_manifest(snapshot)
    if any(found.rows.values()):
        return _run(["snapshot", str(snapshot), str(folder.path)], progress, cancelled, _trusting(folder))
    from cqar.client import _build  # noqa: PLC0415

    target = folder.new_generation(found.manifest.position)  # the start of a log: not worth a process
    _build.build(target, found, progress or (lambda _what, _part: None))
    return target.name


def compacted(generation: str, tail: str, length: int, folder: Folder, cancelled: threading.Event) -> str:
    """Build the generation that a generation and a part of its tail amount to; give its name."""
    return _run(["compact", generation, tail, str(length), str(folder.path)], None, cancelled, _trusting(folder))


def _trusting(folder: Folder) -> dict[str, str]:
    return {_trust.VARIABLE: ",".join([str(each) for each in sorted(folder.trusted)])}


def run_on(location: str, arguments: list[str], progress: Progress | None, cancelled: threading.Event) -> str:
    """Do what `_published` wants of object storage; give what came of it."""
    return _run(arguments, progress, cancelled, {LOCATION: location})


def _run(
    arguments: list[str],
    progress: Progress | None,
    cancelled: threading.Event,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> str:
    # The same modules must be found, however this process found them; grpc is of no use there. But not what lies in the working
    # directory, where others may write: neither -m (by -P) nor an empty entry leads there. CQAR itself may have come from there.
    home = str(Path(__file__).resolve().parents[2])
    path = [*[each for each in sys.path if each], home]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), **variables}
    process = subprocess.Popen(  # noqa: S603  (our own module)
        [sys.executable, "-P", "-m", "cqar.client._builder", *arguments],
        stdin=subprocess.PIPE,  # it ends when this ends, with us
        stdout=subprocess.PIPE,
        env=environment,
    )
    last = _Line()
    with process:
        assert process.stdout is not None
        stop = threading.Thread(target=_stop_when, args=(cancelled, process), daemon=True)
        stop.start()
        for line in process.stdout:
            last = msgspec.json.decode(line, type=_Line)
            if progress is not None and last.what:
                progress(last.what, last.part)
    if last.error:
        raise _ERRORS[last.kind](last.error, reason=last.reason)
    if cancelled.is_set():
        raise UnavailableError("building was cancelled", reason="CANCELLED")
    if process.returncode or not last.made:
        raise InternalError(f"the builder ended with {process.returncode}; its standard error tells more")
    return last.made


def _stop_when(cancelled: threading.Event, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        if cancelled.wait(0.2):
            process.kill()
            return


def _end_with_parent() -> None:
    os.read(0, 1)  # sys.stdin has a lock, which would be held when the interpreter ends
    os._exit(3)


def _tell(line: _Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def _main(arguments: list[str]) -> int:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(NICE)
    what, *rest = arguments

    def progress(what: str, part: float) -> None:
        _tell(_Line(what=what, part=part))

    try:
        made = _make(what, rest, progress)
    except (SnapshotError, UnavailableError, InvalidError) as error:
        _tell(_Line(error=error.message, reason=error.reason, kind=type(error).__name__))
        return 1
    except OSError as error:
        _tell(_Line(error=str(error), reason="BUILD", kind=SnapshotError.__name__))
        return 1
    _tell(_Line(made=made))
    return 0


def _make(what: str, rest: list[str], progress: Progress) -> str:
    if what in {"offers", "fetch"}:
        from cqar.client import _published  # noqa: PLC0415

        location = os.environ[LOCATION]
        if what == "offers":
            return msgspec.json.encode(_published.offers_here(location, rest[0] or None)).decode()
        return str(_published.fetched_here(location, rest[0], rest[1], Path(rest[2]), progress))
    folder = Folder(Path(rest[-1]))
    if what == "snapshot":
        return _build_snapshot(Path(rest[0]), folder, progress).name
    tail = folder.tail(*rest[:2]).read(0, int(rest[2]))
    return _compact(folder.generation(rest[0]), tail, folder, progress).name


def _build_snapshot(path: Path, folder: Folder, progress: Progress) -> Path:
    from cqar import snapshot as snapshots  # noqa: PLC0415
    from cqar.client import _build  # noqa: PLC0415

    snapshot = snapshots.verify(path)
    target = folder.new_generation(snapshot.manifest.position)
    _build.build(target, snapshot, progress)
    return target


def _compact(generation: Generation, data: bytes, folder: Folder, progress: Progress) -> Path:
    from cqar.client._compact import compact  # noqa: PLC0415
    from cqar.client._recent import Recent  # noqa: PLC0415
    from cqar.client._replica import Replica  # noqa: PLC0415

    replica = Replica(generation, Recent())
    committed_at = None
    for frame, _ in _tail.frames(data, replica.position):
        replica.apply(frame.batch, frame.unread)
        committed_at = frame.batch.committed_at
    target = folder.new_generation(replica.position)
    compact(target, replica, progress, created_at=committed_at)
    return target


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
