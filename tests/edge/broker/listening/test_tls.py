"""TLS listeners: versions, client certificates and the users they name, renewal without dropping anybody."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

import pytest

from headwater.core.errors import Misconfigured
from headwater.edge.broker.access.settings import AccessSettings
from headwater.edge.broker.listening.listeners import prepare
from headwater.edge.broker.listening.settings import Kind, ListenerSettings, TlsSettings
from headwater.edge.broker.listening.tls import subject_of
from headwater.edge.mqtt.packets import Acknowledgement, Pingreq, Pingresp, Publish

from .entry import ANY, Authority, Bare, run, serving, shakes_hands, until


@pytest.fixture(name="authority", scope="module")
def _authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def listener(authority: Authority, **more: object) -> ListenerSettings:
    tls = TlsSettings(certificate=authority.server_file, **more)  # type: ignore[arg-type]
    return ListenerSettings(address=ANY, name="tls", tls=tls)


def test_publishes_over_tls_are_acknowledged(authority: Authority) -> None:
    async def scenario() -> None:
        async with serving(listener(authority)) as served:
            bare, reason = await Bare.connect(served.port(), tls=authority.client(None))
            assert reason == 0
            ack = await bare.ask(Publish(topic="t", payload=bytes(200_000), qos=1, packet_id=7))
            assert isinstance(ack, Acknowledgement)
            assert ack.packet_id == 7
            bare.close()

    run(scenario)


def test_a_plain_client_and_tls_1_1_are_turned_away_and_counted(authority: Authority) -> None:
    async def scenario() -> None:
        async with serving(listener(authority)) as served:
            plain = await Bare.open(served.port())
            plain.writer.write(b"\x10\x10not a ClientHello, and long enough")
            await plain.reader.read()  # at most an alert
            plain.close()
            old = authority.client(None)
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
            assert not await shakes_hands(served.port(), old)
            assert await shakes_hands(served.port(), authority.client(None))
            door = served.listeners.all[0].door
            await until(lambda: sum(door.refused.values()) == 2 and door.open == 0)
            assert all(reason.startswith("tls: ") for reason in door.refused)

    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        run(scenario)


def test_who_does_not_finish_the_handshake_is_dropped(authority: Authority) -> None:
    async def scenario() -> None:
        tls = TlsSettings(certificate=authority.server_file)
        slow = ListenerSettings(address=ANY, name="tls", tls=tls, handshake_timeout=0.2)  # type: ignore[arg-type]
        async with serving(slow) as served:
            silent = await Bare.open(served.port())
            good, reason = await Bare.connect(served.port(), tls=authority.client(None))
            assert reason == 0
            assert await silent.ended()
            assert isinstance(await good.ask(Pingreq()), Pingresp)
            door = served.listeners.all[0].door
            assert dict(door.refused) == {"tls: no handshake in time": 1}
            assert door.open == 1
            silent.close()
            good.close()

    run(scenario)


def test_a_client_certificate_names_the_user(authority: Authority, tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text("user kitchen\ntopic write sensors/#\n")

    async def scenario() -> None:
        settings = listener(
            authority, client_ca=authority.ca_file, require_client_certificate=True, user_from="cn"
        )
        async with serving(settings, access=AccessSettings(acl_file=str(rules))) as served:
            await shakes_hands(served.port(), authority.client(None))  # 1.3: it learns later
            door = served.listeners.all[0].door
            await until(lambda: door.refused)
            assert dict(door.refused) == {"tls: peer did not return a certificate": 1}
            for name, allowed in (("kitchen", 0), ("cellar", 0x87)):
                bare, reason = await Bare.connect(
                    served.port(), tls=authority.client(name), user="liar", password=b"x"
                )
                assert reason == 0
                (client,) = served.broker.clients
                assert client.user == name
                ack = await bare.ask(Publish(topic="sensors/t", payload=b"", qos=1, packet_id=1))
                assert isinstance(ack, Acknowledgement)
                assert ack.reason == allowed
                bare.close()
                await until(lambda: not served.broker.clients)

    run(scenario)


def test_a_certificate_with_an_empty_name_names_nobody() -> None:
    nameless: list[dict[str, object]] = [{"subject": ((("commonName", ""),),)}, {"subject": ()}, {}]
    for certificate in nameless:
        assert subject_of(certificate, "cn") is None
    assert subject_of({"subjectAltName": (("DNS", ""),)}, "dns") is None
    assert subject_of({"subjectAltName": (("IP Address", "::1"), ("DNS", "k"))}, "dns") == "k"


def test_why_a_client_certificate_was_not_believed_is_said(
    authority: Authority, tmp_path: Path
) -> None:
    expired = authority.client(None)
    long_ago = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - trustme's are without a zone
    authority.ca.issue_cert("k", not_before=long_ago, not_after=long_ago).configure_cert(expired)
    foreign = authority.client(None)
    Authority(tmp_path).ca.issue_cert("k").configure_cert(foreign)

    async def scenario() -> None:
        settings = listener(authority, client_ca=authority.ca_file, user_from="cn")
        async with serving(settings) as served:
            door = served.listeners.all[0].door
            for shown_by, count in ((expired, 1), (foreign, 2)):
                await shakes_hands(served.port(), shown_by)
                await until(lambda: len(door.refused) == count)  # noqa: B023 - awaited here
            first, second = door.refused
            assert first == "tls: client certificate: certificate has expired"
            assert second.startswith("tls: client certificate: unable to get")

    run(scenario)


def test_a_renewed_certificate_is_for_new_handshakes_and_drops_nobody(authority: Authority) -> None:
    async def scenario() -> None:
        settings = listener(authority)
        async with serving(settings) as served:
            before, _ = await Bare.connect(served.port(), "a", tls=authority.client(None))
            authority.renew()
            served.listeners.apply((settings,), prepare((settings,)))
            after, _ = await Bare.connect(served.port(), "b", tls=authority.client(None))
            assert shown(before) != shown(after)
            assert isinstance(await before.ask(Pingreq()), Pingresp)
            before.close()
            after.close()

    run(scenario)


def shown(bare: Bare) -> bytes | None:
    found: ssl.SSLObject = bare.writer.get_extra_info("ssl_object")
    return found.getpeercert(binary_form=True)


def test_a_websocket_over_tls_knows_the_certificate_too(authority: Authority) -> None:
    from .test_websocket import Raw

    async def scenario() -> None:
        tls = TlsSettings(
            certificate=authority.server_file, client_ca=authority.ca_file, user_from="cn"
        )
        async with serving(ListenerSettings(address=ANY, kind=Kind.WEBSOCKET, tls=tls)) as served:
            raw = await Raw.open(served.port(), tls=authority.client("panel"))
            assert await raw.connect() == 0
            (client,) = served.broker.clients
            assert client.user == "panel"
            raw.close()

    run(scenario)


def test_a_wrong_certificate_is_named(authority: Authority, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for tls, told in (
        (TlsSettings(certificate="/nowhere.pem"), "/nowhere.pem: No such file"),
        (TlsSettings(certificate=str(broken)), "broken.pem"),
        (TlsSettings(certificate=authority.ca_file), "ca.pem"),
        (TlsSettings(certificate=authority.server_file, client_ca=str(broken)), "broken.pem"),
    ):
        with pytest.raises(Misconfigured) as caught:
            prepare((ListenerSettings(address=ANY, name="t", tls=tls),))
        assert told in str(caught.value)
        assert "'t'" in str(caught.value)
