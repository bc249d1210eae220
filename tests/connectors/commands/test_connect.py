"""`tailrace connect` and `tailrace sinks`: sinks by name, their settings, and errors."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from connectors import Batch, Delivered, Enriched, Health, Http, Outcomes, Payload, sink
from connectors.commands.connect import connect, sinks
from connectors.config.instances import instance, instances
from connectors.consumer.sink_supervisor import SinkSupervisor
from connectors.delivery.batching import BatchLimits
from connectors.sdk.contract import spec_of
from tailrace.errors import ConfigError
from tailrace.settings import Settings

KNOWN = "alibaba, console, file, langfuse, opik, otlp, weave"


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(connect, list(arguments), env={"TAILRACE_CONFIG": None})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("nope",),
            f"sinks.nope: there is no sink 'nope'; known are {KNOWN}",
        ),
        (("otlp",), "sinks.otlp.endpoint: is required"),
        (("otlp", "--set", "sinks.otlp.endpoint=nowhere"), "sinks.otlp.endpoint: "),
        (("eu", "--set", "sinks.eu.type=nope"), "sinks.eu: there is no sink 'nope'"),
        (("console", "--set", "sinks.console.format=xml"), "sinks.console.format: "),
        (("console", "--set", "nonsense"), "--set …: is not section.field=value"),
        ((), f"no sink is configured; name one of {KNOWN}"),
    ],
)
def test_wrong_settings_end_with_2_and_say_which(arguments: tuple[str, ...], says: str) -> None:
    code, output = run(*arguments)
    assert code == 2
    assert says in output
    assert "Traceback" not in output


def test_help_has_examples() -> None:
    code, output = run("--help")
    assert code == 0
    assert "tailrace connect otlp --set sinks.otlp.endpoint=http://localhost:4318" in output


def test_sinks_ls_lists_types_and_settings() -> None:
    found = json.loads(CliRunner().invoke(sinks, ["ls", "--json"]).output)
    by_name = {row["name"]: row for row in found}
    assert {"console", "file", "otlp"} <= by_name.keys()
    settings = {s["name"]: s for s in by_name["otlp"]["settings"]}
    langfuse = {s["name"]: s for s in by_name["langfuse"]["settings"]}
    assert "default" not in langfuse["secret_key"]
    assert langfuse["secret_key"]["type"] == "secret"
    assert (settings["service_name"]["default"], settings["timeout"]["default"]) == ("dify", 30.0)
    text = CliRunner().invoke(sinks, ["ls"]).output
    assert "One line per event on standard output" in text
    assert "required" in text


def test_instances_have_their_own_limits_and_type() -> None:
    settings = Settings(
        sinks={"a": {"type": "console", "max_records": "7", "max_bytes": 99}, "console": {"format": "json"}}
    )
    found = {i.name: i for i in instances(settings, ())}
    assert (found["a"].type, found["a"].limits) == ("console", BatchLimits(7, 99, 0.2))
    assert found["console"].limits.max_records == 500
    assert [i.name for i in instances(settings, ("console", "console"))] == ["console"]
    with pytest.raises(ConfigError, match=r"sinks\.a\.max_records"):
        instance(Settings(sinks={"a": {"type": "console", "max_records": "many"}}), "a", {})


def test_a_table_may_be_written_as_text() -> None:
    text = {"endpoint": "http://h", "headers": "a=b, c=d"}
    assert instance(Settings(sinks={"otlp": text}), "otlp", {}).name == "otlp"


def test_the_decorator_refuses_what_is_not_a_sink() -> None:
    with pytest.raises(TypeError, match="has no field colour"):
        sink("x", fields={"colour"})
    with pytest.raises(TypeError, match="no settings"):

        @sink("x")
        class Bare:
            pass

    with pytest.raises(TypeError, match="no method map"):

        @sink("x")
        class Mapless:
            class Settings(msgspec.Struct):
                pass

    with pytest.raises(TypeError, match="not a sink"):
        spec_of(str)


def test_a_sink_of_one_screen() -> None:
    @sink("acme", max_records=10, fields={"name"})
    class Acme:
        """To Acme."""

        class Settings(msgspec.Struct, frozen=True):
            endpoint: str = "http://acme"

        def __init__(self, settings: Settings) -> None:
            self.endpoint = settings.endpoint

        def map(self, event: Enriched) -> Payload:
            data = (event.event.name or "").encode()
            return Payload(data, len(data))

        async def send(self, batch: Batch, http: Http) -> Outcomes:
            await http.request("POST", self.endpoint, b"\n".join(batch.bodies), {})
            return Delivered()

        async def check(self, http: Http) -> Health:
            return Health(True)

    spec = spec_of(Acme)
    assert (spec.name, spec.max_records, spec.fields, spec.doc) == (
        "acme",
        10,
        frozenset({"name"}),
        "To Acme.",
    )


def test_a_running_sink_sees_its_settings_file_and_the_environment_of_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[SinkSupervisor] = []

    class Fleet:
        def __init__(self, sinks: list[SinkSupervisor], report: object) -> None:
            started.extend(sinks)

        def run(self) -> int:
            return 0

    monkeypatch.setattr("connectors.commands.connect.Fleet", Fleet)
    config, key = tmp_path / "tailrace.toml", tmp_path / "key"
    config.write_text('[sinks.otlp]\nendpoint = "http://one"\n')
    key.write_text("key-1")
    env = {"TAILRACE_CONFIG": None, "TAILRACE_SINKS_OTLP_API_KEY_FILE": str(key)}
    result = CliRunner().invoke(connect, ["otlp", "--config", str(config)], env=env)
    assert result.exit_code == 0, result.output
    [supervised] = started
    now = supervised._instance
    assert now.reload is not None
    assert now.secrets == ("key-1",)
    assert now.reload(now) is None
    key.write_text("key-2")
    changed = now.reload(now)
    assert changed is not None
    assert changed.secrets == ("key-2",)
    config.write_text('[sinks.otlp]\nendpoint = "http://two"\nevents_per_minute = 7\n')
    again = now.reload(changed)
    assert again is not None
    assert again.rates.events_per_minute == 7
    config.write_text('[sinks.otlp]\nendpoint = "http://two"\ntype = "console"\n')
    with pytest.raises(ConfigError, match=r"sinks\.otlp"):
        now.reload(again)
    config.write_text("[sinks.otlp\n")
    with pytest.raises(ConfigError, match=r"tailrace\.toml"):
        now.reload(again)
