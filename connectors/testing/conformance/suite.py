"""The conformance kit: a sink's author names the sink, and gets the rules for every sink as tests.

    from connectors.testing import conformance

    class TestAcme(conformance.SinkConformance):
        sink, settings = Acme, {"endpoint": "{endpoint}", "api_key": "{secret}"}

The runner's own batch sender drives the sink over real HTTP, against a server that refuses, hangs,
drops connections and sends wrong answers. Each test's docstring is the rule that it checks and how to
fix a sink that breaks it. What may be overridden for a particular vendor is in
`connectors.testing.conformance.kit`.
"""

from __future__ import annotations

from connectors.testing.conformance.hostile_server import Answer, Received
from connectors.testing.conformance.mapping_checks import MappingChecks
from connectors.testing.conformance.refusal_checks import RefusalChecks
from connectors.testing.conformance.secrecy_checks import SecrecyChecks

__all__ = ["Answer", "Received", "SinkConformance", "checks"]


class SinkConformance(MappingChecks, RefusalChecks, SecrecyChecks):
    """All checks. Set `sink` and `settings`."""


def checks() -> list[str]:
    """Names of all checks."""
    return sorted(name for name in dir(SinkConformance) if name.startswith("test_"))
