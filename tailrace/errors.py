"""Errors of the public API, one tree. Everything that tailrace raises on purpose is a `TailraceError`."""

from __future__ import annotations


class TailraceError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(TailraceError):
    """A setting is missing or wrong; the message names the setting and the fix."""


class MissingPackage(ConfigError):
    """What the settings name needs a package that is not installed; the message names the extra that brings it."""


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
    """A well-formed frame whose schema fingerprint is not known here."""

    def __init__(self, fingerprint: bytes) -> None:
        super().__init__(
            "unknown_schema", f"no schema with fingerprint {fingerprint.hex()}; upgrade readers before writers"
        )
        self.fingerprint = fingerprint


class QueueFull(TailraceError):
    """The publisher's bounded queue has no room, and its policy is to raise."""


class PublisherClosed(TailraceError):
    """publish() after close()."""


class KafkaUnavailable(TailraceError):
    """No broker answered within the deadline."""


class TopicMismatch(TailraceError):
    """A topic is missing, or its partitions or settings are not what tailrace needs."""
