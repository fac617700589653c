"""A unix socket bound to its path: what an ended process left there is replaced, what somebody listens on is not."""

from __future__ import annotations

import contextlib
import errno
import socket
import stat
from pathlib import Path


def bind_unix(path: str, *, backlog: int) -> socket.socket:
    """Who may connect is the directory's affair; the socket itself is for its owner and group. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        sock.bind(path)
        Path(path).chmod(0o660)
        sock.setblocking(False)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _clear(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            raise OSError(errno.EEXIST, "something that is no socket is in the way")
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
        else:
            raise OSError(errno.EADDRINUSE, "somebody listens there")
        finally:
            probe.close()
