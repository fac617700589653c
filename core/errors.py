"""Failures, named for what the caller does next (wal3, SlateDB RFC 0007).

HeadwaterError
├── Refused       the request is wrong; repeating it cannot help
│   ├── Misconfigured   … and it stands in the configuration (exit status 78)
│   ├── AlreadyExists   create-if-absent found the key taken
│   ├── Missing         there is no such key, file or partition
│   └── OffsetOutOfRange the offset was retired, or was never written
├── Unavailable   nothing happened; the same call may be repeated after a pause
├── Unknown       it may or may not have happened; repeat only with the same identity
├── Corrupt       stored bytes are not those that were written
└── Closed        this object was shut down or fenced; open a new one

Messages are lower-case, without a full stop, and give path, key and offset. `hint` names the command that helps.
Retry code catches `Unavailable` and nothing wider.
"""


class HeadwaterError(Exception):
    """Base of all that Headwater raises on purpose."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} (try: {self.hint})" if self.hint else message


class Refused(HeadwaterError):
    """The request is wrong; repeating it cannot help."""


class Misconfigured(Refused):
    """A setting is wrong; the message gives file, key and the nearest valid key."""


class AlreadyExists(Refused):
    """Create-if-absent found the key taken."""


class Missing(Refused):
    """There is no such key, file or partition."""


class OffsetOutOfRange(Refused):
    """The offset was retired by retention, lost in a declared gap, or was never written."""


class Unavailable(HeadwaterError):
    """Nothing happened; the same call may be repeated after a pause."""


class Unknown(HeadwaterError):
    """It may or may not have happened; repeat only with the same identity and the same bytes."""


class Corrupt(HeadwaterError):
    """Stored bytes are not those that were written; stop using them, take them from a copy."""


class Closed(HeadwaterError):
    """This object was shut down or fenced; open a new one."""
