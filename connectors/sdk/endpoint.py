"""Checks URLs and headers from settings when a sink is created, before it reads the first record."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from connectors.sdk.http import place
from tailrace.errors import ConfigError


def checked(endpoint: str, *, setting: str = "endpoint") -> str:
    """Returns `endpoint` unchanged if it is an HTTP URL without a fragment.

    Args:
        endpoint: The setting's value.
        setting: The setting's name, for the error.

    Raises:
        ConfigError: It is not such a URL. The message shows only scheme, host and port.
    """
    if not endpoint.lower().startswith(("http://", "https://")):
        raise ConfigError(
            f"{setting}: must start with http:// or https://, e.g. https://traces.example.com/v1"
        )
    parts = _parts(endpoint)
    if parts is None or parts.fragment:
        raise ConfigError(
            f"{setting}: {place(endpoint)} is not a valid HTTP URL; it needs a host and must not have a "
            "fragment, e.g. https://traces.example.com/v1"
        )
    return endpoint


def url(endpoint: str, path: str = "", *, setting: str = "endpoint") -> str:
    """Returns `endpoint` with `path` added, unless it already ends with `path`.

    Args:
        endpoint: The setting's value.
        path: Begins with a slash, or is empty.
        setting: The setting's name, for the error.

    Raises:
        ConfigError: `endpoint` is not an HTTP URL.
    """
    parts = urlsplit(checked(endpoint, setting=setting))
    own = parts.path.rstrip("/")
    return parts._replace(path=own if not path or own.endswith(path) else own + path).geturl()


def base(text: str, *, setting: str, vendor: str, example: str) -> SplitResult:
    """Splits the base URL of a vendor's API; trailing slashes of its path are removed.

    Args:
        text: The setting's value.
        setting: The setting's name, for errors.
        vendor: Whose API it is, for errors.
        example: A valid base URL, for errors.

    Raises:
        ConfigError: It is not an HTTP URL, or it has a user, a query or a fragment, which may hold keys. The
            message shows nothing of it.
    """
    parts = _parts(text.strip())
    if parts is None:
        raise ConfigError(f"{setting}: must be the base URL of {vendor}, e.g. {example}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(f"{setting}: must not have a user, query or fragment; e.g. {example}")
    return parts._replace(path=parts.path.rstrip("/"))


def _parts(text: str) -> SplitResult | None:
    """The parts of an HTTP URL with a host; None for anything else."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return None
    return parts if usable else None


def headers(values: Mapping[str, str], *, setting: str = "headers") -> dict[str, str]:
    """Checks headers: names of RFC 9110, values without line breaks and NUL.

    Args:
        values: Header name -> value.
        setting: The setting's name, for the error.

    Returns:
        The same headers, as a dict.

    Raises:
        ConfigError: A name or value is not valid. The message has no value, and no invalid name: it may be a
            key in the wrong place.
    """
    for number, (name, value) in enumerate(values.items(), 1):
        if not name or not all((c.isalnum() and c.isascii()) or c in "!#$%&'*+-.^_`|~" for c in name):
            raise ConfigError(
                f"{setting}: entry {number} does not have a valid header name, e.g. x-scope-orgid"
            )
        if any(c in value for c in "\r\n\0"):
            raise ConfigError(f"{setting}: the value of {name} has a line break or NUL; remove it")
    return dict(values)
