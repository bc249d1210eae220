"""`python -m tailrace`: the current folder is taken off the path, so that an application's own streams/ or
connectors/ there does not shadow ours."""

import sys
from pathlib import Path

if sys.path and Path(sys.path[0] or ".").resolve() == Path.cwd().resolve():
    del sys.path[0]

from tailrace.cli import main

main()
