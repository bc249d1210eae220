"""A schema registry in this process: the part of Confluent's REST interface that tailrace and others use.

It fails and recovers when a test says so, and keeps the requests it got. Compatibility is checked by Avro's
resolution, in both directions, against all versions.
"""

from __future__ import annotations

import base64
import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import unquote, urlsplit

from fastavro.schema import parse_schema, to_parsing_canonical_form

from tailrace.codec.resolution import problems

MEDIA: Final = "application/vnd.schemaregistry.v1+json"


class _Answer(Exception):
    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.body = status, {"error_code": code, "message": message}


class SchemaRegistry:
    """The registry, on a free port.

    state may be set at any time. "up". "reset": connections end without an answer. "503": it answers that
    it is unavailable. "silent": it accepts requests and never answers.

    Args:
        first_id: of the first schema.
        user: name and password that it requires.
        token: a bearer token that it requires.
    """

    def __init__(
        self, *, first_id: int = 1, user: tuple[str, str] | None = None, token: str | None = None
    ) -> None:
        self.state: Literal["up", "reset", "503", "silent"] = "up"
        self.requests: list[str] = []
        """Method and path of each request that was answered, in order."""
        self.schemas: dict[int, dict[str, Any]] = {}
        """By id: what `GET /schemas/ids/<id>` answers."""
        self.subjects: dict[str, list[int]] = {}
        """The ids of each subject's versions."""
        self.broken: dict[int, int] = {}
        """Id -> status that is answered for it."""
        self.levels: dict[str, str] = {}
        self.level = "BACKWARD"
        self._next = first_id
        self._authorization = None
        if user is not None:
            self._authorization = "Basic " + base64.b64encode(":".join(user).encode()).decode()
        elif token is not None:
            self._authorization = f"Bearer {token}"
        self._lock = threading.Lock()
        self._closing = threading.Event()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                registry._handle(self)

            do_GET = do_POST = do_PUT = handle_any

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def add(self, subject: str, schema: Any) -> int:
        """Adds a schema as the next version of a subject, without a check. Returns its id."""
        with self._lock:
            return self._add(subject, schema if isinstance(schema, str) else json.dumps(schema))

    def asked(self, path: str) -> int:
        """How often a path was requested."""
        return sum(r.split(" ", 1)[1] == path for r in list(self.requests))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # -- inside
    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        state = self.state
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if state == "silent":
            self._closing.wait()
        if state in ("reset", "silent"):
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.close_connection = True
            return
        try:
            if state == "503":
                raise _Answer(503, 50302, "no leader")
            if self._authorization and request.headers.get("Authorization") != self._authorization:
                raise _Answer(401, 401, "Unauthorized")
            with self._lock:
                self.requests.append(f"{request.command} {request.path}")
                path = [unquote(p) for p in urlsplit(request.path).path.strip("/").split("/")]
                status, answer = 200, self._answer(request.command, path, json.loads(body or b"null"))
        except _Answer as e:
            status, answer = e.status, e.body
        data = json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Type", MEDIA)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def _answer(self, method: str, path: list[str], body: Any) -> Any:
        match method, path:
            case "GET", ["subjects"]:
                return sorted(self.subjects)
            case "GET", ["schemas", "ids", number]:
                if int(number) in self.broken:
                    raise _Answer(self.broken[int(number)], 42200, "no such number")
                if int(number) not in self.schemas:
                    raise _Answer(404, 40403, f"Schema {number} not found")
                return self.schemas[int(number)]
            case "GET", ["subjects", subject, "versions"]:
                return list(range(1, len(self._subject(subject)) + 1))
            case "GET", ["subjects", subject, "versions", version]:
                ids = self._subject(subject)
                n = len(ids) if version == "latest" else int(version)
                if not 1 <= n <= len(ids):
                    raise _Answer(404, 40402, f"Version {version} not found.")
                return {"subject": subject, "version": n, "id": ids[n - 1], **self.schemas[ids[n - 1]]}
            case "POST", ["subjects", subject]:
                ids, form = self._subject(subject), self._form(body["schema"])
                for n, schema_id in enumerate(ids, 1):
                    if self._form(self.schemas[schema_id]["schema"]) == form:
                        return {"subject": subject, "version": n, "id": schema_id, **self.schemas[schema_id]}
                raise _Answer(404, 40403, "Schema not found")
            case "POST", ["subjects", subject, "versions"]:
                self._form(body["schema"])
                wrong = self._wrong(subject, body["schema"])
                if wrong:
                    raise _Answer(
                        409, 409, f"Schema being registered is incompatible with an earlier schema: {wrong}"
                    )
                return {"id": self._add(subject, body["schema"])}
            case "POST", ["compatibility", "subjects", subject, "versions"]:
                wrong = self._wrong(subject, body["schema"])
                return {"is_compatible": not wrong, "messages": wrong}
            case "GET", ["config"]:
                return {"compatibilityLevel": self.level}
            case "GET", ["config", subject]:
                return {"compatibilityLevel": self.levels.get(subject, self.level)}
            case "PUT", ["config", subject]:
                self.levels[subject] = body["compatibility"]
                return body
        raise _Answer(404, 404, "HTTP 404 Not Found")

    def _subject(self, name: str) -> list[int]:
        if name not in self.subjects:
            raise _Answer(404, 40401, f"Subject '{name}' not found.")
        return self.subjects[name]

    def _form(self, schema: str) -> str:
        try:
            parse_schema(json.loads(schema))
            return str(to_parsing_canonical_form(json.loads(schema)))
        except Exception as e:
            raise _Answer(422, 42201, f"Invalid schema: {e}") from None

    def _wrong(self, subject: str, schema: str) -> list[str]:
        found: list[str] = []
        if self.levels.get(subject, self.level) == "NONE":
            return found
        for schema_id in self.subjects.get(subject, []):
            old, new = json.loads(self.schemas[schema_id]["schema"]), json.loads(schema)
            found += [*problems(old, new), *problems(new, old)]
        return found

    def _add(self, subject: str, schema: str) -> int:
        form, ids = self._form(schema), self.subjects.setdefault(subject, [])
        for schema_id, known in self.schemas.items():
            if self._form(known["schema"]) == form:
                if schema_id not in ids:
                    ids.append(schema_id)
                return schema_id
        schema_id, self._next = self._next, self._next + 1
        self.schemas[schema_id] = {"schema": schema}
        ids.append(schema_id)
        return schema_id
