"""What listeners may be configured to do, and what is nonsense and refused."""

from __future__ import annotations

import pytest

from headwater.core.errors import Misconfigured
from headwater.edge.broker.listening.settings import (
    Kind,
    ListenerSettings,
    TlsSettings,
    check_listeners,
)
from headwater.edge.settings import EdgeSettings

EVERYWHERE = "0.0.0.0:1883"


def at(address: str, **more: object) -> ListenerSettings:
    return ListenerSettings(address=address, **more)  # type: ignore[arg-type]


def believing(**more: object) -> TlsSettings:
    """TLS without client_ca."""
    return TlsSettings(certificate="c", **more)  # type: ignore[arg-type]


def check(*listeners: ListenerSettings, has_passwords: bool = False) -> None:
    check_listeners(listeners, has_passwords=has_passwords)


@pytest.mark.parametrize("address", ["127.8.0.1:0", "[::1]:1883", "localhost:1", "unix:/m"])
def test_anonymous_is_taken_where_only_this_machine_reaches_it(address: str) -> None:
    assert ListenerSettings(address=address).takes_anonymous
    assert not ListenerSettings(address=address, anonymous=False).takes_anonymous
    check(ListenerSettings(address=address))
    check(ListenerSettings(address=address), has_passwords=True)


@pytest.mark.parametrize("address", [EVERYWHERE, "[::]:1883", "10.1.2.3:1883", "edge.example:1883"])
def test_anonymous_is_refused_elsewhere_unless_said(address: str) -> None:
    assert not ListenerSettings(address=address).takes_anonymous
    with pytest.raises(Misconfigured, match="nobody could connect"):
        check(ListenerSettings(address=address))
    check(ListenerSettings(address=address, anonymous=True))


def test_passwords_in_the_clear_need_a_word() -> None:
    tls = TlsSettings(certificate="c.pem")
    with pytest.raises(Misconfigured, match="in the clear"):
        check(ListenerSettings(address=EVERYWHERE), has_passwords=True)
    with pytest.raises(Misconfigured, match="in the clear"):
        check(ListenerSettings(address=EVERYWHERE, anonymous=True), has_passwords=True)
    check(ListenerSettings(address=EVERYWHERE, plain_passwords=True), has_passwords=True)
    check(ListenerSettings(address=EVERYWHERE, tls=tls), has_passwords=True)


@pytest.mark.parametrize(
    ("listeners", "told"),
    [
        ((), "nobody could connect"),
        ((at("1883"),), "HOST:PORT"),
        ((at("unix:"),), "unix socket"),
        ((at("unix:/" + "x" * 108),), "unix socket"),
        ((at("localhost:1"), at("localhost:1", name="b")), "is listened on by"),
        ((at("localhost:1", name="a"), at("localhost:2", name="a")), "two of that name"),
        ((at("localhost:1", kind=Kind.WEBSOCKET, path="mqtt"),), "begin with /"),
        ((at("localhost:1", connection_rate=-1.0),), "not negative"),
        ((at("localhost:1", publish_rate=float("nan")),), "not negative"),
        ((at("localhost:1", connection_rate=float("inf")),), "not negative"),
        ((at("localhost:1", connection_burst=0),), "above 0"),
        ((at("localhost:1", packet_bytes_max=5),), "128B"),
        ((at("localhost:1", tls=believing(require_client_certificate=True)),), "client_ca"),
        ((at("localhost:1", tls=believing(user_from="cn")),), "client_ca"),
        ((at("localhost:1", tls=believing(crl="x")),), "client_ca"),
    ],
)
def test_nonsense_is_refused_with_a_hint(
    listeners: tuple[ListenerSettings, ...], told: str
) -> None:
    with pytest.raises(Misconfigured) as caught:
        check(*listeners)
    assert told in str(caught.value)


def test_a_certificate_that_names_its_user_is_enough() -> None:
    tls = TlsSettings(certificate="c", client_ca="ca", user_from="cn")
    check(ListenerSettings(address=EVERYWHERE, tls=tls))


def test_a_certificate_that_names_nobody_is_not_enough() -> None:
    tls = TlsSettings(certificate="c", client_ca="ca", require_client_certificate=True)
    with pytest.raises(Misconfigured, match="user_from"):
        check(ListenerSettings(address=EVERYWHERE, tls=tls))
    check(ListenerSettings(address=EVERYWHERE, tls=tls, anonymous=True))
    check(ListenerSettings(address=EVERYWHERE, tls=tls), has_passwords=True)


def test_the_simple_listener_obeys_the_same_rules() -> None:
    with pytest.raises(Misconfigured, match="nobody could connect"):
        EdgeSettings(mqtt=EVERYWHERE).check()
    EdgeSettings(mqtt=EVERYWHERE, anonymous=True).check()
    with pytest.raises(Misconfigured, match="nobody could connect"):
        EdgeSettings(mqtt="none").check()
    EdgeSettings(mqtt="none", listeners=(ListenerSettings(address="127.0.0.1:1"),)).check()
