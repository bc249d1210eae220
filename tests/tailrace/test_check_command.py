"""`tailrace check`: each problem comes with its fix."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner

from tailrace.cli import cli
from tailrace.settings import Settings
from tests.tailrace.ports import closed_port


def check(*arguments: str) -> tuple[int, str, str]:
    ran = CliRunner().invoke(cli, ["check", *arguments])
    return ran.exit_code, ran.stdout, ran.stderr


def test_wrong_settings_are_a_problem_like_others() -> None:
    code, out, _ = check("--json", "--set", "topics.partitions=0")
    answer = json.loads(out)
    assert code == 1
    assert answer["passed"] == []
    (problem,) = answer["problems"]
    assert problem.startswith("settings: topics.partitions: ")


def test_properties_that_librdkafka_refuses_are_a_problem_without_their_secrets(tmp_path: Path) -> None:
    config = tmp_path / "t.toml"
    config.write_text('[kafka.client]\nsecurity.protocol = "smoke"\nsasl.password = "marker-5"')
    code, out, err = check("--config", str(config))
    assert code == 1
    assert "needs fixing: settings: " in err
    assert "security.protocol" in err
    assert "marker-5" not in out + err


def test_a_spool_folder_that_cannot_be_used_is_a_problem() -> None:
    code, _, err = check("--wait", "0", "--set", "publisher.spool_dir=/proc/nope")
    assert code == 1
    assert "needs fixing: settings: publisher.spool_dir: '/proc/nope' cannot be used" in err


@pytest.mark.parametrize(
    ("property", "problem"),
    [
        ("message.timeout.ms=600000", "message.timeout.ms"),  # longer than the processor's transactions
        ("socket.timeout.ms=60000", "socket.timeout.ms"),
        ("max.poll.interval.ms=10", "max.poll.interval.ms"),  # shorter than a sink's session
        ("max.in.flight.requests.per.connection=6", "max.in.flight"),
        ("retries=0", "retries"),
        ("message.max.bytes=many", "message.max.bytes"),
        ("security.protocol=ssl,ssl.sigalgs.list=RSA+SHA256", "ssl.sigalgs.list: is not supported by"),
        ("security.protocol=sasl_ssl,sasl.mechanism=GSSAPI", "sasl.mechanism: is not supported by"),
    ],
)
def test_properties_that_one_client_cannot_use_are_problems(property: str, problem: str) -> None:
    with closed_port() as address:
        code, out, err = check("-b", address, "--wait", "0", "--set", f"kafka.client={property}")
    assert code == 1
    assert out == "ok: settings are valid\n"
    assert "needs fixing: settings: " in err
    assert problem in err
    assert "kafka.client" in err


def test_variables_that_no_setting_has_are_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_NONSENSE", "marker-9")
    monkeypatch.setenv("TAILRACE_PORT", "tcp://10.0.0.7:9092")
    with closed_port() as address:
        answer = json.loads(check("-b", address, "--wait", "0", "--json")[1])
    assert answer["passed"] == ["settings are valid"]
    assert answer["warnings"] == ["no setting has the variable TAILRACE_NONSENSE; see docs/settings.md"]


def test_a_broker_that_does_not_answer_is_a_problem_with_its_fix() -> None:
    with closed_port() as address:
        code, out, err = check("-b", address, "--wait", "0")
    assert code == 1
    assert out == "ok: settings are valid\n"
    assert f"needs fixing: no Kafka broker answers at {address}" in err
    assert "set kafka.bootstrap_servers (-b)" in err


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("[sinks.nonsense]", "sinks.nonsense: there is no sink 'nonsense'"),
        ('[sinks.otlp]\nendpoint = "http://h:1"\nendpiont = "x"', "sinks.otlp"),
        ('[sinks.otlp]\nendpoint = "localhost:4318"', "must start with http:// or https://"),
        ('[sinks.mine]\ntype = "otlp"\nmax_records = 0', "sinks.mine.max_records"),
    ],
)
def test_wrong_sinks_are_problems(tmp_path: Path, table: str, problem: str) -> None:
    config = tmp_path / "t.toml"
    config.write_text("[sinks.console]\n" + table)
    with closed_port() as address:
        code, out, _ = check("--config", str(config), "-b", address, "--wait", "0", "--json")
    answer = json.loads(out)
    assert (code, answer["passed"], answer["skipped"]) == (1, ["settings are valid"], [])
    first, _broker = answer["problems"]
    assert first.startswith("settings: sinks.")
    assert problem in first


def test_correct_sinks_are_counted(tmp_path: Path) -> None:
    config = tmp_path / "t.toml"
    config.write_text('[sinks.console]\n[sinks.a]\ntype = "otlp"\nendpoint = "http://h:1"')
    with closed_port() as address:
        _, out, _ = check("--config", str(config), "-b", address, "--wait", "0")
    assert out == "ok: settings are valid\nok: 2 sinks are configured\n"


@pytest.mark.parametrize("module", ["connectors.commands.check", "connectors.sinks.otlp"])
def test_without_the_extra_sinks_are_not_checked_and_the_output_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    config = tmp_path / "t.toml"
    config.write_text('[sinks.otlp]\nendpoint = "http://h:1"')
    load = EntryPoint.load

    def without(self: EntryPoint) -> object:
        if self.module == module:
            raise ModuleNotFoundError("No module named 'orjson'", name="orjson")
        return load(self)

    monkeypatch.setattr(EntryPoint, "load", without)
    with closed_port() as address:
        _, out, err = check("--config", str(config), "-b", address, "--wait", "0")
        assert out == "ok: settings are valid\n"
        assert err.count("needs fixing: ") == 1  # the broker
        assert "not checked: sinks" in err
        assert "needs the package orjson: pip install 'tailrace[connectors]'" in err
        assert "not checked" not in check("-b", address, "--wait", "0")[2]


def test_a_named_sink_is_asked_without_kafka() -> None:
    with closed_port() as address:
        options = [
            "-b",
            address,
            "--set",
            f"sinks.otlp.endpoint=http://{address}",
            "--set",
            "sinks.otlp.api_key=marker-77",
        ]
        code, out, err = check("otlp", "console", *options)
    assert (code, out) == (1, "ok: settings are valid\nok: sink console (console) works\n")
    assert err.startswith(f"needs fixing: sink otlp (otlp): unreachable: http://{address}")
    assert err.count("needs fixing") == 1
    assert err.endswith("in [sinks.otlp]\n")
    assert "marker-77" not in out + err


def test_a_named_sink_decides_the_exit_code() -> None:
    code, out, _ = check("console", "--json")
    assert code == 0
    assert json.loads(out) == {
        "passed": ["settings are valid", "sink console (console) works"],
        "problems": [],
        "warnings": [],
        "skipped": [],
    }
    code, out, _ = check("nonsense", "--json")
    assert code == 1
    assert json.loads(out)["problems"][0].startswith("sinks.nonsense: there is no sink 'nonsense'")


def test_without_the_extra_a_named_sink_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    load = EntryPoint.load

    def without(self: EntryPoint) -> object:
        if self.module == "connectors.commands.check":
            raise ModuleNotFoundError("No module named 'aiohttp'", name="aiohttp")
        return load(self)

    monkeypatch.setattr(EntryPoint, "load", without)
    code, _, err = check("otlp")
    assert code == 1
    assert "needs the package aiohttp: pip install 'tailrace[connectors]'" in err
    monkeypatch.setattr("tailrace.commands.check.entry_points", lambda group: [])
    code, _, err = check("otlp")
    assert code == 1
    assert "cannot check otlp" in err


@pytest.mark.kafka
def test_missing_topics_are_problems_and_then_all_is_well_but_not_durable(
    topics_settings: Callable[..., Settings],
) -> None:
    settings = topics_settings(create=False)
    options = ["-b", settings.kafka.bootstrap_servers, "--set", f"topics.prefix={settings.topics.prefix}"]
    code, out, err = check(*options)
    assert code == 1
    assert out.startswith("ok: settings are valid\nok: Kafka answers at ")
    assert err.count("run `tailrace topics create`") == 8

    assert CliRunner().invoke(cli, ["topics", "create", *options]).exit_code == 0
    code, out, err = check(*options)
    assert code == 0
    assert "ok: 8 topics have the right settings" in out
    assert err.count("not durable: ") == 8
    code, out, _ = check(*options, "--json")
    answer = json.loads(out)
    assert (code, len(answer["passed"]), answer["problems"], len(answer["warnings"])) == (0, 3, [], 8)
