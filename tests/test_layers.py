"""Imports point one way: server -> models -> streaming; the clients import none of ours."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"server", "models", "streaming", "clients"}
MAY = {
    "streaming": {"streaming"},
    "models": {"models", "streaming"},
    "server": OURS - {"clients"},
    "clients": {"clients"},
}
PURE = {"numpy", "streaming", *sys.stdlib_module_names} - {"threading", "asyncio", "socket", "time", "datetime"}


def imports(path: Path) -> set[str]:
    """Top-level names that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def files(folder: str) -> list[Path]:
    return [path for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts]


@pytest.mark.parametrize("folder", sorted(MAY))
def test_imports_point_one_way(folder: str) -> None:
    assert files(folder)
    for path in files(folder):
        assert imports(path) & OURS <= MAY[folder], path


def test_streaming_is_pure_time() -> None:
    for path in files("streaming"):
        assert imports(path) <= PURE | {"__future__"}, path


def test_only_models_import_torch() -> None:
    for path in files("server") + files("streaming") + files("clients"):
        top = {
            alias.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert "torch" not in top, path


def test_importing_streaming_leaves_torch_out() -> None:
    code = "import sys, streaming.pipeline, streaming.binary, streaming.wire; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_no_module_is_named_after_a_dependency() -> None:
    taken = {
        "websockets",
        "torch",
        "numpy",
        "fastapi",
        "uvicorn",
        "demucs",
        "asteroid",
        "aiortc",
        "soundfile",
        "soxr",
        "av",
    }
    assert not {path.stem for folder in MAY for path in files(folder)} & taken
    assert not list((ROOT / "tests").rglob("__init__.py"))
