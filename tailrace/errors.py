"""The errors of the public API. All of them derive from `TailraceError`."""

from __future__ import annotations


class TailraceError(Exception):
    """Base class of all errors that tailrace raises deliberately."""


class ConfigError(TailraceError):
    """A setting is missing or wrong. The message names the setting and the fix."""


class MissingPackage(ConfigError):
    """The settings need a package that is not installed. The message names the extra to install."""


class InvalidEvent(TailraceError, ValueError):
    """The caller's event is not valid. `field` is the dotted path of the wrong field."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class EventTooLarge(InvalidEvent):
    """The encoded event exceeds the size limit. `field` is its largest content field."""


class DecodeError(TailraceError, ValueError):
    """Bytes that do not match their schema. `reason` is short and machine-readable."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class UnknownSchema(DecodeError):
    """A well-formed frame whose writer schema is not known here.

    `frame` is everything before the record's body. One of `fingerprint` and `schema_id` is set, the
    other is None.
    """

    def __init__(self, frame: bytes) -> None:
        self.frame = frame
        self.fingerprint = frame[2:] if frame[:1] != b"\0" else None
        self.schema_id = int.from_bytes(frame[1:5], "big") if self.fingerprint is None else None
        super().__init__(
            "unknown_schema",
            f"no schema with the registry's id {self.schema_id}; see registry.url"
            if self.fingerprint is None
            else f"no schema with fingerprint {self.fingerprint.hex()}; upgrade readers before writers",
        )


class RegistryUnavailable(TailraceError):
    """The schema registry does not answer or reports a temporary error. Try again."""


class RegistryRefused(TailraceError):
    """The schema registry refused a request.

    `status` is the HTTP status, `code` the registry's own error code (0: none).
    """

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class ContentMissing(TailraceError):
    """Content that an event names is not in the content store."""


class ContentDamaged(TailraceError):
    """What the content store has under a hash has another hash."""


class ContentUnreachable(TailraceError, OSError):
    """The content store cannot be read or written. Try again."""


class QueueFull(TailraceError):
    """The publisher's bounded queue is full and did not drain in time."""


class PublisherClosed(TailraceError):
    """`publish` was called after `close`."""


class KafkaUnavailable(TailraceError):
    """No broker answered within the deadline."""


class TopicMismatch(TailraceError):
    """A topic is missing, or has the wrong number of partitions or wrong settings."""
