"""An HTTP server in its own threads: it answers even if the process's main work hangs."""

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

log: Final = logging.getLogger("tailrace.observe.server")

SLOW_SECONDS: Final = 10.0
"""How long a client may keep a connection open without sending a request."""

Page = Callable[[], tuple[int, str, bytes]]
"""Returns status, content type and body."""


def verdict(reasons: list[str], **more: object) -> tuple[int, str, bytes]:
    """The page of a probe: 200, or 503 with the reasons."""
    status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
    body = {"ok": not reasons, "reasons": reasons, **more}
    return status, "application/json", msgspec.json.encode(body) + b"\n"


def with_index(found: Mapping[str, Page]) -> dict[str, Page]:
    """The pages, plus one at / that lists them."""
    listed = "".join(f"{path}\n" for path in found).encode()
    return {**found, "/": lambda: (HTTPStatus.OK, "text/plain; charset=utf-8", listed)}


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = SLOW_SECONDS
    server_version = "tailrace"
    sys_version = ""

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        try:
            status, kind, body = (
                (HTTPStatus.NOT_FOUND, "text/plain", b"not found\n") if page is None else page()
            )
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
    """Answers GET and HEAD for `pages`, each request in its own thread."""

    daemon_threads = True

    def __init__(self, host: str, port: int, pages: Mapping[str, Page], tries: int = 1) -> None:
        """Starts to listen, in a background thread.

        Args:
            host: an address of this machine.
            port: the port to try first.
            pages: path -> page.
            tries: ports to try, counting up from `port`; if all are in use, any free port.

        Raises:
            OSError: the host is not an address of this machine.
        """
        self.pages = pages
        self.host, self.address_family = host, socket.AF_INET6 if ":" in host else socket.AF_INET
        for wanted in (*range(port, port + tries), 0):
            try:
                super().__init__((host, wanted), _Handler)
                break
            except (OSError, OverflowError) as e:
                if wanted == 0 or (isinstance(e, OSError) and e.errno != errno.EADDRINUSE):
                    raise
        threading.Thread(target=self.serve_forever, name="http", daemon=True).start()

    def server_bind(self) -> None:
        """As HTTPServer's, but without resolving the host's name, which may take long."""
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
