"""The built-in sinks of vendors, each with what tests need to know of it. A new sink is added here once;
test_vendors.py says if one is missing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple

import msgspec

from connectors import Outcome
from connectors.config.instances import installed
from connectors.sdk.contract import Sink, spec_of
from connectors.sdk.policy import DEFAULT, Table
from connectors.sinks.alibaba import Alibaba
from connectors.sinks.alibaba.responses import STATUSES as ALIBABA
from connectors.sinks.langfuse import Langfuse
from connectors.sinks.langfuse.responses import STATUSES as LANGFUSE
from connectors.sinks.opik import Opik
from connectors.sinks.opik.responses import STATUSES as OPIK
from connectors.sinks.otlp import Otlp
from connectors.sinks.weave import Weave
from connectors.sinks.weave.responses import STATUSES as WEAVE
from connectors.testing.doubles.langfuse import LangfuseDouble
from connectors.testing.doubles.opik import OpikDouble
from connectors.testing.doubles.server import Double
from connectors.testing.doubles.weave import WeaveDouble
from tests.connectors.raw_spans import RawAlibaba, RawReceiver

WITHOUT_MAPPING: Final = frozenset({"console", "file"})
"""Sinks that write every event as it is, whatever its kind (connectors/sinks/lines.py)."""


class Statuses(NamedTuple):
    """What a vendor's HTTP statuses have of their own."""

    fix: str
    """Settings that a pause names."""
    fixes: Mapping[int, str] = {}
    """The same of single statuses."""
    reasons: Mapping[int, str] = {}
    """Of rejections."""
    outcomes: Mapping[int, Outcome] = {}
    """Of statuses that mean something else than at other vendors."""
    table: Table = DEFAULT
    """Which the sink passes to `policy.decide`."""


class Stored(NamedTuple):
    """What a double of the vendor's holds."""

    double: Callable[[], Double[Any]]
    settings: Callable[[Any], Mapping[str, str]]
    """Of a sink that sends to this double."""
    state: Callable[[Any], Mapping[str, Collection[Any]]]
    """Name -> what it holds of that, which a redelivery must not change."""
    least: Mapping[str, int]
    """Name -> how many of them 400 records of all kinds make at least."""


class Vendor(NamedTuple):
    """One sink."""

    sink: type[Any]
    url: str
    """The setting with the server's URL."""
    statuses: Statuses
    stored: Stored
    secrets: tuple[str, ...] = ("api_key",)
    """Secret settings, the key first."""
    settings: Mapping[str, str] = {}
    """What else it requires."""
    whole: Mapping[str, str] = {}
    """Settings with which it sends all that it can."""
    plain: Mapping[str, str] = {"compression": "none"}
    """Settings with which it does not compress."""
    key_headers: frozenset[str] = frozenset({"authorization"})
    """Headers of its requests that carry a secret, in lower case."""
    json_errors: bool = False
    """Whether the vendor's errors are always JSON."""
    variants: Mapping[str, Mapping[str, str]] = {}
    """Other ways of sending credentials: name -> settings."""

    def make(self, **settings: Any) -> Sink:
        """An instance with the required settings, and these."""
        values = {self.url: "http://h", self.secrets[0]: "key", **self.settings, **settings}
        found: Sink = self.sink(msgspec.convert(values, spec_of(self.sink).settings, strict=False))
        return found


VENDORS: Final = {
    "alibaba": Vendor(
        Alibaba,
        "endpoint",
        Statuses(
            "endpoint, license_key, family", fixes={401: "license_key", 403: "license_key"}, table=ALIBABA
        ),
        Stored(
            RawAlibaba,
            lambda double: {"endpoint": double.endpoint, "license_key": double.license_key},
            lambda double: {"spans": double.take(), "problems": list(double.problems)},
            {"spans": 100},
        ),
        secrets=("license_key",),
        key_headers=frozenset({"x-arms-license-key"}),
        variants={
            "sls": {"family": "sls"},
            "cms": {"family": "cms", "workspace": "default-cms-1-cn-hangzhou", "project": "proj-xtrace-1"},
        },
    ),
    "langfuse": Vendor(
        Langfuse,
        "host",
        Statuses(
            "host",
            fixes={401: "public_key, secret_key", 403: "public_key, secret_key"},
            table=LANGFUSE,
        ),
        Stored(
            LangfuseDouble,
            lambda double: {
                "host": double.endpoint,
                "public_key": double.public_key,
                "secret_key": double.secret_key,
            },
            lambda double: msgspec.to_builtins(double.store.state()),
            {"observations": 100, "scores": 1},
        ),
        secrets=("secret_key",),
        settings={"public_key": "pk-lf-of-no-secret"},
    ),
    "opik": Vendor(
        Opik,
        "url",
        Statuses(
            "api_key, workspace",
            fixes={402: "workspace", 404: "url", 405: "url", 415: "url"}
            | dict.fromkeys(range(300, 400), "url"),
            reasons={409: "id_in_other_project"},
            table=OPIK,
        ),
        Stored(
            OpikDouble,
            lambda double: {"url": double.url},
            lambda double: copy.deepcopy(double.store.state()),
            {"traces": 30, "spans": 100, "scores": 1},
        ),
        json_errors=True,
    ),
    "otlp": Vendor(
        Otlp,
        "endpoint",
        Statuses("endpoint, api_key, headers"),
        Stored(
            RawReceiver,
            lambda double: {"endpoint": double.endpoint},
            lambda double: {"spans": double.take()},
            {"spans": 100},
        ),
        secrets=("api_key", "headers"),
        whole={"content_on_spans": "true"},
    ),
    "weave": Vendor(
        Weave,
        "host",
        Statuses(
            "api_key, entity, project",
            fixes={404: "entity, project", 405: "host, trace_url", 415: "host, trace_url"}
            | dict.fromkeys(range(300, 400), "host, trace_url"),
            table=WEAVE,
        ),
        Stored(
            WeaveDouble,
            lambda double: {"host": double.endpoint, "api_key": "key", "project": "shop"},
            lambda double: copy.deepcopy(double.store.state()),
            {"calls": 100, "feedback": 1},
        ),
        settings={"project": "shop", "entity": "acme"},
        json_errors=True,
    ),
}
"""Type of the sink -> what is known of it."""


def shipped() -> list[str]:
    """The sinks that ship with tailrace and map events to a vendor's format."""
    ours = {name for name, found in installed().items() if found.value.startswith("connectors.")}
    return sorted(ours - WITHOUT_MAPPING)


def mapping_of(name: str) -> Any:
    """The module with a sink's KINDS and FIELDS."""
    return import_module(f"connectors.sinks.{name}.mapping")
