"""`tailrace content sweep` under bad conditions: stopped, without its store, with a wrong clock."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tailrace.cli import cli
from tailrace.commands import content
from tailrace.content_store import sweep as rules
from tailrace.content_store.folder import UNFINISHED, Folder
from tailrace.content_store.naming import path_of
from tailrace.content_store.store import ContentStore


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with three contents of 100 days, on a cluster that keeps records for 10."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(content, "_least", lambda settings: (240.0, False))
    monkeypatch.setattr(rules, "sources", lambda: {"none": lambda settings: []})
    store, at = ContentStore(Folder(tmp_path)), time.time() - 100 * 86_400
    for data in (b"1", b"22", b"333"):
        os.utime(tmp_path / path_of("t", store.put("t", data)), (at, at))
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["content", "sweep", f"--set=content.store={folder}", *arguments])


def left(folder: Path) -> int:
    return len(list(ContentStore(Folder(folder)).names()))


class _Second:
    """Fails at the second deletion."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.count, self.remove = error, 0, Folder.remove

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def remove(files: Folder, path: str, modified_before: float | None = None) -> bool:
            self.count += 1
            if self.count == 2:
                raise self.error
            return self.remove(files, path, modified_before)

        monkeypatch.setattr(Folder, "remove", remove)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "tailrace content sweep: stopped; 1 contents, "),
        (OSError(5, "Input/output error"), 1, "Input/output error; 1 contents, "),
    ],
)
def test_a_sweep_that_ends_early_says_what_it_has_deleted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, said: str
) -> None:
    with monkeypatch.context() as patched:
        _Second(error).patch(patched)
        ran = run(folder)
    assert ran.exit_code == status, ran.output
    assert said in ran.stderr
    assert "bytes were deleted, the others stay" in ran.stderr
    assert ran.stdout == ""
    assert left(folder) == 2
    again = run(folder, "--json")
    assert (again.exit_code, json.loads(again.stdout)["deleted"], left(folder)) == (0, 2, 0)


def test_a_sweep_that_is_stopped_before_it_deletes_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> object:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rules, "plan", stopped)
        ran = run(folder)
    assert (ran.exit_code, left(folder)) == (130, 3)
    assert "stopped; nothing was deleted" in ran.stderr


def test_what_a_killed_sweep_has_set_aside_is_put_back_but_not_by_a_dry_run(folder: Path) -> None:
    one = next(path for path in (folder / "t-t").rglob("*") if path.is_file())
    aside = folder / UNFINISHED / f"{str(one.relative_to(folder)).replace('/', '~')}~0123"
    one.rename(aside)
    os.utime(aside)  # a publisher came before it was set aside
    assert run(folder, "--dry-run").exit_code == 0
    assert aside.exists()
    assert run(folder).exit_code == 0
    assert not aside.exists()
    assert one.exists()
    assert left(folder) == 1


def test_a_topic_without_end_needs_a_lifetime_that_is_not_shorter_than_the_rest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "_least", lambda settings: (240.0, True))
    for arguments, said in (
        ([], "--older-than is needed"),
        (["--older-than", "1h"], "use at least 240h"),
    ):
        ran = run(folder, *arguments)
        assert (ran.exit_code, left(folder)) == (2, 3)
        assert said in ran.stderr
    assert run(folder, "--older-than", "99d").exit_code == 0
    assert left(folder) == 0


def test_the_age_of_content_goes_by_the_clock_of_the_store(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by that of the host that sweeps, which may be years ahead."""
    young = ContentStore(Folder(folder)).put("t", b"young")
    ahead = time.time() + 10 * 365 * 86_400
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: ahead)
        ran = run(folder, "--json")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["older_than_hours"] == 240.0
    assert [one.hash for one in ContentStore(Folder(folder)).names()] == [young]
    assert list((folder / UNFINISHED).iterdir()) == []


def test_a_store_that_cannot_be_listed_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> object:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "files", refuse)
        ran = run(folder)
    assert ran.exit_code == 1
    assert "content.store cannot be listed: PermissionError" in ran.stderr
    assert "nothing was deleted" in ran.stderr


def test_a_share_that_is_not_mounted_is_an_error(folder: Path) -> None:
    for command in ("sweep", "ls"):
        ran = CliRunner().invoke(cli, ["content", command, f"--set=content.store={folder}/absent"])
        assert ran.exit_code == 1
        assert "does not exist here: mount it, or make it" in ran.stderr
