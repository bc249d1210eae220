"""Whether a worker lives and is ready, over HTTP, from a thread of its own: it answers when the event loop does not."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import msgspec

from streams.observe.observed import Observed
from streams.observe.stuck import TAKE_OVER
from tailrace.errors import ConfigError

log: Final = logging.getLogger("streams.observe.health")

LOOP_SECONDS: Final = 10.0
"""The event loop of a healthy worker runs at least this often; while it takes over partitions, ten times as long."""
SLOW_SECONDS: Final = 10.0
"""How long a client may keep a connection without asking."""

Page = Callable[[], tuple[int, str, bytes]]
"""Gives status, content type and body."""


def unhealthy(seen: Observed) -> list[str]:
    """Why this process should be started anew; empty: it is well. A worker that waits for Kafka is."""
    reasons = []
    silent = seen.loop_silent()
    if silent > LOOP_SECONDS * (TAKE_OVER if seen.opening else 1):
        reasons.append(f"the event loop has not run for {silent:.0f} s")
    if seen.failed is not None:
        reasons.append(seen.failed)
    if not seen.watching() and not seen.stopping:
        reasons.append("the watchdog does not run")
    return reasons


def unready(seen: Observed) -> list[str]:
    """Why it does not work on all that it should; empty: it does, or the group has no partition for it."""
    if seen.stopping:
        return ["stopping"]
    reasons = unhealthy(seen)
    if seen.assigned is None:
        reasons.append(seen.phase)
    elif missing := sorted(seen.assigned.difference(seen.owned())):
        reasons.append(f"taking over partitions {missing}")
    return reasons


def pages(seen: Observed, metrics: Callable[[], tuple[str, bytes]]) -> dict[str, Page]:
    """metrics: content type and body of /metrics."""

    def answer(reasons: list[str]) -> tuple[int, str, bytes]:
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        body = {"ok": not reasons, "reasons": reasons, "partitions": seen.owned()}
        return status, "application/json", msgspec.json.encode(body) + b"\n"

    found: dict[str, Page] = {
        "/healthz": lambda: answer(unhealthy(seen)),
        "/readyz": lambda: answer(unready(seen)),
        "/metrics": lambda: (HTTPStatus.OK, *metrics()),
    }
    listed = "".join(f"{path}\n" for path in found).encode()
    found["/"] = lambda: (HTTPStatus.OK, "text/plain; charset=utf-8", listed)
    return found


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = SLOW_SECONDS
    server_version = "tailrace"
    sys_version = ""

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        try:
            status, kind, body = (HTTPStatus.NOT_FOUND, "text/plain", b"not found\n") if page is None else page()
        except Exception:
            log.exception("%s", self.path)
            status, kind, body = HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", b"failed, see the log\n"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)


class Server(ThreadingHTTPServer):
    """Answers GET and HEAD for `pages`, each request in a thread."""

    daemon_threads = True

    def __init__(self, host: str, port: int, pages: Mapping[str, Page]) -> None:
        """Listens on `port`, and on any free one where that is taken. Raises OSError for a host that is none of this machine's."""
        self.pages = pages
        self.host, self.address_family = host, socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as e:
            if isinstance(e, OSError) and e.errno != errno.EADDRINUSE:
                raise
            super().__init__((host, 0), _Handler)
        threading.Thread(target=self.serve_forever, name="http", daemon=True).start()

    def server_bind(self) -> None:
        """As HTTPServer's, without looking up the host's name: that may take long."""
        if self.allow_reuse_address:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.host, int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        log.debug("a client went away", exc_info=True)

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.server_port}/"


def serve(host: str, port: int, number: int, found: Mapping[str, Page]) -> Server:
    """The server of a host's worker `number`, on port + number. Raises `ConfigError`."""
    try:
        server = Server(host, port + number, found)
    except OSError as e:
        raise ConfigError(
            f"streams.http_host, streams.http_port: {host}:{port + number}: {e.strerror or e}"
        ) from None
    if server.server_port == port + number:
        log.info("worker %d: %shealthz, readyz, metrics", number, server.url)
    else:
        log.warning("worker %d: %shealthz, readyz, metrics (port %d is taken)", number, server.url, port + number)
    return server
