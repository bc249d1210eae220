"""Compiles the record path with mypyc: the same sources, two to three times as fast.

    python tools/compiling.py                  beside the sources, for a checkout (`make compile`)
    python tools/compiling.py --remove         plain Python again (`make pure`)

Without a C compiler everything runs as plain Python. A wheel that is built with a C compiler contains
the compiled modules (tools/hatch_build.py). MYPYC_OPT_LEVEL is the C compiler's -O, 2 unless set.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
GROUP: Final = "tailrace"
"""All modules form one library, `tailrace__mypyc`, so that they call each other directly."""
SUFFIX: Final = sysconfig.get_config_var("EXT_SUFFIX") or ".so"

MODULES: Final = (
    "tailrace/codec/record_builder.py",
    "tailrace/codec/varint.py",
    "tailrace/codec/table_decoder.py",
    "tailrace/ids.py",
    "tailrace/partitioner.py",
    "tailrace/plain_data.py",
    "tailrace/roll_ups.py",
    "tailrace/token_classes.py",
    "streams/processing/admission.py",
    "streams/processing/apply.py",
    "streams/processing/avro.py",
    "streams/processing/context.py",
    "streams/processing/correlate.py",
    "streams/processing/dedupe.py",
    "streams/processing/enrich.py",
    "streams/processing/header.py",
    "streams/processing/header_fields.py",
    "streams/processing/links.py",
    "streams/processing/money.py",
    "streams/processing/operations.py",
    "streams/processing/starts.py",
    "streams/processing/state.py",
    "streams/processing/summary.py",
    "streams/processing/tenants.py",
    "streams/processing/trace.py",
    "streams/processing/metrics/group_state.py",
    "streams/processing/metrics/distribution.py",
    "streams/processing/metrics/grouping.py",
    "streams/processing/metrics/definitions.py",
    "streams/processing/metrics/aggregator.py",
    "streams/processing/metrics/series.py",
    "connectors/filters/record_filter.py",
    "connectors/delivery/batching.py",
    "connectors/consumer/dispatch.py",
    "connectors/consumer/partition.py",
    "connectors/filters/content.py",
    "connectors/consumer/offset_tracker.py",
    "connectors/consumer/reader.py",
    "connectors/mapping/attributes.py",
    "connectors/mapping/changes.py",
    "connectors/mapping/costs.py",
    "connectors/mapping/evaluations.py",
    "connectors/mapping/members.py",
    "connectors/mapping/ratings.py",
    "connectors/mapping/rows.py",
    "connectors/mapping/values.py",
    "connectors/otlp/as_json.py",
    "connectors/otlp/memo.py",
    "connectors/otlp/wire.py",
    "connectors/sinks/alibaba/mapping.py",
    "connectors/sinks/alibaba/metadata.py",
    "connectors/sinks/langfuse/mapping.py",
    "connectors/sinks/langfuse/metadata.py",
    "connectors/sinks/langfuse/scores.py",
    "connectors/sinks/langfuse/values.py",
    "connectors/sinks/opik/ids.py",
    "connectors/sinks/opik/mapping.py",
    "connectors/sinks/opik/metadata.py",
    "connectors/sinks/opik/scores.py",
    "connectors/sinks/opik/values.py",
    "connectors/sinks/otlp/mapping.py",
    "connectors/sinks/weave/agents.py",
    "connectors/sinks/weave/mapping.py",
    "connectors/sinks/weave/metadata.py",
    "connectors/sinks/weave/scores.py",
    "connectors/sinks/weave/values.py",
)
"""Modules that run for each record.

They must not define a msgspec.Struct or an Enum: mypyc miscompiles those.
"""


def compiled(root: Path) -> list[Path]:
    """The existing libraries, of any Python version."""
    found = [p for m in MODULES for p in (root / m).parent.glob(f"{Path(m).stem}.*.so")]
    return [*found, *root.glob(f"{GROUP}__mypyc.*.so")]


def stale(root: Path) -> list[str]:
    """Modules whose source is newer than their library."""
    return [
        str(source.relative_to(root))
        for source in (root / m for m in MODULES)
        if (library := source.with_name(source.stem + SUFFIX)).exists()
        and source.stat().st_mtime > library.stat().st_mtime
    ]


def _side_by_side(compiler: Any) -> None:
    """Makes setuptools compile the files of a library in parallel, one per core."""

    def compile_all(
        sources: list[str],
        output_dir: str | None = None,
        macros: Any = None,
        include_dirs: Any = None,
        debug: bool = False,
        extra_preargs: Any = None,
        extra_postargs: Any = None,
        depends: Any = None,
    ) -> list[str]:
        _, objects, extra, options, build = compiler._setup_compile(
            output_dir, macros, include_dirs, sources, depends, extra_postargs
        )
        arguments = compiler._get_cc_args(options, debug, extra_preargs)

        def one(made: str) -> None:
            source, suffix = build[made]
            compiler._compile(made, source, suffix, arguments, extra, options)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(one, (o for o in objects if o in build)))
        return list(objects)

    compiler.compile = compile_all


def compile_to(target: Path, work: Path) -> None:
    """Builds the libraries below `target`, at the modules' places.

    Raises what mypyc and the C compiler raise.
    """
    from mypyc.build import mypycify
    from setuptools import Distribution

    before = Path.cwd()
    os.chdir(ROOT)  # mypy looks for modules and its settings here
    try:
        libraries = mypycify(
            ["--ignore-missing-imports", "--no-warn-unused-ignores", *MODULES],
            opt_level=os.environ.get("MYPYC_OPT_LEVEL", "2"),
            debug_level="0",
            multi_file=True,
            group_name=GROUP,
            target_dir=str(work / "c"),
        )
        build = Distribution({"name": GROUP, "ext_modules": libraries}).get_command_obj("build_ext")
        build.build_lib, build.build_temp = str(work / "lib"), str(work / "temp")
        build.ensure_finalized()
        make = build.build_extensions

        def with_all_cores() -> None:
            _side_by_side(build.compiler)
            make()

        build.build_extensions = with_all_cores
        build.run()
    finally:
        os.chdir(before)
    for made in (work / "lib").rglob("*.so"):
        place = target / made.relative_to(work / "lib")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made, place)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--remove", action="store_true", help="remove the compiled modules")
    parser.add_argument("--required", action="store_true", help="fail if it cannot be compiled")
    args = parser.parse_args()
    for library in compiled(ROOT):
        library.unlink()
    if args.remove:
        return 0
    try:
        with tempfile.TemporaryDirectory() as work:
            compile_to(ROOT, Path(work))
    except BaseException as e:  # mypyc raises SystemExit, the C compiler errors of setuptools
        if isinstance(e, KeyboardInterrupt) or args.required:
            raise
        print(f"not compiled; running as plain Python: {type(e).__name__}: {e}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
