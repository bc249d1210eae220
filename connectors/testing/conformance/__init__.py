"""The conformance kit: what every sink must do, as tests."""

from connectors.testing.conformance.suite import Answer, Received, SinkConformance, checks

__all__ = ["Answer", "Received", "SinkConformance", "checks"]
