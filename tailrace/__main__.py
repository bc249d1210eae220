"""`python -m tailrace`: the same as the `tailrace` command.

The current folder is removed from `sys.path` first, so that an application's own `streams/` or
`connectors/` does not shadow the installed packages.
"""

import sys
from pathlib import Path

if sys.path and Path(sys.path[0] or ".").resolve() == Path.cwd().resolve():
    del sys.path[0]

from tailrace.cli import main

main()
