"""The uplink against Apache Kafka behind TLS and SASL: every mechanism, a wrong password, a client certificate."""

from __future__ import annotations

import base64
import importlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from headwater.core.errors import Unavailable
from headwater.core.kafka.connection import KafkaConnection
from headwater.core.kafka.credentials import SaslMechanism, SaslSettings, TlsSettings
from headwater.core.kafka.messages import MetadataRequest
from headwater.core.record import TopicPartition
from headwater.core.secret import Secret
from headwater.edge.uplink.cluster import Dialer
from headwater.edge.uplink.dialing import dialer
from tests.authority import Authority
from tests.edge.uplink.river import River, addresses, settings

from .broker import ApacheKafka, free_port

pytestmark = pytest.mark.interop
PASSWORD = "s3cret, with = and ü"
MODULE = "org.apache.kafka.common.security"
LISTENER = "listener.name.sasl_ssl"

_PROPERTIES = """\
listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://localhost:{sasl},SSL://localhost:{ssl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://localhost:{sasl},SSL://localhost:{ssl}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL,CONTROLLER:PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
{listener}.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_pi="{password}";
{listener}.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;
{listener}.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;
{listener}.oauthbearer.sasl.jaas.config={module}.oauthbearer.OAuthBearerLoginModule required \
unsecuredLoginStringClaim_sub="broker";
"""


class SecureKafka:
    def __init__(self, kafka: ApacheKafka, ca: Authority, sasl_port: int, ssl_port: int) -> None:
        self.kafka, self.ca = kafka, ca
        self.sasl_port, self.ssl_port = sasl_port, ssl_port


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    directory = tmp_path_factory.mktemp("secure")
    ca = Authority(directory)
    files = ca.issue("localhost", file="kafka")
    keystore = directory / "keystore.pem"
    key = subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", files.key],
        capture_output=True,
        check=True,
    ).stdout
    keystore.write_bytes(key + Path(files.certificate).read_bytes())
    sasl_port, ssl_port = free_port(), free_port()
    kafka = ApacheKafka(directory)
    extra = _PROPERTIES.format(
        plain=kafka.port,
        controller=kafka.controller_port,
        sasl=sasl_port,
        ssl=ssl_port,
        keystore=keystore,
        truststore=ca.path,
        listener=LISTENER,
        module=MODULE,
        password="".join(c if ord(c) < 128 else f"\\u{ord(c):04x}" for c in PASSWORD),
    )
    kafka.extend(extra)
    kafka.format()
    kafka.start()
    try:
        admin_of = importlib.import_module("confluent_kafka.admin")  # its stubs leave SCRAM out
        admin = admin_of.AdminClient({"bootstrap.servers": kafka.bootstrap})
        changes = [
            admin_of.UserScramCredentialUpsertion(
                "pi", admin_of.ScramCredentialInfo(mechanism, 4096), PASSWORD.encode()
            )
            for mechanism in (
                admin_of.ScramMechanism.SCRAM_SHA_256,
                admin_of.ScramMechanism.SCRAM_SHA_512,
            )
        ]
        for change in changes:
            for future in admin.alter_user_scram_credentials([change]).values():
                future.result(timeout=30)
        yield SecureKafka(kafka, ca, sasl_port, ssl_port)
    finally:
        kafka.kill()


def _token() -> str:
    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    now = int(time.time())
    return f"{part({'alg': 'none'})}.{part({'sub': 'pi', 'iat': now, 'exp': now + 3600})}."


def _sasl(mechanism: SaslMechanism, directory: Path, password: str = PASSWORD) -> SaslSettings:
    """The password from a file, as on a device; a token is one too."""
    secret = directory / "secret"
    is_token = mechanism is SaslMechanism.OAUTHBEARER
    secret.write_text((_token() if is_token else password) + "\n")
    return SaslSettings(mechanism=mechanism, username="pi", password_file=str(secret))


@pytest.mark.parametrize("mechanism", [m for m in SaslMechanism if m is not SaslMechanism.NONE])
def test_each_mechanism_lets_us_in(
    secure: SecureKafka, mechanism: SaslMechanism, tmp_path: Path
) -> None:
    async def body() -> None:
        dial = dialer(
            "pi",
            settings(tls=TlsSettings(ca=secure.ca.path), sasl=_sasl(mechanism, tmp_path)),
            is_tls=True,
        )
        for _ in range(2):  # SCRAM's second comes from the salted password that is kept
            connection = await dial("localhost", secure.sasl_port)
            assert isinstance(connection, KafkaConnection)
            assert (await connection.request(MetadataRequest())).brokers
            await connection.close()

    uvloop.run(body())


@pytest.mark.parametrize(
    "mechanism", [SaslMechanism.PLAIN, SaslMechanism.SCRAM_SHA_512, SaslMechanism.OAUTHBEARER]
)
def test_a_wrong_secret_is_said_and_never_shown(
    secure: SecureKafka, mechanism: SaslMechanism
) -> None:
    sasl = SaslSettings(mechanism=mechanism, username="pi", password=Secret("wrong-hunter2"))

    async def body() -> None:
        dial = dialer("pi", settings(tls=TlsSettings(ca=secure.ca.path), sasl=sasl), is_tls=True)
        with pytest.raises(Unavailable, match="does not let us in") as caught:
            await dial("localhost", secure.sasl_port)
        assert "hunter2" not in str(caught.value)

    uvloop.run(body())


@pytest.mark.parametrize("door", ["sasl", "certificate"])
def test_records_arrive_once_over_it(secure: SecureKafka, door: str, tmp_path: Path) -> None:
    source = TopicPartition(f"readings-{door}", 0)
    own = secure.ca.issue("pi-7", file="own", common_name="pi-7")
    changes: dict[str, Any] = {"tls": TlsSettings(ca=secure.ca.path)}
    port = secure.sasl_port
    if door == "sasl":
        changes["sasl"] = _sasl(SaslMechanism.SCRAM_SHA_256, tmp_path)
    else:
        port = secure.ssl_port
        changes["tls"] = TlsSettings(ca=secure.ca.path, certificate=own.certificate, key=own.key)

    class SecureRiver(River):
        def plain_dial(self, name: str) -> Dialer:
            return dialer(name, self._settings, is_tls=True)

    async def body() -> None:
        river = SecureRiver(tmp_path, port, chance=0.2, host="localhost", **changes)
        for turn in range(40):
            river.journal.append(source, [b"%d" % turn] * 5)
        async with river.running() as uplink:
            await river.drained(uplink)
        stored = [r for each in (await river.stored(source.topic)).values() for r in each]
        assert addresses(stored, source) == list(range(200))

    uvloop.run(body())
