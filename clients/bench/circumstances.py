"""What figures depend on beside the server: written into every JSON."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def circumstances() -> dict[str, Any]:
    """The client's packages and machine."""
    packages = {name: _version(name) for name in ("rivulet-client", "websockets", "numpy")}
    return {
        "packages": {"python": platform.python_version(), **packages},
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count(), "load_1min": os.getloadavg()[0]},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
