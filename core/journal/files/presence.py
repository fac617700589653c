"""Whether the device is there: asked before anything that cannot be read is given up for lost.

Bad sectors are few and the rest of the card works. Where nothing can be written either, the device is in trouble, or it is
gone and a mount point with nothing on it shows an empty directory: then nothing is lost, and what cannot be read is
asked for again. A full disk is there.

What was written is read again, from the medium: a device that takes writes and answers every read with an error is in
trouble as a whole, too. A full disk cannot be asked that.
"""

from __future__ import annotations

import contextlib

from ...disk import Disk, DiskFull
from ...errors import Refused, Unavailable
from . import names


def must_be_well(disk: Disk, directory: str, trouble: object) -> None:
    """Raises Unavailable where a small file can neither be written and read nor refused for want of space."""
    path = names.join(directory, names.PROBE)
    try:
        disk.remove(path)  # a probe that failed left it, and its being there proves nothing
        with contextlib.suppress(DiskFull):
            file = disk.create(path)
            try:
                file.write(0, names.PROBE.encode())
                file.sync()
                file.drop_cache()
                file.read(0, len(names.PROBE))
            finally:
                file.close()
        disk.remove(path)
    except (Unavailable, Refused) as error:
        raise Unavailable(f"{trouble}; and the disk refuses: {error}") from error
