"""No secret is in any output.

Every secret setting of every built-in sink gets its own marker. The vendors echo what they were sent. Then
all outputs are searched for the markers.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote
from uuid import uuid4

import msgspec
import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, TopicPartition

from connectors.config.instances import Common, installed, sink_class
from connectors.config.secrets import is_secret
from connectors.otlp.grpc_client import METHOD
from connectors.sdk.contract import spec_of
from connectors.testing.conformance.hostile_server import Answer, HostileServer, Received
from connectors.testing.doubles import otlp_request
from tailrace.cli import cli
from tests.connectors.conftest import Bench
from tests.connectors.enriching import make_event
from tests.connectors.vendors import VENDORS
from tests.golden import events as golden
from tests.harness.enriched import read
from tests.harness.processes import Child, wait_until
from tests.tailrace.ports import closed_port

pytestmark = pytest.mark.kafka

PIECE: Final = 10
"""So many characters of a secret in a row are a leak."""
SAID: Final = "echo-of-your-request"
CUT: Final = 499
"""A vendor's text is cut after so many characters."""
STATUSES: Final = (500, 401, 400, 400, 400, 400, 400, 400, 403, 500)
"""The first answers to each instance. After them every answer is a success."""
WAYS: Final = ("env", "conf", "file")
INSTANCES: Final = {
    f"{kind}{variant}{way}": (kind, way, variant)
    for kind, vendor in VENDORS.items()
    for variant in ("", *vendor.variants)
    for way in WAYS
}
"""Name -> type, how it gets its secrets, and which of the vendor's variants it is."""
KEY_HEADERS: Final = frozenset().union(*(vendor.key_headers for vendor in VENDORS.values()))
RECORDS: Final = 12

DEBUGGED: Final = """
import sys
import connectors.commands.connect as command
from tailrace.cli import cli
from tailrace.processes import set_up_logging
command.set_up_logging = lambda: set_up_logging("DEBUG")
cli(sys.argv[1:], prog_name="tailrace")
"""
"""`tailrace …` with its log at level DEBUG."""


class Markers:
    """Unique texts, each planted in one place."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}

    def plant(self, where: str) -> str:
        """A marker has characters that URLs and base64 encode in another way."""
        marker = self.planted[where] = f"{uuid4().hex[:16]}+/{uuid4().hex[:16]}"
        return marker

    def found_in(self, text: str) -> list[str]:
        """Where the markers in this text were planted.

        A part of a marker is enough: in plain, quoted for a URL or JSON, or as base64.
        """
        return sorted({where for where, marker in self.planted.items() for p in _pieces(marker) if p in text})


def _pieces(marker: str) -> Iterator[str]:
    """All parts of a marker by which it is found.

    Parts of its hexadecimal halves, which quoting leaves alone, and of its base64 at each of the three
    alignments that it can have in a longer text.
    """
    encoded = (
        base64.b64encode(b"\0" * n + marker.encode()).decode().rstrip("=")[4 if n else 0 : -2]
        for n in range(3)
    )
    for text in (*marker.split("+/"), *encoded):
        yield from (text[i : i + PIECE] for i in range(len(text) - PIECE + 1))


class Echoing:
    """The vendors. Each instance gets its own request back, in errors of every form."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Mapping[str, str]]] = defaultdict(list)
        self._lock = threading.Lock()

    def __call__(self, request: Received) -> Answer:
        name = request.path.split("/")[1]
        with self._lock:
            self.seen[name].append(_with_token(request))
            n = len(self.seen[name]) - 1
        if n >= len(STATUSES):
            return self._well(request)
        text = _echo(_with_token(request), n)
        if n % 2 or VENDORS[INSTANCES[name][0]].json_errors:
            said = {"message": text, "error": text, "errors": [text], "details": text}
            return Answer(STATUSES[n], {"Content-Type": "application/json"}, json.dumps(said).encode())
        return Answer(STATUSES[n], {"Content-Type": "text/plain"}, text.encode())

    def _well(self, request: Received) -> Answer:
        if request.path.endswith("/projects"):  # a name made of the credentials
            said = {"data": [{"name": f"{SAID} {request.headers['authorization']}"}]}
            return Answer(200, {"Content-Type": "application/json"}, json.dumps(said).encode())
        if "/projects?" in request.path:
            return Answer(200, {"Content-Type": "application/json"}, b'{"content": []}')
        if request.path.endswith("/calls/query_stats"):
            return Answer(200, {"Content-Type": "application/json"}, b'{"count": 0}')
        if request.path.endswith(("/v1/traces", "/otlp/traces")) and "otel/" not in request.path:
            partial = {"partialSuccess": {"rejectedSpans": 1, "errorMessage": _echo(_with_token(request), 2)}}
            return Answer(200, {"Content-Type": "application/json"}, json.dumps(partial).encode())
        return Answer(200)


def _with_token(request: Received) -> Mapping[str, str]:
    """The request's headers, and a credential in its path as one."""
    found = re.search("/adapt_([^/]*)/", request.path)
    return request.headers if found is None else {**request.headers, "path": found[1]}


def _credentials(headers: Mapping[str, str]) -> list[str]:
    return [v for k, v in headers.items() if k in KEY_HEADERS or k == "path" or k.startswith("x-secret")]


def _echo(headers: Mapping[str, str], n: int) -> str:
    """The credentials as they came or in another form.

    The last form is a credential alone, placed so that the cut at `CUT` characters goes through it.
    """
    values = _credentials(headers)
    bare = [v.partition(" ")[2] or v for v in values]
    match n % 5:
        case 0:
            return f"{SAID} " + "; ".join(f"{k}: {v}" for k, v in headers.items())
        case 1:
            return f"{SAID} invalid {', '.join(bare)}"
        case 2:
            return f"{SAID} {', '.join(quote(v, safe='') for v in values)}"
        case 3:
            return f"{SAID} decoded {', '.join(_decoded(v) for v in bare)}"
        case _:
            value = values[n // 5 % len(values)]
            return f"{SAID} ".ljust(CUT - len(value) + 8, "y") + value


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except ValueError:
        return text


def configured(
    markers: Markers, endpoint: str, folder: Path
) -> tuple[dict[str, str], Path, dict[str, list[str]]]:
    """Environment, settings file, and the places of the markers of each instance.

    Every secret of every sink is set in every way: by variable, in the settings file, and by a file of its
    own.
    """
    env: dict[str, str] = {}
    toml: list[str] = []
    planted: dict[str, list[str]] = {}
    for name, (kind, way, variant) in INSTANCES.items():
        vendor = VENDORS[kind]
        url = f"{endpoint}/{name}"
        plain = {
            "type": kind,
            "max_records": "1",
            "dead_letter_ratio": "0",
            "dead_letter_consecutive": "0",
        }
        plain |= {"content": "hashed", vendor.url: url, **vendor.plain, **vendor.settings}
        plain |= vendor.variants.get(variant, {})
        texts = ("hash_key", *(s for s in vendor.secrets if s != "headers"))
        secrets = {s: markers.plant(f"{name}.{s}") for s in texts}
        headers = dict[str, str]()
        if "headers" in vendor.secrets:
            basic = base64.b64encode(f"user:{markers.plant(f'{name}.headers.basic')}".encode()).decode()
            headers = {
                "x-secret-token": markers.plant(f"{name}.headers.token"),
                "x-secret-basic": f"Basic {basic}",
                "x-secret-bearer": f"Bearer {markers.plant(f'{name}.headers.bearer')}",
            }
        planted[name] = [where for where in markers.planted if where.startswith(f"{name}.")]
        variable = f"TAILRACE_SINKS_{name.upper()}_"
        if way == "env":
            env |= {variable + k.upper(): v for k, v in (plain | secrets).items()}
            if headers:
                env[f"{variable}HEADERS"] = ",".join(f"{k}={v}" for k, v in headers.items())
            continue
        toml.append(f"[sinks.{name}]")
        toml += [f"{k} = {json.dumps(int(v) if v.isdigit() else v)}" for k, v in plain.items()]
        if headers:  # there is no headers_file: a table has to be inline
            toml += ["headers = {" + ", ".join(f'"{k}" = {json.dumps(v)}' for k, v in headers.items()) + "}"]
        for key, value in secrets.items():
            if way == "file":
                path = folder / f"{name}-{key}"
                path.write_text(f"{value}\n")
                toml.append(f"{key}_file = {json.dumps(str(path))}")
            else:
                toml.append(f"{key} = {json.dumps(value)}")
    config = folder / "tailrace.toml"
    config.write_text("\n".join(toml) + "\n")
    return env, config, planted


def test_every_secret_setting_of_every_sink_is_planted(tmp_path: Path) -> None:
    """A new secret of a sink must be added in tests/connectors/vendors.py."""
    markers = Markers()
    configured(markers, "http://127.0.0.1:1", tmp_path)
    ours = [name for name, found in installed().items() if found.value.startswith("connectors.")]
    want = {(kind, field.name) for kind in ours for field in _fields(kind) if is_secret(field.type)}
    places = [where.split(".") for where in markers.planted]
    assert {w for w in want if w[0] in VENDORS} == {(INSTANCES[name][0], key) for name, key, *_ in places}
    assert {kind for kind, name in want if name != "hash_key"} == set(VENDORS)


def _fields(kind: str) -> Iterable[msgspec.structs.FieldInfo]:
    return (
        *msgspec.structs.fields(spec_of(sink_class(kind, kind)).settings),
        *msgspec.structs.fields(Common),
    )


def test_the_search_finds_a_marker_in_every_form() -> None:
    markers = Markers()
    secret = markers.plant("here")
    for form in (
        secret,
        secret[:12],
        quote(secret, safe=""),
        json.dumps(json.dumps(secret)),
        *(base64.b64encode(f"{'k' * n}:{secret}".encode()).decode() for n in range(4)),
    ):
        assert markers.found_in(f"x {form} y") == ["here"], form
    assert markers.found_in(uuid4().hex * 50) == []


def commit_metadata(bench: Bench, name: str) -> str:
    consumer = Consumer(
        {"bootstrap.servers": bench.bootstrap, "group.id": bench.settings.connect.group_prefix + name}
    )
    try:
        places = [TopicPartition(bench.names.enriched, p) for p in range(bench.settings.topics.partitions)]
        return " ".join(tp.metadata or "" for tp in consumer.committed(places, timeout=10))
    finally:
        consumer.close()


def get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return f"{answer.headers}{answer.read().decode()}"
    except urllib.error.HTTPError as e:
        return f"{e.headers}{e.read().decode()}"


def wrong(markers: Markers, folder: Path) -> Iterator[tuple[str, dict[str, str], str]]:
    """Settings that are refused, with a secret in them: the sink's type, and what the error must name."""
    m = markers.plant
    missing = str(folder / "missing")
    for kind, vendor in VENDORS.items():
        key = vendor.secrets[0]
        right = {vendor.url: "http://h", **vendor.settings, key: m(f"wrong {kind} beside")}
        yield kind, right | {key: f"{m(f'wrong {kind} lines')}\nsecond line"}, key
        yield kind, right | {f"{key}_file": missing}, key
        yield kind, right | {f"{key}y": m(f"wrong {kind} misspelt")}, f"{key}y"
        yield kind, right | {"timeout": "soon"}, "timeout"
        yield kind, right | {"hash_key": m(f"wrong {kind} hash_key"), "hash_key_file": missing}, "hash_key"
    key = m("wrong key in path")
    yield "alibaba", {"endpoint": f"http://h/adapt_{key}/api/otlp/traces", "license_key": "k"}, "license_key"
    yield "alibaba", {"endpoint": f"http://h?token={m('in query')}", "license_key": "k"}, "endpoint"
    yield "alibaba", {"endpoint": "http://h", "license_key": m("no workspace"), "family": "cms"}, "workspace"
    yield (
        "langfuse",
        {"public_key": f"pk:{m('wrong both in one')}", "secret_key": m("wrong other")},
        "public_key",
    )
    yield (
        "langfuse",
        {"public_key": "pk", "secret_key": m("wrong host"), "host": f"http://u:{m('in host')}@h"},
        "host",
    )
    yield "opik", {"url": f"http://u:{m('in url')}@h"}, "url"
    yield "otlp", {"endpoint": "http://h", "headers": m("wrong headers")}, "headers"
    yield "otlp", {"endpoint": "http://h", "headers": f"{m('wrong name')}=v"}, "headers"
    yield "otlp", {"endpoint": f"http://u:{m('in endpoint')}@:x"}, "endpoint"


@pytest.mark.slow
def test_no_secret_is_in_any_output(bench: Bench, tmp_path: Path) -> None:
    markers, echoing = Markers(), Echoing()
    outputs: dict[str, str] = {}
    runner = CliRunner()

    def call(what: str, *words: str, given: dict[str, str], status: int) -> str:
        result = runner.invoke(cli, words, env={**bench.env, **given})
        outputs[what] = f"{result.output}{result.exception!r}"
        assert result.exit_code == status, f"{what}: {result.exit_code}\n{result.output}"
        return result.output

    with HostileServer(echoing) as server, closed_port() as near:
        env, config, planted = configured(markers, server.endpoint, tmp_path)
        names = sorted(planted)
        given = {**env, "TAILRACE_CONFIG": str(config)}

        # -- commands
        call("check, 500", "check", *names, "--json", given=given, status=1)
        assert "***" in call("check, 401", "check", *names, "--json", given=given, status=1)
        assert SAID in outputs["check, 401"]
        echoing.seen.clear()
        call("sinks ls", "sinks", "ls", "--json", given=given, status=0)
        call("sinks ls, text", "sinks", "ls", given=given, status=0)
        lines = tmp_path / "events.jsonl"
        documents = json.loads(golden.FILE.read_text()).values()
        lines.write_text("".join(json.dumps(d) + "\n" for d in documents))
        for name in names:
            assert "rendered" in call(f"render {name}", "render", name, str(lines), given=given, status=0)
        for i, (kind, values, named) in enumerate(wrong(markers, tmp_path)):
            bad = {f"TAILRACE_SINKS_BAD_{k.upper()}": v for k, v in {"type": kind, **values}.items()}
            assert "bad" in call(f"wrong {i}, check", "check", "bad", "--json", given=bad, status=1).lower()
            said = call(f"wrong {i}, render", "render", "bad", str(lines), given=bad, status=2).lower()
            assert named in said, (i, kind, named, said)

        # -- connect
        bench.enricher.write([make_event(i) for i in range(RECORDS)])
        host, port = near.split(":")
        pages = {"TAILRACE_CONNECT_HTTP_HOST": host, "TAILRACE_CONNECT_HTTP_PORT": str(int(port) + 1)}
        child = bench.tailrace("connect", *names, "--json", name="connect", env={**given, **pages})
        child.args[1:3] = ["-c", DEBUGGED]
        with child:
            seen_pages: set[str] = set()

            def done() -> bool:
                if (where := _url(child)) is not None:
                    seen_pages.update(get(where + page) for page in ("metrics", "healthz", "readyz"))
                report = bench.ledger_report()
                return sum(a.passed for a in report.sinks) == RECORDS * len(names)

            wait_until(done, 120, "every sink has passed everything", alive=(child,), every=0.5)
            assert child.sigterm(60) == 0, child.tail()
        outputs["connect"] = child.output()
        outputs["pages"] = "\n".join(seen_pages)
        assert "paused" in outputs["pages"]
        assert "tailrace_" in outputs["pages"]

        # -- after health is back: names of projects that are made of credentials
        assert SAID in call("check, 200", "check", *names, "--json", given=given, status=0)

    dead_letters, _ = read(bench.bootstrap, bench.names.dead_letters, committed=True)
    for i, m in enumerate(dead_letters):
        outputs[f"dead letter {i}"] = b" ".join((m.key() or b"", m.value())).decode(errors="replace") + repr(
            m.headers()
        )
    outputs["commits"] = " ".join(commit_metadata(bench, name) for name in names)
    for path in tmp_path.glob("*.log"):
        outputs[path.name] = path.read_text(errors="replace")

    # the markers were in use, were echoed, and the echo came through
    for name, places in planted.items():
        sent = " ".join(
            f"{v} {_decoded(v.partition(' ')[2])}" for h in echoing.seen[name] for v in _credentials(h)
        )
        for place in places:
            assert ("hash_key" in place) != (markers.planted[place] in unquote(sent)), place
        own = [text for what, text in outputs.items() if what.startswith("dead letter") and name in text]
        assert own, f"{name} has no dead letter"
        assert any(SAID in text and "***" in text for text in own), own
    assert SAID in outputs["connect"]
    assert "***" in outputs["connect"]
    assert " DEBUG " in outputs["connect"]
    assert outputs["commits"].strip()
    leaks = {what: found for what, text in outputs.items() if (found := markers.found_in(text))}
    if leaks:
        shown = {what: _around(outputs[what], markers) for what in list(leaks)[:6]}
        raise AssertionError(f"{leaks}\n{json.dumps(shown, indent=1)}")


def test_no_key_in_grpc_metadata_is_in_any_output(bench: Bench, tmp_path: Path) -> None:
    """A server that repeats the metadata of each call in its errors."""
    grpc = pytest.importorskip("grpc")
    markers, lock = Markers(), threading.Lock()
    key = markers.plant("grpc")
    codes = ["UNAUTHENTICATED", "UNAVAILABLE", "INVALID_ARGUMENT", "UNAUTHENTICATED", "INVALID_ARGUMENT"]
    calls: list[dict[str, str]] = []

    def export(body: bytes, context: Any) -> bytes:
        with lock:
            metadata = dict(context.invocation_metadata())
            calls.append(metadata)
            code = codes.pop(0) if codes else "OK"
        text = f"{SAID} {metadata} {quote(metadata['authentication'], safe='')}"
        if code != "OK":
            context.abort(getattr(grpc.StatusCode, code), text)
        return otlp_request.success(1, text)

    service, _, method = METHOD[1:].rpartition("/")
    server = grpc.server(ThreadPoolExecutor(4))
    methods = {method: grpc.unary_unary_rpc_method_handler(export)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    settings = {
        "type": "alibaba",
        "protocol": "grpc",
        "endpoint": f"127.0.0.1:{port}",
        "license_key": key,
        "max_records": "1",
        "dead_letter_ratio": "0",
        "dead_letter_consecutive": "0",
    }
    env = {f"TAILRACE_SINKS_OVERGRPC_{k.upper()}": v for k, v in settings.items()}
    outputs: dict[str, str] = {}
    try:
        result = CliRunner().invoke(cli, ["check", "overgrpc", "--json"], env={**bench.env, **env})
        outputs["check"] = f"{result.output}{result.exception!r}"
        assert SAID in outputs["check"]
        bench.enricher.write([make_event(i) for i in range(RECORDS)])
        child = bench.tailrace("connect", "overgrpc", "--json", name="overgrpc", env=env)
        child.args[1:3] = ["-c", DEBUGGED]
        with child:

            def done() -> bool:
                return sum(a.passed for a in bench.ledger_report().sinks) == RECORDS

            wait_until(done, 120, "the sink has passed everything", alive=(child,), every=0.5)
            assert child.sigterm(60) == 0, child.tail()
        outputs["connect"] = child.output()
    finally:
        server.stop(None).wait()
    dead_letters, _ = read(bench.bootstrap, bench.names.dead_letters, committed=True)
    outputs["dead letters"] = " ".join(repr((m.key(), m.value(), m.headers())) for m in dead_letters)
    outputs["commits"] = commit_metadata(bench, "overgrpc")
    assert {c["authentication"] for c in calls} == {key}
    for what in ("connect", "dead letters"):
        assert SAID in outputs[what], what
        assert "***" in outputs[what], what
    assert {what: found for what, text in outputs.items() if (found := markers.found_in(text))} == {}


def _url(child: Child) -> str | None:
    for line in child.output().splitlines():
        if "healthz" in line and "http://" in line:
            return "http://" + line.partition("http://")[2].split("/")[0] + "/"
    return None


def _around(text: str, markers: Markers) -> list[str]:
    return [line[:600] for line in text.splitlines() if markers.found_in(line)][:2]
