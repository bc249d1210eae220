"""The conformance kit: the rules that every sink must follow, as tests."""

from connectors.testing.conformance.suite import Answer, Received, SinkConformance, checks

__all__ = ["Answer", "Received", "SinkConformance", "checks"]
