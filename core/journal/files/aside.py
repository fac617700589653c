"""Quarantine: damaged files are kept aside for a person to look at, a bounded number of them.

For files of wrong bytes alone. What could not be *read* is not known to be damaged and stays in its place: here it would be
deleted as soon as eight others came after it.
"""

from __future__ import annotations

from ...disk import Disk
from ...errors import AlreadyExists, Missing, Refused, Unavailable
from . import names
from .settings import FileJournalSettings


def quarantine(disk: Disk, directory: str, name: str, settings: FileJournalSettings) -> str | None:
    """Move a file aside under its own or the next free name; None where even that fails (it is then left)."""
    aside = names.join(directory, names.QUARANTINE)
    try:
        disk.make_directory(aside)
        kept = disk.list(aside)
        target, attempt = name, 0
        while target in kept:
            attempt += 1
            target = f"{name}.{attempt}"
        disk.rename(names.join(directory, name), names.join(aside, target))
        disk.sync_directory(aside)
        disk.sync_directory(directory)
        for old in sorted([*kept, target])[: -settings.quarantine_max]:
            disk.remove(names.join(aside, old))
        return names.join(names.QUARANTINE, target)
    except (Unavailable, Missing, Refused, AlreadyExists):
        return None
