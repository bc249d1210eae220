"""URLs and headers out of settings: checked when a sink is made, so that a mistake is found before the first
record."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from connectors.sdk.http import place
from tailrace.errors import ConfigError


def checked(endpoint: str, *, setting: str = "endpoint") -> str:
    """An HTTP URL as it stands. Raises `ConfigError` that shows no more of it than scheme, host and port."""
    if not endpoint.lower().startswith(("http://", "https://")):
        raise ConfigError(f"{setting}: must start with http:// or https://")
    parts = _parts(endpoint)
    if parts is None or parts.fragment:
        raise ConfigError(f"{setting}: {place(endpoint)} is no URL to send to")
    return endpoint


def url(endpoint: str, path: str = "", *, setting: str = "endpoint") -> str:
    """`endpoint` with `path` added unless it ends with it. Raises `ConfigError` for what is no HTTP URL."""
    parts = urlsplit(checked(endpoint, setting=setting))
    own = parts.path.rstrip("/")
    return parts._replace(path=own if not path or own.endswith(path) else own + path).geturl()


def base(text: str, *, setting: str, vendor: str, example: str) -> SplitResult:
    """The base URL of a vendor's API, in its parts, without slashes at the end of its path.

    Args:
        text: the setting's value.
        setting: its name, for errors.
        vendor: whose API it is, for errors.
        example: a base URL that can be used, for errors.

    Raises `ConfigError` that shows nothing of it: for what is not a URL of HTTP, and for one with a user, a
    query or a fragment, where keys may be.
    """
    parts = _parts(text.strip())
    if parts is None:
        raise ConfigError(f"{setting}: must be the base URL of {vendor}, e.g. {example}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(f"{setting}: takes no user, query or fragment; e.g. {example}")
    return parts._replace(path=parts.path.rstrip("/"))


def _parts(text: str) -> SplitResult | None:
    """None: what HTTP cannot be sent to."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return None
    return parts if usable else None


def headers(values: Mapping[str, str], *, setting: str = "headers") -> dict[str, str]:
    """Headers that HTTP can carry. Raises `ConfigError` that names the header, never its value, nor what is
    no name."""
    for number, (name, value) in enumerate(values.items(), 1):
        if not name or not all((c.isalnum() and c.isascii()) or c in "!#$%&'*+-.^_`|~" for c in name):
            raise ConfigError(
                f"{setting}: entry {number} has no name that a header can have"
            )  # it may be a key
        if any(c in value for c in "\r\n\0"):
            raise ConfigError(f"{setting}: the value of {name} has line breaks, which a header cannot carry")
    return dict(values)
