"""Real servers that take what the sinks send, and from which it is read back.

`make backends` builds or installs them into ~/.cache/tailrace/backends, without Docker; `make test-backends`
runs the tests, which fail if a server is not there. Nothing of this is in CI.

- The OpenTelemetry Collector, built from its modules with an OTLP receiver and a file exporter (Go).
- Jaeger, built from its module, with its store in memory (Go).
- Weave's server in memory: the last release of the package `weave` that contains it, behind a small web
  application (`weave_application.py`, which runs in an environment of its own).

`build.py` is `make backends`. `collector.py`, `jaeger.py` and `weave.py` start a server, on 127.0.0.1 and a
port below 32768, and read back what it holds.
"""
