"""Translates kafka.client settings (librdkafka's names) for aiokafka, the client below Faust."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import faust
from faust.types.auth import SASLMechanism

from tailrace.errors import ConfigError


def broker_url(bootstrap_servers: str) -> str:
    """The server list in Faust's form, on the batch transport."""
    return "batch+kafka://" + ";".join(s.strip() for s in bootstrap_servers.split(",") if s.strip())


def credentials(client: Mapping[str, str]) -> Any:
    """Faust credentials for the kafka.client properties; None for plain text.

    Raises:
        ConfigError: aiokafka does not support a property.
    """
    protocol = client.get("security.protocol", "plaintext").upper()
    if protocol == "PLAINTEXT":
        return None
    context = _tls(client) if protocol in ("SSL", "SASL_SSL") else None
    if protocol == "SSL":
        return faust.SSLCredentials(context=context)
    if protocol not in ("SASL_PLAINTEXT", "SASL_SSL"):
        raise ConfigError(
            f"kafka.client.security.protocol: {protocol} is not valid; "
            "use plaintext, ssl, sasl_plaintext or sasl_ssl"
        )
    mechanism = client.get("sasl.mechanism", client.get("sasl.mechanisms", "PLAIN")).upper()
    if mechanism not in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        raise ConfigError(
            f"kafka.client.sasl.mechanism: {mechanism} is not supported by the processor; "
            "use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
        )
    return faust.SASLCredentials(
        username=client.get("sasl.username", ""),
        password=client.get("sasl.password", ""),
        mechanism=SASLMechanism(mechanism),
        ssl_context=context,
    )


def _tls(client: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=client.get("ssl.ca.location"))
        if "ssl.certificate.location" in client:
            context.load_cert_chain(
                client["ssl.certificate.location"],
                client.get("ssl.key.location"),
                client.get("ssl.key.password"),
            )
    except (OSError, ssl.SSLError) as e:
        raise ConfigError(f"kafka.client.ssl.*: {e}") from None
    if client.get("ssl.endpoint.identification.algorithm") == "none":
        context.check_hostname = False
    return context
