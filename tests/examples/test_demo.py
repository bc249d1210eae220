"""The start of the demo: one demo a folder, and errors without a traceback."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.demo import __main__ as demo
from examples.demo.stack import Stack
from tailrace.broker import BrokerError


def quiet(text: str) -> None:
    pass


@pytest.fixture
def _signals() -> Iterator[None]:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    monkeypatch.setattr(sys, "argv", ["demo", "--folder", str(folder)])
    return demo.main()


@pytest.mark.usefixtures("_signals")
def test_a_second_demo_in_a_folder_ends_and_keeps_the_data_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Stack, "_start", lambda self: None)
    folder = tmp_path / "new" / "demo"
    with Stack(folder, quiet):
        (folder / "data").touch()
        assert run(monkeypatch, folder) == 1
        assert (
            capsys.readouterr().out == "another demo runs in this folder; choose another one with --folder\n"
        )
        assert (folder / "data").exists()
        with Stack(tmp_path / "other", quiet):
            pass
    with Stack(folder, quiet):
        assert not (folder / "data").exists()


@pytest.mark.usefixtures("_signals")
def test_a_broker_that_does_not_start_is_an_error_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Stack) -> None:
        raise BrokerError("no Java here")

    monkeypatch.setattr(Stack, "_start", fail)
    for _ in range(2):  # the lock is given back
        assert run(monkeypatch, tmp_path / "demo") == 1
        assert capsys.readouterr().out == "no Java here\n"
