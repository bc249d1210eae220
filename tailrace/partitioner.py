"""Kafka's murmur2 partitioner, for checking where a record belongs. Producers use librdkafka's own."""

from __future__ import annotations

PARTITIONER = "murmur2_random"
"""librdkafka's name for the Java client's default; its own default is CRC32."""


def murmur2(key: bytes) -> int:
    """Kafka's murmur2 (seed 0x9747b28c) as an unsigned 32-bit number."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    n = len(key)
    h = 0x9747B28C ^ n
    for i in range(0, n & ~3, 4):
        k = int.from_bytes(key[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    rest = n & 3
    if rest:
        h ^= int.from_bytes(key[n - rest :], "little")
        h = h * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that a keyed record belongs to."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
