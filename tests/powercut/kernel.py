"""The system calls behind mount, umount, losetup and unshare, without a process for each.

Rule: a loop device is attached with AUTOCLEAR, so the last unmount or close takes it away; nothing here touches
a mount or a device that this process did not make.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import errno
import fcntl
import importlib.util
import os
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_MS_REC, _MS_PRIVATE = 1 << 14, 1 << 18
_CLONE_NEWNS = 0x00020000
_MNT_DETACH = 2
_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4
# struct loop_config: fd, block size, then loop_info64 with lo_flags after five u64 and three u32
_LOOP_CONFIG = struct.Struct("=II 5Q 3I I 64s 64s 32s 2Q 8Q")
_BUSY_SECONDS = 10.0

_libc = ctypes.CDLL(None, use_errno=True)


class Requirement(NamedTuple):
    """What is missing; `installable`: `make setup-test` could have brought it."""

    reason: str
    installable: bool = False


def missing() -> Requirement | None:
    """Why power cuts cannot be tested on this machine; None where they can."""
    if os.geteuid() != 0:
        return Requirement("power cuts under ext4 need root (mount, loop devices)")
    for node in ("/dev/fuse", "/dev/loop-control"):
        try:
            os.close(os.open(node, os.O_RDWR))
        except OSError as error:
            return Requirement(f"{node}: {error.strerror}")
    for program in ("mkfs.ext4", "debugfs", "e2fsck", "setpriv"):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            return Requirement(f"{program} is not installed")
    if importlib.util.find_spec("mfusepy") is None:
        return Requirement("mfusepy is not installed", installable=True)
    if ctypes.util.find_library("fuse3") is None:
        return Requirement("libfuse3 is not installed", installable=True)
    return None


def own_mounts() -> None:
    """From now on what this process mounts is seen by it and its children alone, and ends with the last of them."""
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "make mounts private")


def mount(image: Path, place: Path, *, options: str = "") -> None:
    """ext4 of an image file. Raises OSError where the kernel refuses it."""
    descriptor, name = _attach(image)
    try:
        status = _libc.mount(name.encode(), bytes(place), b"ext4", 0, options.encode())
        _check(status, f"mount {image}")
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def mounted(image: Path, place: Path) -> Iterator[None]:
    mount(image, place)
    try:
        yield
    finally:
        unmount(place)


def detach(place: Path) -> None:
    """At once, whoever uses it; nothing happens where nothing is mounted."""
    _libc.umount2(bytes(place), _MNT_DETACH)


def unmount(place: Path) -> None:
    """Waits for a user that is just leaving; detaches where it stays busy, and says so."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while _libc.umount2(bytes(place), 0) != 0:
        problem = ctypes.get_errno()
        if problem != errno.EBUSY or time.monotonic() > deadline:
            _libc.umount2(bytes(place), _MNT_DETACH)
            raise OSError(problem, f"umount {place}: {os.strerror(problem)}")
        time.sleep(0.01)


def _attach(image: Path) -> tuple[int, str]:
    """A loop device of our own over a file; the descriptor keeps it until it is mounted."""
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        while True:
            name = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            device = os.open(name, os.O_RDWR | os.O_CLOEXEC)
            fields = [backing, 0, *[0] * 8, _LO_FLAGS_AUTOCLEAR, b"", b"", b"", *[0] * 10]
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, _LOOP_CONFIG.pack(*fields))
                return device, name
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:  # EBUSY: another process was quicker
                    raise
    finally:
        os.close(backing)
        os.close(control)


def _check(status: int, action: str) -> None:
    if status != 0:
        problem = ctypes.get_errno()
        raise OSError(problem, f"{action}: {os.strerror(problem)}")
