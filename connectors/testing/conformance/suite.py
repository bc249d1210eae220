"""The conformance kit: what every sink must do, as tests that a sink's author gets by naming the sink.

    from connectors.testing import conformance

    class TestAcme(conformance.SinkConformance):
        sink, settings = Acme, {"endpoint": "{endpoint}", "api_key": "{secret}"}

The sink is driven by the runner's own courier over real HTTP, against a server that refuses, hangs, breaks
off and lies. Each test's docstring is the rule that it checks and how to mend a sink that breaks it.
`connectors.testing.conformance.kit` has what may be overridden where a vendor is different."""

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
