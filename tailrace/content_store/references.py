"""The references to stored content that an event may carry. Pure."""

from __future__ import annotations

from typing import Final

from tailrace.codec.encoder import wrong
from tailrace.content_store.naming import is_hash
from tailrace.errors import InvalidEvent
from tailrace.oversize import CONTENT
from tailrace.records import ContentRef, TraceEvent

MEDIA: Final = "#media"
"""After the path of a field: the reference is of a medium inside it, not of the field itself."""
MOST: Final = 300
"""References of one event."""
_LARGEST: Final = 1 << 50


def check(event: TraceEvent) -> None:
    """Refuses references that name nothing, or another tenant's content.

    Raises:
        InvalidEvent: names the field.
    """
    refs = event.content_refs
    if type(refs) not in (list, tuple):
        return  # the encoder's
    if len(refs) > MOST:
        raise InvalidEvent("content_refs", f"has {len(refs)} references, may have {MOST}")
    for ref in refs:
        if type(ref) is not ContentRef:
            raise wrong("content_refs", ref, "a tailrace.records.ContentRef")
        field, hash, size, tenant = ref.field, ref.hash, ref.bytes, ref.tenant_id
        if type(field) is not str or field.removesuffix(MEDIA) not in CONTENT:
            raise wrong("content_refs.field", field, "the path of a field with content, such as outputs")
        if type(hash) is not str or not is_hash(hash):
            raise wrong("content_refs.hash", hash, "sha256: and 64 hexadecimal digits")
        if type(size) is not int or not 0 <= size < _LARGEST:
            raise wrong("content_refs.bytes", size, "the number of bytes that are stored")
        if tenant is not None and (type(tenant) is not str or (tenant or None) != (event.tenant_id or None)):
            raise wrong("content_refs.tenant_id", tenant, "the event's own tenant_id, or None")
        media_type = ref.media_type
        if media_type is not None and (type(media_type) is not str or len(media_type) > 200):
            raise wrong("content_refs.media_type", media_type, "a media type such as image/png")
