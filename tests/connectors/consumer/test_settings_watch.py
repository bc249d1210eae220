"""When the settings of a paused sink are read again, and what happens to settings that cannot be used."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from pathlib import Path

import msgspec
import pytest

from connectors.config.instances import Instance, instance
from connectors.consumer import startup
from connectors.consumer.sink_supervisor import RELOAD, SettingsWatch
from connectors.sdk.contract import Health
from tailrace.errors import ConfigError
from tailrace.settings import Settings


class Reading:
    """Settings that are what the test says."""

    def __init__(self) -> None:
        self.looks = 0
        self.answer: Instance | ConfigError | None = None
        self.instance = msgspec.structs.replace(
            instance(Settings(), "console", {}), secrets=("s3cret",), reload=self.reload
        )

    def reload(self, now: Instance) -> Instance | None:
        self.looks += 1
        if isinstance(self.answer, ConfigError):
            raise self.answer
        return self.answer


def test_settings_are_read_once_a_second() -> None:
    reading, watch = Reading(), SettingsWatch("console")
    for tenth in range(100):
        assert watch.changed(reading.instance, 1000 + tenth * RELOAD / 10) is None
    assert reading.looks == 10
    reading.answer = msgspec.structs.replace(reading.instance, circuit_failures=1)
    assert watch.changed(reading.instance, 1009.9) is None
    assert watch.changed(reading.instance, 1010.0) is reading.answer
    assert SettingsWatch("x").changed(msgspec.structs.replace(reading.instance, reload=None), 1.0) is None


def test_settings_that_cannot_be_used_are_logged_once_a_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reading, watch = Reading(), SettingsWatch("console")
    wrong = msgspec.structs.replace(reading.instance, ca_file=str(tmp_path / "no.pem"))
    answers: list[Instance | ConfigError | None] = [
        ConfigError("key: is s3cret"),
        ConfigError("key: is s3cret"),
        wrong,
        wrong,
        None,
        wrong,
        reading.instance,
    ]
    found = []
    for at, answer in enumerate(answers):
        reading.answer = answer
        found.append(watch.changed(reading.instance, 1000.0 + at))
    assert found == [None] * 6 + [reading.instance]
    said = [m for m in caplog.messages if "are not valid" in m]
    assert [("key: is ***" in m, "ca_file" in m) for m in said] == [
        (True, False),
        (False, True),
        (False, True),
    ]
    assert all(m.endswith("it keeps the old ones") for m in said)


@pytest.mark.parametrize("setting", ["ca_file", "cert_file", "key_file"])
def test_a_file_name_that_cannot_be_is_not_valid(setting: str, caplog: pytest.LogCaptureFixture) -> None:
    """The system refuses a name with a NUL by another exception than a file that is missing."""
    reading = Reading()
    files = {"cert_file": __file__, setting: "a\0b"} if setting != "ca_file" else {setting: "a\0b"}
    reading.answer = msgspec.structs.replace(reading.instance, **files)
    assert SettingsWatch("console").changed(reading.instance, 1000.0) is None
    [said] = caplog.messages
    assert "are not valid" in said
    assert setting in said


def test_a_stop_does_not_wait_for_the_check(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(startup, "CHECK_SECONDS", 1e6)
    never: Future[Health] = Future()
    stop, wake = threading.Event(), threading.Event()

    def check() -> Future[Health]:
        stop.set()
        wake.set()
        return never

    startup.report_health("acme", check, stop, wake)
    assert never.cancelled()
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("health", "said"),
    [
        (Health(True), []),
        (
            Health(False, "401 for s3cret"),
            ["acme: the check failed: 401 for ***; the sink starts all the same"],
        ),
        (None, ["acme: the check failed: no answer within 0 s; the sink starts all the same"]),
    ],
)
def test_what_the_check_finds_is_logged(
    health: Health | None, said: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    wake = threading.Event()
    future: Future[Health] = Future()
    if health is None:
        monkeypatch.setattr(startup, "CHECK_SECONDS", 0.0)
    else:

        def answer() -> None:
            future.set_result(health)
            wake.set()

        threading.Timer(0, answer).start()
    startup.report_health("acme", lambda: future, threading.Event(), wake, secrets=("s3cret",))
    assert [m.removesuffix(", nothing is lost") for m in caplog.messages] == said
