"""Names of content: the same for the same content of a tenant, and always inside the store."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailrace.content_store.naming import (
    NO_TENANT,
    Name,
    content_hash,
    folder_of,
    is_hash,
    name_of,
    path_in,
    path_of,
)

TENANTS = st.none() | st.text(st.characters(), max_size=300)


def test_the_hash_is_that_of_the_bytes() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert content_hash(b"") == f"sha256:{empty}"
    assert path_of("acme", f"sha256:{empty}") == f"t-acme/e3/{empty}"
    assert path_of(None, f"sha256:{empty}") == f"none/e3/{empty}"


@given(tenant=TENANTS, data=st.binary(max_size=50))
@example(tenant="..", data=b"")
@example(tenant="/etc/passwd", data=b"")
@example(tenant="a/../../b", data=b"")
@example(tenant="\ud800", data=b"")
@example(tenant="\x00", data=b"")
@example(tenant="none", data=b"")
@example(tenant="x" * 5000, data=b"")
def test_a_path_stays_in_the_store_and_says_what_it_names(tenant: str | None, data: bytes) -> None:
    hash = content_hash(data)
    path = path_of(tenant, hash)
    assert posixpath.normpath(path) == path
    assert not path.startswith("/")
    assert path.isascii()
    assert path.isprintable()
    assert all(0 < len(part) <= 130 and part not in (".", "..") for part in path.split("/"))
    assert name_of(path) == Name(folder_of(tenant), hash)
    assert path_in(folder_of(tenant), hash) == path


@given(one=TENANTS, other=TENANTS)
@example(one="A", other="a")
@example(one="none", other=None)
@example(one="-", other=None)
@example(one="=41", other="A")
@example(one="é", other="e\u0301")
def test_each_tenant_has_a_folder_of_its_own_also_where_case_is_ignored(
    one: str | None, other: str | None
) -> None:
    same = (one or None) == (other or None)
    assert (folder_of(one).lower() == folder_of(other).lower()) is same


@given(tenant=st.text(min_size=1, max_size=300))
def test_no_tenant_names_the_folder_of_none(tenant: str) -> None:
    assert folder_of(tenant) != NO_TENANT
    assert folder_of(None) == folder_of("") == NO_TENANT


@pytest.mark.parametrize(
    "hash",
    [
        "",
        "sha256:",
        "sha256:00",
        "0" * 64,
        "md5:" + "0" * 64,
        "sha256:" + "G" * 64,
        "sha256:" + "A" * 64,
        "sha256:" + "0" * 64 + "\n",
        "sha256:../" + "0" * 61,
    ],
)
def test_what_is_not_a_hash_names_nothing(hash: str) -> None:
    assert not is_hash(hash)
    with pytest.raises(ValueError, match="not a hash"):
        path_of("acme", hash)


@pytest.mark.parametrize("folder", ["", ".", "..", "acme", "t-", "t-a/b", "t-A b", "unfinished", "h-00"])
def test_what_is_not_a_tenants_folder_names_nothing(folder: str) -> None:
    with pytest.raises(ValueError, match="folder of a tenant"):
        path_in(folder, content_hash(b""))
    assert name_of(f"{folder}/e3/{content_hash(b'').partition(':')[2]}") is None


@given(path=st.text(max_size=100))
@example(path="none/e4/" + "e3" * 32)
@example(path="none/e3/" + "e3" * 32 + ".tmp")
def test_any_other_path_is_no_name(path: str) -> None:
    found = name_of(path)
    assert found is None or path_in(found.folder, found.hash) == path
