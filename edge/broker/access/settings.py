"""Who may connect and do what: the section [edge.access]. Values only; the files are read by `access.py`."""

from __future__ import annotations

import msgspec

from ....core.errors import Misconfigured
from ....core.units import Duration


class AccessSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    password_file: str = ""
    """Users and hashes, made by `headwater edge passwd FILE USER`; Mosquitto's file as it is. Read again on SIGHUP."""
    acl_file: str = ""
    """What users may publish and read: *.toml in our form, else Mosquitto's acl_file. Empty: everything. SIGHUP as well."""
    verification_threads: int = 1
    """Passwords verified at once; one leaves a core of a small board to the messages, and each takes 7 MiB meanwhile."""
    verifications_waiting_max: int = 256
    """Clients waiting for one; beyond it they are told that the server is busy. At 50 ms each these are 13 seconds."""
    remember: Duration = Duration(600)
    """How long an answer is remembered (as a keyed hash, in memory): a reconnect storm costs one verification a user."""
    guesses_per_minute: int = 30
    """Wrong passwords of one address (IPv6: /64), each counted once while it is remembered; beyond it who is there is told
    that the server is busy unless its answer is remembered. A site of a hundred devices with an old password is through in
    minutes. 0: any number."""

    def check(self) -> None:
        if not 1 <= self.verification_threads <= 16:
            raise Misconfigured("edge.access.verification_threads must be 1 to 16")
        if self.guesses_per_minute < 0:
            raise Misconfigured("edge.access.guesses_per_minute must be at least 0")
        if self.verifications_waiting_max < 1:
            raise Misconfigured("edge.access.verifications_waiting_max must be at least 1")
