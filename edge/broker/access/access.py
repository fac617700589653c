"""The judgement on a CONNECT, and the rights of who was let in.

    a certificate that names a user    that user; CONNECT's user name and password are not looked at
    no user name                       anonymous, where the listener takes them, else 0x87 (3.1.1: 5)
    a user name, and a password file   verified, off the loop; wrong, unknown or none: 0x86 (3.1.1: 4)
    a user name, no password file      anonymous where the listener takes them: a name that nobody verified is none

Reloading reads both files whole before either is used; a wrong one raises Misconfigured and leaves all as it was. Who is
connected stays connected, also when a password changed; rights are the new ones at once (the broker asks again).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ....core.errors import Misconfigured
from ...mqtt.packets import Connect
from ...mqtt.reasons import Reason, Violation
from ..listening.door import Visitor
from .aclfile import parse_rules
from .checking import Busy, Checker
from .guessing import Guesses
from .rules import Rights, Rules
from .settings import AccessSettings

if TYPE_CHECKING:
    from .passwords import Passwords

Later = Callable[[Violation | None], None]


class Access:
    """`passwords` and `rules` are None where there is no file."""

    def __init__(self, settings: AccessSettings, checker: Checker) -> None:
        """Raises Misconfigured."""
        self._checker = checker
        self._guesses = Guesses(checker.clock)
        self._asking: Counter[str] = Counter()  # verifications under way, by host
        self.passwords: Passwords | None = None
        self.rules: Rules | None = None
        self.reload(settings)

    def reload(self, settings: AccessSettings) -> None:
        """Raises Misconfigured, and then nothing has changed."""
        passwords: Passwords | None = None
        rules: Rules | None = None
        if settings.password_file:
            from .passwords import Passwords, parse_passwords

            text = _read(settings.password_file, "edge.access.password_file")
            passwords = Passwords(parse_passwords(text, source=settings.password_file))
        if settings.acl_file:
            text = _read(settings.acl_file, "edge.access.acl_file")
            rules = parse_rules(text, source=settings.acl_file)
        self.passwords, self.rules = passwords, rules
        self._checker.change(
            threads=settings.verification_threads,
            waiting_max=settings.verifications_waiting_max,
            remember_s=float(settings.remember),
        )
        self._guesses.change(settings.guesses_per_minute)
        # one machine that guesses leaves three quarters of the queue to the others
        self._share = max(1, settings.verifications_waiting_max // 4)

    @property
    def verifications(self) -> int:
        return self._checker.verifications

    @property
    def waiting(self) -> int:
        return self._checker.waiting

    def rights(self, user: str | None, client_id: str) -> Rights | None:
        """None: everything is allowed."""
        return None if self.rules is None else self.rules.rights(user, client_id)

    def admits(self, visitor: Visitor, packet: Connect, later: Later) -> bool:
        """True: let in, `visitor.user` says who. False: `later` will be called. Raises Violation for CONNACK."""
        visitor.claimed = (packet.client_id, packet.user_name or "")
        if visitor.subject is not None:
            visitor.user = visitor.subject
            return True
        anonymous = visitor.door.settings.takes_anonymous
        user = packet.user_name
        if user is None or (self.passwords is None and anonymous):
            if not anonymous:
                raise Violation(Reason.NOT_AUTHORIZED, "a user name is needed here")
            return True
        if self.passwords is None or packet.password is None:
            raise _wrong()

        host = visitor.address.rpartition(":")[0]
        if (
            self._guesses.are_too_many(host)
            and self._checker.remembered(self.passwords, user, packet.password) is None
        ):
            raise Violation(Reason.SERVER_BUSY, "too many wrong passwords from one address")
        if host and self._asking[host] >= self._share:
            raise Violation(Reason.SERVER_BUSY, "too many passwords to verify from one address")

        def verified(is_right: bool) -> None:
            self._asking[host] -= 1
            if not self._asking[host]:
                del self._asking[host]
            if is_right:
                visitor.user = user
            else:
                self._guesses.count(host)
            later(None if is_right else _wrong())

        try:
            answer = self._checker.check(self.passwords, user, packet.password, verified)
        except Busy:
            raise Violation(Reason.SERVER_BUSY, "too many passwords to verify") from None
        if answer is False:
            raise _wrong()
        if answer:
            visitor.user = user
        if answer is None:
            self._asking[host] += 1
        return answer is not None

    def close(self) -> None:
        self._checker.close()


def _wrong() -> Violation:
    return Violation(Reason.BAD_USER_NAME_OR_PASSWORD, "wrong user name or password")


def _read(path: str, key: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise Misconfigured(f"{key} {path}: {said}") from None
