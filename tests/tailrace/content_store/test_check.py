"""The check of the content store: each of its steps that fails is named, and a store that hangs is not
waited for."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tailrace.content_store import check
from tailrace.content_store.folder import Folder
from tailrace.content_store.store import ContentStore
from tailrace.settings import Content


def test_a_store_that_works_is_left_empty(tmp_path: Path) -> None:
    found = check.finding(Content(store=str(tmp_path)), 30.0)
    assert (found.ok, found.text) == (True, "the content store can be written, read and swept")
    assert not list(ContentStore(Folder(tmp_path)).names())


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    found = check.finding(Content(store=str(tmp_path / "store")), 30.0)
    assert not found.ok
    assert (
        f"the folder {tmp_path}/store does not exist here: mount it, or make it; see content.store"
        in found.text
    )
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("step", ["write", "read", "remove"])
def test_a_step_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fails(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Folder, step, fails)
    found = check.finding(Content(store=str(tmp_path)), 30.0)
    done = {"write": "written", "read": "read", "remove": "deleted"}[step]
    assert not found.ok
    assert f"content.store cannot be {done}" in found.text
    assert "Permission denied" in found.text


def test_a_store_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(Folder, "refresh", lambda *_: over.wait())
    found = check.finding(Content(store=str(tmp_path)), 0.05)
    over.set()
    assert (found.ok, "no answer within 0.05 s" in found.text) == (False, True)
