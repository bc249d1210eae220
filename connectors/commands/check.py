"""The sink checks of `tailrace check`: is the configuration valid, and does the sink's own `check` pass."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from connectors.config.instances import Instance, instance, problems
from connectors.delivery.aiohttp_transport import AiohttpTransport
from connectors.sdk import redact
from connectors.sdk.contract import Health
from connectors.sdk.http import NoAnswer
from tailrace.checks import Finding
from tailrace.errors import ConfigError
from tailrace.settings import Settings

SECONDS: Final = 30.0
"""Time limit for one sink's check."""


def findings(settings: Settings, sinks: Sequence[str]) -> Iterator[Finding]:
    """Checks sinks.

    Without names: what is wrong with the configured instances. With names: the result of each
    instance's `check`, which contacts its vendor.

    Raises:
        MissingPackage: a sink needs a package that is not installed.
    """
    if not sinks:
        yield from (Finding(False, text) for text in problems(settings))
        return
    for name in dict.fromkeys(sinks):
        try:
            chosen = instance(settings, name)
            health = asyncio.run(ask(chosen))
        except ConfigError as e:
            yield Finding(False, str(e))
            continue
        detail = redact.clean(redact.masked(health.detail, chosen.secrets))
        if health.ok:
            yield Finding(True, f"sink {name} ({chosen.type}) works" + (f": {detail}" if detail else ""))
        else:
            yield Finding(
                False, f"sink {name} ({chosen.type}): {detail or 'its check failed'}, in [sinks.{name}]"
            )


async def ask(chosen: Instance) -> Health:
    """The result of the sink's `check`. Raises `ConfigError` if its ca_file is wrong."""
    http = AiohttpTransport(chosen.ca_file, chosen.cert_file, chosen.key_file)
    try:
        async with asyncio.timeout(SECONDS):
            return await chosen.sink.check(http)
    except TimeoutError:
        return Health(False, f"no answer within {SECONDS:g} s")
    except NoAnswer as e:
        return Health(False, str(e))
    except Exception as e:  # third-party code
        return Health(False, f"its check raised {redact.where(e)}")
    finally:
        close = getattr(chosen.sink, "close", None)
        if close is not None:
            await close()
        await http.close()
