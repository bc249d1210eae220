"""`tailrace schemas`: the record types and their versions, what wrote a value, and the schema registry."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from tailrace.codec import schemas as known
from tailrace.codec.wire import BODY, MARKER
from tailrace.commands.options import common, settings_from
from tailrace.errors import ConfigError
from tailrace.schema_registry import reports

_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})+")


@click.group()
def schemas() -> None:
    """Show the schemas of all records; compare them with a schema registry, and register them.

    \b
    Examples:
      tailrace schemas ls
      tailrace schemas show TraceEvent > TraceEvent.avsc
      tailrace schemas check --set schemas.files=./theirs.avsc
      tailrace schemas register --dry-run --set registry.url=http://localhost:8081
      tailrace schemas identify c301dc16dffbc25d97c5
    """


def _row(name: str, version: int) -> dict[str, Any]:
    schema = known.history(name)[version - 1]
    return {
        "record": name,
        "version": version,
        "current": version == len(known.history(name)),
        "fingerprint": known.fingerprint(schema).hex(),
        "fields": len(schema["fields"]),
    }


@schemas.command()
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def ls(as_json: bool) -> None:
    """List every version of every record type: its fingerprint as on the wire, and its number of fields.

    \b
    Example:
      tailrace schemas ls --json
    """
    rows = [_row(name, i + 1) for name in known.NAMES for i in range(len(known.history(name)))]
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        old = "" if row["current"] else "  (old)"
        click.echo(
            f"{row['record']:<20} {row['version']:>3}  {row['fingerprint']}  {row['fields']:>3} fields{old}"
        )


@schemas.command()
@click.argument("name", type=click.Choice(known.NAMES))
@click.option("--version", type=click.IntRange(min=1), help="Default: the version written now.")
def show(name: str, version: int | None) -> None:
    """Print the Avro schema of a record type, as JSON.

    \b
    Examples:
      tailrace schemas show TraceEvent
      tailrace schemas show TraceEvent --version 1 > TraceEvent.avsc
    """
    history = known.history(name)
    if version is not None and version > len(history):
        raise click.BadParameter(f"{name} has versions 1 to {len(history)}", param_hint="--version")
    click.echo(json.dumps(history[(version or len(history)) - 1], indent=2, ensure_ascii=False))


@schemas.command()
@click.argument("value", metavar="HEX|FILE")
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
def identify(value: str, as_json: bool) -> None:
    """Print which record type and version a value has.

    HEX: the value's first 10 bytes or more, or the 8 bytes of a fingerprint. FILE: a file with a value.

    Exit status: 0 found; 1 no known schema wrote it, and the message says what it may be; 2 HEX|FILE is
    wrong.

    \b
    Examples:
      tailrace schemas identify c301dc16dffbc25d97c5
      tailrace schemas identify ./value.bin --json
    """
    data = bytes.fromhex(value) if _HEX.fullmatch(value) else _read(value)
    fp = data[len(MARKER) : BODY] if data[:2] == MARKER and len(data) >= BODY else data
    if len(fp) == 8:
        for order, text in ((fp, ""), (fp[::-1], " (its bytes are reversed here)")):
            if order in known.by_fingerprint():
                name, schema = known.by_fingerprint()[order]
                row = _row(name, known.history(name).index(schema) + 1)
                click.echo(json.dumps(row) if as_json else f"{name}, version {row['version']}{text}")
                return
    raise click.ClickException(_unknown(data, fp))


@schemas.command()
@common
@click.option(
    "--dry-run", is_flag=True, help="Only print what would be done, and whether the registry would accept it."
)
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
def register(
    config: str | None,
    bootstrap_servers: str | None,
    assignments: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Register the current schema of TraceEvent for trace.events, as publishers do when they start.

    A missing subject is created, with compatibility FULL_TRANSITIVE.

    Exit status: 0 the schema is registered (with --dry-run: is or can be); 1 the registry refuses it or does
    not answer; 2 options are wrong.

    \b
    Examples:
      tailrace schemas register --set registry.url=http://localhost:8081
      tailrace schemas register --dry-run --json --config production.toml
    """
    settings = settings_from(config, bootstrap_servers, assignments)
    if not settings.registry.url:
        raise ConfigError("registry.url: is not set; for example --set registry.url=http://localhost:8081")
    report = reports.dry_run(settings) if dry_run else reports.register(settings)
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        click.echo(report.text, err=not report.fine)
    sys.exit(0 if report.fine else 1)


@schemas.command()
@common
@click.option(
    "--json", "as_json", is_flag=True, help='Print {"passed": […], "problems": […], "warnings": […]}.'
)
def check(
    config: str | None, bootstrap_servers: str | None, assignments: tuple[str, ...], as_json: bool
) -> None:
    """Check schemas.files and the schema registry.

    Can all schemas found there be read here, and does the registry accept ours?

    Exit status: 0 no problems (there may be warnings); 1 there are problems; 2 options are wrong.

    \b
    Examples:
      tailrace schemas check --set registry.url=http://localhost:8081
      tailrace schemas check --set schemas.files=./theirs.avsc --json
    """
    settings = settings_from(config, bootstrap_servers, assignments)
    found = reports.check(settings)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found)))
    else:
        for text in found.passed:
            click.echo(f"ok: {text}")
        for text in found.problems:
            click.echo(f"needs fixing: {text}", err=True)
        for text in found.warnings:
            click.echo(f"warning: {text}", err=True)
    sys.exit(1 if found.problems else 0)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise click.BadParameter(
            f"{path!r} is neither hex nor a readable file: {e.strerror}", param_hint="HEX|FILE"
        ) from None


def _unknown(data: bytes, fp: bytes) -> str:
    if len(fp) == 8:
        return (
            f"no known schema has the fingerprint {fp.hex()}: "
            "a newer tailrace or another program wrote the value"
        )
    if data[:2] == MARKER:
        return f"{len(data)} bytes are too few: marker and fingerprint are {BODY}"
    if data[:1] == b"\0" and len(data) >= 5:
        return (
            f"starts like a value framed for a schema registry, schema id {int.from_bytes(data[1:5], 'big')}"
        )
    return f"starts with {data[:2].hex() or 'nothing'}, not {MARKER.hex()} (Avro single-object encoding)"
