"""Whose files a replica is read from: those of this account, of root, and of the accounts that configuration names.

Whoever writes a replica's files decides what the trade gate answers. So each folder and file is looked at when it is opened, on its
descriptor where there is one, and refused if another account owns it or may write to it. None of it is done again while it is open.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from functools import cache
from pathlib import Path

from cqar.client import _arguments
from cqar.errors import InvalidError, SnapshotError

log = logging.getLogger(__name__)

VARIABLE = "CQAR_REPLICA_OWNER"
REASON = "REPLICA_OWNER"  # of the errors
FOLDER_MODE, FILE_MODE, PRIVATE_MODE = 0o755, 0o644, 0o600
_OTHERS = stat.S_IWGRP | stat.S_IWOTH

Owners = frozenset[int]
ANYONE: Owners = frozenset({-1})  # for commands that show what is there, and trust none of it


def owners(named: str | int | None = None) -> Owners:
    """Return the user ids of the accounts that are trusted.

    `named`, or else CQAR_REPLICA_OWNER, adds some to this account and root, as names or ids with commas between.
    Raises InvalidError for what is no account, or one that this host does not know.
    """
    if named is not None and (isinstance(named, bool) or not isinstance(named, str | int)):
        raise _arguments.refused(named, "replica_owner", "an account's name or its user id", "TYPE")
    given = os.environ.get(VARIABLE, "") if named is None else str(named)
    return frozenset({os.geteuid(), 0, *[_user_id(each.strip()) for each in given.split(",") if each.strip()]})


def _user_id(account: str) -> int:
    if account.isascii() and account.isdecimal():
        return int(account)
    import pwd  # noqa: PLC0415  (not on all systems)

    try:
        return pwd.getpwnam(account).pw_uid
    except KeyError:
        raise InvalidError(
            f"replica_owner: this host has no account {account[:100]!r}: give a name or a user id (replica_owner=, {VARIABLE})",
            reason=REASON,
            field="replica_owner",
        ) from None


def _account(user_id: int) -> str:
    import pwd  # noqa: PLC0415  (not on all systems)

    try:
        return f"{pwd.getpwuid(user_id).pw_name} ({user_id})"
    except KeyError:
        return f"user id {user_id}"


def fault(path: Path, found: os.stat_result, trusted: Owners) -> str | None:
    """Return why a folder or file is not trusted: what it is, whose, and what to do; None if it is."""
    if trusted is ANYONE:
        return None
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a symbolic link, in the place of a replica's file: remove it"
    if found.st_uid not in trusted:
        whose = _account(found.st_uid)
        return (
            f"{path} belongs to the account {whose}, who could make the trade gate answer anything: if that account"
            f" keeps this host's replica, name it (replica_owner=, {VARIABLE}); otherwise remove it or give another replica_dir"
        )
    if found.st_mode & _OTHERS:
        return f"{path} may be written by other accounts (mode {stat.S_IMODE(found.st_mode):04o}): chmod go-w it"
    return None


def refusal(text: str, path: Path) -> SnapshotError:
    """Return the error for a file that is not trusted."""
    return SnapshotError(text, reason=REASON, path=path)


def open_file(path: Path, trusted: Owners, flags: int = os.O_RDONLY) -> int:
    """Return a descriptor of a file; SnapshotError (REPLICA_OWNER) if it is not trusted, OSError if it cannot be opened."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISLNK(path.lstat().st_mode) and trusted is not ANYONE:
            raise refusal(f"{path} is a symbolic link, in the place of a replica's file: remove it", path)
    # Without O_NONBLOCK a pipe in its place would keep its reader waiting.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        text = fault(path, found, trusted) if stat.S_ISREG(found.st_mode) else f"{path} is no file: remove it"
        if text is not None:
            raise refusal(text, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_file(path: Path, trusted: Owners) -> os.stat_result:
    """Return what there is to know of a file that a library opens by its name; SnapshotError, OSError as `open_file`."""
    descriptor = open_file(path, trusted)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def check_folder(path: Path, trusted: Owners) -> None:
    """Raise SnapshotError (REPLICA_OWNER) for a folder that is not trusted, and OSError for one that cannot be opened."""
    found = path.lstat()
    if text := fault(path, found, trusted):
        raise refusal(text, path)


def make_folder(path: Path, trusted: Owners, mode: int = FOLDER_MODE) -> None:
    """Make a folder unless it is there.

    Raises InvalidError (REPLICA_OWNER) if one is there that is not trusted, and OSError if none can be made.

    One of this account that others may write to, as an umask of 0002 makes it, is closed to them: what they may have put into it is
    looked at for itself.
    """
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=mode)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        found = path.lstat()  # raises if it is not there
        text = fault(path, found, trusted)
        if text is None:
            raise
    else:
        try:
            found = os.fstat(descriptor)
            if found.st_uid == os.geteuid() and found.st_mode & _OTHERS:
                log.info("%s: closing it to other accounts, who could write there", path)
                os.fchmod(descriptor, stat.S_IMODE(found.st_mode) & ~_OTHERS)
                found = os.fstat(descriptor)
            text = fault(path, found, trusted)
        finally:
            os.close(descriptor)
    if text is not None:
        raise InvalidError(f"replica_dir: {text}", reason=REASON, field="replica_dir", path=path)


def check_base(folder: Path, trusted: Owners) -> None:
    """Raise InvalidError (REPLICA_OWNER) if the folder of all replicas is another account's; warn where others may replace one.

    Such a folder may be open to all with good reason: the volume of a pod is, where no one else is. What is in it is looked at for
    itself, so others can put one replica of this account into the place of another at most.
    """
    found = folder.stat()
    if found.st_uid not in trusted:
        text = fault(folder, found, trusted)
        raise InvalidError(f"replica_dir: {text}", reason=REASON, field="replica_dir", path=folder)
    for path in (folder.resolve(), *folder.resolve().parents):
        found = path.stat()
        if found.st_uid not in trusted or (found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX):
            _warn(path, folder)


@cache
def _warn(path: Path, folder: Path) -> None:
    log.warning(
        "%s: other accounts may write to %s, and so rename what is there; a folder that only this account may write to is safe",
        folder,
        path,
    )


def own(descriptor: int, folder: Path) -> None:
    """Give a file that root has made to the account whose folder it is in, so that a syncer of that account can go on with it."""
    if os.geteuid() == 0:
        found = folder.stat()
        if found.st_uid != 0:
            os.fchown(descriptor, found.st_uid, found.st_gid)
