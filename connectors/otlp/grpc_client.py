"""OTLP over gRPC: the unary Export call on raw bytes.

grpcio (extra ``[grpc]``) is imported on first use.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from connectors.otlp.answers import partial_success_of
from connectors.otlp.grpc_status import decide
from connectors.sdk import redact
from connectors.sdk.http import place
from connectors.sdk.outcomes import Delivered, Outcome
from tailrace import __version__
from tailrace.errors import ConfigError, MissingPackage

METHOD: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_DETAILS: Final = "grpc-status-details-bin"
UNCUT: Final = 4000
"""Characters of a message that are kept; masking cuts it further."""


class GrpcClient:
    """One channel to one receiver. It is created by the first call, on that call's event loop."""

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        *,
        gzip: bool,
        ca_file: str | None,
        cert_file: str | None,
        key_file: str | None,
    ) -> None:
        """Checks the settings; connects on the first call.

        Args:
            endpoint: http://host:port in plain text, https://host:port with TLS; no path.
            headers: metadata of each call.
            ca_file: PEM file; without it gRPC's own list of authorities is used.

        Raises:
            ConfigError: a setting is wrong.
            MissingPackage: grpcio is not installed.
        """
        try:
            import grpc
            import grpc.aio
        except ModuleNotFoundError as e:
            raise MissingPackage(
                f'protocol = "grpc" needs the package {e.name}: pip install "tailrace[grpc]"'
            ) from None
        parts = urlsplit(endpoint)
        if parts.path.strip("/") or parts.query or parts.username:
            raise ConfigError(
                "endpoint: must be scheme, host and port only with protocol grpc; "
                f"for example {place(endpoint)}"
            )
        self._grpc: Any = grpc
        self._place = place(endpoint)
        self._target = (
            f"{parts.netloc}" if parts.port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 4317}"
        )
        self._metadata = tuple(_metadatum(name, value) for name, value in headers.items())
        self._compression = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression
        self._credentials: Any = None
        if parts.scheme == "https":
            chain, key = _read("cert_file", cert_file), _read("key_file", key_file)
            self._credentials = grpc.ssl_channel_credentials(_read("ca_file", ca_file), key, chain)
        self._channel: Any = None
        self._call: Any = None

    async def export(
        self, body: bytes, records: int, seconds: float, *, fix: str, quotas: Collection[str] = ()
    ) -> Outcome:
        """Sends an ExportTraceServiceRequest with `records` spans.

        Takes at most `seconds`, answer included. `fix` and `quotas` are those of `grpc_status.decide`.
        """
        if self._call is None:
            self._open()
        try:
            answer = await self._call(
                body,
                timeout=seconds,
                metadata=self._metadata,
                compression=self._compression,
                wait_for_ready=False,
            )
        except self._grpc.aio.AioRpcError as e:
            detail = redact.clean(f"{e.details() or ''}", UNCUT)
            found = next((v for k, v in e.trailing_metadata() or () if k == _DETAILS), b"")
            details = found if isinstance(found, bytes) else str(found).encode()
            return decide(e.code().name, detail, details, records, fix=fix, quotas=quotas)
        rejected, message = partial_success_of(answer)
        return Delivered(min(rejected, records), redact.clean(message, UNCUT))

    async def close(self) -> None:
        """Closes the channel; the next call opens another one."""
        channel, self._channel, self._call = self._channel, None, None
        if channel is not None:
            await channel.close()

    @property
    def place(self) -> str:
        """Where it sends to, safe for logs."""
        return self._place

    def _open(self) -> None:
        options = [("grpc.primary_user_agent", f"tailrace/{__version__}"), ("grpc.enable_http_proxy", 0)]
        aio = self._grpc.aio
        if self._credentials is None:
            self._channel = aio.insecure_channel(self._target, options)
        else:
            self._channel = aio.secure_channel(self._target, self._credentials, options)
        self._call = self._channel.unary_unary(METHOD)


def _metadatum(name: str, value: str) -> tuple[str, str | bytes]:
    """A header as gRPC metadata. Raises `ConfigError` that names the header, never its value."""
    key = name.lower()
    if key.endswith("-bin"):
        return key, value.encode()
    if not all(" " <= c <= "~" for c in value):
        raise ConfigError(f"{name}: must be printable ASCII with protocol grpc")
    return key, value


def _read(setting: str, path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise ConfigError(f"{setting}: {path} cannot be read: {e.strerror}") from None
