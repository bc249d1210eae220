"""The TLS context and the tokens that kafka.client means for the processor's consumer."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka.errors import KafkaConnectionError
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509 import load_pem_x509_certificate
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth, server_list
from faust.types.auth import AuthProtocol
from yarl import URL

from streams.runtime.credentials import broker_url, credentials
from streams.runtime.oidc import TokenProvider
from streams.runtime.tls import tls_context
from tailrace.errors import ConfigError
from tests.connectors.certificates import Certificates

SECRET = "marker-7f3a91"
TLS = {"security.protocol": "ssl"}


def texts(made: Certificates) -> tuple[str, str, str]:
    return made.ca.read_text(), made.client_chain.read_text(), made.client_key.read_text()


def encrypted(made: Certificates, folder: Path) -> tuple[str, Path]:
    """The client's key with a password, and its key and chain as a keystore."""
    key: Any = load_pem_private_key(made.client_key.read_bytes(), None)
    chain = load_pem_x509_certificate(made.client_chain.read_bytes())
    secret = BestAvailableEncryption(SECRET.encode())
    keystore = folder / "client.p12"
    keystore.write_bytes(pkcs12.serialize_key_and_certificates(b"client", key, chain, None, secret))
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret).decode(), keystore


def handshake(context: ssl.SSLContext, made: Certificates, name: str = "localhost") -> str | None:
    """The client's name that a server sees which asks for certificates of the authority; None: it has none.

    Raises:
        ssl.SSLError: one of them refuses the other.
    """
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(made.chain, made.key)
    server_side.load_verify_locations(made.ca)
    server_side.verify_mode = ssl.CERT_OPTIONAL
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    for _ in range(10):
        for side in (client, server):
            if side not in done:
                try:
                    side.do_handshake()
                    done.add(side)
                except ssl.SSLWantReadError:
                    pass
    assert done == {client, server}
    found: Any = server.getpeercert()
    return found["subjectAltName"][0][1] if found else None


def test_authorities_from_a_file_or_a_text_are_the_only_ones(certificates: Certificates) -> None:
    ca, _, _ = texts(certificates)
    for client in ({"ssl.ca.location": str(certificates.ca)}, {"ssl.ca.pem": ca}):
        context = tls_context({**TLS, **client})
        assert len(context.get_ca_certs()) == 1
        assert handshake(context, certificates) is None
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tls_context(TLS), certificates)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tls_context({**TLS, "ssl.ca.pem": ca}), certificates, "elsewhere.example")


def test_a_file_and_a_text_of_authorities_add_up(certificates: Certificates) -> None:
    ca, chain, _ = texts(certificates)
    context = tls_context({**TLS, "ssl.ca.pem": ca, "ssl.ca.location": str(certificates.ca)})
    assert handshake(context, certificates) is None
    assert tls_context({**TLS, "ssl.ca.location": "probe"}).verify_mode == ssl.CERT_REQUIRED
    assert chain not in ca


def test_verification_and_the_check_of_the_name_can_be_turned_off(certificates: Certificates) -> None:
    ca, _, _ = texts(certificates)
    off = {"enable.ssl.certificate.verification": "False"}
    assert handshake(tls_context({**TLS, **off}), certificates, "elsewhere.example") is None
    no_name = {"ssl.ca.pem": ca, "ssl.endpoint.identification.algorithm": "none"}
    assert handshake(tls_context({**TLS, **no_name}), certificates, "elsewhere.example") is None
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tls_context({**TLS, "ssl.endpoint.identification.algorithm": "none"}), certificates)


def test_the_clients_own_certificate_comes_from_files_texts_or_a_keystore(
    certificates: Certificates, tmp_path: Path
) -> None:
    ca, chain, key = texts(certificates)
    locked, keystore = encrypted(certificates, tmp_path)
    for own in (
        {
            "ssl.certificate.location": str(certificates.client_chain),
            "ssl.key.location": str(certificates.client_key),
        },
        {"ssl.certificate.pem": chain, "ssl.key.pem": key},
        {"ssl.certificate.pem": chain, "ssl.key.location": str(certificates.client_key)},
        {"ssl.certificate.pem": chain, "ssl.key.pem": locked, "ssl.key.password": SECRET},
        {"ssl.keystore.location": str(keystore), "ssl.keystore.password": SECRET},
    ):
        assert handshake(tls_context({**TLS, "ssl.ca.pem": ca, **own}), certificates) == "client@example.org"


def test_a_file_or_text_that_cannot_be_used_is_named_without_its_content(
    certificates: Certificates, tmp_path: Path
) -> None:
    _, chain, key = texts(certificates)
    locked, keystore = encrypted(certificates, tmp_path)
    other = certificates.key.read_text()
    garbage = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"
    (tmp_path / "garbage").write_text(SECRET)
    own = "ssl.certificate.…, ssl.key.… or ssl.key.password"
    for client, name in (
        ({"ssl.ca.location": "/nowhere/at/all"}, "ssl.ca.location: No such file"),
        ({"ssl.ca.location": str(tmp_path / "garbage")}, "ssl.ca.location"),
        ({"ssl.ca.pem": SECRET}, "ssl.ca.pem"),
        ({"ssl.crl.location": "/nowhere/at/all"}, "ssl.crl.location: No such file"),
        ({"ssl.cipher.suites": "nonsense"}, "ssl.cipher.suites"),
        (
            {"ssl.certificate.location": "/nowhere", "ssl.key.pem": key},
            "ssl.certificate.location: No such file",
        ),
        ({"ssl.certificate.pem": chain, "ssl.key.location": "/nowhere"}, "ssl.key.location: No such file"),
        ({"ssl.certificate.pem": chain, "ssl.key.pem": garbage}, own),
        ({"ssl.certificate.pem": chain, "ssl.key.pem": other}, own),  # of another certificate
        ({"ssl.certificate.pem": chain, "ssl.key.pem": locked}, own),  # asks nobody for the password
        ({"ssl.certificate.pem": chain, "ssl.key.pem": locked, "ssl.key.password": "wrong-marker-1"}, own),
        ({"ssl.keystore.location": "/nowhere"}, "ssl.keystore.location: No such file"),
        ({"ssl.keystore.location": str(keystore)}, "ssl.keystore.location: cannot be read, or its password"),
        ({"ssl.keystore.location": str(tmp_path / "garbage")}, "ssl.keystore.location: cannot be read"),
    ):
        with pytest.raises(ConfigError) as caught:
            credentials({**TLS, **client})
        text = str(caught.value)
        assert f"kafka.client.{name}" in text
        assert caught.value.__suppress_context__
        assert not any(part in text for part in (SECRET, "marker-1", "BEGIN"))


def test_without_the_package_for_keystores_the_message_says_what_to_do(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, keystore = encrypted(certificates, tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives.serialization", None)
    with pytest.raises(
        ConfigError, match=r"ssl\.keystore\.location: needs the package cryptography: pip install"
    ):
        tls_context({**TLS, "ssl.keystore.location": str(keystore), "ssl.keystore.password": SECRET})


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("name", ["sasl.mechanism", "sasl.mechanisms"])
def test_a_user_and_a_password(mechanism: str, name: str) -> None:
    client = {"sasl.username": "me", "sasl.password": SECRET, name: mechanism.lower()}
    plain = credentials_to_aiokafka_auth(credentials({**client, "security.protocol": "sasl_plaintext"}))
    assert plain["security_protocol"] == AuthProtocol.SASL_PLAINTEXT.value
    assert (plain["sasl_mechanism"], plain["sasl_plain_username"]) == (mechanism, "me")
    assert plain["ssl_context"] is None
    found = credentials({**client, "security.protocol": "SASL_SSL"})
    assert credentials_to_aiokafka_auth(found)["security_protocol"] == AuthProtocol.SASL_SSL.value
    assert SECRET not in repr(found)


def test_what_the_processor_does_not_support_is_a_config_error_with_every_name() -> None:
    with pytest.raises(ConfigError) as caught:
        credentials({**TLS, "ssl.curves.list": "P-256", "ssl.sigalgs.list": "x"})
    assert "ssl.curves.list" in str(caught.value)
    assert "ssl.sigalgs.list" in str(caught.value)
    assert credentials({}) is None


@pytest.mark.parametrize(
    ("servers", "want"),
    [
        ("h", ["h:9092"]),
        ("a:1, b:2,", ["a:1", "b:2"]),
        ("SASL_SSL://a:1,PLAINTEXT://b", ["a:1", "b:9092"]),
    ],
)
def test_servers_may_have_a_protocol_in_front(servers: str, want: list[str]) -> None:
    urls = [URL(u) for u in broker_url(servers).split(";")]
    assert str(urls[0]).startswith("batch+kafka://")
    parts = broker_url(servers).removeprefix("batch+kafka://").split(";")
    assert server_list([URL(f"batch+kafka://{p}") for p in parts], 9092) == want


# -- tokens


class Endpoint(HTTPServer):
    """A token endpoint. `answers`: what it says next; the last one repeats."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers)
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/token"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.asked.append((self.headers["Authorization"], form))
        answers = self.server.answers
        status, document = answers.pop(0) if len(answers) > 1 else answers[0]
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", self.server.url)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(*answers: tuple[int, Any]) -> Iterator[Endpoint]:
    with Endpoint(*answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def jwt(**claims: Any) -> str:
    parts = ({"alg": "none"}, claims)
    return (
        ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts) + "."
    )


def provider(url: str, clock: Any, **more: str) -> TokenProvider:
    found = credentials(
        {
            "security.protocol": "sasl_plaintext",
            "sasl.mechanism": "OAUTHBEARER",
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": "me",
            "sasl.oauthbearer.client.secret": SECRET,
            "sasl.oauthbearer.token.endpoint.url": url,
            **more,
        }
    )
    assert isinstance(found, faust.OAuthCredentials)
    assert isinstance(found.oauth_cb, TokenProvider)
    found.oauth_cb._clock = clock
    return found.oauth_cb


def test_a_token_is_kept_for_most_of_its_life() -> None:
    now = [1000.0]
    first, second = jwt(sub="me", exp=1100), jwt(sub="me", exp=1300)
    with serving((200, {"access_token": first}), (200, {"access_token": second})) as endpoint:
        made = provider(
            endpoint.url,
            lambda: now[0],
            **{"sasl.oauthbearer.scope": "a b", "sasl.oauthbearer.extensions": "x=1,y=2"},
        )
        assert asyncio.run(made.token()) == first
        now[0] = 1079
        assert asyncio.run(made.token()) == first
        now[0] = 1081
        assert asyncio.run(made.token()) == second
        basic = base64.b64encode(f"me:{SECRET}".encode()).decode()
        assert endpoint.asked == [(f"Basic {basic}", "grant_type=client_credentials&scope=a+b")] * 2
    assert made.extensions() == {"x": "1", "y": "2"}


@pytest.mark.parametrize(
    ("document", "life"),
    [
        ({"access_token": "opaque", "expires_in": 100}, 100),
        ({"access_token": "opaque"}, 60),
        ({"access_token": "a.b.c", "expires_in": "100"}, 100),
        ({"access_token": jwt(sub="me"), "expires_in": 100}, 100),
        ({"access_token": jwt(exp="x"), "expires_in": None}, 60),
    ],
)
def test_the_life_of_a_token_that_does_not_say_it(document: dict[str, Any], life: float) -> None:
    now = [1000.0]
    with serving((200, document)) as endpoint:
        made = provider(endpoint.url, lambda: now[0])
        asyncio.run(made.token())
        now[0] += life * 0.8 - 1
        asyncio.run(made.token())
        assert len(endpoint.asked) == 1
        now[0] += 2
        asyncio.run(made.token())
        assert len(endpoint.asked) == 2


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((401, {"error": SECRET}), "status 401"),
        ((302, {}), "status 302"),  # not followed: the secret would go to another server
        ((200, b"not json " + SECRET.encode()), "JSONDecodeError"),
        ((200, {"token": SECRET}), "no access_token in its answer"),
        ((200, [SECRET]), "no access_token in its answer"),
    ],
)
def test_an_endpoint_that_gives_no_token_is_tried_again_by_the_connection(
    answer: tuple[int, Any], why: str
) -> None:
    with serving(answer) as endpoint:
        made = provider(endpoint.url, lambda: 0.0)
        with pytest.raises(KafkaConnectionError, match=why) as caught:
            asyncio.run(made.token())
        assert SECRET not in str(caught.value)
        assert len(endpoint.asked) == 1
