"""Which clock a process reads: times of another start of the host, or of another time namespace, mean nothing to it."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACES = Path("/proc/self/ns")
_OFFSETS = Path("/proc/self/timens_offsets")
_NO_OFFSET = "0"


@cache
def clock_id() -> str:
    """Return what two processes have in common whose clocks show the same: the start of the host, and the offset of CLOCK_BOOTTIME.

    "" if that is not known: then no time that another process noted counts, for "not known" may be two different clocks.
    """
    try:
        boot, offset = _boot_id(), _offset()
    except (OSError, ValueError):
        return ""
    return f"{boot}/{offset}" if boot else ""


os.register_at_fork(after_in_child=clock_id.cache_clear)  # a child may begin in another time namespace


def _boot_id() -> str:
    if sys.platform == "darwin":
        import ctypes  # noqa: PLC0415  (needed there only)

        text, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
        found = ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", text, ctypes.byref(size), None, 0)
        return "" if found else text.value.decode()
    return BOOT_ID.read_text().strip()


def _offset() -> str:
    """Return by how much this process's CLOCK_BOOTTIME differs from the host's, as the kernel writes it."""
    try:
        own, childrens = [str((_NAMESPACES / name).readlink()) for name in ("time", "time_for_children")]
    except FileNotFoundError:
        return _NO_OFFSET  # a system without time namespaces
    if own != childrens:
        return own  # the offsets that can be read are those of processes to come
    for line in _OFFSETS.read_text().splitlines():
        clock, *offset = line.split()
        if clock == "boottime":
            return _NO_OFFSET if not any(map(int, offset)) else ".".join(offset)
    raise ValueError(f"{_OFFSETS}: says nothing of the boot time")


def difference(theirs: str) -> str | None:
    """Return why times that were noted by another clock do not count here, for people; None if they do."""
    own = clock_id()
    if not own or not theirs:
        whose = "this process" if not own else "the syncer"
        return f"no age is known: {whose} cannot tell which start of the host this is ({BOOT_ID} cannot be read)"
    if own == theirs:
        return None
    if own.partition("/")[0] == theirs.partition("/")[0]:
        return (
            "no age is known: the syncer's clock is another than this process's; run both in one time namespace"
            " (unshare --time, or a container with offsets of its own)"
        )
    return "no age is known: the times of the replica are of another start of this host, and no server was heard since"
