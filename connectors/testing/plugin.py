"""The pytest plugin of the conformance kit (entry point pytest11): a failed check prints its rule.

Every pytest run in an environment with tailrace loads it, so it imports nothing and does nothing until
the kit is used.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

KIT = "connectors.testing.conformance"
_REWRITTEN = ("mapping_checks", "delivery_checks", "refusal_checks", "secrecy_checks")


def pytest_configure(config: pytest.Config) -> None:
    import pytest

    if KIT not in sys.modules:
        pytest.register_assert_rewrite(*(f"{KIT}.{name}" for name in _REWRITTEN))


def pytest_collection_finish(session: pytest.Session) -> None:
    if KIT in sys.modules:
        session.config.pluginmanager.register(Rules(), "tailrace-rules")


class Rules:
    """Adds a failed check's docstring to its report."""

    def pytest_runtest_logreport(self, report: Any) -> None:
        """The docstring is passed in user_properties, so that it also works with xdist."""
        if report.when == "call" and report.failed:
            report.sections.extend(("rule", text) for name, text in report.user_properties if name == "rule")

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        cls, function = getattr(item, "cls", None), getattr(item, "function", None)
        kit = getattr(sys.modules.get(KIT), "SinkConformance", None)
        if (
            kit is not None
            and cls is not None
            and issubclass(cls, kit)
            and getattr(function, "__doc__", None)
        ):
            lines = (line.strip() for line in str(function.__doc__).splitlines())
            item.user_properties.append(("rule", "\n".join(lines)))
