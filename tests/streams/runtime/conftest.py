"""Certificates for tests of TLS."""

from __future__ import annotations

from tests.connectors.certificates import certificates

__all__ = ["certificates"]
