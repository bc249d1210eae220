"""A content store: what is put is there as a whole, once, and private; errors show no secrets."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tailrace.content_store.folder import UNFINISHED
from tailrace.content_store.naming import content_hash, path_of
from tailrace.content_store.store import ContentStore, open_store
from tailrace.errors import (
    ConfigError,
    ContentDamaged,
    ContentMissing,
    ContentUnreachable,
    MissingPackage,
)
from tailrace.settings import Content, Settings, convert, load

DATA = b"\0some bytes\xff" * 1000


@pytest.fixture(params=["folder", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ContentStore:
    (tmp_path / "store").mkdir()
    if request.param == "folder":
        return open_store(Content(store=str(tmp_path / "store")))
    if request.param == "file":
        return open_store(Content(store=f"file://{tmp_path}/store"))
    return open_store(Content(store=f"memory://{tmp_path}"))


def test_what_is_put_is_got_by_its_hash_and_tenant(store: ContentStore) -> None:
    hash = store.put("acme", DATA)
    assert hash == content_hash(DATA)
    assert store.get("acme", hash) == DATA
    for other in (None, "other"):
        with pytest.raises(ContentMissing, match="is not in"):
            store.get(other, hash)
    with pytest.raises(ContentMissing):
        store.get("acme", content_hash(b"else"))
    with pytest.raises(ContentMissing, match="not a hash"):
        store.get("acme", "../../etc/passwd")
    assert store.get(None, store.put(None, b"")) == b""


def test_more_than_the_reader_takes_is_not_read(store: ContentStore) -> None:
    hash = store.put("acme", DATA)
    assert store.get("acme", hash, len(DATA)) == DATA
    with pytest.raises(ContentDamaged):
        store.get("acme", hash, len(DATA) - 1)


def test_the_names_are_those_of_all_content_once(store: ContentStore) -> None:
    assert list(store.names()) == []
    began = time.time() - 2
    for tenant in ("acme", "Other", None, "acme"):
        store.put(tenant, DATA)
    store.put("acme", b"2")
    found = list(store.names())
    assert {(s.folder, s.hash, s.bytes) for s in found} == {
        ("t-acme", content_hash(DATA), len(DATA)),
        ("t-=4Fther", content_hash(DATA), len(DATA)),
        ("none", content_hash(DATA), len(DATA)),
        ("t-acme", content_hash(b"2"), 1),
    }
    assert len(found) == 4
    assert all(began < s.modified_at <= time.time() + 2 for s in found)


def test_what_is_deleted_is_gone_and_what_was_put_again_since_is_not(store: ContentStore) -> None:
    hash = store.put("acme", DATA)
    [(folder, _, modified_at, _)] = store.names()
    assert not store.delete(folder, hash, modified_before=modified_at)
    assert store.get("acme", hash) == DATA
    assert store.delete(folder, hash, modified_before=modified_at + 1)
    assert not store.delete(folder, hash)
    assert list(store.names()) == []
    with pytest.raises(ContentMissing):
        store.get("acme", hash)
    with pytest.raises(ValueError, match="folder of a tenant"):
        store.delete("../..", hash)


def test_the_store_tells_the_time_by_its_own_clock(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real - 10**9)
    assert real - 5 < store.now() < real + 60
    assert list(store.names()) == []
    assert store.remove_unfinished(real + 60) == 0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir(mode=0o700)
    return tmp_path / "store"


def test_files_are_private_and_nothing_else_is_left(root: Path) -> None:
    store = open_store(Content(store=str(root)))
    hash = store.put("acme", DATA)
    for path in [root, *root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert [p for p in root.rglob("*") if p.is_file()] == [root / path_of("acme", hash)]


def test_putting_again_writes_nothing_but_the_time_and_repairs_half_a_file(root: Path) -> None:
    store = open_store(Content(store=str(root)))
    path = root / path_of("acme", store.put("acme", DATA))
    os.utime(path, (1000, 1000))
    before = path.stat()
    store.put("acme", DATA)
    after = path.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    assert after.st_mtime > time.time() - 60
    path.write_bytes(DATA[:-1])
    store.put("acme", DATA)
    assert path.read_bytes() == DATA


def test_content_that_was_changed_is_damaged(root: Path) -> None:
    store = open_store(Content(store=str(root)))
    hash = store.put("acme", DATA)
    (root / path_of("acme", hash)).write_bytes(b"x" + DATA[1:])
    with pytest.raises(ContentDamaged, match="not what its name says"):
        store.get("acme", hash)


def test_a_folder_that_is_not_mounted_is_unreachable_and_is_not_made(root: Path) -> None:
    """It would be on this host's own disk, where no sink finds the content."""
    store = open_store(Content(store=str(root)))
    root.rmdir()
    for call in (
        lambda: store.put("acme", DATA),
        lambda: store.get("acme", content_hash(DATA)),
        lambda: list(store.names()),
        lambda: store.remove_unfinished(time.time()),
    ):
        with pytest.raises(ContentUnreachable, match="does not exist here: mount it, or make it"):
            call()
    assert not root.exists()


def test_a_store_that_cannot_be_written_is_unreachable_and_leaves_nothing(root: Path) -> None:
    root.rmdir()
    root.write_bytes(b"a file")
    store = open_store(Content(store=str(root)))
    for call in (
        lambda: store.put("acme", DATA),
        lambda: store.get("acme", content_hash(DATA)),
        lambda: list(store.names()),
        lambda: store.delete("t-acme", content_hash(DATA)),
    ):
        with pytest.raises(ContentUnreachable, match="cannot be"):
            call()
    assert isinstance(ContentUnreachable(), OSError)


def test_the_names_of_new_folders_are_synced_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut after `put` must not take the folder of a tenant's first content."""
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(root)))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    store = open_store(Content(store=str(root)))
    path = Path(path_of("acme", store.put("acme", DATA)))
    assert {".", "t-acme", str(path.parent)} <= set(synced)
    synced.clear()
    store.put("acme", b"else")
    assert "." not in synced, "only once"


def test_a_full_disk_leaves_no_part_of_the_content(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(Content(store=str(root)))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ContentUnreachable, match="No space left"):
            store.put("acme", DATA)
    assert [p for p in root.rglob("*") if p.is_file()] == []
    assert store.get("acme", store.put("acme", DATA)) == DATA


def test_readers_and_writers_of_one_content_never_see_a_part_of_it(root: Path) -> None:
    store = open_store(Content(store=str(root)))
    hash, path = content_hash(DATA), root / path_of("acme", content_hash(DATA))
    wrong: list[BaseException] = []
    read = 0
    done = threading.Event()

    def write() -> None:
        for _ in range(60):
            store.put("acme", DATA)
            path.unlink(missing_ok=True)

    def look() -> None:
        nonlocal read
        while not done.is_set():
            try:
                assert store.get("acme", hash) == DATA
                read += 1
            except ContentMissing:
                pass
            except BaseException as e:
                wrong.append(e)
                return

    writers = [threading.Thread(target=write) for _ in range(2)]
    reader = threading.Thread(target=look)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    store.put("acme", DATA)
    while not read and not wrong:
        time.sleep(0.001)
    done.set()
    reader.join()
    assert wrong == []


KILLED = """
import os, sys
from pathlib import Path
from tailrace.content_store.store import open_store
from tailrace.settings import Content
store = open_store(Content(store=sys.argv[1]))
moment = sys.argv[2]
for name in ("unfinished", "t-acme", *(f"t-acme/{n:02x}" for n in range(256))):
    Path(sys.argv[1], name).mkdir()  # these are synced, too
real = getattr(os, moment) if hasattr(os, moment) else None
def die(*a, **k):
    os.kill(os.getpid(), 9)
if moment == "write":
    import io
    class Half(io.RawIOBase): pass
    fdopen = os.fdopen
    def half(fd, mode):
        file = fdopen(fd, mode, 0)
        class F:
            def __enter__(self): return self
            def __exit__(self, *a): pass
            def write(self, data):
                file.write(data[: len(data) // 2])
                die()
        return F()
    os.fdopen = half
else:
    setattr(os, moment, die)
store.put("acme", b"x" * 1_000_000)
"""


@pytest.mark.parametrize("moment", ["open", "write", "fsync", "rename", "close"])
def test_a_kill_at_any_moment_leaves_all_of_the_content_or_nothing(root: Path, moment: str) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(root), moment], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -9, killed.stderr
    store = open_store(Content(store=str(root)))
    data = b"x" * 1_000_000
    assert {(s.hash, s.bytes) for s in store.names()} <= {(content_hash(data), len(data))}
    unfinished = len(list((root / UNFINISHED).iterdir()))
    assert store.remove_unfinished(0) == 0
    assert store.remove_unfinished(time.time() + 60) == unfinished
    assert list((root / UNFINISHED).iterdir()) == []
    assert store.get("acme", store.put("acme", data)) == data


# -- settings


def content(**values: Any) -> Content:
    return convert({"content": values}, Settings, "").content


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("store", "not an absolute path"),
        ("./store", "not an absolute path"),
        ("://x", "not a valid URL"),
        ("s3://", "not a valid URL"),
        ("s3://key:secret@bucket/x", "holds credentials; use content.storage_options"),
        ("abfs://c@a.example/x?sv=1&sig=secret@", "holds credentials; use content.storage_options"),
        ("https://a.example/x?Access_Token=secret@", "holds credentials; use content.storage_options"),
    ],
)
def test_a_store_that_cannot_be_one_is_refused(store: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"content.store: .*{said}") as refused:
        content(store=store)
    assert "secret@" not in str(refused.value)


def test_without_a_store_there_is_none_to_open() -> None:
    with pytest.raises(ConfigError, match="is empty"):
        open_store(Content())


def test_a_url_that_has_an_at_sign_and_no_password_is_taken() -> None:
    assert content(store="abfs://container@account.dfs.core.windows.net/x").store.startswith("abfs")


def test_without_fsspec_a_url_names_the_extra_and_a_folder_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingPackage, match=r"tailrace\[content\]"):
        open_store(Content(store="s3://bucket/folder"))
    store = open_store(Content(store=str(tmp_path)))
    assert store.get(None, store.put(None, DATA)) == DATA


def test_a_protocol_without_its_package_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingPackage, match="s3fs"):
        open_store(Content(store="s3://bucket/folder"))


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ConfigError, match="nowhere:// is not a protocol"):
        open_store(Content(store="nowhere://bucket/folder"))


def test_a_secret_is_shown_nowhere() -> None:
    settings = load(
        {"content": {"store": "memory://x", "storage_options": {"secret": "hunter22", "a": {"b": "true"}}}},
        env={},
    )
    assert settings.content.storage_options == {"secret": "hunter22", "a.b": "true"}
    assert "hunter22" not in repr(settings)
    store = open_store(settings.content)

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            def refuse(*_: Any, **__: Any) -> Any:
                raise RuntimeError("no access with hunter22")

            return refuse

    refusing: Any = Refusing()
    store._files = refusing
    with pytest.raises(ContentUnreachable) as refused:
        store.put(None, DATA)
    assert "hunter22" not in str(refused.value)
    assert "***" in str(refused.value)


@pytest.mark.parametrize(
    "said",
    [
        "no access with AccountKey=pA+ss/word1234== there",
        "no access with pA+ss/word1234== there",
        "GET https://host/x?sig=pA%2Bss%2Fword1234%3D%3D&a=1",
        "GET https://host/x?X-Amz-Signature=other-secret-of-a-library",
        "cannot connect to sftp://user:other-secret-of-a-library@host/x",
    ],
)
def test_no_part_of_a_secret_and_no_signature_is_shown(said: str) -> None:
    options = {"connection_string": "Protocol=https;AccountName=me;AccountKey=pA+ss/word1234=="}
    store = open_store(Content(store="memory://x", storage_options=options))

    class Refusing:
        def refresh(self, path: str, size: int) -> bool:
            raise RuntimeError(said)

    refusing: Any = Refusing()
    store._files = refusing
    with pytest.raises(ContentUnreachable) as refused:
        store.put(None, DATA)
    shown = str(refused.value)
    assert "***" in shown
    for secret in ("pA+ss", "pA%2Bss", "word1234", "other-secret"):
        assert secret not in shown


def test_options_are_nested_by_dots_and_booleans_are_booleans() -> None:
    from tailrace.content_store.remote import options_of

    assert options_of({"anon": "true", "client_kwargs.endpoint_url": "http://x", "n": "1"}) == {
        "anon": True,
        "client_kwargs": {"endpoint_url": "http://x"},
        "n": "1",
    }
    with pytest.raises(ConfigError, match="a value and a table"):
        options_of({"a": "1", "a.b": "2"})


def test_without_a_rename_in_the_store_a_file_is_written_under_another_name(tmp_path: Path) -> None:
    from tailrace.content_store.remote import Remote

    (tmp_path / "store").mkdir()
    files = Remote(f"file://{tmp_path}/store", {})
    store = ContentStore(files)
    hash = store.put("acme", DATA)
    assert store.get("acme", hash) == DATA
    assert [s.hash for s in store.names()] == [hash]
    store.put("acme", DATA)
    assert list((tmp_path / "store" / UNFINISHED).iterdir()) == []


def test_a_file_system_that_renames_to_no_name_that_exists_takes_content_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As HDFS and SMB. Content that was put half an hour ago is written again, so that it is young."""
    from tailrace.content_store.remote import Remote

    files = Remote(f"file://{tmp_path}/store", {})
    move = files._fs.mv

    def careful(made: str, target: str) -> None:
        if Path(target).exists():
            raise FileExistsError(target)
        move(made, target)

    monkeypatch.setattr(files._fs, "mv", careful)
    store = ContentStore(files)
    hash = store.put("acme", DATA)
    path = tmp_path / "store" / path_of("acme", hash)
    os.utime(path, (1000, 1000))
    store.put("acme", DATA)
    assert store.get("acme", hash) == DATA
    assert path.stat().st_mtime > time.time() - 60

    def refuse(made: str, target: str) -> None:
        raise PermissionError(target)

    monkeypatch.setattr(files._fs, "mv", refuse)
    with pytest.raises(ContentUnreachable, match="PermissionError"):
        store.put("acme", b"else")
    assert list((tmp_path / "store" / UNFINISHED).iterdir()) == []
