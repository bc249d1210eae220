"""Settings: which layer wins, what an error says, and what it never shows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from tailrace import settings as module
from tailrace.commands.options import settings_from
from tailrace.errors import ConfigError
from tailrace.settings import Kafka, Settings, load, merge, pairs, read_files

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


def test_set_takes_a_table_as_a_variable_does() -> None:
    settings = settings_from(
        None, None, ("kafka.client=sasl.username=me,ssl.key.password=a=b", "kafka.client.client.id=x"), env={}
    )
    assert settings.kafka.client == {"sasl.username": "me", "ssl.key.password": "a=b", "client.id": "x"}
    over = settings_from(
        None, None, ("kafka.client=client.id=y",), env={"TAILRACE_KAFKA_CLIENT": "client.id=x,a=b"}
    )
    assert over.kafka.client == {"client.id": "y", "a": "b"}
    with pytest.raises(ConfigError, match=r"^--set kafka\.client: entry 2 is not key=value") as caught:
        settings_from(None, None, (f"kafka.client=a=b,{SECRET}",), env={})
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError, match=r"^kafka\.client: group\.id cannot be set"):
        settings_from(None, None, ("kafka.client=client.id=x,group.id=y",), env={})


def test_numbers_and_booleans_become_text_in_a_table_of_texts(tmp_path: Path) -> None:
    text = """
[kafka.client]
socket.timeout.ms = 5000
linger.ms = 0.5
socket.keepalive.enable = true
enable.ssl.certificate.verification = false
sasl.password = 12345
"""
    assert from_toml(tmp_path, text).kafka.client == {
        "socket.timeout.ms": "5000",
        "linger.ms": "0.5",
        "socket.keepalive.enable": "true",
        "enable.ssl.certificate.verification": "false",
        "sasl.password": "12345",
    }


def test_a_pem_text_fits_in_one_line_of_a_variable() -> None:
    env = {"TAILRACE_KAFKA_CLIENT": r"ssl.key.pem=-----BEGIN-----\nQUJD=\n-----END-----\n,x=a\nb"}
    assert load(env=env).kafka.client == {
        "ssl.key.pem": "-----BEGIN-----\nQUJD=\n-----END-----\n",
        "x": r"a\nb",
    }


def test_the_text_of_kafka_settings_holds_no_value_of_a_property() -> None:
    text = repr(Settings(kafka=Kafka(client={"sasl.password": SECRET})))
    assert SECRET not in text
    assert "client={sasl.password}" in text


SERVICE = {
    "{}_SERVICE_HOST": "10.0.0.7",
    "{}_SERVICE_PORT": "9092",
    "{}_SERVICE_PORT_HTTP": "9092",
    "{}_PORT": "tcp://10.0.0.7:9092",
    "{}_PORT_9092_TCP": "tcp://10.0.0.7:9092",
    "{}_PORT_9092_TCP_PROTO": "tcp",
    "{}_PORT_9092_TCP_PORT": "9092",
    "{}_PORT_9092_TCP_ADDR": "10.0.0.7",
    "{}_PORT_53_UDP": "udp://10.0.0.7:53",
}
"""What Kubernetes sets in every pod for a Service of this name."""


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged, as in a process that has not warned yet."""
    monkeypatch.setattr(module, "_warned", set())
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.mark.parametrize(
    "service",
    [
        "tailrace",
        "tailrace-connect",
        "tailrace-config",
        "tailrace-service",
        "tailrace-kafka",
        "tailrace-streams-http",  # its …_PORT is also the variable of a setting
        "tailrace-connect-http",
        "tailrace-observe",
        "tailrace-sinks",
        "tailrace-sinks-otlp",
        "tailrace-sinks-unknown",
    ],
)
def test_variables_of_a_kubernetes_service_change_nothing_and_are_not_mentioned(
    service: str, said: pytest.LogCaptureFixture
) -> None:
    env = {k.format(service.upper().replace("-", "_")): v for k, v in SERVICE.items()}
    assert load({"sinks": {"console": {}}}, env=env) == load({"sinks": {"console": {}}}, env={})
    assert said.records == []


def test_a_number_in_a_port_of_ours_is_a_setting() -> None:
    env = {"TAILRACE_STREAMS_HTTP_PORT": "9999", "TAILRACE_STREAMS_HTTP_SERVICE_HOST": "10.0.0.7"}
    assert load(env=env).streams.http_port == 9999


def test_a_variable_that_no_setting_has_is_warned_about_once_without_its_value(
    said: pytest.LogCaptureFixture,
) -> None:
    env = {
        "TAILRACE_TOPICS_PARTITION": SECRET,
        "TAILRACE_NONSENSE": SECRET,
        "TAILRACE_KAFAK_X_FILE": "/nowhere",
        "TAILRACE_TOPICS": SECRET,
        "TAILRACE_REGISTRY_WAIT_SECONDS": "9",
        "TAILRACE_SINKS_LANGFUZE_API_KEY": SECRET,
        "TAILRACE_SINKS_LANGFUZE_OTHER_FILE": "/nowhere",
    }
    assert load(env=env) == Settings()
    assert load(env=env) == Settings()
    (record,) = said.records
    text = record.getMessage()
    assert record.levelno == logging.WARNING
    assert SECRET not in text
    for name in env:
        assert name in text
    assert "TAILRACE_TOPICS_PARTITION (is it TAILRACE_TOPICS_PARTITIONS?)" in text
    assert "TAILRACE_REGISTRY_WAIT_SECONDS (it is TAILRACE_SCHEMAS_WAIT_SECONDS now)" in text
    load(env={**env, "TAILRACE_ANOTHER": "1"})
    assert (
        said.records[1].getMessage() == "no setting has the variable TAILRACE_ANOTHER; see docs/settings.md"
    )


def test_the_warning_is_bounded(said: pytest.LogCaptureFixture) -> None:
    load(env={f"TAILRACE_{'X' * 10_000}\n{i}": "1" for i in range(1000)})
    (record,) = said.records
    assert len(record.getMessage()) < 2000
    assert "and 990 more" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_a_caller_may_take_the_warning(said: pytest.LogCaptureFixture) -> None:
    taken: list[str] = []
    for _ in range(2):
        load(env={"TAILRACE_NONSENSE": "1"}, say=taken.append)
    assert taken == ["no setting has the variable TAILRACE_NONSENSE; see docs/settings.md"] * 2
    assert said.records == []


def test_a_variable_of_a_configured_instance_reaches_it_whatever_its_name(tmp_path: Path) -> None:
    """So that a misspelt `content` is an error of that sink, and nothing is sent in full."""
    text = '[sinks.my_eu-sink]\ntype = "console"\n[sinks.My]\ntype = "console"'
    env = {
        "TAILRACE_SINKS_MY_EU_SINK_CONTNET": "none",
        "TAILRACE_SINKS_MY_SAMPLE": "0.5",
        "TAILRACE_SINKS_LANGFUSE_CONTNET": "none",  # an installed sink may run without a table
        "TAILRACE_SINKS_OWN_TYPE": "file",
        "TAILRACE_SINKS_OWN_PATHH": "x",
    }
    assert from_toml(tmp_path, text, env).sinks == {
        "my_eu-sink": {"type": "console", "contnet": "none"},
        "My": {"type": "console", "sample": "0.5"},
        "langfuse": {"contnet": "none"},
        "own": {"type": "file", "pathh": "x"},
    }


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
    assert {name: read_files(t) for name, t in settings.sinks.items()} == {"opik": {"api_key": "sk"}}


def test_only_who_uses_a_sink_reads_its_files() -> None:
    """A publisher has the variables of the whole application, but not the files of its sinks."""
    settings = load(
        env={"TAILRACE_SINKS_OPIK_API_KEY_FILE": "/nowhere", "TAILRACE_SINKS_OTLP_CA_FILE": "/ca"}
    )
    assert settings.sinks["otlp"] == {"ca_file": "/ca"}
    with pytest.raises(ConfigError, match="TAILRACE_SINKS_OPIK_API_KEY_FILE: No such file") as caught:
        read_files(settings.sinks["opik"])
    assert "/nowhere" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("kafka.client." + "a." * 2000 + "b=1", "kafka.client"),
        ("kafka.client.=x", "kafka.client"),
        ("kafka..client=x", "kafka"),
        (".x=y", "…"),
        ("kafka.=x", "kafka"),
        (f"registry.password:{SECRET}", "registry.password"),
        (f"registry.password:{SECRET}=1", "registry.password"),
        (f"registry.password {SECRET}", "registry.password"),
        (SECRET, "…"),
        ("", "…"),
    ],
)
def test_an_assignment_in_another_form_is_refused_with_the_name_alone(text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_from(None, None, (text,), env={})
    assert str(caught.value).startswith(f"--set {named}: is not section.field=value; for example")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("field", ["ca_file", "cert_file", "key_file"])
def test_a_setting_that_is_a_files_name_stays_one(field: str) -> None:
    assert load(env={f"TAILRACE_SINKS_OTLP_{field.upper()}": "/x"}).sinks == {"otlp": {field: "/x"}}


@pytest.mark.parametrize(
    "variable", ["TAILRACE_SINKS_LANGFUSE", "TAILRACE_SINKS_LANGFUSE_", "TAILRACE_SINKS"]
)
def test_a_variable_of_a_sink_without_a_setting_is_warned_about(variable: str) -> None:
    said: list[str] = []
    assert load(env={variable: "1"}, say=said.append).sinks == {}
    assert variable in said[0]


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
        (
            "[kafka.client]\nretries = [5]",
            {},
            ["kafka.client: retries must be text, a number, true or false"],
        ),
        ("[kafka.client]\nsasl.username = 2026-11-30", {}, ["kafka.client: sasl.username must be"]),
        ("[topics]\nprefix =", {}, ["base.toml", "Invalid value"]),
        (
            "[registry]\nwait_seconds = 9",
            {},
            ["registry:", "it is schemas.wait_seconds now (TAILRACE_SCHEMAS_WAIT_SECONDS)"],
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
        ("", {"TAILRACE_KAFKA_CLIENT_FILE": "FILE"}, {}),
        ("", {}, {"kafka": {"client": {"sasl.password": [SECRET]}}}),
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
        "group.protocol",
        "enable.partition.eof",
        "delivery.report.only.error",
        "allow.auto.create.topics",
        "error_cb",
        "oauth_cb",
        "logger",
        "default.topic.config",
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


def test_a_property_with_a_setting_of_its_own_is_refused_with_that_setting() -> None:
    with pytest.raises(
        ConfigError, match=r"timeout\.ms cannot be set here; use streams\.transaction_timeout_ms"
    ):
        load({"kafka": {"client": {"transaction.timeout.ms": "1"}}}, env={})


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
