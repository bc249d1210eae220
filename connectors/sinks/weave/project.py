"""Makes a project in W&B with Weave's own package, in a process of its own.

The package keeps its login, its project and its error reports in globals of the process, and writes to the
terminal: so it is never imported in a connector.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

SECONDS: Final = 25.0
"""Longest time that it may take; a check may take 30 s."""
_CODE: Final = "import os, sys, weave; weave.init('/'.join(sys.argv[1:])); sys.stdout.flush(); os._exit(0)"
"""What that process runs. It ends at once, because the package's threads would wait for its vendor."""
_KEPT: Final = (
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "NO_PROXY",
    "PATH",
    "PYTHONPATH",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "TMPDIR",
    "VIRTUAL_ENV",
)
"""Variables of this process that the other one has as well. It has none of the settings of other sinks."""


def installed() -> bool:
    """Whether Weave's package is there (the extra `weave`)."""
    return find_spec("weave") is not None


def environment(key: str, host: str, trace_url: str, own: Mapping[str, str]) -> dict[str, str]:
    """The variables of the process that makes the project.

    Args:
        key: The API key; only here, so that it is in no list of processes.
        host: Base URL of W&B's API.
        trace_url: Base URL of Weave's.
        own: The variables of this process.
    """
    found = {name: own[name] for name in _KEPT if name in own}
    return found | {
        "WANDB_API_KEY": key,
        "WANDB_BASE_URL": host,
        "WF_TRACE_SERVER_URL": trace_url,
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
    }


async def make(entity: str, project: str, variables: Mapping[str, str], seconds: float = SECONDS) -> str:
    """Makes the project if it does not exist.

    Args:
        entity: The entity that owns it.
        project: Its name.
        variables: `environment(…)`.
        seconds: Longest time that it may take.

    Returns:
        Empty if the project exists now; else the last lines that the package wrote, which may hold secrets.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-c",
        _CODE,
        entity,
        project,
        env=dict(variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(child.communicate(), seconds)
    except TimeoutError:
        said = f"it took more than {seconds:g} s".encode()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode == 0:
        return ""
    return said[-2000:].decode("utf-8", "replace").strip() or f"exit code {child.returncode}"
