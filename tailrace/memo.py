"""Memos for values that repeat. They are bounded in bytes: hostile keys cost time, not memory.

Not compiled: a lookup must stay the C `__getitem__` of a plain dict subclass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

LONGEST: Final = 512
"""Largest size of a key that is kept, in characters or bytes of its texts. What repeats is short."""

K = TypeVar("K")
V = TypeVar("V")


def size_of(key: Any) -> int:
    """The length of a text or of bytes, or the sum over a tuple; 8 for anything else."""
    if isinstance(key, (str, bytes)):
        return len(key)
    return 8 + sum(map(size_of, key)) if isinstance(key, tuple) else 8


class Memo(dict[K, V], Generic[K, V]):
    """`memo[key]` is what `make(key)` returns, computed at most once while it is kept.

    It is emptied when it is full. Values of keys longer than `LONGEST` are computed each time.
    """

    def __init__(self, make: Callable[[K], V], most: int) -> None:
        """Creates an empty memo.

        Args:
            make: Computes a value. Its size must depend on that of the key alone.
            most: Most entries.
        """
        super().__init__()
        self._make, self._most = make, most

    def __missing__(self, key: K) -> V:
        value = self._make(key)
        self.keep(key, value)
        return value

    def keep(self, key: K, value: V) -> None:
        """Keeps a value, unless its key is too long."""
        if size_of(key) <= LONGEST:
            if len(self) >= self._most:
                self.clear()
            self[key] = value
