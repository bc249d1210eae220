"""`make vendors`: installs the environments of all judges that are missing."""

from __future__ import annotations

from tests.vendor.judges import interpreter, judged

if __name__ == "__main__":
    for vendor in judged():
        print(f"{vendor}: {interpreter(vendor)}", flush=True)
