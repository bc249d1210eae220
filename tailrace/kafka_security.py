"""How each security property of `kafka.client` reaches the clients.

librdkafka reads `kafka.client` itself: in publishers, connectors, commands and the processor's producers.
The processor's consumer is aiokafka's, which has other parameters. `FOLLOWED` says what becomes of each
property there; whatever else concerns security is refused by name instead of being ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

PROTOCOLS: Final = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")

FOLLOWED: Final[Mapping[str, str]] = {
    "security.protocol": "security_protocol",
    "ssl.ca.location": "authorities of the SSL context, from a file or a folder",
    "ssl.ca.pem": "authorities of the SSL context",
    "ssl.certificate.location": "certificate chain of the SSL context",
    "ssl.certificate.pem": "certificate chain of the SSL context, read from memory",
    "ssl.key.location": "private key of the SSL context",
    "ssl.key.pem": "private key of the SSL context, read from memory",
    "ssl.key.password": "password of the private key",
    "ssl.keystore.location": "chain and private key of the SSL context (needs the package cryptography)",
    "ssl.keystore.password": "password of the keystore",
    "ssl.crl.location": "revoked certificates of the SSL context, which then checks the broker's",
    "ssl.cipher.suites": "ciphers of the SSL context up to TLS 1.2",
    "enable.ssl.certificate.verification": "verify mode of the SSL context",
    "ssl.endpoint.identification.algorithm": "check of the host name by the SSL context",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
    "sasl.oauthbearer.method": "sasl_oauth_token_provider: oidc",
    "sasl.oauthbearer.grant.type": "sasl_oauth_token_provider: client_credentials",
    "sasl.oauthbearer.token.endpoint.url": "sasl_oauth_token_provider: where it asks for tokens",
    "sasl.oauthbearer.client.id": "sasl_oauth_token_provider: user",
    "sasl.oauthbearer.client.secret": "sasl_oauth_token_provider: password",
    "sasl.oauthbearer.client.credentials.client.id": "as sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.credentials.client.secret": "as sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.scope": "sasl_oauth_token_provider: scope of the token",
    "sasl.oauthbearer.extensions": "sasl_oauth_token_provider: extensions",
    "https.ca.location": "authorities of the token endpoint",
    "https.ca.pem": "authorities of the token endpoint",
}
"""Property -> parameter of aiokafka that it becomes."""

_INSTEAD: Final = {
    "enable.sasl.oauthbearer.unsecure.jwt": "set sasl.oauthbearer.method = oidc",
    "ssl.engine.location": "use ssl.key.location or ssl.key.pem",
    "ssl.engine.id": "use ssl.key.location or ssl.key.pem",
    "ssl.ca.certificate.stores": "use ssl.ca.location",
}
_PREFIXES: Final = ("ssl.", "ssl_", "enable.ssl.", "sasl.", "enable.sasl.", "https.", "security.")
_OIDC: Final = (
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
)
TRUE: Final = ("true", "t", "1")
FALSE: Final = ("false", "f", "0")


def protocol(client: Mapping[str, str]) -> str:
    """security.protocol in lower case, as librdkafka reads it."""
    return client.get("security.protocol", "plaintext").lower()


def mechanism(client: Mapping[str, str]) -> str:
    """The SASL mechanism; empty if none is set. The last of the two names wins, as in librdkafka."""
    given = [v for k, v in client.items() if k in ("sasl.mechanism", "sasl.mechanisms")]
    return given[-1].upper() if given else ""


def oauth(client: Mapping[str, str], name: str) -> str:
    """sasl.oauthbearer.client.id or .client.secret, whichever of its two names is set; or another one."""
    other = name.replace("oauthbearer.client.", "oauthbearer.client.credentials.client.")
    return client.get(name) or client.get(other, "")


def problems(client: Mapping[str, str]) -> Iterator[str]:
    """What of `kafka.client` the processor cannot follow: one sentence each, without values."""
    kind = protocol(client)
    if kind not in PROTOCOLS:
        yield f"kafka.client.security.protocol: is not valid; use {', '.join(PROTOCOLS)}"
        return
    tls, sasl = kind.endswith("ssl"), kind.startswith("sasl")
    for name in client:
        if name in FOLLOWED or not name.startswith(_PREFIXES):
            continue
        of_tls = name.startswith(("ssl", "enable.ssl."))
        if not (tls if of_tls else sasl):
            continue  # librdkafka does not use it either
        instead = _INSTEAD.get(name)
        yield f"kafka.client.{name}: is not supported by the processor" + (f"; {instead}" if instead else "")
    if tls:
        yield from _tls_problems(client)
    if sasl:
        yield from _sasl_problems(client)


def _tls_problems(client: Mapping[str, str]) -> Iterator[str]:
    verify = client.get("enable.ssl.certificate.verification", "true").lower()
    if verify not in TRUE + FALSE:
        yield "kafka.client.enable.ssl.certificate.verification: is not valid; use true or false"
    if client.get("ssl.endpoint.identification.algorithm", "https").lower() not in ("https", "none"):
        yield "kafka.client.ssl.endpoint.identification.algorithm: is not valid; use https or none"
    certificate = "ssl.certificate.location" in client or "ssl.certificate.pem" in client
    key = "ssl.key.location" in client or "ssl.key.pem" in client
    if certificate != key:
        have, lack = ("ssl.certificate.…", "ssl.key.…") if certificate else ("ssl.key.…", "ssl.certificate.…")
        yield f"kafka.client: {have} is set without {lack}; set .location or .pem of it"


def _sasl_problems(client: Mapping[str, str]) -> Iterator[str]:
    chosen = mechanism(client)
    if chosen not in MECHANISMS:
        what = "is not supported by the processor" if chosen else "is not set"
        yield f"kafka.client.sasl.mechanism: {what}; use {', '.join(MECHANISMS)}"
        return
    if chosen != "OAUTHBEARER":
        for name in ("sasl.username", "sasl.password"):
            if not client.get(name):
                yield f"kafka.client.{name}: is not set; {chosen} needs it"
        return
    if client.get("sasl.oauthbearer.method", "default").lower() != "oidc":
        yield "kafka.client.sasl.oauthbearer.method: must be oidc"
    if client.get("sasl.oauthbearer.grant.type", "client_credentials") != "client_credentials":
        yield (
            "kafka.client.sasl.oauthbearer.grant.type: is not supported by the processor; "
            "use client_credentials"
        )
    for name in _OIDC:
        if not oauth(client, name):
            yield f"kafka.client.{name}: is not set; OAUTHBEARER needs it"
    if (url := oauth(client, _OIDC[0])) and not url.lower().startswith(("http://", "https://")):
        yield f"kafka.client.{_OIDC[0]}: must start with http:// or https://"
