"""Kafka's murmur2 partitioner, to check which partition a record belongs to.

Producers use librdkafka's implementation.
"""

from __future__ import annotations

PARTITIONER = "murmur2_random"
"""librdkafka's name for the default partitioner of the Java client. (librdkafka's own default is CRC32.)"""


def murmur2(key: bytes) -> int:
    """Kafka's murmur2 (seed 0x9747b28c), as an unsigned 32-bit integer."""
    n = len(key)
    h = 0x9747B28C ^ n
    for i in range(0, n & ~3, 4):
        k = _times_m(key[i] | key[i + 1] << 8 | key[i + 2] << 16 | key[i + 3] << 24)
        k = _times_m(k ^ k >> 24)
        h = _times_m(h) ^ k
    rest = n & 3
    if rest:
        h ^= int.from_bytes(key[n - rest :], "little")
        h = _times_m(h)
    h = _times_m(h ^ h >> 13)
    return h ^ h >> 15


def _times_m(x: int) -> int:
    """The low 32 bits of x * 0x5BD1E995.

    Computed in two halves: in compiled code a product of more than 62 bits is slow.
    """
    return (x * 0xE995 + ((x * 0x5BD1 & 0xFFFF) << 16)) & 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that a record with this key belongs to."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
