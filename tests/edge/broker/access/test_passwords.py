"""The password file: hashes of every kind, strangers, the checker's memory and its bound."""

from __future__ import annotations

import base64
import hashlib
import queue
from collections.abc import Callable

import pytest

from headwater.core.clock import ManualClock
from headwater.core.errors import Misconfigured
from headwater.edge.broker.access.checking import Busy, Checker
from headwater.edge.broker.access.passwords import (
    Argon2,
    Passwords,
    Pbkdf2,
    check_user,
    make_hash,
    parse_hash,
    parse_passwords,
)

# cheap, so that the tests are: the parameters stand in the line
CHEAP = "$argon2id$v=19$m=8,t=1,p=1$"
SALT = bytes(range(16))


def pbkdf2(password: bytes, iterations: int = 101) -> str:
    """As mosquitto_passwd of Mosquitto 2 writes it."""
    digest = hashlib.pbkdf2_hmac("sha512", password, SALT[:12], iterations, 64)
    return f"$7${iterations}${base64.b64encode(SALT[:12]).decode()}${base64.b64encode(digest).decode()}"


def sha512(password: bytes) -> str:
    """As mosquitto_passwd of Mosquitto 1 wrote it."""
    digest = hashlib.sha512(password + SALT[:12]).digest()
    return f"$6${base64.b64encode(SALT[:12]).decode()}${base64.b64encode(digest).decode()}"


def argon2(password: bytes) -> str:
    from argon2.low_level import Type, hash_secret

    return hash_secret(
        password, SALT, time_cost=1, memory_cost=8, parallelism=1, hash_len=32, type=Type.ID
    ).decode()


@pytest.mark.parametrize("kind", [pbkdf2, sha512, argon2])
def test_the_password_verifies_and_no_other_does(kind: Callable[[bytes], str]) -> None:
    parsed = parse_hash(kind(b"s\xffcret"))
    assert parsed.matches(b"s\xffcret")
    assert not parsed.matches(b"s\xffcret ")
    assert not parsed.matches(b"")


def test_what_mosquitto_passwd_wrote_verifies() -> None:
    """Made by mosquitto_passwd 2.0.11 -b for the password `sesame`."""
    line = parse_passwords(MOSQUITTO, source="passwd")["open"]
    assert parse_hash(line).matches(b"sesame")
    assert not parse_hash(line).matches(b"sesame2")


def test_a_new_password_is_argon2id_with_our_cost() -> None:
    line = make_hash(b"secret", SALT)
    parsed = parse_hash(line)
    assert isinstance(parsed, Argon2)
    assert (parsed.memory_kib, parsed.time, parsed.lanes) == (7168, 5, 1)
    assert parsed.matches(b"secret")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kitchen", "passwd:2: expected user:hash"),
        ("kitchen:plain", "passwd:2: the password of 'kitchen' is not hashed"),
        ("kitchen:$5$x$y", "no hash of a kind that we know"),
        ("kitchen:$7$0$AAAA$AAAA", "0 iterations"),
        ("kitchen:$6$AAAA$AAAA", "a SHA-512 hash has 64 bytes"),
        ("kitchen:$6$A!$AAAA", "not Base64"),
        (f"kitchen:$argon2id$v=19$m=9999999,t=1,p=1${'A' * 22}${'A' * 43}", "beyond what a device"),
        (f"a:{CHEAP}{'A' * 22}${'A' * 43}\na:{CHEAP}{'A' * 22}${'A' * 43}", "passwd:3: user 'a' stands there twice"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named_and_not_quoted(text: str, told: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        parse_passwords(f"# users\n{text}\n", source="passwd")
    assert told in str(caught.value)
    assert "plain" not in str(caught.value)


@pytest.mark.parametrize("user", ["", "a:b", "a\nb", " a", "#a", "a" * 513])
def test_a_name_that_the_file_cannot_hold_is_refused(user: str) -> None:
    with pytest.raises(Misconfigured):
        check_user(user)


@pytest.mark.parametrize("kind", [pbkdf2, sha512, argon2])
def test_a_stranger_costs_as_much_as_a_user_and_never_gets_in(kind: Callable[[bytes], str]) -> None:
    passwords = Passwords({"kitchen": kind(b"x")})
    mine, strange = parse_hash(passwords.line("kitchen")), parse_hash(passwords.line("nobody"))
    assert type(mine) is type(strange)
    assert mine[1:3] == strange[1:3] or not isinstance(mine, Argon2)
    assert not passwords.verifies(passwords.line("nobody"), b"")
    assert passwords.verifies(passwords.line("kitchen"), b"x")


def test_in_a_file_of_several_kinds_every_refusal_costs_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    users = {"new": argon2(b"x"), "old": pbkdf2(b"x"), "strong": pbkdf2(b"x", 500), "oldest": sha512(b"x")}  # fmt: skip
    passwords = Passwords(users)
    spent = {"argon2": 0, "pbkdf2": 0}
    for kind in (Argon2, Pbkdf2):
        _counting(monkeypatch, kind, spent)
    costs = []
    for user in (*users, "nobody"):
        assert not passwords.verifies(passwords.line(user), b"wrong")
        costs.append(dict(spent))
        spent.update(argon2=0, pbkdf2=0)
    assert costs == [{"argon2": 1, "pbkdf2": 500}] * 5
    for user in users:
        assert passwords.verifies(passwords.line(user), b"x")


def _counting(
    monkeypatch: pytest.MonkeyPatch, kind: type[Argon2 | Pbkdf2], spent: dict[str, int]
) -> None:
    real = kind.matches

    def matches(self: Argon2 | Pbkdf2, password: bytes) -> bool:
        spent["pbkdf2" if isinstance(self, Pbkdf2) else "argon2"] += (
            self.iterations if isinstance(self, Pbkdf2) else 1
        )
        return real(self, password)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "matches", matches)


class Waiting:
    """A checker whose threads' answers come back when the test takes them."""

    def __init__(self, *, waiting_max: int = 4, remember_s: float = 60) -> None:
        self.clock = ManualClock()
        self.posted: queue.Queue[Callable[[], None]] = queue.Queue()
        self.answers: list[bool] = []
        self.checker = Checker(
            threads=1,
            waiting_max=waiting_max,
            remember_s=remember_s,
            clock=self.clock,
            key=b"k" * 32,
            post=self.posted.put,
        )

    def ask(self, passwords: Passwords, user: str, password: bytes) -> bool | None:
        return self.checker.check(passwords, user, password, self.answers.append)

    def take(self) -> bool:
        self.posted.get(timeout=20)()
        return self.answers.pop()


PASSWORDS = Passwords({"kitchen": sha512(b"x")})


def test_an_answer_is_remembered_for_its_time_right_or_wrong() -> None:
    waiting = Waiting()
    assert waiting.ask(PASSWORDS, "kitchen", b"x") is None
    assert waiting.take() is True
    assert waiting.ask(PASSWORDS, "kitchen", b"x") is True
    assert waiting.ask(PASSWORDS, "kitchen", b"y") is None
    assert waiting.take() is False
    assert waiting.ask(PASSWORDS, "kitchen", b"y") is False
    waiting.clock.advance(61)
    assert waiting.ask(PASSWORDS, "kitchen", b"x") is None
    assert waiting.checker.verifications == 2


def test_a_changed_password_is_never_answered_from_memory() -> None:
    waiting = Waiting()
    waiting.ask(PASSWORDS, "kitchen", b"x")
    assert waiting.take() is True
    changed = Passwords({"kitchen": sha512(b"new")})
    assert waiting.ask(changed, "kitchen", b"x") is None
    assert waiting.take() is False


def test_a_storm_of_one_user_costs_one_verification_and_has_a_bound() -> None:
    waiting = Waiting(waiting_max=4)
    for _ in range(4):
        assert waiting.ask(PASSWORDS, "kitchen", b"x") is None
    with pytest.raises(Busy):
        waiting.ask(PASSWORDS, "kitchen", b"x")
    waiting.take()
    assert waiting.answers == [True, True, True]
    assert waiting.checker.verifications == 1
    assert waiting.checker.waiting == 0


def test_fewer_or_more_threads_answer_what_was_asked_before() -> None:
    waiting = Waiting()
    waiting.ask(PASSWORDS, "kitchen", b"x")
    waiting.checker.change(threads=2, waiting_max=4, remember_s=0)
    waiting.ask(PASSWORDS, "kitchen", b"y")
    assert {waiting.take(), waiting.take()} == {True, False}
    assert waiting.ask(PASSWORDS, "kitchen", b"x") is None, "nothing is remembered any more"
    assert waiting.take() is True
    waiting.checker.close()


MOSQUITTO = (
    "open:$7$101$ZjXq1ixZsm4F5Kmf$vG4tyPIs1AyBQiKg6Nf4JRZM5SQfP7fFS9kqW8fPOwJTobkwDwxjeQnXQHxlj/"
    "Ci4u5fI+0dEpEWPdgZmBcKIA==\n"
)
