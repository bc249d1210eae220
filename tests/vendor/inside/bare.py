"""Imports a vendor's models without the rest of its package and the dependencies of that."""

from __future__ import annotations

import importlib.util
import sys
import types


def bare(package: str) -> None:
    """Makes the modules of a package importable without running the package's `__init__`.

    That imports the whole SDK: of Opik with another vendor's client for models, which alone is 170 MB. The
    modules are the vendor's own, unchanged. Nothing happens if the package was imported before.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    if package in sys.modules:
        return
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"no package {package}", name=package)
    module = types.ModuleType(package)
    module.__spec__, module.__path__ = spec, list(spec.submodule_search_locations)
    sys.modules[package] = module
