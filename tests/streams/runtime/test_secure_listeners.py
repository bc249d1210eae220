"""Every connection and security property of kafka.client, tried on a real broker by each of the clients.

The clients are librdkafka's admin client, producer and consumer, and aiokafka's consumer of the processor.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import aiokafka
import msgspec
import pytest
import trustme
from aiokafka.errors import KafkaError
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from streams.runtime.credentials import credentials
from tailrace import Publisher, clients, kafka
from tailrace.broker import Broker
from tailrace.broker.folder import free_port
from tailrace.cli import cli
from tailrace.errors import KafkaUnavailable
from tailrace.settings import Kafka, Settings, convert
from tests.harness.pipeline import Pipeline
from tests.streams.events import event

pytestmark = pytest.mark.kafka

PASSWORD = "marker-7f3a91"
KEY_PASSWORD = "marker-51c0de"
LISTENERS = {"TLS": "SSL", "MTLS": "SSL", "OTHER": "SSL", "SASL": "SASL_PLAINTEXT", "SASLTLS": "SASL_SSL"}
TOPIC = "tried"
Properties = dict[str, str]


class Secured(NamedTuple):
    """A broker with a listener of each kind, and what its clients need."""

    ports: dict[str, int]
    plaintext: str
    folder: Path
    ca: str
    chain: str
    key: str
    token_url: str
    https_token_url: str

    def file(self, name: str) -> str:
        return str(self.folder / name)


def _pem(key: Any, password: str = "") -> bytes:
    how = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)
    return pem


def _private_key(issued: trustme.LeafCert) -> Any:
    return load_pem_private_key(issued.private_key_pem.bytes(), None)


def _chain(issued: trustme.LeafCert) -> bytes:
    return b"".join(pem.bytes() for pem in issued.cert_chain_pems)


def _revocations(authority: trustme.CA, *revoked: trustme.LeafCert) -> bytes:
    """A list of revoked certificates, with the authority before it: a reader needs both."""
    now = datetime.datetime.now(datetime.UTC)
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    listed = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
    listed = listed.last_update(now).next_update(now + datetime.timedelta(days=1))
    for issued in revoked:
        serial = x509.load_pem_x509_certificate(_chain(issued)).serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        listed = listed.add_revoked_certificate(entry)
    key: Any = load_pem_private_key(authority.private_key_pem.bytes(), None)
    return listed.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


class _Tokens(BaseHTTPRequestHandler):
    """Gives a token to whoever has the password. The broker accepts tokens without a signature."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        given = self.headers["Authorization"].removeprefix("Basic ")
        allowed = base64.b64decode(given).decode() == f"me:{PASSWORD}"
        now = int(time.time())
        parts = ({"alg": "none"}, {"sub": "me", "iat": now, "exp": now + 3600})
        token = ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts)
        body = json.dumps({"access_token": token + ".", "token_type": "Bearer", "expires_in": 3600}).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if allowed else 2))
        self.end_headers()
        self.wfile.write(body if allowed else b"{}")

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def _tokens(context: ssl.SSLContext | None) -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Tokens) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority, strange = trustme.CA(), trustme.CA()
    here, elsewhere = (
        authority.issue_cert("127.0.0.1", "localhost"),
        authority.issue_cert("elsewhere.example"),
    )
    client = authority.issue_cert("client@example.org")
    key = _private_key(client)
    leaf = x509.load_pem_x509_certificate(_chain(client))
    files = {
        "ca.pem": authority.cert_pem.bytes(),
        "strange-ca.pem": strange.cert_pem.bytes(),
        "chain.pem": _chain(client),
        "key.pem": _pem(key),
        "locked-key.pem": _pem(key, KEY_PASSWORD),
        "client.p12": pkcs12.serialize_key_and_certificates(
            b"client", key, leaf, None, BestAvailableEncryption(KEY_PASSWORD.encode())
        ),
        "nothing-revoked.pem": _revocations(authority),
        "here-revoked.pem": _revocations(authority, here),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    ports: dict[str, int] = {}
    while len(ports) < len(LISTENERS):
        port = free_port()
        if port not in ports.values():
            ports[list(LISTENERS)[len(ports)]] = port
    kinds = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **LISTENERS}
    properties = {
        "listener.security.protocol.map": ",".join(f"{k}:{v}" for k, v in kinds.items()),
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        "listener.name.mtls.ssl.client.auth": "required",
    }
    for name, kind in LISTENERS.items():
        prefix = f"listener.name.{name.lower()}."
        if kind.endswith("SSL"):
            issued = elsewhere if name == "OTHER" else here
            properties |= {
                prefix + "ssl.keystore.type": "PEM",
                prefix + "ssl.keystore.key": _pem(_private_key(issued)).decode(),
                prefix + "ssl.keystore.certificate.chain": _chain(issued).decode(),
                prefix + "ssl.truststore.type": "PEM",
                prefix + "ssl.truststore.certificates": authority.cert_pem.bytes().decode(),
            }
        if kind.startswith("SASL"):
            module = "org.apache.kafka.common.security"
            users = f'user_me="{PASSWORD}"'
            properties |= {
                prefix + "plain.sasl.jaas.config": f"{module}.plain.PlainLoginModule required {users};",
                prefix + "scram-sha-256.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
                prefix + "scram-sha-512.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
                prefix + "oauthbearer.sasl.jaas.config": (
                    f"{module}.oauthbearer.OAuthBearerLoginModule required;"
                ),
            }
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    here.configure_cert(server_side)
    with (
        _tokens(None) as http,
        _tokens(server_side) as https,
        Broker(properties=properties, listeners=ports) as broker,
    ):
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(30)
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            info = ScramCredentialInfo(mechanism, 4096)
            change = UserScramCredentialUpsertion("me", info, PASSWORD.encode())
            admin.alter_user_scram_credentials([change])["me"].result(30)
        yield Secured(
            ports,
            broker.bootstrap_servers,
            folder,
            files["ca.pem"].decode(),
            files["chain.pem"].decode(),
            files["key.pem"].decode(),
            f"http://127.0.0.1:{http}/token",
            f"https://127.0.0.1:{https}/token",
        )


def _sasl(mechanism: str) -> Properties:
    return {
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": mechanism,
        "sasl.username": "me",
        "sasl.password": PASSWORD,
    }


def _oidc(url: str, secret: str = PASSWORD) -> Properties:
    return {
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": "me",
        "sasl.oauthbearer.client.secret": secret,
        "sasl.oauthbearer.token.endpoint.url": url,
        "sasl.oauthbearer.scope": "traces",
    }


TLS = {"security.protocol": "ssl"}
Case = tuple[str, Callable[[Secured], Properties]]
WORKS: dict[str, Case] = {
    "authorities in a file": ("TLS", lambda s: {**TLS, "ssl.ca.location": s.file("ca.pem")}),
    "authorities in a text": ("TLS", lambda s: {**TLS, "ssl.ca.pem": s.ca}),
    "no verification": ("TLS", lambda s: {**TLS, "enable.ssl.certificate.verification": "false"}),
    "another name": (
        "OTHER",
        lambda s: {**TLS, "ssl.ca.pem": s.ca, "ssl.endpoint.identification.algorithm": "none"},
    ),
    "nothing is revoked": (
        "TLS",
        lambda s: {**TLS, "ssl.ca.pem": s.ca, "ssl.crl.location": s.file("nothing-revoked.pem")},
    ),
    "ciphers": (
        "TLS",
        lambda s: {**TLS, "ssl.ca.pem": s.ca, "ssl.cipher.suites": "ECDHE-ECDSA-AES256-GCM-SHA384"},
    ),
    "own certificate in files": (
        "MTLS",
        lambda s: {
            **TLS,
            "ssl.ca.location": s.file("ca.pem"),
            "ssl.certificate.location": s.file("chain.pem"),
            "ssl.key.location": s.file("key.pem"),
        },
    ),
    "own certificate in texts": (
        "MTLS",
        lambda s: {**TLS, "ssl.ca.pem": s.ca, "ssl.certificate.pem": s.chain, "ssl.key.pem": s.key},
    ),
    "own key with a password": (
        "MTLS",
        lambda s: {
            **TLS,
            "ssl.ca.pem": s.ca,
            "ssl.certificate.pem": s.chain,
            "ssl.key.location": s.file("locked-key.pem"),
            "ssl.key.password": KEY_PASSWORD,
        },
    ),
    "own keystore": (
        "MTLS",
        lambda s: {
            **TLS,
            "ssl.ca.pem": s.ca,
            "ssl.keystore.location": s.file("client.p12"),
            "ssl.keystore.password": KEY_PASSWORD,
        },
    ),
    "PLAIN": ("SASL", lambda s: _sasl("PLAIN")),
    "SCRAM-SHA-256": ("SASL", lambda s: _sasl("SCRAM-SHA-256")),
    "SCRAM-SHA-512 over TLS": (
        "SASLTLS",
        lambda s: {**_sasl("SCRAM-SHA-512"), "security.protocol": "SASL_SSL", "ssl.ca.pem": s.ca},
    ),
    "OAUTHBEARER": ("SASL", lambda s: _oidc(s.token_url)),
    "OAUTHBEARER, https": ("SASL", lambda s: {**_oidc(s.https_token_url), "https.ca.pem": s.ca}),
    "OAUTHBEARER over TLS, https with a file": (
        "SASLTLS",
        lambda s: {
            **_oidc(s.https_token_url),
            "security.protocol": "sasl_ssl",
            "ssl.ca.location": s.file("ca.pem"),
            "https.ca.location": s.file("ca.pem"),
        },
    ),
}
FAILS: dict[str, Case] = {
    "no authority": ("TLS", lambda s: TLS),
    "another authority": ("TLS", lambda s: {**TLS, "ssl.ca.location": s.file("strange-ca.pem")}),
    "another name": ("OTHER", lambda s: {**TLS, "ssl.ca.pem": s.ca}),
    "revoked": ("TLS", lambda s: {**TLS, "ssl.ca.pem": s.ca, "ssl.crl.location": s.file("here-revoked.pem")}),
    "no certificate of its own": ("MTLS", lambda s: {**TLS, "ssl.ca.pem": s.ca}),
    "PLAIN, another password": ("SASL", lambda s: {**_sasl("PLAIN"), "sasl.password": KEY_PASSWORD}),
    "SCRAM, another password": ("SASL", lambda s: {**_sasl("SCRAM-SHA-256"), "sasl.password": KEY_PASSWORD}),
    "OAUTHBEARER, another secret": ("SASL", lambda s: _oidc(s.token_url, KEY_PASSWORD)),
    "OAUTHBEARER, another authority": (
        "SASL",
        lambda s: {**_oidc(s.https_token_url), "https.ca.location": s.file("strange-ca.pem")},
    ),
}
"""What must not connect: a property that is ignored would let it."""


def _settings(secured: Secured, case: Case) -> Settings:
    listener, made = case
    kafka_section = {"bootstrap_servers": f"127.0.0.1:{secured.ports[listener]}", "client": made(secured)}
    return convert({"kafka": kafka_section}, Settings, "")


async def _ask_with_aiokafka(settings: Kafka) -> set[str]:
    """The topics that the client of the processor's consumer sees."""
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers,
        request_timeout_ms=20_000,
        **credentials_to_aiokafka_auth(credentials(settings.client)),
    )
    try:
        await consumer.start()
        found: set[str] = await consumer.topics()
        return found
    finally:
        await consumer.stop()


@pytest.mark.parametrize("name", WORKS)
def test_what_is_set_works_in_every_client(secured: Secured, name: str) -> None:
    settings = _settings(secured, WORKS[name])
    _, metadata = kafka.wait_for_broker(settings.kafka, 60)
    assert TOPIC in metadata.topics
    producer = kafka.open_client(Producer, clients.publisher(settings))
    producer.produce(TOPIC, name.encode())
    assert producer.flush(60) == 0
    consumer = kafka.open_client(Consumer, clients.reader(settings.kafka, "tries"))
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    seen: list[bytes] = []
    deadline = time.monotonic() + 60
    while name.encode() not in seen and time.monotonic() < deadline:
        seen += [m.value() for m in consumer.consume(100, 0.1) if m.error() is None]
    consumer.close()
    assert name.encode() in seen
    assert TOPIC in asyncio.run(_ask_with_aiokafka(settings.kafka))


@pytest.mark.parametrize("name", FAILS)
def test_what_is_set_is_ignored_by_no_client(secured: Secured, name: str) -> None:
    settings = _settings(secured, FAILS[name])
    with pytest.raises(KafkaUnavailable) as caught:
        kafka.wait_for_broker(settings.kafka, 3, say=lambda text: None)
    with pytest.raises(KafkaError) as refused:
        asyncio.run(_ask_with_aiokafka(settings.kafka))
    for text in (str(caught.value), repr(refused.value)):
        assert PASSWORD not in text
        assert KEY_PASSWORD not in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own certificate in texts", "OAUTHBEARER over TLS, https with a file"])
def test_the_pipeline_works_with_it_from_end_to_end(secured: Secured, tmp_path: Path, name: str) -> None:
    settings = _settings(secured, WORKS[name])
    pipeline = Pipeline(secured.plaintext, tmp_path)
    properties = {k: v.replace("\n", r"\n") for k, v in settings.kafka.client.items()}
    env = {
        "TAILRACE_KAFKA_BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "TAILRACE_KAFKA_CLIENT": "\n".join(f"{k}={v}" for k, v in properties.items()),
    }
    secure = msgspec.structs.replace(pipeline.settings, kafka=settings.kafka)
    with Publisher(settings=secure) as publisher:
        for n in range(20):
            publisher.publish(event(n=n))
    assert publisher.counts.delivered == 20
    process = pipeline.tailrace("process", "--instance-id", "process", name="process", env=env)
    connect = pipeline.tailrace("connect", "console", "--until-caught-up", name="connect", env=env)
    with process:
        pipeline.wait_for_enriched(20, alive=(process,))
        with connect:
            assert connect.wait(120) == 0, connect.tail()
        assert process.sigterm(60) == 0, process.tail()
    said = process.output() + connect.output()
    assert "Traceback" not in said
    assert PASSWORD not in said
    assert secured.key.splitlines()[1] not in said
    checked = CliRunner().invoke(cli, ["check", "--json"], env={**pipeline.env, **env})
    assert (checked.exit_code, json.loads(checked.stdout)["problems"]) == (0, [])
