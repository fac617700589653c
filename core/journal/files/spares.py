"""The spares that an earlier life left: those that are whole are used again, the rest makes room."""

from __future__ import annotations

from ...disk import Disk
from ...errors import HeadwaterError
from . import names
from .appender import Appender
from .settings import FileJournalSettings


def take_spares(
    disk: Disk, directory: str, settings: FileJournalSettings, appender: Appender
) -> list[str]:
    """Into `appender.spares`. Returns what could not be removed, as warnings."""
    warnings = []
    for name in disk.list(directory):
        if names.spare_number(name) is None:
            continue
        path = names.join(directory, name)
        whole = _size_of(disk, path) == settings.segment_bytes
        if whole and appender.recycling and len(appender.spares) < settings.spares:
            appender.spares.append(name)
            continue
        try:
            disk.remove(path)
        except HeadwaterError as error:
            warnings.append(str(error))
    return warnings


def _size_of(disk: Disk, path: str) -> int | None:
    try:
        file = disk.open(path, read_only=True)
    except HeadwaterError:
        return None
    try:
        return file.size()
    except HeadwaterError:
        return None
    finally:
        file.close()
