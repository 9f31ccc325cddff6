"""Run one PostgreSQL program for an owner process, and stop it when the owner says so or dies, by kill -9 too.

`cqar.server.postgres` runs this file as a script (python -I -S). It has one thread, so that fork, setuid and
PR_SET_PDEATHSIG are safe here when they are not in the owner. Everything is imported before the privileges go: root's
Python may be unreadable for the account that PostgreSQL runs under. Standard input is a socket to the owner: the guard
writes the process id, or "!" and why there is none; the owner writes a byte to ask for a stop; end of file: it died.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
from pathlib import Path

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # meant for the owner, which decides the order of shutdown
ASKED = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, None))  # fast, immediate, brutal
ORPHANED = ((signal.SIGINT, 1.0), (signal.SIGQUIT, 0.5), (signal.SIGKILL, None))
PR_SET_PDEATHSIG = 1
CONTROL = 0


def main(lock: int, owner: int, uid: int, gid: int, command: list[str]) -> int:
    """Run the command, which names its data folder after -D, as the account; return its exit code."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    watched = [CONTROL, *owner_end(owner)]
    try:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        if blocked := blocked_folder([command[0], command[command.index("-D") + 1]]):
            raise PermissionError(f"the account with user id {uid} may not enter {blocked}")
        pid, life = spawn(command, lock)
    except OSError as error:
        tell(f"!{error}")
        return 1
    tell(str(pid))
    if life not in select.select([life, *watched], [], [])[0]:
        for number, patience in ASKED if stop_is_asked() else ORPHANED:
            os.kill(pid, number)
            if select.select([life], [], [], patience)[0]:
                break
    return abs(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def owner_end(owner: int) -> list[int]:
    """Return what tells the owner's death even if a child that it forked holds the socket open."""
    try:
        descriptor = os.pidfd_open(owner)
    except (AttributeError, OSError):  # not Linux, or forbidden: the socket has to do
        return []
    return [descriptor] if os.getppid() == owner else []  # else the number is another process by now


def blocked_folder(paths: list[str]) -> Path | None:
    """Return the first folder on the way to one of the paths that this account may not enter."""
    parents = (parent for path in paths for parent in reversed(Path(path).parents))
    return next((parent for parent in parents if not os.access(parent, os.X_OK)), None)


def spawn(command: list[str], lock: int) -> tuple[int, int]:
    """Start the command; return its process id and a pipe that ends when it and all its children have gone."""
    life, held = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for number in (*IGNORED, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            if sys.platform == "linux":  # if the guard itself is killed
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
            os.dup2(os.open(os.devnull, os.O_RDONLY), CONTROL)
            os.set_inheritable(held, True)
            os.set_inheritable(lock, True)  # the folder stays locked as long as one process of PostgreSQL lives
            os.execv(command[0], command)  # noqa: S606 - no shell is wanted
        finally:
            os._exit(127)
    os.close(held)
    return pid, life


def tell(text: str) -> None:
    """Write to the owner, if there is one."""
    with contextlib.suppress(OSError):
        os.write(CONTROL, text.encode())


def stop_is_asked() -> bool:
    """Tell a request to stop from the owner's death."""
    with contextlib.suppress(OSError):
        return CONTROL in select.select([CONTROL], [], [], 0)[0] and bool(os.read(CONTROL, 1))
    return False


if __name__ == "__main__":
    lock_, owner_, uid_, gid_ = map(int, sys.argv[1:5])
    sys.exit(main(lock_, owner_, uid_, gid_, sys.argv[5:]))
