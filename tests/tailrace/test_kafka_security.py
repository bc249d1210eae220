"""What the processor's consumer cannot follow of kafka.client is named, never ignored."""

from __future__ import annotations

import pytest

from tailrace import kafka_security
from tailrace.kafka_security import FOLLOWED, problems

PASSWORD = {"sasl.username": "me", "sasl.password": "marker-1"}
OIDC = {
    "security.protocol": "sasl_ssl",
    "sasl.mechanism": "OAUTHBEARER",
    "sasl.oauthbearer.method": "oidc",
    "sasl.oauthbearer.client.id": "me",
    "sasl.oauthbearer.client.secret": "marker-1",
    "sasl.oauthbearer.token.endpoint.url": "https://h/token",
}


@pytest.mark.parametrize(
    "client",
    [
        {},
        {"security.protocol": "PLAINTEXT", "client.id": "x", "linger.ms": "9"},
        {"security.protocol": "SSL", "ssl.ca.pem": "x"},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "plain", **PASSWORD},
        {"security.protocol": "sasl_plaintext", "sasl.mechanisms": "SCRAM-SHA-512", **PASSWORD},
        OIDC,
        {k.replace("client.id", "client.credentials.client.id"): v for k, v in OIDC.items()},
        {
            "ssl.sigalgs.list": "x",
            "sasl.kerberos.keytab": "x",
        },  # without TLS and SASL librdkafka ignores them too
        {"security.protocol": "ssl", "sasl.mechanism": "GSSAPI"},
    ],
)
def test_what_the_processor_follows(client: dict[str, str]) -> None:
    assert list(problems(client)) == []


@pytest.mark.parametrize(
    ("client", "problem"),
    [
        ({"security.protocol": "smoke"}, "kafka.client.security.protocol: is not valid"),
        (
            {"security.protocol": "ssl", "ssl.curves.list": "P-256"},
            "kafka.client.ssl.curves.list: is not supp",
        ),
        ({"security.protocol": "ssl", "ssl.sigalgs.list": "x"}, "kafka.client.ssl.sigalgs.list: is not supp"),
        ({"security.protocol": "ssl", "ssl.providers": "x"}, "kafka.client.ssl.providers: is not supported"),
        ({"security.protocol": "ssl", "ssl.engine.id": "x"}, "use ssl.key.location or ssl.key.pem"),
        ({"security.protocol": "ssl", "ssl.new.thing": "x"}, "kafka.client.ssl.new.thing: is not supported"),
        (
            {"security.protocol": "ssl", "enable.ssl.new": "x"},
            "kafka.client.enable.ssl.new: is not supported",
        ),
        (
            {"security.protocol": "ssl", "ssl.key.pem": "marker-1"},
            "ssl.key.… is set without ssl.certificate.…",
        ),
        ({"security.protocol": "ssl", "ssl.certificate.location": "x"}, "is set without ssl.key.…"),
        (
            {"security.protocol": "ssl", "enable.ssl.certificate.verification": "marker-1"},
            "verification: is not valid; use true or false",
        ),
        ({"security.protocol": "ssl", "ssl.endpoint.identification.algorithm": "no"}, "use https or none"),
        ({"security.protocol": "sasl_ssl", **PASSWORD}, "kafka.client.sasl.mechanism: is not set"),
        ({"security.protocol": "sasl_ssl", "sasl.mechanism": "GSSAPI"}, "sasl.mechanism: is not supported"),
        (
            {"security.protocol": "sasl_ssl", "sasl.mechanism": "PLAIN"},
            "kafka.client.sasl.username: is not set",
        ),
        (
            {
                "security.protocol": "sasl_ssl",
                "sasl.mechanism": "PLAIN",
                **PASSWORD,
                "sasl.kerberos.keytab": "x",
            },
            "kafka.client.sasl.kerberos.keytab: is not supported",
        ),
        (
            {**OIDC, "sasl.oauthbearer.method": "default"},
            "kafka.client.sasl.oauthbearer.method: must be oidc",
        ),
        ({**OIDC, "enable.sasl.oauthbearer.unsecure.jwt": "true"}, "set sasl.oauthbearer.method = oidc"),
        ({**OIDC, "sasl.oauthbearer.grant.type": "urn:x"}, "grant.type: is not supported by the processor"),
        ({**OIDC, "sasl.oauthbearer.client.secret": ""}, "client.secret: is not set; OAUTHBEARER needs it"),
        ({**OIDC, "sasl.oauthbearer.token.endpoint.url": "file:///etc/marker-1"}, "must start with http"),
        (
            {**OIDC, "sasl.oauthbearer.assertion.file": "x"},
            "sasl.oauthbearer.assertion.file: is not supported",
        ),
    ],
)
def test_what_it_cannot_follow_is_named_without_values(client: dict[str, str], problem: str) -> None:
    told = " ".join(problems(client))
    assert problem in told
    assert "marker-1" not in told


def test_every_followed_property_is_one_that_concerns_security() -> None:
    assert all(name.startswith(kafka_security._PREFIXES) for name in FOLLOWED)
