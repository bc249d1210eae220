"""Checks that a sink's keys do not leak into outcomes, logs, exceptions, reprs or payloads."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from connectors.config.secrets import is_secret
from connectors.preview.render import rendered
from connectors.sdk.contract import Batch, Payload
from connectors.testing import samples
from connectors.testing.conformance.hostile_server import Answer, Received
from connectors.testing.conformance.kit import Bench, Kit

_STATUSES = (400, 401, 403, 404, 409, 413, 422, 429, 500, 503, 200, 207)
_KINDS = ("application/json", "text/plain", "application/x-protobuf")


class SecrecyChecks(Kit):
    def test_an_echoed_key_is_not_passed_on(self) -> None:
        """A vendor or proxy may quote the request's headers in an error.

        What the sink returns, logs and raises must not contain the key, neither in plain text nor as
        the header has it. Fix: apply `redact.masked(text, secrets)` to everything taken from an answer,
        with the values of the headers among the secrets.
        """
        self.needs("test_an_echoed_key_is_not_passed_on")
        said: list[tuple[str, str]] = []
        answers = iter([(s, k) for s in _STATUSES for k in _KINDS])

        def plan(request: Received) -> Answer:
            status, kind = next(answers, (200, "text/plain"))
            return _echo(request, status, kind)

        async def check(bench: Bench) -> set[str]:
            batch = Batch(tuple(r.item for r in self.records(bench.sink, count=2)))
            for status in _STATUSES:
                for kind in _KINDS:
                    where = f"outcome of a {status} with {kind}"
                    try:
                        said.append((where, repr(await bench.sink.send(batch, bench.http))))
                    except Exception as e:
                        said.append((f"exception at the {where}", f"{e!r} {e.__cause__!r}"))
            for _ in range(len(_STATUSES)):
                try:
                    said.append(("answer of check", repr(await bench.sink.check(bench.http))))
                except Exception as e:
                    said.append(("exception of check", repr(e)))
            return {text for r in bench.requests for text in _credentials(r)}

        with _logged(said):
            seen = self.run(check, plan)
        self._clean(said, seen)

    def test_a_key_is_in_no_repr_and_no_payload(self) -> None:
        """`repr(sink)`, payloads and the result of `render` must not contain a key.

        They are printed and stored. Fix: the sink itself must not be a dataclass or struct with the
        key; put keys into headers only.
        """
        self.needs("test_a_key_is_in_no_repr_and_no_payload", http=False)
        named = [f.name for f in msgspec.structs.fields(self.spec.settings) if is_secret(f.type)]
        assert self.secrets or not named, (
            f"the test sets no key to look for: set one of {', '.join(named)} to a text with {{secret}} in it"
        )
        sink = self.build()
        said = [("repr of the sink", repr(sink)), ("text of the sink", str(sink))]
        for _, name, _, payload in self.mapped(sink, samples.samples().items()):
            said.append((f"payload of {name}", repr(payload)))
            if isinstance(payload, Payload):
                said.append((f"render of {name}", repr(rendered(sink, payload))))
        self._clean(said, set())

    def _clean(self, said: list[tuple[str, str]], seen: set[str]) -> None:
        for where, text in said:
            assert not any(secret in text for secret in self.secrets), f"a secret setting is in the {where}"
            assert not any(s in text for s in seen), (
                f"the credentials of a request's header are in the {where}"
            )


def _credentials(request: Received) -> Iterator[str]:
    """The part of an Authorization header that must not leak: what follows the scheme."""
    for name in ("authorization", "proxy-authorization"):
        value = request.headers.get(name, "").partition(" ")[2]
        if len(value) >= 8:
            yield value


def _echo(request: Received, status: int, kind: str) -> Answer:
    """An answer that quotes the request's headers."""
    text = "; ".join(f"{k}: {v}" for k, v in request.headers.items())
    if "json" in kind:
        # where vendors put their errors
        body = json.dumps(
            {
                "message": text,
                "error": text,
                "detail": text,
                "errors": [{"message": text, "error": text, "status": status, "id": "x"}],
                "partialSuccess": {"rejectedSpans": 1, "errorMessage": text},
            }
        ).encode()
    elif "protobuf" in kind:
        body = _status_message(text.encode())
    else:
        body = text.encode()
    return Answer(status, {"Content-Type": kind}, body)


def _status_message(text: bytes) -> bytes:
    """A google.rpc.Status with its message, field 2."""
    size, out = len(text), bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return b"\x08\x02\x12" + bytes(out) + text


@contextmanager
def _logged(said: list[tuple[str, str]]) -> Iterator[None]:
    """Adds everything that is logged to `said`, at any level, including tracebacks."""

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append((f"log of {record.name}", formatter.format(record)))

    formatter, handler, root = logging.Formatter(), Keep(logging.DEBUG), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
