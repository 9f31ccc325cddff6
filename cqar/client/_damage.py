"""Tell damage, which every process of the host meets and the syncer repairs, from what one process itself is not able to do."""

from __future__ import annotations

import errno
from pathlib import Path

from cqar.errors import CqarError, SnapshotError, UnavailableError

# Limits and rights of the process that met them: another process may read the same file well.
_OWN = frozenset(
    {errno.EACCES, errno.EAGAIN, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOLCK, errno.ENOMEM, errno.EPERM}
)


def refused(path: Path, error: Exception, reason: str) -> CqarError:
    """Return what to raise because a file cannot be opened or read.

    UnavailableError (OWN_LIMIT) for limits and rights of this process, and SnapshotError with a reason for damage.
    """
    if is_own(error):
        return UnavailableError(
            f"{path}: this process cannot open it: {error}; see its rights and limits (ulimit -a), other processes may be well",
            reason="OWN_LIMIT",
        )
    return SnapshotError(f"{path}: cannot be opened: {error}", reason=reason, path=path)


def is_own(error: Exception) -> bool:
    """Report whether an error of the system, of LMDB or of `refused` is about a limit of this process, and not about the file."""
    if isinstance(error, UnavailableError):
        return error.reason == "OWN_LIMIT"
    code = error.errno if isinstance(error, OSError) else getattr(error, "code", None)
    return code in _OWN
