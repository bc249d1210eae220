"""The schema registry: requests, what is cached, and what happens while it fails."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from tailrace import Publisher, codec
from tailrace.cli import cli
from tailrace.codec import schemas, wire
from tailrace.codec.schemas import MARKER, Resolver
from tailrace.errors import ConfigError, DecodeError, RegistryRefused, RegistryUnavailable, UnknownSchema
from tailrace.records import Kind, TraceEvent
from tailrace.schema_registry.cache import Cache, folder
from tailrace.schema_registry.client import LEVEL, NO_SCHEMA, Client
from tailrace.schema_registry.fetch_policy import ABSENT_SECONDS, AWAY_SECONDS, MAX_WANTED, FetchPolicy
from tailrace.schema_registry.fetcher import SchemaFetcher
from tailrace.schema_registry.setup import attach
from tailrace.schema_registry.subjects import Framing, ensure, subject_of, text_of
from tailrace.settings import Registry, Settings, convert, load
from tests.harness.processes import wait_until
from tests.harness.schema_registry import SchemaRegistry
from tests.tailrace.ports import closed_port

OURS = schemas.current("TraceEvent")
VERSION = len(schemas.history("TraceEvent"))
NEWER = {
    **OURS,
    "fields": [*OURS["fields"], {"name": "weather", "type": ["null", "string"], "default": None}],
}
SUBJECT = "trace.events-value"
AT = 10**15
EVENT = TraceEvent(event_id="e", source_id="s", kind=Kind.TOOL, started_at=AT, ended_at=AT, published_at=AT)


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with SchemaRegistry(first_id=1000) as running:
        yield running


def of(url: str, tmp_path: Path, **fields: Any) -> Settings:
    return Settings(registry=Registry(url=url, cache_dir=str(tmp_path / "cache"), **fields))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


# -- settings


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"url": "localhost:8081"}, "registry.url: is not a valid URL; for example https:"),
        ({"url": "http://"}, "registry.url: is not a valid URL; for example https:"),
        ({"url": "http://x?y=1"}, "registry.url: is not a valid URL; for example https:"),
        ({"url": "http://user:hunter2@x"}, "holds credentials; use registry.user"),
        (
            {"url": "http://x", "user": "u", "token": "t"},
            "registry.token: cannot be combined with registry.user",
        ),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"subject_naming": "topic"}, "subject_naming"),
        ({"write": "avro"}, "registry.write"),
    ],
)
def test_invalid_settings_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        convert({"registry": fields}, Settings, "")
    assert "hunter2" not in str(caught.value)


def test_settings_come_from_variables_and_flags(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    env = {
        "TAILRACE_REGISTRY_URL": "https://registry/apis/ccompat/v7",
        "TAILRACE_REGISTRY_USER": "u",
        "TAILRACE_REGISTRY_PASSWORD_FILE": str(tmp_path / "secret"),
        "TAILRACE_REGISTRY_CA_FILE": "/ca.pem",
        "TAILRACE_REGISTRY_AUTO_REGISTER": "false",
        "TAILRACE_SCHEMAS_FILES": "a.avsc, b.avsc",
    }
    found = load(env=env)
    r = found.registry
    assert (r.user, r.password, r.ca_file, r.auto_register) == ("u", "hunter2", "/ca.pem", False)
    assert found.schemas.files == ("a.avsc", "b.avsc")
    assert load({"schemas": {"files": "c.avsc"}}, env=env).schemas.files == ("c.avsc",)
    assert "hunter2" not in repr(found)
    (tmp_path / "t.toml").write_text('[schemas]\nfiles = ["./x.avsc"]\n[registry]\nurl = "http://r"\n')
    assert load(path=tmp_path / "t.toml", env={}).schemas.files == ("./x.avsc",)


# -- the client


def test_a_schema_is_returned_and_a_missing_one_is_none(registry: SchemaRegistry, tmp_path: Path) -> None:
    client = Client(of(registry.url + "/", tmp_path).registry)
    assert (client.schema(1000), client.versions(SUBJECT), client.lookup(SUBJECT, text_of())) == (
        None,
        [],
        None,
    )
    assert client.version(SUBJECT, 1) is None
    assert client.register(SUBJECT, text_of()) == 1000
    found = client.schema(1000)
    assert found is not None
    assert json.loads(found.schema) == OURS
    assert (client.versions(SUBJECT), client.lookup(SUBJECT, text_of())) == ([1], 1000)
    assert client.level(SUBJECT) == "BACKWARD"
    client.set_level(SUBJECT, LEVEL)
    assert client.level(SUBJECT) == LEVEL
    assert client.incompatible(SUBJECT, json.dumps(NEWER)) == []
    (wrong, *_) = client.incompatible(SUBJECT, json.dumps({**OURS, "fields": OURS["fields"][1:]}))
    assert wrong.startswith("event_id: has no default")


@pytest.mark.parametrize(
    ("wants", "gives"),
    [
        ({"user": ("me", "hunter2")}, {"user": "me", "password": "hunter2"}),
        ({"token": "hunter2"}, {"token": "hunter2"}),
    ],
)
def test_credentials_are_sent_and_never_shown(wants: Any, gives: Any, tmp_path: Path) -> None:
    with SchemaRegistry(**wants) as registry:
        assert Client(of(registry.url, tmp_path, **gives).registry).versions(SUBJECT) == []
        wrong = {k: "hunter3" if v == "hunter2" else v for k, v in gives.items()}
        with pytest.raises(RegistryRefused, match=r"answers 401: Unauthorized; see registry\.user") as caught:
            Client(of(registry.url, tmp_path, **wrong).registry).versions(SUBJECT)
        assert "hunter3" not in str(caught.value)
        with pytest.raises(ConfigError, match="401"):
            Framing(of(registry.url, tmp_path, **wrong))


@pytest.mark.parametrize("state", ["reset", "503", "silent"])
def test_a_registry_that_is_away_is_unavailable(state: Any, registry: SchemaRegistry, tmp_path: Path) -> None:
    registry.state = state
    with pytest.raises(RegistryUnavailable, match=r"registry\.url http://127"):
        Client(of(registry.url, tmp_path, timeout_seconds=0.3).registry).schema(1)


def test_an_address_without_a_registry_is_named_in_the_error(
    registry: SchemaRegistry, tmp_path: Path
) -> None:
    with closed_port() as address, pytest.raises(RegistryUnavailable, match="refused"):
        Client(of(f"http://{address}", tmp_path).registry).versions(SUBJECT)
    with pytest.raises(ConfigError, match="ca_file"):
        Client(of("https://x", tmp_path, ca_file=str(tmp_path / "missing.pem")).registry)
    with pytest.raises(RegistryRefused, match="answers 404"):
        Client(of(f"{registry.url}/wrong/path", tmp_path).registry).register(SUBJECT, text_of())


# -- when what is asked for


def test_a_frame_is_requested_once_and_again_when_its_absence_is_old() -> None:
    policy = FetchPolicy()
    assert policy.next(0.0) == (None, None)
    assert policy.want(b"a", 0.0)
    assert not policy.want(b"a", 0.0)
    assert policy.next(0.0) == (b"a", 0.0)
    policy.absent(b"a", 0.0)
    assert not policy.denied(b"a")
    assert policy.next(1.0) == (None, None)
    assert policy.want(b"a", 1.0)
    assert policy.next(1.0) == (None, ABSENT_SECONDS - 1.0)
    assert not policy.asked(b"a", 1.0)
    assert policy.asked(b"a", ABSENT_SECONDS)
    assert policy.next(ABSENT_SECONDS) == (b"a", 0.0)
    policy.absent(b"a", ABSENT_SECONDS)
    assert not policy.asked(b"a", ABSENT_SECONDS)
    assert policy.denied(b"a")
    policy.found(b"a")
    assert not policy.denied(b"a")


def test_requests_to_a_failing_registry_back_off_until_it_answers() -> None:
    policy, now, waits, order = FetchPolicy(), 0.0, list[float](), list[bytes]()
    policy.want(b"a", now)
    policy.want(b"b", now)
    assert policy.asked(b"a", now)
    for _ in range(len(AWAY_SECONDS) + 2):
        frame, _ = policy.next(now)
        assert frame is not None
        order.append(frame)
        waits.append(policy.away(frame, now))
        assert not policy.asked(b"a", now + 100)
        frame, wait = policy.next(now)
        assert (frame, wait) == (None, waits[-1])  # neither of them
        now += waits[-1]
    assert waits == [*AWAY_SECONDS, AWAY_SECONDS[-1], AWAY_SECONDS[-1]]
    assert set(order[::2]) != set(order[1::2])  # in turn: one that is never answered does not starve another
    policy.found(b"a")
    assert policy.next(now) == (b"b", 0.0)
    assert policy.away(b"b", now) == AWAY_SECONDS[0]


def test_unknown_frames_do_not_fill_the_memory() -> None:
    policy = FetchPolicy()
    taken = [policy.want(str(n).encode(), 0.0) for n in range(MAX_WANTED + 5)]
    assert sum(taken) == MAX_WANTED
    for n in range(MAX_WANTED):
        policy.absent(str(n).encode(), 0.0)
    assert not policy.want(b"new", 1.0)
    assert policy.want(b"new", ABSENT_SECONDS + 1)


# -- the source


def test_an_id_is_fetched_once_and_known_permanently(registry: SchemaRegistry, tmp_path: Path) -> None:
    schema_id = registry.add(SUBJECT, NEWER)
    resolver = Resolver()
    source = attach(of(registry.url, tmp_path), resolver)
    assert source is not None
    frame = schemas.id_frame(schema_id)
    with pytest.raises(UnknownSchema):
        resolver.find_or_want(frame)
    # The fetcher adds the id first and the fingerprint next.
    wait_until(lambda: resolver.knows(MARKER + schemas.fingerprint(NEWER)), 60, "the schema is known")
    assert [f["name"] for f in resolver.find(frame).schema["fields"]][-1] == "weather"
    for _ in range(3):
        resolver.find_or_want(frame)
    source.close()
    assert registry.asked(f"/schemas/ids/{schema_id}") == 1
    registry.state = "reset"
    again = Resolver()
    other = attach(of(registry.url, tmp_path), again)
    assert other is not None
    assert again.find(frame).schema == resolver.find(frame).schema  # from disk, without a request
    other.close()


def test_a_fingerprint_is_looked_for_among_the_versions_of_the_subject(
    registry: SchemaRegistry, tmp_path: Path
) -> None:
    registry.add(SUBJECT, OURS)
    schema_id = registry.add(SUBJECT, NEWER)
    resolver = Resolver()
    source = attach(of(registry.url, tmp_path), resolver)
    assert source is not None
    source.want(MARKER + schemas.fingerprint(NEWER))
    wait_until(lambda: resolver.knows(MARKER + schemas.fingerprint(NEWER)), 60, "the schema is known")
    source.close()
    assert resolver.knows(schemas.id_frame(schema_id))


def test_a_registry_that_recovers_is_asked_again(registry: SchemaRegistry, tmp_path: Path) -> None:
    clock, resolver = Clock(), Resolver()
    cache = Cache(folder(str(tmp_path), registry.url))
    source = SchemaFetcher(Client(of(registry.url, tmp_path).registry), cache, resolver, SUBJECT, clock)
    frame = schemas.id_frame(registry.add(SUBJECT, NEWER))
    for state in ("reset", "503"):
        registry.state = state
        source.ask(frame)
        assert not resolver.knows(frame)
        assert not source.denied(frame)
    registry.state = "up"
    source.ask(frame)
    assert resolver.knows(frame)


def test_an_id_is_denied_after_two_answers_that_it_does_not_exist(
    registry: SchemaRegistry, tmp_path: Path
) -> None:
    clock, resolver = Clock(), Resolver()
    source = SchemaFetcher(
        Client(of(registry.url, tmp_path).registry), Cache(tmp_path), resolver, SUBJECT, clock
    )
    frame = schemas.id_frame(77)
    source.ask(frame)
    assert not source.denied(frame)
    clock.now += ABSENT_SECONDS
    source.ask(frame)
    assert source.denied(frame)
    assert not resolver.knows(frame)


def test_a_refusal_of_one_id_is_not_an_outage(registry: SchemaRegistry, tmp_path: Path) -> None:
    """An id that the registry cannot parse, or fails on, delays no other id."""
    clock, resolver = Clock(), Resolver()
    source = SchemaFetcher(
        Client(of(registry.url, tmp_path).registry), Cache(tmp_path), resolver, SUBJECT, clock
    )
    bad, good = schemas.id_frame(77), schemas.id_frame(registry.add(SUBJECT, NEWER))
    registry.broken[77] = 422
    for frame in (bad, schemas.id_frame(0xFFFF_FFFF)):
        for _ in range(2):
            source.ask(frame)
            clock.now += ABSENT_SECONDS
        assert source.denied(frame)
    assert registry.asked("/schemas/ids/4294967295") == 0
    registry.broken[77] = 500
    source = SchemaFetcher(Client(of(registry.url, tmp_path).registry), Cache(tmp_path), resolver, SUBJECT)
    source.want(bad)
    source.want(good)
    wait_until(lambda: resolver.knows(good), 60, "the other one is known")
    source.close()


def test_a_registered_schema_that_cannot_be_used_is_known_as_such(
    registry: SchemaRegistry, tmp_path: Path
) -> None:
    resolver = Resolver()
    source = SchemaFetcher(Client(of(registry.url, tmp_path).registry), Cache(tmp_path), resolver, SUBJECT)
    registry.schemas[5] = {"schema": "message M {}", "schemaType": "PROTOBUF"}
    registry.schemas[6] = {"schema": '{"type": "record", "name": "TraceEvent", "fields": []}'}
    registry.schemas[7] = {
        "schema": json.dumps(OURS),
        "references": [{"name": "a", "subject": "b", "version": 1}],
    }
    for schema_id, said in (
        (5, "is PROTOBUF, not Avro"),
        (6, "event_id: has no default"),
        (7, "refers to other"),
    ):
        source.ask(schemas.id_frame(schema_id))
        with pytest.raises(DecodeError, match=said) as caught:
            resolver.find(schemas.id_frame(schema_id))
        assert caught.value.reason == "unreadable_schema"
        assert f"schema id {schema_id}" in caught.value.detail


def test_a_cache_that_cannot_be_written_is_not_an_error(
    registry: SchemaRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    resolver = Resolver()
    source = SchemaFetcher(
        Client(of(registry.url, tmp_path).registry), Cache(tmp_path / "file" / "x"), resolver, SUBJECT
    )
    frames = [schemas.id_frame(registry.add(SUBJECT, s)) for s in (OURS, NEWER)]
    with caplog.at_level(logging.WARNING):
        for frame in frames:
            source.ask(frame)
    assert all(resolver.knows(f) for f in frames)
    assert caplog.text.count("registry.cache_dir") == 1


def test_files_are_read_at_the_start_and_named_when_they_cannot_be(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.avsc", tmp_path / "bad.avsc"
    good.write_text(json.dumps(NEWER))
    resolver = Resolver()
    assert attach(load({"schemas": {"files": str(good)}}, env={}), resolver) is None
    assert resolver.knows(MARKER + schemas.fingerprint(NEWER))
    bad.write_text(json.dumps({**OURS, "fields": [f for f in OURS["fields"] if f["name"] != "started_at"]}))
    with pytest.raises(
        ConfigError,
        match=r"schemas\.files: .*bad\.avsc: cannot be read as TraceEvent: started_at: has no default",
    ):
        attach(load({"schemas": {"files": str(bad)}}, env={}), resolver)
    with pytest.raises(ConfigError, match=r"none\.avsc: No such file"):
        attach(load({"schemas": {"files": str(tmp_path / "none.avsc")}}, env={}), resolver)


# -- registering, and what publishers write


def test_a_new_subject_is_full_transitive(registry: SchemaRegistry, tmp_path: Path) -> None:
    settings = of(registry.url, tmp_path)
    client = Client(settings.registry)
    assert subject_of(settings) == SUBJECT
    assert ensure(client, SUBJECT, True) == 1000
    assert registry.levels == {SUBJECT: LEVEL}
    before = list(registry.requests)
    assert ensure(client, SUBJECT, True) == 1000
    assert registry.requests[len(before) :] == [f"POST /subjects/{SUBJECT}"]


def test_a_chosen_compatibility_level_is_kept_and_logged(
    registry: SchemaRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry.add(SUBJECT, {**OURS, "fields": OURS["fields"][:-1]})
    registry.levels[SUBJECT] = "NONE"
    with caplog.at_level(logging.WARNING):
        ensure(Client(of(registry.url, tmp_path).registry), SUBJECT, True)
    assert registry.levels == {SUBJECT: "NONE"}
    assert f"subject {SUBJECT} has compatibility NONE; set it to FULL_TRANSITIVE" in caplog.text


def test_without_auto_register_the_subject_and_the_fix_are_named(
    registry: SchemaRegistry, tmp_path: Path
) -> None:
    settings = of(registry.url, tmp_path, auto_register=False)
    with pytest.raises(
        ConfigError, match=rf"subject {SUBJECT} does not have .*run `tailrace schemas register`"
    ):
        Framing(settings)
    assert registry.subjects == {}
    registry.add(SUBJECT, OURS)
    assert Framing(settings).frame == schemas.id_frame(1000)


def test_a_schema_that_the_subject_does_not_take_is_a_wrong_setting(
    registry: SchemaRegistry, tmp_path: Path
) -> None:
    registry.add(
        SUBJECT, {"type": "record", "name": "TraceEvent", "fields": [{"name": "other", "type": "int"}]}
    )
    with pytest.raises(
        ConfigError, match=rf"subject {SUBJECT} does not accept .*answers 409: .*schemas check"
    ):
        Framing(of(registry.url, tmp_path))


def test_a_publisher_writes_single_objects_until_the_registry_answers(
    registry: SchemaRegistry, tmp_path: Path
) -> None:
    registry.state = "reset"
    stop = threading.Event()
    framing = Framing(of(registry.url, tmp_path))
    assert framing.frame is None
    assert codec.encode(EVENT, framing.frame) == codec.encode(EVENT)
    framing.keep_asking(stop)
    registry.state = "up"
    wait_until(lambda: framing.frame, 60, "the publisher has its id")
    stop.set()
    assert framing.frame == schemas.id_frame(1000)
    value = codec.encode(EVENT, framing.frame)
    assert value == b"\0\0\0\x03\xe8" + codec.encode(EVENT)[wire.BODY :]
    registry.state = "503"
    assert Framing(of(registry.url, tmp_path)).frame == framing.frame  # from disk


def test_a_publisher_asks_the_registry_only_where_it_writes_ids(
    registry: SchemaRegistry, tmp_path: Path
) -> None:
    with closed_port() as kafka:
        for write, asked in (("single-object", 0), ("confluent", 1)):
            settings = of(registry.url, tmp_path, write=write)
            settings = msgspec.structs.replace(
                settings, kafka=msgspec.structs.replace(settings.kafka, bootstrap_servers=kafka)
            )
            publisher = Publisher(settings=settings)
            _, _, value = publisher._prepare(EVENT)
            assert (value[:1] == b"\0") == bool(asked)
            assert publisher.close(0)
            assert registry.asked(f"/subjects/{SUBJECT}") == asked


# -- the command


def run(*arguments: str) -> tuple[int, str, str]:
    ran = CliRunner().invoke(cli, ["schemas", *arguments])
    return ran.exit_code, ran.stdout, ran.stderr or (str(ran.exception) if ran.exit_code else "")


def options(registry: SchemaRegistry, tmp_path: Path) -> tuple[str, ...]:
    return "--set", f"registry.url={registry.url}", "--set", f"registry.cache_dir={tmp_path}"


def test_register_says_what_it_did_and_a_dry_run_does_nothing(
    registry: SchemaRegistry, tmp_path: Path
) -> None:
    given = options(registry, tmp_path)
    code, out, _ = run("register", "--dry-run", "--json", *given)
    assert (code, json.loads(out)["id"], registry.subjects) == (0, None, {})
    assert run("register", *given)[:2] == (0, f"{SUBJECT} has the schema of TraceEvent as id 1000\n")
    code, out, _ = run("register", "--json", *given)
    assert json.loads(out) == {
        "record": "TraceEvent",
        "subject": SUBJECT,
        "id": 1000,
        "problems": [],
        "dry_run": False,
    }
    registry.state = "reset"
    code, _, err = run("register", *given)
    assert (code, "does not answer" in err) == (1, True)
    assert "registry.url: is not set" in run("register")[2]


def test_check_says_what_can_be_read_and_what_the_registry_takes(
    registry: SchemaRegistry, tmp_path: Path
) -> None:
    given = options(registry, tmp_path)
    code, out, _ = run("check", *given)
    assert (code, out) == (
        0,
        f"ok: {SUBJECT} would accept version {VERSION} of TraceEvent; the first publisher registers it\n",
    )
    assert run("check", "--set", "registry.auto_register=false", *given)[0] == 1
    registry.add(SUBJECT, OURS)
    registry.add(SUBJECT, {"type": "record", "name": "Order", "fields": []})
    code, out, _ = run("check", "--json", *given)
    found = json.loads(out)
    assert code == 1
    assert f"{SUBJECT} has version {VERSION} of TraceEvent as id 1000" in found["passed"]
    assert found["problems"] == [
        f"version 2 of {SUBJECT} (id 1001): the schema is of Order, not of a record of tailrace"
    ]
    assert found["warnings"] == [
        f"{SUBJECT} has compatibility BACKWARD; FULL_TRANSITIVE keeps every version readable by every other"
    ]
    (tmp_path / "theirs.avsc").write_text(json.dumps(NEWER))
    code, out, _ = run("check", "--set", f"schemas.files={tmp_path / 'theirs.avsc'}")
    assert (code, out) == (0, f"ok: {tmp_path / 'theirs.avsc'} can be read as TraceEvent\n")
    (tmp_path / "theirs.avsc").write_text("{}")
    code, _, err = run("check", "--set", f"schemas.files={tmp_path / 'theirs.avsc'}")
    assert (code, "needs fixing: schemas.files: " in err) == (1, True)


def test_error_codes_of_the_registry(registry: SchemaRegistry, tmp_path: Path) -> None:
    with pytest.raises(RegistryRefused) as caught:
        Client(of(registry.url, tmp_path).registry)._ask("GET", "/schemas/ids/1")
    assert (caught.value.status, caught.value.code) == (404, NO_SCHEMA)


def test_tailrace_check_asks_the_registry_too(registry: SchemaRegistry, tmp_path: Path) -> None:
    registry.add(SUBJECT, OURS)
    with closed_port() as kafka:
        ran = CliRunner().invoke(
            cli, ["check", "--json", "--wait", "0", "-b", kafka, *options(registry, tmp_path)]
        )
    found = json.loads(ran.stdout)
    assert f"{SUBJECT} has version {VERSION} of TraceEvent as id 1000" in found["passed"]
    assert [w for w in found["warnings"] if "FULL_TRANSITIVE" in w] != []
