"""A content store in memory whose answers the test decides."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from tailrace.content_store.naming import content_hash
from tailrace.errors import ContentDamaged, ContentMissing, ContentUnreachable
from tailrace.records import ContentRef


class FakeStore:
    """`get` as `ContentStore` has it. Content can be lost or damaged, and the store can fail or hang."""

    def __init__(self) -> None:
        self.held: dict[tuple[str | None, str], bytes] = {}
        self.asked: Counter[tuple[str | None, str]] = Counter()
        self.damaged: set[str] = set()
        self.failing = False
        self.broken: set[str] = set()
        """Hashes that cannot be read, though the store works."""
        self.hangs: Callable[[str | None], bool] = lambda tenant_id: False
        self.release = threading.Event()
        """Ends what hangs."""
        self.answered = threading.Semaphore(0)
        """Released with each answer, whatever it is."""

    def put(self, tenant_id: str | None, data: bytes) -> str:
        name = content_hash(data)
        self.held[tenant_id, name] = data
        return name

    def get(self, tenant_id: str | None, hash: str, most: int | None = None) -> bytes:
        self.asked[tenant_id, hash] += 1
        try:
            if self.hangs(tenant_id):
                self.release.wait()
            if self.failing or hash in self.broken:
                raise ContentUnreachable("content.store cannot be read: it is away")
            data = self.held.get((tenant_id, hash))
            if data is None:
                raise ContentMissing(hash)
            if hash in self.damaged or (most is not None and len(data) > most):
                raise ContentDamaged(hash)
            return data
        finally:
            self.answered.release()


def ref_to(data: bytes, field: str = "inputs", tenant_id: str | None = "tenant") -> ContentRef:
    return ContentRef(
        field=field,
        tenant_id=tenant_id,
        hash=content_hash(data),
        bytes=len(data),
        media_type="application/json",
    )
