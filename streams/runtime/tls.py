"""The TLS context that the ssl.… properties of kafka.client describe, for clients other than librdkafka."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tailrace import kafka_security
from tailrace.errors import ConfigError


def tls_context(client: Mapping[str, str]) -> ssl.SSLContext:
    """The TLS context that the ssl.… properties describe.

    Raises:
        ConfigError: a file or text of them cannot be used. Names the property; contains no values.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    load_authorities(context, client, "ssl.ca")
    _load_own(context, client)
    if "ssl.crl.location" in client:
        with _named("ssl.crl.location"):
            context.load_verify_locations(cafile=client["ssl.crl.location"])
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    if "ssl.cipher.suites" in client:
        with _named("ssl.cipher.suites"):
            context.set_ciphers(client["ssl.cipher.suites"])
    if client.get("ssl.endpoint.identification.algorithm", "https").lower() == "none":
        context.check_hostname = False
    if client.get("enable.ssl.certificate.verification", "true").lower() in kafka_security.FALSE:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def load_authorities(context: ssl.SSLContext, client: Mapping[str, str], prefix: str) -> None:
    """Loads the authorities in `<prefix>.location` and `<prefix>.pem`; without them, the system's.

    Raises:
        ConfigError: they cannot be read. Names the property.
    """
    location, pem = client.get(f"{prefix}.location"), client.get(f"{prefix}.pem")
    if location and location != "probe":
        with _named(f"{prefix}.location"):
            if Path(location).is_dir():
                context.load_verify_locations(capath=location)
            else:
                context.load_verify_locations(cafile=location)
    if pem:
        with _named(f"{prefix}.pem"):
            context.load_verify_locations(cadata=pem)
    if not pem and (not location or location == "probe"):
        context.load_default_certs()


def _load_own(context: ssl.SSLContext, client: Mapping[str, str]) -> None:
    """Loads the client's own certificate and key, if it has them."""
    if "ssl.keystore.location" in client:
        with _named("ssl.keystore.location"):
            chain, key = _keystore(client["ssl.keystore.location"], client.get("ssl.keystore.password", ""))
            _load_chain(context, chain, key, "")
    certificate = _text(client, "ssl.certificate")
    if certificate is not None:
        key_text = _text(client, "ssl.key")
        with _named("ssl.certificate.…, ssl.key.… or ssl.key.password"):
            _load_chain(context, certificate, key_text or b"", client.get("ssl.key.password", ""))


def _text(client: Mapping[str, str], prefix: str) -> bytes | None:
    """The bytes of `<prefix>.pem`, else of the file `<prefix>.location`; None if neither is set."""
    if (pem := client.get(f"{prefix}.pem")) is not None:
        return pem.encode()
    if (location := client.get(f"{prefix}.location")) is None:
        return None
    with _named(f"{prefix}.location"):
        return Path(location).read_bytes()


def _load_chain(context: ssl.SSLContext, chain: bytes, key: bytes, password: str) -> None:
    # The ssl module reads files only, and a key in memory must not reach a disk. A callback for the password:
    # without one, OpenSSL would ask for it on the terminal.
    with _in_memory(chain) as certificate_file, _in_memory(key) as key_file:
        context.load_cert_chain(certificate_file, key_file, lambda: password)


@contextmanager
def _in_memory(text: bytes) -> Iterator[str]:
    """The path of a file in memory that holds `text`."""
    descriptor = os.memfd_create("tailrace", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(text)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _keystore(path: str, password: str) -> tuple[bytes, bytes]:
    """Certificate chain and private key of a PKCS#12 file, as PEM."""
    try:
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
            pkcs12,
        )
    except ModuleNotFoundError:
        raise ConfigError(
            "kafka.client.ssl.keystore.location: needs the package cryptography: pip install cryptography; "
            "or use ssl.certificate.location and ssl.key.location"
        ) from None
    key, certificate, others = pkcs12.load_key_and_certificates(
        Path(path).read_bytes(), password.encode() or None
    )
    if key is None or certificate is None:
        raise ValueError("it holds no private key with a certificate")
    chain = b"".join(c.public_bytes(Encoding.PEM) for c in (certificate, *others))
    return chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turns errors into a `ConfigError` that names the property.

    Texts of OpenSSL have a reason and no content; those of other errors are left out unless the file
    system says them.
    """
    try:
        yield
    except ssl.SSLError as e:
        reason = getattr(e, "reason", None) or "cannot be used"
        raise ConfigError(f"kafka.client.{name}: {reason}") from None
    except OSError as e:
        raise ConfigError(f"kafka.client.{name}: {e.strerror or type(e).__name__}") from None
    except ValueError:
        raise ConfigError(f"kafka.client.{name}: cannot be read, or its password is wrong") from None
