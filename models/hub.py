"""Names of the model hub, found in this machine's cache of it. Nothing is ever downloaded here."""

from __future__ import annotations

import re
from pathlib import Path


def is_name(source: str | Path) -> bool:
    """Whether this reads as `owner/model`."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(source)) is not None


def folder(source: str | Path) -> Path:
    """The folder of a model: a path as it is, or a hub name's newest revision in the cache.

    Raises:
        FileNotFoundError: neither, saying what was expected and how to get it.
    """
    path = Path(source)
    if path.exists():
        return path
    if not is_name(source):
        raise FileNotFoundError(f"{source}: no such file or folder, and not a hub name (owner/model)")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        raise FileNotFoundError(
            f"{source}: names of the hub need huggingface_hub (pip install huggingface_hub); or give a folder's path"
        ) from None
    try:
        return Path(snapshot_download(str(source), local_files_only=True))
    except LocalEntryNotFoundError:
        raise FileNotFoundError(
            f"{source}: no such folder, and not in this machine's hub cache. Nothing is downloaded here: run "
            f"`hf download {source}` first, or give the path of a folder"
        ) from None


def licence(path: Path) -> str:
    """As the model card in a folder says in its head, or `unknown`."""
    card = path / "README.md"
    text = card.read_text("utf-8", "replace")[:10_000] if card.is_file() else ""
    head = text.split("\n---", 1)[0] if text.startswith("---") else ""
    found = re.search(r"^licen[sc]e: *[\"']?([\w.+-]+)", head, re.MULTILINE)
    return found[1] if found else "unknown"
