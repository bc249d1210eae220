"""`tailrace check SINK`: every result of a sink's own check is one line that says what to fix."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from connectors.commands import check
from connectors.config.instances import Instance
from connectors.delivery.batching import BatchLimits
from connectors.sdk.contract import Health
from connectors.sdk.http import Http, NoAnswer
from tailrace.checks import Finding
from tailrace.settings import Settings


class Checked:
    """A sink of which only the check is called."""

    def __init__(self, answer: Callable[[], Health]) -> None:
        self._answer = answer
        self.closed = 0

    def map(self, event: Any) -> Any:
        raise AssertionError("not to be called")

    async def send(self, batch: Any, http: Http) -> Any:
        raise AssertionError("not to be called")

    async def check(self, http: Http) -> Health:
        return self._answer()

    async def close(self) -> None:
        self.closed += 1


def found(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Health]) -> Finding:
    sink = Checked(answer)

    def made(settings: Settings, name: str) -> Instance:
        return Instance(name, "acme", sink, BatchLimits(), None)

    monkeypatch.setattr(check, "instance", made)
    (finding,) = check.findings(Settings(), ["mine", "mine"])
    assert sink.closed == 1
    return finding


def raising(error: BaseException) -> Callable[[], Health]:
    def answer() -> Health:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        (lambda: Health(True), Finding(True, "sink mine (acme) works")),
        (lambda: Health(True, "project x"), Finding(True, "sink mine (acme) works: project x")),
        (lambda: Health(False, "see\nkey"), Finding(False, "sink mine (acme): see key, in [sinks.mine]")),
        (lambda: Health(False), Finding(False, "sink mine (acme): its check failed, in [sinks.mine]")),
        (
            raising(NoAnswer("timeout", "http://h")),
            Finding(False, "sink mine (acme): timeout: http://h, in [sinks.mine]"),
        ),
        (
            raising(TimeoutError()),
            Finding(False, "sink mine (acme): no answer within 30 s, in [sinks.mine]"),
        ),
    ],
)
def test_each_answer_is_a_line(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Health], finding: Finding
) -> None:
    assert found(monkeypatch, answer) == finding


def test_an_exception_is_named_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = found(monkeypatch, raising(RuntimeError("marker-1")))
    assert not finding.ok
    assert "its check raised RuntimeError in " in finding.text
    assert "marker-1" not in finding.text


def test_a_check_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hangs(Checked):
        async def check(self, http: Http) -> Health:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(check, "SECONDS", 0.05)
    hanging = Instance("x", "acme", Hangs(lambda: Health(True)), BatchLimits(), None)
    assert asyncio.run(check.ask(hanging)) == Health(False, "no answer within 0.05 s")


def test_settings_that_are_wrong_are_a_finding_and_the_next_sink_is_asked() -> None:
    settings = Settings(sinks={"otlp": {"endpoint": "nonsense"}, "console": {}})
    first, second = check.findings(settings, ["otlp", "console"])
    assert not first.ok
    assert first.text.startswith("sinks.otlp.endpoint: ")
    assert second == Finding(True, "sink console (console) works")


def test_without_names_settings_are_checked_and_no_sink_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(chosen: Instance) -> Health:
        raise AssertionError("not to be called")

    monkeypatch.setattr(check, "ask", never)
    assert list(check.findings(Settings(sinks={"console": {}}), [])) == []
    (finding,) = check.findings(Settings(sinks={"otlp": {}}), ())
    assert not finding.ok
