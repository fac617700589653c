"""The door to the kernel's files: every path below /sys and /proc is opened through a SysRoot.

Tests root it in a fake tree. It says *why* nothing was read (absent, unreadable, not a number), since a reader turns that
into the quality of its sample. Knows nothing of what the files mean.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..core.errors import Missing, Refused, Unavailable

# sysfs attributes are at most one page; more is not an attribute.
ATTRIBUTE_BYTES_MAX = 4096
# The kernel prints at most a 64-bit number: 19 digits.
_INTEGER = re.compile(r"-?[0-9]{1,19}")


class SysRoot:
    def __init__(self, root: str | Path = "/") -> None:
        self._root = Path(root)

    def path(self, path: str) -> Path:
        """Where `path`, written as the kernel's documents write it ("/sys/class/hwmon"), lies here."""
        return self._root / path.lstrip("/")

    def entries(self, directory: str) -> list[str]:
        """The names in a directory, sorted; none where it does not exist or cannot be listed."""
        try:
            return sorted(entry.name for entry in self.path(directory).iterdir())
        except OSError:
            return []

    def text(self, path: str) -> str:
        """An attribute's text, stripped. Raises Missing, or Unavailable where the driver gives an error."""
        try:
            with self.path(path).open("rb") as file:
                found = file.read(ATTRIBUTE_BYTES_MAX)
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(f"{path} does not exist") from None
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror}") from None
        return found.decode(errors="replace").strip(" \t\n\0")

    def integer(self, path: str) -> int:
        """An attribute that is a number. Raises Missing, Unavailable, or Refused where it is not a number."""
        text = self.text(path)
        if not _INTEGER.fullmatch(text):
            raise Refused(f"{path} holds {text[:40]!r}, not a number")
        return int(text)

    def link_name(self, path: str) -> str | None:
        """The last part of where a symbolic link points, such as a device's bus address; None if no link."""
        try:
            return self.path(path).readlink().name
        except OSError:
            return None
