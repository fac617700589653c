"""TLS to a real listener (our cloud's): whom we believe, whom it believes, with a clock and without one."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater.cloud.broker.tls import ServerTlsSettings
from headwater.core.certificates import day_of, from_der, from_pem
from headwater.core.errors import HeadwaterError, Misconfigured, Refused, Unavailable
from headwater.core.kafka.address import bootstrap_of
from headwater.core.kafka.client import KafkaClient
from headwater.core.kafka.connection import Intercepted, KafkaConnection
from headwater.core.kafka.credentials import SaslMechanism, SaslSettings, TlsSettings
from headwater.core.kafka.messages import MetadataRequest
from headwater.core.kafka.security import X509_V_FLAG_NO_CHECK_TIME, TlsDialer
from headwater.core.secret import Secret
from tests.authority import DAY, NOW, Authority, Files
from tests.cloud.broker.running import HeldStore, open_broker, run

NOW_MS = int(NOW.replace(tzinfo=dt.UTC).timestamp() * 1000)
YEAR = 365 * DAY


class Known:
    """What the device believes the time to be."""

    def __init__(self, *, trusted: bool, floor: dt.timedelta = -YEAR) -> None:
        self.trusted = trusted
        self.floor_ms = NOW_MS + int(floor.total_seconds() * 1000)

    def wall_ms(self) -> int:
        return max(self.floor_ms, 0)


@contextlib.asynccontextmanager
async def _listening(files: Files, client_ca: str = "") -> AsyncIterator[int]:
    tls = ServerTlsSettings(certificate=files.certificate, key=files.key, client_ca=client_ca)
    broker = await open_broker(HeldStore(), tls=tls)
    try:
        yield broker.tls_port
    finally:
        await broker.close()


async def _dial(port: int, tls: TlsSettings, known: Known | None = None) -> KafkaConnection:
    dialer = TlsDialer(tls, known=known)
    try:
        return await KafkaConnection.dial("localhost", port, client_id="t", dialer=dialer)
    except HeadwaterError as error:
        raise type(error)(dialer.explain_refusal(str(error))) from error


def _refused(
    files: Files, tls: TlsSettings, *, known: Known | None = None, client_ca: str = ""
) -> str:
    """What is said where no connection comes about."""
    said = []

    async def body() -> None:
        async with _listening(files, client_ca) as port:
            with pytest.raises(Unavailable) as caught:
                await _dial(port, tls, known)
            said.append(str(caught.value))

    run(body())
    return said[0]


def _taken(
    files: Files, tls: TlsSettings, *, known: Known | None = None, client_ca: str = ""
) -> None:
    async def body() -> None:
        async with _listening(files, client_ca) as port:
            connection = await _dial(port, tls, known)
            answer = await connection.request(MetadataRequest())
            assert [(b.host, b.port) for b in answer.brokers] == [("localhost", port)]
            count = connection.wire()
            assert count.sent > 1000, "the handshake is on the wire too"
            await connection.close()

    run(body())


def test_a_broker_of_our_authority_is_believed(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    _taken(ca.issue("localhost", file="broker"), TlsSettings(ca=ca.path))


def test_the_client_that_the_sink_uses_takes_the_same_dialer(tmp_path: Path) -> None:
    ca = Authority(tmp_path)

    async def body() -> None:
        async with _listening(ca.issue("localhost", file="broker")) as port:
            bootstrap = bootstrap_of(f"kafkas://localhost:{port}")
            client = KafkaClient(
                bootstrap, client_id="t", dialer=TlsDialer(TlsSettings(ca=ca.path))
            )
            assert (await client.metadata()).brokers
            await client.close()

    run(body())


def test_another_authority_is_not(tmp_path: Path) -> None:
    ca, other = Authority(tmp_path), Authority(tmp_path, "other")
    said = _refused(other.issue("localhost", file="broker"), TlsSettings(ca=ca.path))
    assert "unable to get local issuer" in said
    assert ca.path in said


def test_the_name_is_checked_unless_another_is_set(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    files = ca.issue("cloud.example", file="broker")
    assert "not valid for 'localhost'" in _refused(files, TlsSettings(ca=ca.path))
    _taken(files, TlsSettings(ca=ca.path, server_name="cloud.example"))


# -- client certificates


def test_a_client_certificate_lets_us_in(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    broker = ca.issue("localhost", file="broker")
    own = ca.issue("pi-7", file="own", common_name="pi-7")
    tls = TlsSettings(ca=ca.path, certificate=own.certificate, key=own.key)
    _taken(broker, tls, client_ca=ca.path)


def test_without_one_the_reason_is_said(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    said = _refused(
        ca.issue("localhost", file="broker"), TlsSettings(ca=ca.path), client_ca=ca.path
    )
    assert "may want a client certificate, and none is set" in said


def test_an_expired_one_is_named_with_its_dates(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    own = ca.issue("pi-7", file="own", common_name="pi-7", begins=-3 * DAY, ends=-DAY)
    tls = TlsSettings(ca=ca.path, certificate=own.certificate, key=own.key)
    said = _refused(ca.issue("localhost", file="broker"), tls, client_ca=ca.path)
    assert f"may not accept {own.certificate}" in said
    assert f"to {day_of(NOW_MS - 86_400_000)}" in said
    assert "'pi-7'" in said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ca": "/nowhere/ca.pem"}, "/nowhere/ca.pem: No such file"),
        ({"certificate": "/nowhere/own.pem"}, "/nowhere/own.pem: No such file"),
        ({"ca": "junk"}, "holds no certificate"),
        ({"certificate": "junk"}, "no PEM certificate"),
        ({"key": "other"}, "key values mismatch"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, wrong: dict[str, str], said: str) -> None:
    ca = Authority(tmp_path)
    own, other = ca.issue("a", file="own"), ca.issue("b", file="other")
    junk = tmp_path / "junk"
    junk.write_text("nonsense")
    files = {"ca": ca.path, "certificate": own.certificate, "key": own.key}
    names = {"junk": str(junk), "other": other.key}
    files |= {key: names.get(value, value) for key, value in wrong.items()}
    assert said in _refused(ca.issue("localhost", file="broker"), TlsSettings(**files))


def test_renewed_files_are_used_by_the_next_connection(tmp_path: Path) -> None:
    ca, late = Authority(tmp_path), Authority(tmp_path, "late")
    broker = late.issue("localhost", file="broker")

    async def body() -> None:
        async with _listening(broker) as port:
            dialer = TlsDialer(TlsSettings(ca=ca.path))
            with pytest.raises(Unavailable):
                await KafkaConnection.dial("localhost", port, client_id="t", dialer=dialer)
            Path(ca.path).write_bytes(Path(late.path).read_bytes())
            connection = await KafkaConnection.dial("localhost", port, client_id="t", dialer=dialer)
            await connection.close()

    run(body())


def test_the_cloud_reads_its_certificate_again_and_keeps_the_old_one_where_the_new_is_wrong(
    tmp_path: Path,
) -> None:
    ca, late = Authority(tmp_path), Authority(tmp_path, "late")
    files = ca.issue("localhost", file="broker")

    async def body() -> None:
        tls = ServerTlsSettings(certificate=files.certificate, key=files.key)
        broker = await open_broker(HeldStore(), tls=tls)
        old = await _dial(broker.tls_port, TlsSettings(ca=ca.path))
        good = Path(files.certificate).read_bytes()
        Path(files.certificate).write_bytes(b"half a fi")
        broker.reload_certificates()
        await (await _dial(broker.tls_port, TlsSettings(ca=ca.path))).close()
        Path(files.certificate).write_bytes(good)
        late.issue("localhost", file="broker")
        broker.reload_certificates()
        with pytest.raises(Unavailable):
            await _dial(broker.tls_port, TlsSettings(ca=ca.path))
        await (await _dial(broker.tls_port, TlsSettings(ca=late.path))).close()
        assert (await old.request(MetadataRequest())).brokers, "an open connection stays"
        await old.close()
        await broker.close()

    run(body())


# -- dates


def test_python_hands_the_flag_through() -> None:
    """The proof that NO_CHECK_TIME works through Python's ssl is the pair of tests below; this one names the cause."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags = ssl.VerifyFlags(context.verify_flags | X509_V_FLAG_NO_CHECK_TIME)
    assert context.verify_flags & X509_V_FLAG_NO_CHECK_TIME


def test_with_a_known_time_dates_are_checked(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    tls, known = TlsSettings(ca=ca.path), Known(trusted=True, floor=dt.timedelta())
    young = ca.issue("localhost", file="young", begins=DAY)
    assert "not yet valid; today is" in _refused(young, tls, known=known)
    old = ca.issue("localhost", file="old", begins=-3 * DAY, ends=-DAY)
    assert "has expired" in _refused(old, tls, known=known)


def test_without_one_a_certificate_not_yet_valid_is_taken(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    files = ca.issue("localhost", file="broker", begins=YEAR, ends=2 * YEAR)
    _taken(files, TlsSettings(ca=ca.path), known=Known(trusted=False))


def test_one_that_may_still_be_valid_is_taken_and_one_expired_before_the_floor_is_not(
    tmp_path: Path,
) -> None:
    ca = Authority(tmp_path)
    files = ca.issue("localhost", file="broker", begins=-3 * DAY, ends=-DAY, common_name="old")
    _taken(files, TlsSettings(ca=ca.path), known=Known(trusted=False, floor=-2 * DAY))
    said = _refused(
        files, TlsSettings(ca=ca.path), known=Known(trusted=False, floor=dt.timedelta())
    )
    assert "'old'" in said
    assert "expired before" in said


@pytest.mark.parametrize("name", ["other.example", "localhost"])
def test_chain_and_name_are_checked_without_a_clock_too(tmp_path: Path, name: str) -> None:
    ca, other = Authority(tmp_path), Authority(tmp_path, "other")
    issuer = ca if name == "other.example" else other
    files = issuer.issue(name, file="broker", begins=YEAR, ends=2 * YEAR)
    assert "not accepted" in _refused(files, TlsSettings(ca=ca.path), known=Known(trusted=False))


def test_once_the_time_is_known_the_next_connection_is_checked(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    files = ca.issue("localhost", file="broker", begins=DAY)

    async def body() -> None:
        async with _listening(files) as port:
            known = Known(trusted=False)
            dialer = TlsDialer(TlsSettings(ca=ca.path), known=known)
            for trusted in (False, True, False):
                known.trusted = trusted
                dialled = KafkaConnection.dial("localhost", port, client_id="t", dialer=dialer)
                if trusted:
                    with pytest.raises(Unavailable):
                        await dialled
                else:
                    await (await dialled).close()

    run(body())


# -- what is not TLS, not Kafka


def test_plain_http_on_the_port_is_a_captive_portal() -> None:
    async def portal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n")
        writer.close()

    async def body() -> None:
        server = await asyncio.start_server(portal, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Intercepted, match="captive portal"):
            await KafkaConnection.dial("127.0.0.1", port, client_id="t")
        with pytest.raises(Unavailable, match="does not speak TLS"):
            await _dial(port, TlsSettings())
        server.close()

    run(body())


# -- certificates, secrets, settings


def test_certificates_are_read_as_they_were_made(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    files = ca.issue("x", file="x", begins=-DAY, ends=40 * YEAR, common_name="Grüße")
    pem = Path(files.certificate).read_bytes()
    found = from_pem(pem)[0]
    assert found.subject == "Grüße"
    assert found.not_before_ms == pytest.approx(NOW_MS - 86_400_000, abs=1000)
    assert found.not_after_ms == pytest.approx(NOW_MS + 40 * 365 * 86_400_000, abs=1000)
    der = ssl.PEM_cert_to_DER_cert(pem.decode())
    for length in range(len(der)):
        with contextlib.suppress(Refused):  # whatever is cut off, nothing else is raised
            from_der(der[:length])


@pytest.mark.parametrize(
    ("wall_ms", "day"),
    [(0, "1970-01-01"), (951_782_400_000, "2000-02-29"), (4_102_444_800_000, "2100-01-01")],
)
def test_days(wall_ms: int, day: str) -> None:
    assert day_of(wall_ms) == day


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret("hunter2")
    settings = SaslSettings(username="pi", password=secret)
    for text in (str(secret), repr(secret), f"{secret}", f"{secret:>10}", repr(settings)):
        assert "hunter2" not in text
    assert secret.reveal() == "hunter2"


def test_a_password_in_the_clear_is_refused() -> None:
    plain = SaslSettings(mechanism=SaslMechanism.PLAIN, username="a", password=Secret("b"))
    plain.check("sasl", is_tls=True)
    with pytest.raises(Misconfigured, match="in the clear"):
        plain.check("sasl", is_tls=False)
    with pytest.raises(Misconfigured, match="username"):
        SaslSettings(mechanism=SaslMechanism.SCRAM_SHA_512, password=Secret("b")).check(
            "sasl", is_tls=True
        )
