"""Ids that two tenants have both: the tenant that is seen first has the plain id, others id and tenant.

An event or a link without a tenant belongs to the first one.
"""

from __future__ import annotations

from typing import Final

MARK: Final = b"\xff"
"""Between id and tenant. It occurs in no UTF-8 text, so no id of an event looks like a key of two parts."""


def keyed(name: bytes, tenant: bytes) -> bytes:
    """The key of an id for a tenant that is not the first one."""
    return name + MARK + tenant


def differ(one: bytes | None, other: bytes | None) -> bool:
    """Whether two tenants are known and not the same."""
    return one is not None and other is not None and one != other
