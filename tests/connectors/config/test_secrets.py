"""Secrets in settings: found by type, read from files, never shown."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from connectors import Batch, Delivered, Enriched, Health, Http, Outcomes, Payload, Rates, Secret, sink
from connectors.commands.connect import sinks
from connectors.config import instances
from connectors.config.instances import Instance, instance
from connectors.config.secrets import is_secret, is_text, values_of
from connectors.delivery.dead_letter_limits import DeadLetterLimits
from connectors.sdk import redact
from connectors.sdk.outcomes import Rejected, Retry
from tailrace.errors import ConfigError
from tailrace.settings import Settings

KEY = "s3cr3t-key"


@sink("acme", rates=Rates(100, 10), environment=lambda env: {k: v for k, v in env.items() if k == "api_key"})
class Acme:
    """To Acme."""

    class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        api_key: Secret
        second: Secret | None = None
        headers: dict[str, Secret] = {}
        inbuilt: Secret = "not-for-the-list"
        region: str = "eu"
        paid: bool = False

    def __init__(self, settings: Settings) -> None:
        if settings.region == "mars":
            raise ConfigError(f"region: {settings.api_key} is not valid on mars")
        if settings.region == "bug":
            raise ValueError(f"cannot parse {settings.api_key}")
        if settings.paid:
            self.rates = Rates(5000, 500)

    def map(self, event: Enriched) -> Payload:
        return Payload(b"", 0)

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        return Delivered()

    async def check(self, http: Http) -> Health:
        return Health(True)


@pytest.fixture(autouse=True)
def acme(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("acme", f"{__name__}:Acme", instances.GROUP)
    monkeypatch.setattr(instances, "installed", lambda: {"acme": entry})
    monkeypatch.setattr("connectors.commands.connect.installed", lambda: {"acme": entry})


def make(env: dict[str, str] | None = None, **table: Any) -> Instance:
    return instance(Settings(sinks={"acme": table}), "acme", env or {})


def test_types_of_secrets() -> None:
    assert [
        is_secret(t) for t in (Secret, Secret | None, dict[str, Secret], list[Secret], str, dict[str, str])
    ] == [
        True,
        True,
        True,
        True,
        False,
        False,
    ]
    assert [is_text(t) for t in (Secret, Secret | None, dict[str, Secret])] == [True, True, False]


def test_values_of_a_struct_are_all_its_secrets() -> None:
    own = Acme.Settings(KEY, "second-key", {"x": "third-key"}, "")
    assert values_of(own) == (KEY, "second-key", "third-key")
    assert make(api_key=KEY, inbuilt="").secrets == (KEY,)


def test_a_file_holds_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"\n {KEY}\n")
    assert make(api_key_file=str(path), inbuilt="").secrets == (KEY,)
    assert make({"api_key": "of-the-environment"}, api_key_file=str(path), inbuilt="").secrets == (KEY,)
    assert make(api_key=KEY, second_file=str(path), inbuilt="").secrets == (KEY,)


def test_an_error_about_a_file_does_not_show_its_content(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(ConfigError, match=r"sinks\.acme\.api_key_file: No such file"):
        make(api_key_file=str(path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"sinks\.acme\.api_key_file: the file is not UTF-8 text"):
        make(api_key_file=str(path))
    path.write_text(" \n")
    with pytest.raises(ConfigError, match=r"sinks\.acme\.api_key_file: the file is empty"):
        make(api_key_file=str(path))
    path.write_text(KEY)
    with pytest.raises(ConfigError, match="api_key and api_key_file are both set") as error:
        make(api_key_file=str(path), api_key="another-key")
    assert "another-key" not in str(error.value)
    with pytest.raises(ConfigError, match="unknown field"):
        make(api_key=KEY, region_file=str(path))


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"region": "mars"}, r"sinks\.acme\.region: \*\*\* is not valid on mars"),
        (
            {"region": "bug"},
            r"sinks\.acme: the sink cannot be created from these settings: ValueError in Acme.__init__",
        ),
        ({"paid": "perhaps"}, r"sinks\.acme\.paid: "),
        ({"dead_letter_ratio": 1.5}, r"sinks\.acme\.dead_letter_ratio: "),
        ({"requests_per_minute": -1}, r"sinks\.acme\.requests_per_minute: "),
    ],
)
def test_no_message_has_a_secret(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        make(api_key=KEY, **table)
    assert KEY not in str(error.value)
    assert KEY not in repr(error.value.__cause__)


def test_an_instance_does_not_show_its_secrets() -> None:
    made = make(api_key=KEY)
    assert KEY not in repr(made)
    assert KEY not in str(made)


def test_sinks_ls_shows_no_secret() -> None:
    for arguments in (["ls"], ["ls", "--json"]):
        output = CliRunner().invoke(sinks, arguments).output
        assert "not-for-the-list" not in output
    settings = {s["name"]: s for s in json.loads(output)[0]["settings"]}
    assert settings["api_key"] == {"name": "api_key", "type": "secret"}
    assert settings["second"] == {"name": "second", "type": "secret", "default": None}
    assert settings["headers"] == {"name": "headers", "type": "table of secrets", "default": {}}
    assert settings["inbuilt"] == {"name": "inbuilt", "type": "secret", "default": "***"}


def test_rates_and_limits_come_from_the_settings_then_the_sink_then_its_type() -> None:
    assert make(api_key=KEY).rates == Rates(100, 10)
    assert make(api_key=KEY, paid=True).rates == Rates(5000, 500)
    assert make(api_key=KEY, paid=True, events_per_minute="7").rates == Rates(7, 500)
    assert make(api_key=KEY, requests_per_minute=0).rates == Rates(100, 0)
    assert make(api_key=KEY).dead_letters == DeadLetterLimits(0.2, 50)
    assert make(
        api_key=KEY, dead_letter_ratio="0", dead_letter_consecutive=3
    ).dead_letters == DeadLetterLimits(0, 3)
    assert make(api_key=KEY, circuit_failures=0).circuit_failures == 0


def test_reloaded_settings(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("first-key")
    table: dict[str, Any] = {"api_key_file": str(path)}

    def read() -> Settings:
        return Settings(sinks={"acme": dict(table)})

    now = instance(read(), "acme", {}, read)
    assert now.reload is not None
    assert now.reload(now) is None
    path.write_text("second-key")
    changed = now.reload(now)
    assert changed is not None
    assert "second-key" in changed.secrets
    assert changed.sink is not now.sink
    assert changed.reload is not None
    assert changed.reload(changed) is None
    table["region"] = "mars"
    with pytest.raises(ConfigError, match=r"region: \*\*\* is not valid"):
        changed.reload(changed)
    table["region"] = "us"
    assert changed.reload(changed) is not None


def test_a_masked_struct() -> None:
    rejected = Rejected("r", f"with {KEY}", 400, None, f"{KEY}{KEY}")
    assert redact.hidden(rejected, (KEY,)) == Rejected("r", "with ***", 400, None, "******")
    assert redact.hidden(rejected, ()) is rejected
    assert redact.hidden(Retry(3.0, "r"), (KEY,)) == Retry(3.0, "r")
    assert redact.hidden(None, (KEY,)) is None
