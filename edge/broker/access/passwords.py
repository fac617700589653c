"""The password file: one `user:hash` a line, and whether a password is the one that a hash was made of.

    $argon2id$v=19$m=7168,t=5,p=1$salt$hash     what `headwater edge passwd` writes (PHC string format, RFC 9106)
    $7$101$salt$hash                            Mosquitto 2: PBKDF2 with HMAC-SHA-512, 101 iterations by default
    $6$salt$hash                                Mosquitto 1: SHA-512 of password and salt, once

Salts and hashes of Mosquitto are padded Base64, those of PHC unpadded. Mosquitto's lines are verified as they stand, so
its file can be used unchanged; `passwd` replaces a user's line by an Argon2id one. Empty lines and # comments are allowed.

Comparison takes the same time whatever differs. Whoever has no line is verified against a line of the same cost as
the file's strongest (`stranger`), and whoever is refused has cost the strongest of each kind in the file, so that an
answer's time does not tell which users there are, nor which of them still have a weak line of Mosquitto's.
Knows nothing of threads: a verification takes tens of milliseconds on purpose, see `checking.py`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ....core.errors import Misconfigured

# OWASP's smallest setting of equal strength: a board with 512 MiB verifies two at once without noticing the memory.
ARGON_MEMORY_KIB = 7168
ARGON_TIME = 5
ARGON_LANES = 1
# What a file may ask of this machine for one verification; above it the line was not made for a device.
ARGON_MEMORY_KIB_MAX = 65_536
ARGON_TIME_MAX = 64
PBKDF2_ITERATIONS_MAX = 10_000_000
USER_BYTES_MAX = 512

_ARGON = re.compile(r"\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}\Z")  # fmt: skip


class Pbkdf2(NamedTuple):
    """Mosquitto's `$7$`; `iterations` 0 is its older `$6$`: one SHA-512 over password and salt."""

    iterations: int
    salt: bytes
    digest: bytes

    def matches(self, password: bytes) -> bool:
        if self.iterations:
            found = hashlib.pbkdf2_hmac("sha512", password, self.salt, self.iterations, 64)
        else:
            found = hashlib.sha512(password + self.salt).digest()
        return hmac.compare_digest(found, self.digest)


class Argon2(NamedTuple):
    text: str
    memory_kib: int
    time: int
    lanes: int

    def matches(self, password: bytes) -> bool:
        # only where a password file says so: argon2 and cffi are 3 MiB of memory
        from argon2.exceptions import VerificationError
        from argon2.low_level import Type, verify_secret

        try:
            return verify_secret(self.text.encode(), password, Type.ID)
        except VerificationError:
            return False


Hash = Pbkdf2 | Argon2


def make_hash(password: bytes, salt: bytes) -> str:
    """The Argon2id line for a new password. `salt`: 16 random bytes."""
    from argon2.low_level import Type, hash_secret

    return hash_secret(
        password,
        salt,
        time_cost=ARGON_TIME,
        memory_cost=ARGON_MEMORY_KIB,
        parallelism=ARGON_LANES,
        hash_len=32,
        type=Type.ID,
    ).decode()


def parse_hash(text: str) -> Hash:
    """Raises ValueError with what is wrong."""
    argon = _ARGON.match(text)
    if argon:
        memory, time, lanes = (int(argon[group]) for group in (1, 2, 3))
        if not 8 * lanes <= memory <= ARGON_MEMORY_KIB_MAX or not 1 <= time <= ARGON_TIME_MAX:
            raise ValueError(
                f"argon2id with m={memory},t={time},p={lanes} is beyond what a device verifies "
                f"(m at most {ARGON_MEMORY_KIB_MAX}, t at most {ARGON_TIME_MAX})"
            )
        return Argon2(text, memory, time, lanes)
    match text.split("$"):
        case ["", "6", salt, digest]:
            return Pbkdf2(0, _base64(salt), _digest(digest))
        case ["", "7", iterations, salt, digest] if iterations.isascii() and iterations.isdigit():
            if not 1 <= int(iterations) <= PBKDF2_ITERATIONS_MAX:
                raise ValueError(f"{iterations} iterations of PBKDF2")
            return Pbkdf2(int(iterations), _base64(salt), _digest(digest))
    raise ValueError("no hash of a kind that we know ($argon2id$, $7$, $6$)")


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("salt or hash is not Base64") from None


def _digest(text: str) -> bytes:
    digest = _base64(text)
    if len(digest) != 64:
        raise ValueError(f"a SHA-512 hash has 64 bytes, not {len(digest)}")
    return digest


def check_user(user: str) -> str:
    """A name that fits into a line of the file. Raises Misconfigured."""
    if not user or len(user.encode()) > USER_BYTES_MAX:
        raise Misconfigured(f"a user name has 1 to {USER_BYTES_MAX} bytes")
    if ":" in user or not user.isprintable() or user.strip() != user or user.startswith("#"):
        raise Misconfigured(f"user name {user!r}: no colon, control character, edge space, leading #")  # fmt: skip
    return user


def parse_passwords(text: str, *, source: str) -> dict[str, str]:
    """User -> hash as it is written, each checked. Raises Misconfigured with the line's number, never its content."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        user, colon, hashed = stripped.partition(":")
        if not colon or not user:
            raise Misconfigured(f"{source}:{number}: expected user:hash")
        if not hashed.startswith("$"):
            raise Misconfigured(
                f"{source}:{number}: the password of {user!r} is not hashed",
                hint=f"headwater edge passwd {source} {user}",
            )
        try:
            parse_hash(hashed)
        except ValueError as error:
            raise Misconfigured(f"{source}:{number}: user {user!r}: {error}") from None
        if user in found:
            raise Misconfigured(f"{source}:{number}: user {user!r} stands there twice")
        found[user] = hashed
    return found


class Passwords:
    """One reading of the file. Immutable: reloading makes another."""

    __slots__ = ("_lines", "_strongest", "stranger")

    def __init__(self, lines: Mapping[str, str]) -> None:
        self._lines = dict(lines)
        hashes = [parse_hash(line) for line in lines.values()]
        self._strongest = tuple(_strongest(hashes))
        self.stranger = _like(self._strongest)

    def __len__(self) -> int:
        return len(self._lines)

    def line(self, user: str) -> str:
        """The hash to verify against; of nobody where there is no such user, then `verifies` says no."""
        return self._lines.get(user, self.stranger)

    def verifies(self, line: str, password: bytes) -> bool:
        """Whether this is the password; slow. A refusal costs the same whosever the line is."""
        own = parse_hash(line)
        if own.matches(password) and line is not self.stranger:
            return True
        for strongest in self._strongest:
            if type(strongest) is not type(own):
                strongest.matches(password)
            elif isinstance(own, Pbkdf2) and isinstance(strongest, Pbkdf2):
                rest = strongest.iterations - own.iterations
                if rest > 0:
                    strongest._replace(iterations=rest).matches(password)
        return False


def _strongest(hashes: Sequence[Hash]) -> Iterator[Hash]:
    """Of each kind in the file; Argon2id first."""
    argons = [each for each in hashes if isinstance(each, Argon2)]
    if argons:
        yield max(argons, key=lambda each: each.memory_kib * each.time)
    others = [each for each in hashes if isinstance(each, Pbkdf2)]
    if others:
        yield max(others, key=lambda each: each.iterations)


def _like(strongest: Sequence[Hash]) -> str:
    """A hash of nothing, as costly as the file's most costly: a stranger must take as long as a user."""
    match strongest:
        case [Pbkdf2(iterations=iterations)]:
            salt = base64.b64encode(bytes(12)).decode()
            nobody = base64.b64encode(bytes(64)).decode()
            return f"$7${iterations}${salt}${nobody}" if iterations else f"$6${salt}${nobody}"
        case [Argon2(memory_kib=memory, time=time, lanes=lanes), *_]:
            pass
        case _:
            memory, time, lanes = ARGON_MEMORY_KIB, ARGON_TIME, ARGON_LANES
    return f"$argon2id$v=19$m={memory},t={time},p={lanes}${'A' * 22}${'A' * 43}"
