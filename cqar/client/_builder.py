"""Building generations in another process: `python -m cqar.client._builder`.

It ends with whoever started it, runs at a lower priority, and tells how far it is on its standard output.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from cqar.client import _tail
from cqar.client._generation import Generation, Progress
from cqar.errors import InternalError, SnapshotError, UnavailableError

NICE = 5


class _Line(msgspec.Struct, omit_defaults=True):
    """A line of the output."""

    what: str = ""
    part: float = 0.0
    error: str = ""
    reason: str = ""


def build(snapshot: Path, place: Callable[[int], Path], progress: Progress | None, cancelled: threading.Event) -> str:
    """Build the generation of a snapshot; give its name. Raises SnapshotError if the snapshot is damaged."""
    from cqar import snapshot as snapshots  # noqa: PLC0415

    found = snapshots.load_manifest(snapshot)
    target = place(found.manifest.position)
    if not any(found.rows.values()):  # the start of a log: not worth a process
        from cqar.client import _build  # noqa: PLC0415

        _build.build(target, found, progress or (lambda _what, _part: None))
        return target.name
    _run(["snapshot", str(snapshot), str(target)], progress, cancelled)
    return target.name


def compacted(
    generation: Path, tail: Path, length: int, place: Callable[[int], Path], cancelled: threading.Event
) -> str:
    """Build the generation that a generation and a part of its tail amount to; give its name."""
    data = tail.read_bytes()[:length]
    frames, end = _tail.whole(data, Generation(generation).head.position)
    if not frames or end != length:
        raise SnapshotError(f"{tail}: cannot be read to its end", reason="BAD_TAIL", path=tail)
    target = place(frames[-1].batch.position)
    _run(["compact", str(generation), str(tail), str(length), str(target)], None, cancelled)
    return target.name


def _run(arguments: list[str], progress: Progress | None, cancelled: threading.Event) -> None:
    # The same modules must be found, however this process found them; grpc is of no use there.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([each for each in sys.path if each])}
    process = subprocess.Popen(  # noqa: S603  (our own module)
        [sys.executable, "-m", "cqar.client._builder", *arguments],
        stdin=subprocess.PIPE,  # it ends when this ends, with us
        stdout=subprocess.PIPE,
        env=environment,
    )
    failure: _Line | None = None
    with process:
        assert process.stdout is not None
        stop = threading.Thread(target=_stop_when, args=(cancelled, process), daemon=True)
        stop.start()
        for line in process.stdout:
            told = msgspec.json.decode(line, type=_Line)
            if told.error:
                failure = told
            elif progress is not None:
                progress(told.what, told.part)
    cancelled_now = cancelled.is_set()
    if failure is not None:
        raise SnapshotError(failure.error, reason=failure.reason)
    if cancelled_now:
        raise UnavailableError("building was cancelled", reason="CANCELLED")
    if process.returncode:
        raise InternalError(f"the builder ended with {process.returncode}; its standard error tells more")


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
        if what == "snapshot":
            from cqar import snapshot as snapshots  # noqa: PLC0415
            from cqar.client import _build  # noqa: PLC0415

            _build.build(Path(rest[1]), snapshots.verify(Path(rest[0])), progress)
        else:
            generation, tail, length, target = Path(rest[0]), Path(rest[1]), int(rest[2]), Path(rest[3])
            _compact(Generation(generation), tail.read_bytes()[:length], target, progress)
    except SnapshotError as error:
        _tell(_Line(error=error.message, reason=error.reason))
        return 1
    except OSError as error:
        _tell(_Line(error=str(error), reason="BUILD"))
        return 1
    return 0


def _compact(generation: Generation, data: bytes, target: Path, progress: Progress) -> None:
    from cqar.client._compact import compact  # noqa: PLC0415
    from cqar.client._recent import Recent  # noqa: PLC0415
    from cqar.client._replica import Replica  # noqa: PLC0415

    replica = Replica(generation, Recent())
    committed_at = None
    for frame, _ in _tail.frames(data, replica.position):
        replica.apply(frame.batch, frame.unread)
        committed_at = frame.batch.committed_at
    compact(target, replica, progress, created_at=committed_at)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
