"""`tailrace content`: lists what is in the content store, and deletes what nothing names."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import click
from confluent_kafka import KafkaException

from tailrace import kafka, topics
from tailrace.commands.options import common, settings_from
from tailrace.content_store import sweep as rules
from tailrace.content_store.naming import folder_of
from tailrace.content_store.store import ContentStore, Stored, open_store
from tailrace.errors import ConfigError, TailraceError
from tailrace.settings import Settings

_UNITS: Final = {"h": 1.0, "d": 24.0, "w": 168.0}


class Hours(click.ParamType):
    """A duration such as 36h, 15d or 3w, in hours."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value)
        number, unit = text[:-1], _UNITS.get(text[-1:])
        if unit is None or not (number.isascii() and number.isdigit()):
            self.fail(f"{text!r} is not a valid duration; for example 36h, 15d or 3w", param, ctx)
        return int(number) * unit


@click.group()
def content() -> None:
    """List and sweep the content store (content.store), where content is that is too large for an event.

    \b
    Examples:
      tailrace content ls --tenant acme
      tailrace content sweep --dry-run
      tailrace content sweep --older-than 30d --json
    """


@content.command()
@common
@click.option("--tenant", help="Only the content of this tenant; an empty text: of events without a tenant.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per content.")
def ls(
    config: str | None,
    bootstrap_servers: str | None,
    assignments: tuple[str, ...],
    tenant: str | None,
    as_json: bool,
) -> None:
    """List the content in the store: when it was last put, its bytes, its folder and its hash.

    Exit status: 0 it was listed; 1 the store cannot be read; 2 settings or options are wrong.

    \b
    Examples:
      tailrace content ls
      tailrace content ls --tenant acme --json > contents.jsonl
    """
    store = open_store(settings_from(config, bootstrap_servers, assignments).content)
    folder = None if tenant is None else folder_of(tenant)
    count = total = 0
    try:
        for one in store.names():
            if folder is not None and one.folder != folder:
                continue
            count, total = count + 1, total + one.bytes
            click.echo(json.dumps(_document(one)) if as_json else _line(one))
    except TailraceError as e:
        _fail("ls", e)
    click.echo(f"{count:,} contents, {total:,} bytes", err=True)


@content.command()
@common
@click.option(
    "--older-than",
    "hours",
    type=Hours(),
    help="Lifetime, e.g. 30d. Default, and the least: what a record may go through, + 1 day.",
)
@click.option("--dry-run", is_flag=True, help="Delete nothing; print what would be deleted.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def sweep(
    config: str | None,
    bootstrap_servers: str | None,
    assignments: tuple[str, ...],
    hours: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete content that is older than its lifetime and that no dead letter and no archive names.

    Content that is put again is young again. Before anything is deleted, all dead letters are read: if they,
    or another source of names, cannot be read completely, nothing is deleted.

    Exit status: 0 it was swept; 1 store, topics or names cannot be read; 2 settings or options are wrong;
    130 after Ctrl-C: what was not deleted stays for the next sweep.

    \b
    Examples:
      tailrace content sweep --dry-run
      tailrace content sweep
      tailrace content sweep --older-than 60d --json
    """
    settings = settings_from(config, bootstrap_servers, assignments)
    store = open_store(settings.content)
    swept = rules.Swept(0, 0, 0, 0)

    def progress(so_far: rules.Swept) -> None:
        nonlocal swept
        swept = so_far

    try:
        named = rules.sources()
        least, endless = _least(settings)
        if hours is None and endless:
            raise click.UsageError("--older-than is needed: a topic keeps its records without end")
        if hours is not None and hours < least:
            raise click.UsageError(
                f"--older-than: {hours:g}h is shorter than records that name content may live; "
                f"use at least {math.ceil(least)}h (retention.ms and segment.ms of trace.events and "
                f"trace.enriched, publisher.spool_max_age_hours and {rules.MARGIN_HOURS:g}h)"
            )
        if not dry_run:
            store.recover()
        lifetime = least if hours is None else hours
        before = store.now() - lifetime * rules.HOUR
        _note("listing the content")
        planned = rules.plan(store.names(), before, _all_names(settings, named))
        if not dry_run:
            swept = _sweep(store, planned, before, progress)
    except ConfigError:
        raise
    except KafkaException as e:
        _fail("sweep", f"{e.args[0].str()}; {_so_far(swept)}")
    except TailraceError as e:
        _fail("sweep", f"{e}; {_so_far(swept)}")
    except KeyboardInterrupt:
        click.echo(f"tailrace content sweep: stopped; {_so_far(swept)}", err=True)
        sys.exit(130)
    if as_json:
        document = {
            "dry_run": dry_run,
            "older_than_hours": round(lifetime, 1),
            "sources": list(named),
            "young": planned.young,
            "named": planned.named,
            "more": planned.more,
            "planned": {"contents": len(planned.delete), "bytes": planned.bytes},
            **swept._asdict(),
        }
        click.echo(json.dumps(document))
        return
    if dry_run:
        for one in planned.delete:
            click.echo(_line(one))
        click.echo(f"would delete {len(planned.delete):,} contents, {planned.bytes:,} bytes", err=True)
    else:
        click.echo(
            f"deleted {swept.deleted:,} contents, {swept.bytes:,} bytes, "
            f"and {swept.unfinished:,} unfinished files"
        )
    click.echo(
        f"kept {planned.young + swept.renewed:,} that are younger, "
        f"{planned.named:,} that {' or '.join(named)} name",
        err=True,
    )
    if planned.more:
        click.echo(f"{planned.more:,} more are old: sweep again", err=True)


def _all_names(settings: Settings, named: dict[str, rules.Names]) -> Iterator[Iterable[str]]:
    for source, names in named.items():
        _note(f"reading what {source} names")
        yield names(settings)


def _note(text: str) -> None:
    """Tells a person at a terminal what is being done."""
    if sys.stderr.isatty():
        click.echo(text, err=True)


def _least(settings: Settings) -> tuple[float, bool]:
    """The shortest lifetime in hours by the topics in the cluster, and whether one of them has no end, which
    is not counted.

    Raises:
        TopicMismatch: A topic is missing, or says nothing of its retention.
        KafkaUnavailable, KafkaException: The cluster does not answer or refuses.
    """
    names = topics.TopicNames.of(settings.topics)
    wanted = [names.events, names.enriched]
    admin, _ = kafka.wait_for_broker(settings.kafka, deadline=10, say=lambda text: click.echo(text, err=True))
    found = topics.describe(admin, wanted)
    kept = rules.retentions({n: found[n].config for n in found}, wanted)
    hours = rules.lifetime_hours((ms for ms in kept if ms >= 0), settings.publisher.spool_max_age_hours)
    return hours, any(ms < 0 for ms in kept)


def _sweep(
    store: ContentStore, planned: rules.Plan, before: float, progress: Callable[[rules.Swept], None]
) -> rules.Swept:
    size = len(planned.delete)
    if not sys.stderr.isatty() or not size:
        return rules.sweep(store, planned, before, progress)

    def shown(so_far: rules.Swept) -> None:
        progress(so_far)
        bar.update(1)

    with click.progressbar(length=size, label="deleting", file=sys.stderr) as bar:
        return rules.sweep(store, planned, before, shown)


def _so_far(swept: rules.Swept) -> str:
    if not swept.deleted:
        return "nothing was deleted"
    return f"{swept.deleted:,} contents, {swept.bytes:,} bytes were deleted, the others stay"


def _document(one: Stored) -> dict[str, Any]:
    return {**one._asdict(), "modified_at": _time(one)}


def _line(one: Stored) -> str:
    return f"{_time(one)}  {one.bytes:>12,}  {one.folder}  {one.hash}"


def _time(one: Stored) -> str:
    return datetime.fromtimestamp(one.modified_at, UTC).isoformat(timespec="seconds")


def _fail(command: str, problem: object) -> NoReturn:
    click.echo(f"tailrace content {command}: {problem}", err=True)
    sys.exit(1)
