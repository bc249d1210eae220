"""Each mutant fails its own check of the conformance kit and no other. The reference sink fails none."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pytest

from connectors.testing import conformance
from connectors.testing.conformance.suite import Answer, Received
from tests.connectors.testing.mutants import FAILS, MUTANTS
from tests.connectors.testing.reference_sink import Good

CHECKS = conformance.checks()


class Kit(conformance.SinkConformance):
    settings = {"endpoint": "{endpoint}", "api_key": "{secret}"}
    examples = 0

    def partial(self, request: Received, refused: Collection[str]) -> Answer | None:
        at = [i for i, event_id in enumerate(self.ids_in(request)) if event_id in refused]
        return Answer(207, {"Content-Type": "application/json"}, json.dumps({"refused": at}).encode())


def failed(sink: type[Any]) -> list[str]:
    """The checks that the sink does not pass."""
    kit = type("OfOne", (Kit,), {"sink": sink})
    found = []
    for name in CHECKS:
        try:
            getattr(kit(), name)()
        except AssertionError:
            found.append(name)
    return found


class TestReference(Kit):
    sink = Good
    examples = 40


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_fails_its_check_and_no_other(name: str) -> None:
    assert failed(MUTANTS[name]) == [FAILS[name]]


def test_a_kit_without_a_key_cannot_find_a_leak_and_says_so() -> None:
    kit = type("Keyless", (Kit,), {"sink": Good, "settings": {"endpoint": "{endpoint}"}})
    with pytest.raises(AssertionError, match="set one of api_key to a text"):
        kit().test_a_key_is_in_no_repr_and_no_payload()


def test_an_exception_skips_its_check_with_the_reason() -> None:
    name = "test_text_arrives_whole"
    kit = type("Excused", (Kit,), {"sink": MUTANTS["Ascii"], "exceptions": {name: "it is a telex"}})
    with pytest.raises(pytest.skip.Exception, match="telex"):
        getattr(kit(), name)()


def test_records_that_cannot_be_found_in_a_request_are_an_error() -> None:
    class Blind(Kit):
        sink = Good

        def ids_in(self, request: Received) -> list[str]:
            return []

    with pytest.raises(AssertionError, match="override ids_in"):
        Blind().test_a_batch_is_delivered()


def test_every_check_has_a_mutant() -> None:
    assert sorted(set(FAILS.values())) == CHECKS
    assert len(CHECKS) >= 30


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_says_its_rule(name: str) -> None:
    assert len((getattr(conformance.SinkConformance, name).__doc__ or "").split()) > 10
