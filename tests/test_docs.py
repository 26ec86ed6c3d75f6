"""What the documents say is there is there: links, files, symbols, settings; and every command line that they give parses."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import click
import pytest
import typer

ROOT = Path(__file__).parent.parent
LIST = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
LISTED = subprocess.run(LIST, cwd=ROOT, capture_output=True, text=True, check=False).stdout if which("git") else ""
TRACKED = [path for path in LISTED.splitlines() if (ROOT / path).is_file()]
DOCS = [path for path in TRACKED if path.endswith(".md")]
BENCHES = {Path(path).stem for path in TRACKED if path.startswith("clients/bench/")}
SOURCES = (".py", ".ts", ".sh", ".json", ".yaml", ".yml", ".toml", ".md")
OURS = ("streaming", "models", "server", "clients", "rivulet_client")
MADE = ("clients/web/dist", "clients/web/dist-lib")  # by a build
every_document = pytest.mark.parametrize("document", DOCS)
pytestmark = pytest.mark.skipif(not DOCS, reason="not a git checkout: nothing says which files are the project's")


def text(document: str) -> str:
    return (ROOT / document).read_text()


def blocks(document: str) -> list[tuple[str, str]]:
    """Fenced blocks: the language, and what is inside."""
    return re.findall(r"^ *```(\w*)\n(.*?)^ *```", text(document), re.M | re.S)


def spans(document: str) -> list[str]:
    """Code within a sentence, on one line."""
    prose = re.sub(r"^ *```.*?^ *```", "", text(document), flags=re.M | re.S)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).lower()).strip().replace(" ", "-")


@every_document
def test_links_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text(document)):
        if re.match(r"\w+:", target):
            continue
        name, _, part = target.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        assert path.exists(), target
        if part:
            assert part in {anchor(line) for line in re.findall(r"^#+ (.*)$", path.read_text(), re.M)}, target


@every_document
def test_files_that_are_named_are_there(document: str) -> None:
    """A path from the root, or the end of one; `{a,b}` and `*` are not followed."""
    folders = {path.partition("/")[0] for path in TRACKED if "/" in path}
    here = str(Path(document).parent)
    for span in spans(document):
        if not re.fullmatch(r"[\w./-]+", span) or span.startswith((".", "/")):
            continue
        if span.endswith((".py", ".ts")) or (span.partition("/")[0] in folders and span.endswith(SOURCES)):
            assert any(f"/{path}".endswith(f"/{span}") for path in TRACKED), span
        elif span.partition("/")[0] in folders and "/" in span:
            assert any(path.startswith((span, f"{here}/{span}")) for path in (*TRACKED, *MADE)), span


@every_document
def test_symbols_that_are_named_are_there(document: str) -> None:
    for span in spans(document):
        if re.fullmatch(rf"({'|'.join(OURS)})(\.\w+)+(\(\))?", span):
            resolve(span.removesuffix("()"))


@every_document
def test_python_in_documents_is_python_and_imports_what_is_there(document: str) -> None:
    for language, block in blocks(document):
        if language == "python":
            tree = compile(block, document, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in OURS:
                    for alias in node.names:
                        resolve(f"{node.module}.{alias.name}")


def resolve(name: str) -> Any:
    """The module or what is in it, as `import` and attributes find it."""
    parts = name.split(".")
    found: Any = importlib.import_module(parts[0])
    for n, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            importlib.import_module(".".join(parts[:n]))
        found = getattr(found, part)
    return found


@every_document
def test_settings_that_are_named_are_there(document: str) -> None:
    from server.config import Settings

    code = "".join(text(path) for path in TRACKED if path.endswith((".py", ".sh", "Makefile", ".yaml")))
    for name in set(re.findall(r"\bRIVULET_[A-Z0-9_]+[A-Z0-9]\b", text(document))):
        assert name.removeprefix("RIVULET_").lower() in Settings.model_fields or name in code, name


@every_document
def test_figures_that_are_named_are_there(document: str) -> None:
    metrics = text("server/metrics.py")
    for name in re.findall(r"`rivulet_([a-z_]+)[{`]", text(document)):
        assert name == "client" or f'"{name.removesuffix("_total")}"' in metrics, name


def commands(document: str) -> Iterator[list[str]]:
    """The words of every command line of ours, in blocks and in sentences; without environment, redirection and remarks."""
    lines = [line for _, block in blocks(document) for line in block.replace("\\\n", " ").splitlines()]
    for line in (*lines, *spans(document)):
        line = re.split(r" +# | >+ | \| | && ", line.strip())[0]
        line = re.sub(r"^(\w+=(\S*'[^']*'|\S+) +)*(\.venv/bin/)?", "", line)
        if re.match(r"(rivulet|make|pytest|npm run) |python (-m (clients|models)\.|tests/).*[^.]$", line):
            yield shlex.split(line.removesuffix(" ..."))
        elif line.partition(" ")[0] in BENCHES and " --" in line:  # of a table whose heading has the rest
            yield ["python", "-m", f"clients.bench.{line.partition(' ')[0]}", *shlex.split(line)[1:]]


@every_document
def test_commands_parse(document: str, monkeypatch: pytest.MonkeyPatch) -> None:
    absent: list[str] = []
    for words in commands(document):
        match words:
            case ["rivulet", *rest] if rest:
                rivulet(rest)
            case ["make", verb, *more]:
                assert re.search(rf"^([\w ]+ )?{verb}( [\w ]+)?:", text("Makefile"), re.M), words
                for option in (one.partition("=")[2] for one in more if one.startswith("OPTIONS=")):
                    absent += program([f"clients.bench.{verb}", *shlex.split(option)], monkeypatch)
            case ["pytest", *rest]:
                assert all((ROOT / word).exists() for word in rest if word.startswith("tests/")), words
            case ["npm", "run", script, *_]:
                assert script in json.loads(text("clients/web/package.json"))["scripts"], words
            case ["python", "-m", *rest] | ["python", *rest]:
                absent += program(rest, monkeypatch)
    if absent:
        pytest.skip(f"all that can be asked here parse; not installed: {', '.join(absent)}")


def rivulet(words: list[str]) -> None:
    """Click reads the whole line and runs nothing."""
    from server.cli import app

    command: Any = typer.main.get_command(app)
    context = None
    while words and hasattr(command, "get_command"):
        name, *words = words
        found = command.get_command(context or click.Context(command), name)
        assert found, f"rivulet has no command {name}"
        command = found
    for option in (word.partition("=")[0] for word in words if word.startswith("-") and len(word) > 1):
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        assert option in known, f"{command.name} has no {option}"


class Parsed(Exception):
    """What a program is stopped with."""


def program(words: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A module's or a file's own parser reads the whole line: types, choices, what must be given; then it goes no further.

    Returns the package that it needs and that is not here, if there is one.
    """
    real = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, *given: Any) -> None:
        real(self, *given)
        raise Parsed

    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a module that was imported before
        patch.setattr(sys, "argv", words)
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        try:
            with pytest.raises(Parsed):
                if (path := ROOT / words[0]).is_file():
                    patch.syspath_prepend(str(path.parent))
                    runpy.run_path(str(path), run_name="__main__")
                else:
                    runpy.run_module(words[0], run_name="__main__")
        except ModuleNotFoundError as missing:
            if (missing.name or "").partition(".")[0] in OURS:
                raise
            return [missing.name or ""]
    return []
