"""Settings: which layer wins, what an error says, and what it never shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tailrace.commands.options import settings_from
from tailrace.errors import ConfigError
from tailrace.settings import Settings, load, merge, pairs

SECRET = "marker-7f3a91"


def from_toml(
    tmp_path: Path, text: str, env: dict[str, str] | None = None, flags: dict[str, Any] | None = None
) -> Settings:
    file = tmp_path / "base.toml"
    file.write_text(text)
    return load(flags, path=file, env=env or {})


def test_without_anything_the_defaults_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(env={}) == Settings()


def test_variables_win_over_the_file_and_flags_over_both(tmp_path: Path) -> None:
    text = (
        '[kafka]\nbootstrap_servers = "file:1"\n[topics]\nprefix = "file."\npartitions = '
        "8\n[streams]\nworkers = 3"
    )
    env = {"TAILRACE_TOPICS_PREFIX": "env.", "TAILRACE_TOPICS_PARTITIONS": "16"}
    settings = from_toml(tmp_path, text, env, {"topics": {"partitions": 32}})
    assert settings.kafka.bootstrap_servers == "file:1"
    assert (settings.topics.prefix, settings.topics.partitions) == ("env.", 32)
    assert settings.streams.workers == 3


def test_the_file_is_the_one_named_else_the_variables_else_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("tailrace", "other", "third"):
        (tmp_path / f"{name}.toml").write_text(f'topics.prefix = "{name}."')
    assert load(env={}).topics.prefix == "tailrace."
    assert load(env={"TAILRACE_CONFIG": "other.toml"}).topics.prefix == "other."
    assert load(path="third.toml", env={"TAILRACE_CONFIG": "other.toml"}).topics.prefix == "third."


def test_tables_are_merged_key_by_key(tmp_path: Path) -> None:
    settings = from_toml(
        tmp_path,
        '[kafka.client]\n"sasl.username" = "file"\n"sasl.mechanism" = "PLAIN"',
        {"TAILRACE_KAFKA_CLIENT": "sasl.username=env, security.protocol=SASL_SSL"},
    )
    assert settings.kafka.client == {
        "sasl.username": "env",
        "sasl.mechanism": "PLAIN",
        "security.protocol": "SASL_SSL",
    }
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"d": 4}) == {"a": {"b": 3, "c": 2}, "d": 4}


def test_dotted_properties_need_no_quotes_in_toml(tmp_path: Path) -> None:
    settings = from_toml(tmp_path, '[kafka.client]\nsecurity.protocol = "SSL"\nssl.ca.location = "/ca.pem"')
    assert settings.kafka.client == {"security.protocol": "SSL", "ssl.ca.location": "/ca.pem"}


def test_set_reaches_properties_with_dots() -> None:
    settings = settings_from(
        None, "host:1", ("kafka.client.security.protocol=SSL", "topics.partitions=9", "sinks.a.b.c=d=e")
    )
    assert settings.kafka.client == {"security.protocol": "SSL"}
    assert (settings.kafka.bootstrap_servers, settings.topics.partitions) == ("host:1", 9)
    assert settings.sinks == {"a": {"b": {"c": "d=e"}}}


def test_a_variable_ending_in_file_names_a_file_with_the_value(tmp_path: Path) -> None:
    (tmp_path / "servers").write_text("host:9\n")
    (tmp_path / "client").write_text(f"sasl.username=me\nsasl.password={SECRET},=x\n")
    (tmp_path / "key").write_text("sk\n")
    settings = load(
        env={
            "TAILRACE_KAFKA_BOOTSTRAP_SERVERS_FILE": str(tmp_path / "servers"),
            "TAILRACE_KAFKA_CLIENT_FILE": str(tmp_path / "client"),
            "TAILRACE_SINKS_OPIK_API_KEY_FILE": str(tmp_path / "key"),
        }
    )
    assert settings.kafka.bootstrap_servers == "host:9"
    assert settings.kafka.client == {"sasl.username": "me", "sasl.password": f"{SECRET},=x"}
    assert settings.sinks == {"opik": {"api_key": "sk"}}


def test_sinks_are_anything_by_instance(tmp_path: Path) -> None:
    env = {"TAILRACE_SINKS_LANGFUSE_PUBLIC_KEY": "pk", "TAILRACE_SINKS_EU_TYPE": "langfuse"}
    settings = from_toml(tmp_path, '[sinks.langfuse]\nurl = "https://x"\nbatch = 5', env)
    assert settings.sinks == {
        "langfuse": {"url": "https://x", "batch": 5, "public_key": "pk"},
        "eu": {"type": "langfuse"},
    }


@pytest.mark.parametrize(
    ("text", "env", "said"),
    [
        ("[kafak]\nx = 1", {}, ["kafak", "known are: kafka, topics"]),
        ('[kafka]\nservers = "x"', {}, ["kafka:", "servers", "known are: bootstrap_servers, client"]),
        ("[topics]\npartitions = 0", {}, ["topics.partitions", ">= 1"]),
        ("[topics]\nmax_event_bytes = 1000", {}, ["topics.max_event_bytes", "131072"]),
        ('[publisher]\nwhen_full = "explode"', {}, ["publisher.when_full", "explode"]),
        ("kafka = 5", {}, ["kafka:"]),
        ("[kafka.client]\nretries = 5", {}, ["kafka.client"]),
        ("[topics]\nprefix =", {}, ["base.toml", "Invalid value"]),
        ("", {"TAILRACE_KAFAK_X": "1"}, ["TAILRACE_KAFAK_X", "kafka, topics"]),
        ("", {"TAILRACE_TOPICS_NOTHING": "1"}, ["topics:", "nothing", "prefix"]),
        (
            "[registry]\nwait_seconds = 9",
            {},
            ["registry:", "it is schemas.wait_seconds now (TAILRACE_SCHEMAS_WAIT_SECONDS)"],
        ),
        (
            "",
            {"TAILRACE_CONNECT_UNKNOWN_SCHEMA_SECONDS": "9"},
            ["connect:", "`unknown_schema_seconds`", "it is schemas.wait_seconds now"],
        ),
        ("", {"TAILRACE_TOPICS_PARTITIONS": "many"}, ["topics.partitions"]),
        ("", {"TAILRACE_TOPICS_PARTITIONS": "0"}, ["topics.partitions", ">= 1"]),
        ("", {"TAILRACE_KAFKA_CLIENT": "a=b,c"}, ["TAILRACE_KAFKA_CLIENT", "entry 2", "key=value"]),
        (
            "",
            {"TAILRACE_KAFKA_CLIENT_FILE": "/nowhere/at/all"},
            ["TAILRACE_KAFKA_CLIENT_FILE", "No such file"],
        ),
        ("", {"TAILRACE_CONNECT_DRAIN_SECONDS": "-1"}, ["connect.drain_seconds", ">= 0"]),
    ],
)
def test_an_error_names_the_setting(tmp_path: Path, text: str, env: dict[str, str], said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        from_toml(tmp_path, text, env)
    for part in said:
        assert part in str(caught.value)
    assert not str(caught.value).startswith(".")


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        load(path=tmp_path / "missing.toml", env={})


def test_binary_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe" + SECRET.encode())
    with pytest.raises(ConfigError, match="binary"):
        load(path=tmp_path / "binary", env={})
    with pytest.raises(ConfigError, match="TAILRACE_KAFKA_BOOTSTRAP_SERVERS_FILE") as caught:
        load(env={"TAILRACE_KAFKA_BOOTSTRAP_SERVERS_FILE": str(tmp_path / "binary")})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "assignment", [SECRET, f"x={SECRET}", f"kafka.client.sasl.password.{SECRET}", f"=={SECRET}", "a.b"]
)
def test_an_invalid_assignment_says_the_right_form(assignment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_from(None, None, (assignment,))
    assert "section.field=value" in str(caught.value) or "known are" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "env", "flags"),
    [
        ("", {"TAILRACE_KAFKA_CLIENT": f"sasl.username=me,sasl.password=first,{SECRET}"}, {}),
        ("", {"TAILRACE_KAFKA_CLIENT": SECRET}, {}),
        ("", {"TAILRACE_KAFKA_CLIENT": f"sasl.password={SECRET}", "TAILRACE_TOPICS_PARTITIONS": "0"}, {}),
        (f'[kafka.client]\n"sasl.password" = ["{SECRET}"]', {}, {}),
        (f'[kafka]\nclient = "sasl.password={SECRET}"', {}, {}),
        (f'[kafka]\npassword = "{SECRET}"', {}, {}),
        (f'[kafka.client]\n"sasl.password" = "{SECRET}', {}, {}),
        (f"[kafka.client]\n\"sasl.password\" = '{SECRET}' '{SECRET}'", {}, {}),
        (f'[kafka.client]\n"sasl.password" = {SECRET}', {}, {}),
        ("", {"TAILRACE_TOPICS_PASSWORD": SECRET}, {}),
        ("", {"TAILRACE_KAFKA_CLIENT_FILE": "FILE"}, {}),
        ("", {}, {"kafka": {"client": {"sasl.password": 5, "x": SECRET}}}),
    ],
)
def test_no_error_prints_a_value_that_may_be_a_secret(
    tmp_path: Path, text: str, env: dict[str, str], flags: dict[str, Any]
) -> None:
    (tmp_path / "client").write_text(f"sasl.username=me\n{SECRET}\n")
    env = {k: str(tmp_path / "client") if v == "FILE" else v for k, v in env.items()}
    with pytest.raises(ConfigError) as caught:
        from_toml(tmp_path, text, env, flags)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "assignment", [f"sasl.password={SECRET}", f"password={SECRET}", f"kafka.password={SECRET}"]
)
def test_no_error_about_an_assignment_prints_its_value(assignment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_from(None, None, (assignment,))
    assert SECRET not in str(caught.value)


def test_pairs_come_in_one_line_or_one_a_line() -> None:
    assert pairs("a=b, c = d=e ,") == {"a": "b", "c": "d=e"}
    assert pairs("a=b,c\n\nd=e\n") == {"a": "b,c", "d": "e"}
    assert pairs("") == {}


@pytest.mark.parametrize(
    "key",
    [
        "group.id",
        "group.instance.id",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "auto.offset.reset",
        "isolation.level",
        "acks",
        "request.required.acks",
        "enable.idempotence",
        "transactional.id",
        "partitioner",
        "partition.assignment.strategy",
    ],
)
def test_properties_that_tailrace_relies_on_cannot_be_set(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^kafka\.client: {key} cannot be set"):
        load({"kafka": {"client": {key: "x"}}}, env={})


def test_servers_as_a_client_property_are_refused_with_the_right_place() -> None:
    with pytest.raises(
        ConfigError, match=r"bootstrap\.servers cannot be set here; use kafka\.bootstrap_servers"
    ):
        load(env={"TAILRACE_KAFKA_CLIENT": "bootstrap.servers=other:1"})


def test_timings_of_the_client_may_be_set() -> None:
    client = {"max.poll.interval.ms": "9", "session.timeout.ms": "9", "heartbeat.interval.ms": "9"}
    assert load({"kafka": {"client": client}}, env={}).kafka.client == client


@pytest.mark.parametrize(
    "servers", ["", " , ", "h:0", "h:65536", "h:x", "h:", "a:1,b:70000", "[::1]:0", "SSL://h:99999", "h:1٥"]
)
def test_invalid_servers_are_named(servers: str) -> None:
    with pytest.raises(ConfigError, match=r"^kafka\.bootstrap_servers: "):
        load({"kafka": {"bootstrap_servers": servers}}, env={})


@pytest.mark.parametrize(
    "servers", ["h", "h:1", "a:65535, b:9092,", "[::1]:9092", "::1", "SASL_SSL://h:9092"]
)
def test_valid_servers(servers: str) -> None:
    assert load({"kafka": {"bootstrap_servers": servers}}, env={}).kafka.bootstrap_servers == servers
