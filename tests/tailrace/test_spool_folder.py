"""Spool files: what was written comes back after any kill, once for whoever gets the lock."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.spool import folder as module
from tailrace.spool import frames
from tailrace.spool.folder import Folder, SpoolFull
from tailrace.spool.frames import MAGIC, Spooled

MOST = 1_000_000
events = st.builds(Spooled, st.text(max_size=20), st.none() | st.binary(max_size=20), st.binary(max_size=60))
LATER = 4e9
"""A time at which no file is new."""


def read(data: bytes) -> list[Spooled]:
    return list(frames.decode(io.BytesIO(data), MOST))


def left(path: Path) -> list[Spooled]:
    """All events of files that nobody holds; the files stay."""
    found: list[Spooled] = []
    for taken in Folder(path, MOST, MOST).take(LATER):
        found += taken.events()
        taken.close()
    return found


@given(st.lists(events, max_size=5), st.data())
def test_a_file_that_is_cut_anywhere_gives_the_events_that_are_whole(
    given_: list[Spooled], data: st.DataObject
) -> None:
    pieces = [MAGIC, *map(frames.encode, given_)]
    whole = b"".join(pieces)
    assert read(whole) == given_
    cut = data.draw(st.integers(0, len(whole)))
    there = sum(len(b"".join(pieces[: n + 2])) <= cut for n in range(len(given_)))
    assert read(whole[:cut]) == given_[:there]


@given(st.lists(events, min_size=1, max_size=4), st.data())
def test_a_changed_byte_ends_the_file_and_gives_no_other_event(
    given_: list[Spooled], data: st.DataObject
) -> None:
    whole = bytearray(MAGIC + b"".join(map(frames.encode, given_)))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    found = read(bytes(whole))
    assert found == given_[: len(found)]


@given(st.binary(max_size=200), st.booleans())
def test_garbage_is_no_event_and_no_error(garbage: bytes, with_magic: bool) -> None:
    read((MAGIC if with_magic else b"") + garbage)


def test_what_is_written_is_taken_once_it_is_ended_and_only_by_one(tmp_path: Path) -> None:
    folder, other = Folder(tmp_path / "spool", MOST, MOST), Folder(tmp_path / "spool", MOST, MOST)
    written = [Spooled(f"e{n}", b"k", b"v" * n) for n in range(5)]
    folder.write(written[:2])
    folder.write(written[2:])
    assert not list(other.take(LATER)), "its writer holds it"
    folder.end()
    (taken,) = other.take(LATER)
    assert list(taken.events()) == list(taken.events()) == written
    assert not list(folder.take(LATER)), "its sender holds it"
    taken.remove()
    assert not folder.files()
    assert folder.size() == 0


def test_files_and_folder_are_for_their_user_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "a" / "spool", MOST, MOST)
    folder.write([Spooled("e", None, b"v")])
    (file,) = folder.files()
    assert (file.stat().st_mode & 0o777, folder.path.stat().st_mode & 0o777) == (0o600, 0o700)


def test_the_bound_holds_over_all_files_and_nothing_of_what_does_not_fit_is_written(tmp_path: Path) -> None:
    one, two = Folder(tmp_path, 2000, MOST), Folder(tmp_path, 2000, MOST)
    one.write([Spooled("a", None, b"x" * 900)])
    two.write([Spooled("b", None, b"x" * 900)])
    before = one.size()
    with pytest.raises(SpoolFull, match="spool_max_bytes"):
        one.write([Spooled("c", None, b"x"), Spooled("d", None, b"x" * 900)])
    assert one.size() == before
    one.end()
    two.end()
    assert sorted(e.event_id for e in left(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_write_that_fails_leaves_nothing_before_later_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    folder = Folder(tmp_path, MOST, MOST)
    folder.write([Spooled("a", None, b"1")])
    with monkeypatch.context() as patch:

        def refuse(descriptor: int) -> None:
            raise OSError(error, os.strerror(error))

        patch.setattr("tailrace.spool.folder.os.fsync", refuse)
        with pytest.raises(SpoolFull if error == errno.ENOSPC else OSError):
            folder.write([Spooled("lost", None, b"2")])
    folder.write([Spooled("b", None, b"3")])
    folder.end()
    assert [e.event_id for e in left(tmp_path)] == ["a", "b"]


def test_a_file_that_somebody_removes_is_not_written_to_any_more(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "spool", MOST, MOST)
    folder.write([Spooled("a", None, b"1")])
    (file,) = folder.files()
    file.unlink()
    (tmp_path / "spool").rmdir()
    folder.write([Spooled("b", None, b"2")])
    folder.end()
    assert [e.event_id for e in left(tmp_path / "spool")] == ["b"]


def test_a_full_file_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", 100)
    folder = Folder(tmp_path, MOST, MOST)
    for n in range(3):
        folder.write([Spooled(f"e{n}", None, b"x" * 100)])
    assert len(folder.files()) == 3
    assert [e.event_id for e in left(tmp_path)] == ["e0", "e1", "e2"]


WRITER = """
import os, sys
from pathlib import Path
from tailrace.spool.folder import Folder
from tailrace.spool.frames import Spooled
folder = Folder(Path(sys.argv[1]), 1 << 30, 1 << 20)
n = 0
while True:
    folder.write([Spooled(f"e{n + i}", b"k", os.urandom(200)) for i in range(50)])
    n += 50
    print(n, flush=True)
"""


def test_what_a_killed_process_has_synced_is_there_and_its_lock_is_free(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.kill()
    said = [*process.stdout.read().split(), "1000"]
    process.wait()
    found = [e.event_id for e in left(tmp_path)]
    assert found == [f"e{n}" for n in range(len(found))]
    assert len(found) >= max(map(int, said))


def test_a_file_that_is_being_made_is_left_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path, MOST, MOST)
    new = tmp_path / f"1-new{module.SUFFIX}"
    new.touch(mode=0o600)
    made = new.stat().st_mtime
    assert not list(folder.take(made + 1))
    (taken,) = folder.take(made + 3600)
    assert not list(taken.events())
    taken.remove()
    assert not folder.files()


@pytest.mark.parametrize("made", ["a file", "a file above", "proc", "home", "null"])
def test_a_folder_that_cannot_be_used_is_named_with_its_setting(made: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = {
        "a file": str(tmp_path / "file"),
        "a file above": str(tmp_path / "file" / "spool"),
        "proc": "/proc/nope/spool",
        "home": "~nobody-has-this-name/spool",
        "null": "spool\0",
    }[made]
    for make in (True, False):
        problem = module.problem(path, make)
        assert problem is not None
        assert problem.startswith("publisher.spool_dir: ")
        assert repr(path) in problem


def test_a_folder_is_made_only_when_it_is_to_be_used(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    assert module.problem(str(path), make=False) is None
    assert not path.parent.exists()
    assert module.problem(str(path), make=True) is None
    assert path.stat().st_mode & 0o777 == 0o700
    assert list(path.iterdir()) == []


def test_a_full_disk_at_the_start_is_logged_and_is_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    assert module.problem(str(tmp_path / "spool"), make=True) is None
    assert "publisher.spool_dir" in caplog.text
    with pytest.raises(OSError, match="No space left"):
        Folder(tmp_path / "spool", MOST, MOST).write([Spooled("e", None, b"v")])
