"""A trace's operations, packed: a fixed-size part per operation, and their texts. Append-only.

It holds what a summary needs of an operation, in about 130 bytes. So a trace of a hundred nodes stays
small in memory and in trace.state, and a summary reads whole columns at C speed
(streams/processing/summary.py).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import ClassVar, Final

from streams.processing.header import Header
from streams.processing.overflow_totals import OverflowTotals
from tailrace import roll_ups
from tailrace.codec.varint import LENGTHS, zigzag
from tailrace.kinds import HEADS, REPEATING_NODES
from tailrace.records import Kind, TokenClasses

CHUNK: Final = 16
"""Operations of a full chunk, which is written to trace.state once."""
MOST: Final = 10_000
"""Operations that a trace keeps individually; for further ones it keeps sums (`OverflowTotals`)."""
NO_SPAN: Final = bytes(8)
FAILED, ESTIMATED, ROOT, TOP, REPEATS, OWN, CLASSED = 1, 2, 4, 8, 16, 32, 64
"""Flags.

ROOT: its source_id is the trace's id. TOP: a span without a parent, the root if there is no ROOT.
REPEATS: its tokens and price repeat those of others. OWN: the event says that they are its own. CLASSED:
its tokens by class follow its texts.
"""
LONGEST_ERROR: Final = 300
LONGEST_NAME: Final = 200
MOST_TOKENS: Final = 1 << 50
"""Token counts from here on are implausible and count as none."""
_MOST_CURRENCIES: Final = 16
_LONGEST_CURRENCY: Final = 16
"""Bytes of the longest currency code. A price in another one is not summed up."""
_MAX: Final = (1 << 63) - 1
_MOST_SHARED: Final = 256
_SHARED: Final[dict[tuple[bytes, ...], list[bytes]]] = {}
"""Lists of currencies that traces share."""

KINDS: Final = tuple(k.value for k in Kind)
_KIND: Final = {k: i for i, k in enumerate(KINDS)}
_HEADS: Final = HEADS
_AROUND_NODES: Final = frozenset(n.encode() for n in REPEATING_NODES)

FIXED: Final = struct.Struct("<8s8sqqqqqqIiBBB")
"""Layout of the fixed part.

Span, parent span, start, end, input, output and total tokens (0: none), price (1e-12 of the currency,
0: none), offset of its texts, revision, kind, flags, currency.
"""
_TEXTS: Final = struct.Struct("<HHHH")
"""Lengths of the texts that follow.

source_id and name as the beginning of an Avro SlowOperation, source_id within it, status, error.
"""
CLASSES: Final = (
    "cache_read",
    "cache_write",
    "reasoning",
    "input_audio",
    "input_image",
    "output_audio",
    "output_image",
)
"""The classes of tokens that a summary has, in the order of its fields."""
_CLASSES: Final = struct.Struct(f"<{len(CLASSES)}q")
_NO_TOKENS: Final = (0,) * len(CLASSES)
_pack: Final[Callable[..., bytes]] = FIXED.pack
_pack_lengths: Final[Callable[..., bytes]] = _TEXTS.pack


class Texts:
    """Texts of an operation; empty where it has none."""

    __slots__ = ("error", "name", "source_id", "status")

    def __init__(self, source_id: bytes, name: bytes, status: bytes, error: bytes) -> None:
        self.source_id, self.name, self.status, self.error = source_id, name, status, error


def texts_at(texts: bytes, at: int) -> Texts:
    """The texts of one operation, as `Operations.add` wrote them."""
    entry, source, status, error = _TEXTS.unpack_from(texts, at)
    begin, end = at + _TEXTS.size, at + _TEXTS.size + entry
    p = begin + _length(source)
    q = p + source
    name = texts[q + 1 + _length(end - q - 2) : end] if texts[q] else b""
    return Texts(texts[p:q], name, texts[end : end + status], texts[end + status : end + status + error])


def source_at(texts: bytes, at: int) -> bytes:
    """The source_id of one operation."""
    _, source, _, _ = _TEXTS.unpack_from(texts, at)
    p = at + _TEXTS.size + _length(source)
    return texts[p : p + source]


def entry_at(texts: bytes, at: int) -> bytes:
    """source_id and name of one operation, as the beginning of an Avro `SlowOperation`."""
    begin = at + _TEXTS.size
    return texts[begin : begin + _TEXTS.unpack_from(texts, at)[0]]


def _length(n: int) -> int:
    """The size in bytes of an Avro length."""
    return 1 if n < 64 else 2 if n < 8192 else 3


def failed(h: Header) -> bool:
    """Whether an operation failed: its status says so, or it has an error text."""
    return bool(h.error) or h.status == b"failed"


def repeats(h: Header) -> bool:
    """Whether an operation's tokens and price repeat those of others (`tailrace.roll_ups`)."""
    around = h.node_type is not None and h.node_type in _AROUND_NODES
    return roll_ups.repeats(h.kind, bool(h.workflow_run_id), around, h.span_kind, h.usage_repeats)


def classes_at(texts: bytes, at: int) -> tuple[int, ...]:
    """The tokens by class of an operation with the flag `CLASSED`, in the order of `CLASSES`."""
    entry, _, status, error = _TEXTS.unpack_from(texts, at)
    return _CLASSES.unpack_from(texts, at + _TEXTS.size + entry + status + error)


def _by_class(c: TokenClasses) -> tuple[int, ...]:
    """Plausible tokens by class, in the order of `CLASSES`."""
    return (
        c.cache_read or 0,
        c.cache_write or 0,
        c.reasoning or 0,
        c.input_audio or 0,
        c.input_image or 0,
        c.output_audio or 0,
        c.output_image or 0,
    )


def count(n: int | None) -> int:
    """A token count for sums: 0 if it is missing, negative or implausible."""
    return n if n is not None and 0 < n < MOST_TOKENS else 0


def currency_of(h: Header) -> bytes:
    """The currency of an event's own price: US dollars if it names none. Codes are in capitals."""
    code = h.currency
    if code is None:
        return b"USD"
    return code.upper() if len(code) == 3 else code


def cut(text: bytes | None, most: int) -> bytes:
    """At most `most` bytes of a text, cut between characters."""
    if text is None:
        return b""
    return text if len(text) <= most else text[:most].decode("utf-8", "ignore").encode()


def _sum_beyond(
    b: OverflowTotals, h: Header, price: int, currency: str, estimated: bool, classes: TokenClasses | None
) -> None:
    """Counts an operation that is not kept individually."""
    b.counts[h.kind] = b.counts.get(h.kind, 0) + 1
    b.errors += failed(h)
    b.started_at, b.ended_at = min(b.started_at, h.started_at), max(b.ended_at, h.ended_at)
    if repeats(h):
        return
    given, received = count(h.input_tokens), count(h.output_tokens)
    b.input_tokens += given
    b.output_tokens += received
    b.total_tokens += count(h.total_tokens) or given + received
    if classes is not None:
        b.classes = [a + n for a, n in zip(b.classes or _NO_TOKENS, _by_class(classes), strict=True)]
    known = currency in b.cost or (len(b.cost) < _MOST_CURRENCIES and len(currency) <= _LONGEST_CURRENCY)
    if price > 0 and known:
        b.cost[currency] = b.cost.get(currency, 0) + price
        b.estimated = b.estimated or estimated


class Operations:
    """The operations of one open trace."""

    __slots__ = ("beyond", "chunks", "currencies", "ended", "fixed", "texts")
    most: ClassVar[int] = MOST * FIXED.size

    def __init__(self) -> None:
        self.fixed, self.texts = bytearray(), bytearray()
        self.currencies: list[bytes] | None = None
        self.chunks = 0
        """Number of full chunks in trace.state."""
        self.beyond: OverflowTotals | None = None
        self.ended = False
        """Whether the root is among them."""

    def __len__(self) -> int:
        return len(self.fixed) // FIXED.size

    def add(
        self,
        h: Header,
        span_id: bytes,
        parent_span: bytes | None,
        price: int,
        estimated: bool,
        is_root: bool,
        classes: TokenClasses | None,
    ) -> None:
        """Appends one operation.

        Args:
            price: 1e-12 of its currency, 0 for none.
            estimated: whether the price is from a price table, so in USD.
            classes: its tokens by class, if they are plausible.
        """
        status = b""
        if is_root:
            flags, status, self.ended = ROOT, cut(h.status, LONGEST_NAME), True
        elif parent_span is None and h.kind in _HEADS:
            flags, status, self.ended = TOP, cut(h.status, LONGEST_NAME), True
        else:
            flags = 0
        error = b""
        if h.error or h.status == b"failed":
            flags |= FAILED
            error = cut(h.error, LONGEST_ERROR)
        if estimated:
            flags |= ESTIMATED
        if len(self.fixed) >= self.most and not is_root:
            self.beyond = self.beyond or OverflowTotals()
            currency = b"USD" if estimated else currency_of(h)
            _sum_beyond(self.beyond, h, price, currency.decode(), estimated, classes)
            return
        if repeats(h):
            flags |= REPEATS
        elif h.usage_repeats is not None:
            flags |= OWN
        tail = b""
        if classes is not None and (by_class := _by_class(classes)) != _NO_TOKENS:
            flags |= CLASSED
            tail = _CLASSES.pack(*by_class)
        currency_index = 0
        if price > 0:
            currency_index = self._currency(b"USD" if estimated else currency_of(h))
            if currency_index < 0:
                price = currency_index = 0
        else:
            price = 0
        given, received, total = h.input_tokens or 0, h.output_tokens or 0, h.total_tokens or 0
        if given or received or total:
            given, received, total = count(given), count(received), count(total)
            total = total or given + received
        name = h.name or b""
        if len(name) > LONGEST_NAME:
            name = cut(name, LONGEST_NAME)
        source_id = h.source_id
        self.fixed += _pack(
            span_id,
            parent_span or NO_SPAN,
            h.started_at,
            h.ended_at,
            given,
            received,
            total,
            price,
            len(self.texts),
            h.revision,
            _KIND[h.kind],
            flags,
            currency_index,
        )
        size = len(source_id)
        entry = (LENGTHS[size] if size < 8192 else zigzag(size)) + source_id
        entry += b"\2" + LENGTHS[len(name)] + name if name else b"\0"
        self.texts += _pack_lengths(len(entry), size, len(status), len(error)) + entry + status + error + tail

    def _currency(self, code: bytes) -> int:
        """Index of a currency; -1 if the trace has too many of them, or it is too long for one."""
        if len(code) > _LONGEST_CURRENCY:
            return -1
        if self.currencies is None:
            self.currencies = [code]
            return 0
        if code in self.currencies:
            return self.currencies.index(code)
        if len(self.currencies) >= _MOST_CURRENCIES:
            return -1
        self.currencies = [*self.currencies, code]  # the list may be shared
        return len(self.currencies) - 1

    def rest(self) -> None:
        """Frees the memory reserved for growth, and shares what many traces have in common."""
        self.fixed, self.texts = bytearray(self.fixed), bytearray(self.texts)
        if self.currencies is not None and len(_SHARED) < _MOST_SHARED:
            self.currencies = _SHARED.setdefault(tuple(self.currencies), self.currencies)

    # -- as records of trace.state
    def full_chunks(self) -> list[tuple[int, bytes, bytes]]:
        """Number, fixed part and texts of the chunks that became full since the last call."""
        found = []
        while (self.chunks + 1) * CHUNK <= len(self):
            first, after = self.chunks * CHUNK, (self.chunks + 1) * CHUNK
            found.append(
                (
                    self.chunks,
                    bytes(self.fixed[first * FIXED.size : after * FIXED.size]),
                    bytes(self.texts[self._text_at(first) : self._text_at(after)]),
                )
            )
            self.chunks += 1
        return found

    def tail(self) -> tuple[bytes, bytes]:
        """Fixed part and texts after the full chunks."""
        first = self.chunks * CHUNK
        return bytes(self.fixed[first * FIXED.size :]), bytes(self.texts[self._text_at(first) :])

    def _text_at(self, operation: int) -> int:
        at = operation * FIXED.size + 64
        return int.from_bytes(self.fixed[at : at + 4], "little") if at < len(self.fixed) else len(self.texts)

    def restore(
        self,
        chunks: list[tuple[bytes, bytes]],
        fixed: bytes,
        texts: bytes,
        currencies: list[bytes] | None,
        beyond: OverflowTotals | None,
        ended: bool,
    ) -> None:
        """Restores what `full_chunks` and `tail` returned, in order."""
        self.chunks = len(chunks)
        self.fixed = bytearray(b"".join((*(c[0] for c in chunks), fixed)))
        self.texts = bytearray(b"".join((*(c[1] for c in chunks), texts)))
        self.currencies, self.beyond, self.ended = currencies, beyond, ended
