"""A file system of one's own: ext4 on a loop device, so that the block device counts nobody else's writes.

Needs root and loop devices; where they are not to be had the directory itself is measured, beside whoever else writes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

SIZE_BYTES = 2 << 30  # sparse; an edge's log takes a few hundred MiB of it


@contextlib.contextmanager
def own_file_system(directory: Path) -> Iterator[Path]:
    """A fresh, empty one for each contender, or `directory`."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        yield directory
        return
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        image, place = Path(folder) / "image", Path(folder) / "mount"
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        # nothing is left for the kernel to initialise behind our back
        now = ("-E", "lazy_itable_init=0,lazy_journal_init=0")
        try:
            _run("mkfs.ext4", "-q", "-F", *now, str(image))
            _run("mount", "-o", "loop,noatime", str(image), str(place))
        except OSError as error:
            print(f"  no file system of our own ({error}): others' writes are counted too")
            yield directory
            return
        try:
            yield place
        finally:
            subprocess.run(["umount", "-l", str(place)], capture_output=True)


def settle(place: Path) -> None:
    """What was written and not synced yet reaches the device: the kernel would bring it there within half a minute."""
    subprocess.run(["sync", "-f", str(place)], capture_output=True)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{words[0]}: {done.stderr.strip()}")
