"""A double of Alibaba Cloud: enforces the documented rules, stores spans, fails as scripted.

    python -m connectors.testing.doubles.alibaba --port 0 --json

It serves both families of endpoints, the one with the licence key in the path and CMS 2.0. `GET /_state`
returns what it holds, `POST /_control` changes keys and faults while it runs. Like the real store, as far as
is known, it appends: a span that comes twice is there twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, Unpack

import click
import msgspec
from aiohttp import web

from connectors.testing.doubles import otlp_request
from connectors.testing.doubles.alibaba_rules import check_headers, check_token, problems, tokens
from connectors.testing.doubles.command import FaultOptions, double_command
from connectors.testing.doubles.faults import Faults
from connectors.testing.doubles.received import ReceivedSpan, latest
from connectors.testing.doubles.request_rules import RequestRefused
from connectors.testing.doubles.server import Answer, Double, Incoming, ServerOptions, json_answer

XTRACE: Final = "/adapt_{token}/api/otlp/traces"
SLS: Final = "/adapt_{token}/api/v1/traces"
CMS: Final = "/apm/trace/opentelemetry/v1/traces"
MAX_BYTES: Final = 2_000_000
_TOKEN: Final = re.compile("/adapt_[^/]*")


class AlibabaFaults(Faults, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Faults of the Alibaba Cloud double."""

    quota: Literal["", "WriteQuotaExceed", "ShardWriteQuotaExceed"] = ""
    """Whether the requests of `status_first` are answered with 403 and this code, of which nothing is stored.

    For this `status` must be 403.
    """
    partial_rejected: int = 0
    """Spans at the end of every request that are rejected by partial_success and not stored."""


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /_control. Fields that are left out are not changed."""

    license_key: str | None = None
    faults: AlibabaFaults | None = None


class AlibabaDouble(Double[AlibabaFaults]):
    """The server, in this process.

        async with AlibabaDouble() as double:
            ...  # endpoint = double.endpoint, license_key = double.license_key
            double.spans

    Args:
        license_key: The licence key that requests must have; empty: any.
        workspace: The workspace of CMS 2.0 that requests must name; empty: any.
        project: The project of CMS 2.0 that requests must name; empty: any.
        faults: The fault plan.
        server: See `ServerOptions`.
    """

    groups: ClassVar[tuple[str, ...]] = ("traces",)
    default_max_bytes: ClassVar[int] = MAX_BYTES
    headers_kept: ClassVar[frozenset[str]] = frozenset({"x-arms-project", "x-cms-workspace"})

    def __init__(
        self,
        *,
        license_key: str = "license-key-test",
        workspace: str = "",
        project: str = "",
        faults: AlibabaFaults | None = None,
        **server: Unpack[ServerOptions],
    ) -> None:
        super().__init__(faults or AlibabaFaults(), server)
        self.license_key, self.workspace, self.project = license_key, workspace, project
        self.spans: list[ReceivedSpan] = []
        """All stored spans, in the order received."""
        self.problems: list[str] = []
        """What the server accepted, and the console would not show as it should."""

    @property
    def state(self) -> dict[str, Any]:
        """The answer to `GET /_state`: the last span of each id, and what the console would count."""
        spans = list(latest(self.spans).values())
        found: dict[str, Any] = msgspec.to_builtins(
            {
                "spans": spans,
                "received": len(self.spans),
                "requests": self.requests,
                "tokens": tokens(spans),
                "entries": [s.span_id for s in spans if s.kind == "server"],
                "problems": self.problems,
            }
        )
        return found

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(XTRACE, self.handle("traces", self._take_spans)),
            web.post(SLS, self.handle("traces", self._take_spans)),
            web.post(CMS, self.handle("traces", self._take_spans)),
            web.get("/_state", self._state),
            web.post("/_control", self._control),
        ]

    def admit(self, request: web.Request, group: str) -> Mapping[str, str]:
        token = request.match_info.get("token")
        if token is None:
            check_headers(request.headers, self.license_key, self.workspace, self.project)
        else:
            check_token(token, self.license_key)
        return {}

    def error_answer(self, refused: RequestRefused) -> Answer:
        code = (
            self.faults.quota if refused.status == 403 and self.faults.quota else _CODES.get(refused.status)
        )
        return json_answer(
            refused.status, {"errorCode": code or "InternalServerError", "errorMessage": refused.message}
        )

    def path_kept(self, request: web.Request) -> str:
        return _TOKEN.sub("/adapt_***", request.path)

    def _take_spans(self, incoming: Incoming) -> Answer:
        request = incoming.request
        plain = self.decompressed(request, incoming.body)
        if plain and request.content_type != otlp_request.CONTENT_TYPE:
            raise RequestRefused(
                415, f"Content-Type {request.content_type} is not supported; send {otlp_request.CONTENT_TYPE}"
            )
        spans = otlp_request.parse(plain, incoming.number, 0)
        rejected = min(self.faults.partial_rejected, len(spans))
        stored = spans[: len(spans) - rejected]
        self.problems += [problem for span in stored for problem in problems(span)]
        self.spans += stored
        body = otlp_request.success(rejected, "rejected as scripted" if rejected else "")
        return Answer(body=body, content_type=otlp_request.CONTENT_TYPE)

    # -- its own paths
    async def _state(self, request: web.Request) -> web.Response:
        return web.json_response(self.state)

    async def _control(self, request: web.Request) -> web.Response:
        try:
            control = msgspec.json.decode(await request.read(), type=Control)
            if control.faults is not None:
                self.faults = control.faults
        except ValueError as e:  # msgspec's errors are ValueErrors
            return web.json_response({"message": str(e)}, status=400)
        self.license_key = self.license_key if control.license_key is None else control.license_key
        return web.json_response({})

    # -- as a command
    def ready(self) -> Mapping[str, str]:
        return {"endpoint": self.endpoint, "license_key": self.license_key}

    def greeting(self) -> str:
        return (
            f"Alibaba Cloud's trace endpoints at {self.endpoint}, licence key {self.license_key}; "
            f"what it stored is at {self.endpoint}/_state."
        )

    def summary(self) -> str:
        return f"stopped: {len(self.spans)} spans, {len(latest(self.spans))} distinct"


_CODES: Final = {
    400: "InvalidParameter",
    401: "Unauthorized",
    403: "Unauthorized",
    413: "PostBodyTooLarge",
    415: "InvalidContentType",
    429: "RequestLimitExceeded",
    503: "ServerBusy",
}


@double_command(max_bytes=MAX_BYTES)
@click.option("--license-key", default="license-key-test", show_default=True)
@click.option("--workspace", default="", help="Workspace that CMS 2.0 requires; empty: any.")
@click.option("--project", default="", help="Project that CMS 2.0 requires; empty: any.")
@click.option(
    "--quota",
    default="",
    type=click.Choice(["", "WriteQuotaExceed", "ShardWriteQuotaExceed"]),
    help="With --status 403: the error code of these answers.",
)
def main(
    server: ServerOptions,
    faults: FaultOptions,
    *,
    license_key: str,
    workspace: str,
    project: str,
    quota: Literal["", "WriteQuotaExceed", "ShardWriteQuotaExceed"],
) -> AlibabaDouble:
    """Run a double of Alibaba Cloud's trace endpoints, which keeps spans in memory."""
    return AlibabaDouble(
        license_key=license_key,
        workspace=workspace,
        project=project,
        faults=AlibabaFaults(**faults, quota=quota),
        **server,
    )


if __name__ == "__main__":
    main()
