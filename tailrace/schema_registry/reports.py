"""The findings of `tailrace schemas` and `tailrace check` about schema files and the registry."""

from __future__ import annotations

from typing import Any

import msgspec

from tailrace.codec import schemas
from tailrace.codec.schemas import Resolver
from tailrace.errors import ConfigError, DecodeError, RegistryRefused, RegistryUnavailable
from tailrace.schema_registry.client import LEVEL, Client
from tailrace.schema_registry.fetcher import learn
from tailrace.schema_registry.setup import read_file
from tailrace.schema_registry.subjects import RECORD, ensure, subject_of, text_of
from tailrace.settings import Settings


class Report(msgspec.Struct, frozen=True):
    """Result of registering our schema, or of a dry run."""

    subject: str
    id: int | None
    """The schema's id; None if it is not registered."""
    problems: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def fine(self) -> bool:
        return not self.problems

    @property
    def text(self) -> str:
        if self.problems:
            return f"{self.subject} does not accept the schema of {RECORD}: {'; '.join(self.problems)}"
        if self.id is None:
            return f"{self.subject} does not have the schema of {RECORD}, but would accept it"
        return f"{self.subject} has the schema of {RECORD} as id {self.id}"

    def as_json(self) -> dict[str, Any]:
        return {"record": RECORD, **msgspec.to_builtins(self)}


def register(settings: Settings) -> Report:
    """Registers our schema, also if registry.auto_register is false."""
    subject = subject_of(settings)
    try:
        return Report(subject, ensure(Client(settings.registry), subject, auto_register=True))
    except (ConfigError, RegistryRefused, RegistryUnavailable) as e:
        return Report(subject, None, (str(e),))


def dry_run(settings: Settings) -> Report:
    """Reports what `register` would do. Changes nothing."""
    subject = subject_of(settings)
    client = Client(settings.registry)
    try:
        schema_id = client.lookup(subject, text_of())
        problems = () if schema_id is not None else tuple(client.incompatible(subject, text_of()))
        return Report(subject, schema_id, problems, dry_run=True)
    except (RegistryRefused, RegistryUnavailable) as e:
        return Report(subject, None, (str(e),), dry_run=True)


class Findings(msgspec.Struct):
    """The findings of `check`, as sentences."""

    passed: list[str] = []
    problems: list[str] = []
    warnings: list[str] = []


def check(settings: Settings) -> Findings:
    """Checks that all schemas in files and in the registry can be read, and that the registry accepts ours.

    Changes nothing.
    """
    found = Findings([], [], [])
    for name in settings.schemas.files:
        try:
            found.passed.append(f"{name} can be read as {read_file(name, Resolver()).name}")
        except ConfigError as e:
            found.problems.append(str(e))
    if settings.registry.url:
        try:
            _registry(settings, found)
        except (ConfigError, RegistryRefused, RegistryUnavailable) as e:
            found.problems.append(str(e))
    elif not settings.schemas.files:
        found.passed.append(
            "neither registry.url nor schemas.files is set: only tailrace's own schemas are read"
        )
    return found


def _registry(settings: Settings, found: Findings) -> None:
    subject, client, ours = subject_of(settings), Client(settings.registry), text_of()
    versions = client.versions(subject)
    for number in versions:
        registered = client.version(subject, number)
        if registered is None:
            continue
        what = f"version {number} of {subject} (id {registered.id})"
        known = registered.unusable or learn(Resolver(), registered.schema)
        if isinstance(known, str):
            found.problems.append(f"{what} {known}")
        elif isinstance(known, DecodeError):
            found.problems.append(f"{what}: {known.detail}")
        else:
            found.passed.append(f"{what} can be read as {known.name}")
    schema_id = client.lookup(subject, ours)
    version = len(schemas.history(RECORD))
    if schema_id is not None:
        found.passed.append(f"{subject} has version {version} of {RECORD} as id {schema_id}")
    elif wrong := client.incompatible(subject, ours):
        found.problems.append(f"{subject} does not accept version {version} of {RECORD}: {'; '.join(wrong)}")
    elif settings.registry.auto_register:
        found.passed.append(
            f"{subject} would accept version {version} of {RECORD}; the first publisher registers it"
        )
    else:
        found.problems.append(
            f"{subject} does not have version {version} of {RECORD}, and registry.auto_register is false: "
            "run `tailrace schemas register`"
        )
    if versions and (level := client.level(subject)) != LEVEL:
        found.warnings.append(
            f"{subject} has compatibility {level}; {LEVEL} keeps every version readable by every other"
        )
