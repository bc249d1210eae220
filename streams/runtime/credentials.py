"""Gives the security properties of kafka.client to aiokafka, the client below Faust.

`tailrace.kafka_security` has the table of what becomes of each property.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import faust
from faust.types.auth import SASLMechanism

from streams.runtime.oidc import TokenProvider
from streams.runtime.tls import tls_context
from tailrace import kafka_security
from tailrace.errors import ConfigError


def broker_url(bootstrap_servers: str) -> str:
    """The server list in Faust's form, on the batch transport.

    librdkafka allows a protocol in front of a server; kafka.client has it for Faust.
    """
    servers = (s.strip().rpartition("://")[2] for s in bootstrap_servers.split(","))
    return "batch+kafka://" + ";".join(s for s in servers if s)


def credentials(client: Mapping[str, str]) -> Any:
    """Faust credentials for the kafka.client properties; None for plain text.

    Raises:
        ConfigError: names a property that the processor does not support or that is wrong.
    """
    if wrong := list(kafka_security.problems(client)):
        raise ConfigError("\n".join(wrong))
    protocol = kafka_security.protocol(client)
    if protocol == "plaintext":
        return None
    context = tls_context(client) if protocol.endswith("ssl") else None
    if protocol == "ssl":
        return faust.SSLCredentials(context=context)
    mechanism = kafka_security.mechanism(client)
    if mechanism == "OAUTHBEARER":
        return faust.OAuthCredentials(oauth_cb=TokenProvider(client), ssl_context=context)
    return faust.SASLCredentials(
        username=client["sasl.username"],
        password=client["sasl.password"],
        mechanism=SASLMechanism(mechanism),
        ssl_context=context,
    )
