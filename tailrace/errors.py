"""Errors of the public API, one tree. Everything that tailrace raises on purpose is a `TailraceError`."""

from __future__ import annotations


class TailraceError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(TailraceError):
    """A setting is missing or wrong; the message names the setting and the fix."""


class MissingPackage(ConfigError):
    """What the settings name needs a package that is not installed; the message names the extra that brings
    it."""


class InvalidEvent(TailraceError, ValueError):
    """The caller's event does not fit the contract. `field` is the dotted path of the field at fault."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class EventTooLarge(InvalidEvent):
    """The encoded event is over the limit; `field` is its largest content field."""


class DecodeError(TailraceError, ValueError):
    """Bytes that are not what their schema says. `reason` is short and machine-readable."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class UnknownSchema(DecodeError):
    """A well-formed frame whose schema is not known here. `frame` is all that stands before the body;
    `fingerprint` or `schema_id` is what it says, the other one is None."""

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
    """The schema registry does not answer, or says that it cannot now: try again."""


class RegistryRefused(TailraceError):
    """The schema registry answered no. `status` is HTTP's, `code` its own (0: none)."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class QueueFull(TailraceError):
    """The publisher's bounded queue has no room, and its policy is to raise."""


class PublisherClosed(TailraceError):
    """publish() after close()."""


class KafkaUnavailable(TailraceError):
    """No broker answered within the deadline."""


class TopicMismatch(TailraceError):
    """A topic is missing, or its partitions or settings are not what tailrace needs."""
