"""Names of `TAILRACE_…` variables: which are settings, which are Kubernetes', which are neither.

Kubernetes sets variables for every Service of a namespace in each of its pods. A Service that is named
tailrace, or tailrace-connect, gives names that start as ours do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

PREFIX: Final = "TAILRACE_"
_ADDRESS: Final = re.compile(r"(?:tcp|udp|sctp)://", re.IGNORECASE)
_OF_PORT: Final = re.compile(r"_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?\Z")
_OF_SERVICE: Final = re.compile(r"_SERVICE_(?:HOST\Z|PORT(?:_[A-Z0-9_]+)?\Z)")
_SHOWN: Final = 10
"""Names in one warning; further ones are counted."""
_LONGEST: Final = 100


def of_service_link(name: str, value: str, env: Mapping[str, str]) -> bool:
    """Whether Kubernetes (or a link of Docker) certainly set a variable, whatever settings there are.

    Args:
        name: the variable's name.
        value: its value; `X_PORT` is theirs if it is an address as tcp://10.0.0.1:9092.
        env: all variables; `X_SERVICE_HOST` is theirs if `X_PORT` is an address.
    """
    if _OF_PORT.search(name):
        return True
    if name.endswith("_PORT") and _ADDRESS.match(value):
        return True
    return any(_ADDRESS.match(env.get(f"{name[: m.start()]}_PORT", "")) for m in _OF_SERVICE.finditer(name))


def like_service_link(name: str) -> bool:
    """Whether a variable that no setting has looks like one of Kubernetes."""
    return _OF_PORT.search(name) is not None or _OF_SERVICE.search(name) is not None


def sink_and_field(rest: str, instances: Iterable[str]) -> tuple[str, str]:
    """Splits what follows `TAILRACE_SINKS_` into the instance and its setting.

    The longest of the known instances wins; characters that no variable may have are underscores in it.
    Without one, the instance ends at the first underscore.

    Args:
        rest: the rest of the variable's name, in lower case.
        instances: names that are known.
    """
    by_form = {re.sub(r"\W", "_", name).lower(): name for name in instances}
    for form in sorted(by_form, key=len, reverse=True):
        if rest.startswith(form + "_"):
            return by_form[form], rest[len(form) + 1 :]
    instance, _, field = rest.partition("_")
    return instance, field


def warning(
    names: Collection[str], settings: Collection[str], renamed: Mapping[str, str] | None = None
) -> str:
    """One line about variables that no setting has. It contains names, never values.

    Args:
        names: the variables.
        settings: the variables of all settings, for suggestions.
        renamed: former variables and what they are called now.
    """
    told = []
    for name in sorted(names)[:_SHOWN]:
        now = (renamed or {}).get(name)
        near = difflib.get_close_matches(name, settings, 1, 0.85) if len(name) <= _LONGEST else []
        hint = f" (it is {now} now)" if now else f" (is it {near[0]}?)" if near else ""
        told.append(re.sub(r"[^A-Za-z0-9_.-]", "?", name[:_LONGEST]) + hint)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"no setting has the variable {', '.join(told)}{more}; see docs/settings.md"
