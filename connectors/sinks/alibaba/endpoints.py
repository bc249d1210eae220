"""Where traces are sent to, and with which credentials, by the setting `endpoint`. Pure.

Alibaba Cloud has two families of endpoints. In one the licence key is part of the URL's path; in the other,
CMS 2.0, three headers say who sends. Over gRPC the key is metadata of each call.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import SplitResult, quote, unquote

import msgspec

from connectors.sdk import endpoint as urls
from connectors.sdk.http import place
from connectors.sdk.redact import MASK
from tailrace.errors import ConfigError

EXAMPLE: Final = "http://tracing-cn-heyuan.arms.aliyuncs.com"
XTRACE: Final = "xtrace"
SLS: Final = "sls"
CMS: Final = "cms"
LOG_SERVICE: Final = "log.aliyuncs.com"
"""Hosts of the log service have this in their name."""
CMS_PATH: Final = "/apm/trace/opentelemetry"
TRACES: Final = "/v1/traces"
IN_PATH: Final = {XTRACE: "/api/otlp/traces", SLS: "/api/v1/traces"}
"""Family -> path after `/adapt_<licence key>`."""
GRPC_PORT: Final = 8090
_SURE: Final = 8
"""A licence key longer than this is not part of a path by chance."""
_PASTED: Final = (*IN_PATH.values(), TRACES, CMS_PATH, "/api/otlp")
"""Endings of the setting that are removed, because people paste them; the outermost first."""
_ODD: Final = frozenset(' \t\r\n\\"<>^`{|}')
"""Characters of no URL. Most would be sent in an escaped form, or as part of the host's name."""


class Target(msgspec.Struct, frozen=True):
    """Where requests go."""

    url: str
    """With the licence key, if it is part of the path."""
    shown: str
    """The URL's path for messages, with the licence key masked."""
    headers: dict[str, str]
    """Headers, over gRPC metadata."""
    family: str

    def __repr__(self) -> str:
        """Without the licence key, in case a message shows it."""
        return f"Target({self.family}, {place(self.url)}{self.shown})"


def over_http(endpoint: str, license_key: str, *, family: str, workspace: str, project: str) -> Target:
    """The target of the protocol http/protobuf.

    Args:
        endpoint: The setting: with or without scheme and port. Without a scheme it is https.
        license_key: The setting.
        family: `XTRACE`, `SLS`, `CMS`, or auto: `CMS` with a workspace, else by the host's name.
        workspace: CMS 2.0's workspace; empty: none.
        project: CMS 2.0's project; empty: the first label of the host.

    Raises:
        ConfigError: A setting is not valid. The message never shows a key, nor the endpoint's path.
    """
    key = checked_key(license_key)
    parts = _parts(endpoint, "https", key)
    host = parts.hostname or ""
    if parts.port == GRPC_PORT and host.endswith(("aliyuncs.com", "aliyun.com")):
        raise ConfigError(
            f'endpoint: port {GRPC_PORT} is that of gRPC; set protocol = "grpc", or leave the port out'
        )
    path = parts.path
    for end in _PASTED:
        path = path.removesuffix(end)
    path = path.rstrip("/")
    if family == "auto":
        family = CMS if workspace else SLS if LOG_SERVICE in host else XTRACE
    if family != CMS:
        if project:
            raise ConfigError("project: is used with CMS 2.0 only; set workspace too, or leave project out")
        base = parts._replace(path=path).geturl()
        return Target(
            f"{base}/adapt_{quote(key, safe='')}{IN_PATH[family]}",
            f"/adapt_{MASK}{IN_PATH[family]}",
            {},
            family,
        )
    if not workspace:
        raise ConfigError(
            'workspace: is required with family = "cms", e.g. default-cms-1234567890-cn-hangzhou'
        )
    headers = urls.headers({"x-arms-license-key": key}, setting="license_key")
    headers |= urls.headers({"x-cms-workspace": workspace}, setting="workspace")
    headers |= urls.headers({"x-arms-project": project or host.partition(".")[0]}, setting="project")
    return Target(parts._replace(path=path + CMS_PATH + TRACES).geturl(), CMS_PATH + TRACES, headers, family)


def over_grpc(
    endpoint: str, license_key: str, *, workspace: str, family: str = "auto", project: str = ""
) -> Target:
    """The target of the protocol grpc: scheme, host and port, and the metadata of each call.

    Args:
        endpoint: The setting: with or without scheme and port. Without a scheme it is http, which is plain
            text; without a port 8090.
        license_key: The setting.
        workspace: Must be empty: no endpoint of CMS 2.0 is known to take gRPC.
        family: Must be auto or `XTRACE`.
        project: Must be empty.

    Raises:
        ConfigError: A setting is not valid.
    """
    key = checked_key(license_key)
    for setting, value in (("workspace", workspace), ("project", project)):
        if value:
            raise ConfigError(f'{setting}: CMS 2.0 is used over HTTP only; set protocol = "http/protobuf"')
    if family not in ("auto", XTRACE):
        raise ConfigError(
            f'family: {family} is a path, which protocol grpc does not have; set protocol = "http/protobuf"'
        )
    parts = _parts(endpoint, "http", key)
    if parts.path:
        raise ConfigError(f"endpoint: must be scheme, host and port only with protocol grpc; e.g. {EXAMPLE}")
    netloc = parts.netloc if parts.port else f"{parts.netloc.rstrip(':')}:{GRPC_PORT}"
    return Target(parts._replace(netloc=netloc).geturl(), "", {"Authentication": key}, XTRACE)


def checked_key(license_key: str) -> str:
    """The licence key. Raises `ConfigError` that never shows it."""
    if not license_key or not license_key.isascii() or not license_key.isprintable() or " " in license_key:
        raise ConfigError(
            "license_key: is not a valid licence key, which is printable ASCII without spaces; the console "
            "shows it as licence key or authentication token"
        )
    return license_key


def _parts(endpoint: str, scheme: str, key: str) -> SplitResult:
    """The parts of the setting; `scheme` is that of one without. Raises `ConfigError`."""
    text = endpoint.strip()
    if not text:
        raise ConfigError(f"endpoint: is empty; set the console's endpoint, e.g. {EXAMPLE}")
    if not _ODD.isdisjoint(text) or not text.isprintable():
        raise ConfigError(f"endpoint: has a character that no URL has, such as a space; e.g. {EXAMPLE}")
    if "://" not in text.partition("?")[0]:
        text = f"{scheme}://{text}"
    parts = urls.base(text, setting="endpoint", vendor="Alibaba Cloud", example=EXAMPLE)
    if parts.port == 0 or not _is_host(parts.netloc, parts.hostname or ""):
        raise ConfigError(f"endpoint: does not have a valid host and port; e.g. {EXAMPLE}")
    _refuse_key(parts.path, key)
    return parts


def _is_host(netloc: str, host: str) -> bool:
    """Whether `netloc` is a name or an address, and perhaps a port. A name is ASCII, as DNS has it."""
    if ":" in host:
        try:
            IPv6Address(host)
        except ValueError:
            return False
        return re.fullmatch(r"\[[^\]]*\](:\d*)?", netloc) is not None
    labels = host.removesuffix(".").split(".")
    named = all(re.fullmatch("[a-z0-9_-]{1,63}", label) for label in labels)
    return named and netloc.lower().partition(":")[0] == host


def _refuse_key(path: str, key: str) -> None:
    """The endpoint is no secret setting, so it must not hold the key."""
    plain = unquote(path)
    if "adapt_" in plain.lower() or key in plain.split("/") or (len(key) > _SURE and key in plain):
        raise ConfigError(
            "endpoint: has a licence key in its path; put it into license_key, and only scheme and host "
            f"here, e.g. {EXAMPLE}"
        )
