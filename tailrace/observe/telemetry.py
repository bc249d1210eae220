"""OpenTelemetry metrics and traces of a process.

/metrics is always served; OTLP/HTTP is used if OpenTelemetry's standard variables name an endpoint.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import Tracer

log: Final = logging.getLogger("tailrace.observe.telemetry")

STOP_SECONDS: Final = 5.0
"""How long the last export may take when the process stops."""
ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"


def exported(signal: str, env: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's variables enable a signal (METRICS or TRACES) over OTLP."""
    if env.get("OTEL_SDK_DISABLED", "").lower() == "true" or "otlp" not in env.get(
        f"OTEL_{signal}_EXPORTER", "otlp"
    ).split(","):
        return False
    return bool(env.get(ENDPOINT) or env.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"))


def resource(service: str, instance_id: str, env: Mapping[str, str]) -> Resource:
    """The process's resource. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override our values."""
    ours = {"service.name": service, "service.instance.id": instance_id}
    found = Resource.create()
    named = env.get("OTEL_SERVICE_NAME") or "service.name=" in env.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource(
        {**found.attributes, **ours, **({"service.name": found.attributes["service.name"]} if named else {})}
    )


class Telemetry:
    """The telemetry of one process, from its creation until `close`."""

    def __init__(self, service: str, scope: str, instance_id: str, env: Mapping[str, str]) -> None:
        """Starts metrics, and traces if they are exported.

        Args:
            service: the service name, unless a variable sets another.
            scope: the name of the instruments' and spans' scope.
            instance_id: service.instance.id.
            env: the environment, with OpenTelemetry's variables.
        """
        of = resource(service, instance_id, env)
        metrics, traces = exported("METRICS", env), exported("TRACES", env)
        if (metrics or traces) and not _otlp_is_there():
            log.warning("%s is set, but the exporter is missing: pip install 'tailrace[otlp]'", ENDPOINT)
            metrics = traces = False
        protocol = env.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        if (metrics or traces) and protocol != "http/protobuf":
            log.warning(
                "OTEL_EXPORTER_OTLP_PROTOCOL is %s: only http/protobuf (port 4318) is supported", protocol
            )
        self._scrape = threading.Lock()
        readers: list[MetricReader] = [_prometheus()]
        if metrics:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
        self._meters = MeterProvider(readers, of, shutdown_on_exit=False)
        self._spans: Any = None
        if traces:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            self._spans = TracerProvider(resource=of, shutdown_on_exit=False)
            self._spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self.meter: Final = self._meters.get_meter(scope)
        self.tracer: Final[Tracer | None] = self._spans.get_tracer(scope) if traces else None
        """None if traces are not exported."""

    def metrics(self) -> tuple[str, bytes]:
        """Content type and body of /metrics. Serialised: the reader does not support concurrent scrapes."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        with self._scrape:
            return CONTENT_TYPE_LATEST, generate_latest()

    def close(self) -> None:
        """Exports what is left, for at most 5 s."""
        last = threading.Thread(target=self._shutdown, name="last export", daemon=True)
        last.start()
        last.join(STOP_SECONDS)

    def _shutdown(self) -> None:
        try:
            if self._spans is not None:
                self._spans.shutdown()
            self._meters.shutdown(STOP_SECONDS * 1000)
        except Exception as e:
            log.warning("the last export: %s: %s", type(e).__name__, e)


def _otlp_is_there() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def _prometheus() -> MetricReader:
    """The reader for /metrics, without the scope's labels if this release can omit them."""
    try:
        return PrometheusMetricReader(scope_info_enabled=False)
    except TypeError:
        return PrometheusMetricReader()
