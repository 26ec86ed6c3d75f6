"""Find, fetch and verify model files. No torch: a list of models must cost nothing.

Files are named by their checksum or come with one, and are verified before they get their name: a file that is there is
whole. Two processes may fetch the same file; each writes its own part and the last rename wins.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO
from uuid import uuid4

import httpx

Progress = Callable[[int, int], None]  # bytes done, bytes in all (0: not told)
PIECE = 1 << 20
ATTEMPTS = 3
TIMEOUT = httpx.Timeout(30.0, connect=10.0)  # seconds; of one read, not of the file


_ALLOWING = Lock()  # torch's allow-list is the process's: the first reader to finish would take it from the others


class WeightsError(RuntimeError):
    """Weights that cannot be had or are not what they should be; the text says what to do."""


class _Cut(Exception):
    """The connection ended early: worth another attempt."""


def silent(_done: int, _total: int) -> None:
    """The progress of a caller that wants none."""


def cache(*parts: str) -> Path:
    """Where fetched files live: `RIVULET_CACHE`, or `~/.cache/rivulet`. Not made here."""
    root = os.environ.get("RIVULET_CACHE")
    return (Path(root).expanduser() if root else Path.home() / ".cache" / "rivulet").joinpath(*parts)


def find(file: str, folder: str) -> Path | None:
    """A file in the cache's folder, or where `torch.hub` would have put it (users of Demucs have it there)."""
    torch_home = os.environ.get("TORCH_HOME")
    shared = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch"
    hub = (Path(torch_home).expanduser() if torch_home else shared) / "hub" / "checkpoints"
    return next((path for path in (cache(folder, file), hub / file) if path.is_file()), None)


def sha256(path: Path) -> str:
    """The file's SHA-256, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, expected: str) -> None:
    """Check a file against a SHA-256 or its first digits (at least 8).

    Raises:
        WeightsError: another checksum, naming both; delete the file and fetch it again.
    """
    _wrong(path, sha256(path), _digits(expected))


def unpickle(path: Path, allowed: Sequence[type]) -> Any:
    """What a torch checkpoint holds, read without running anything of it.

    A `.th`, `.pt` or `.bin` is a pickle, and a pickle is a program. Constructed are only tensors, containers, numbers,
    numpy scalars, and the types that are allowed here by name.

    Raises:
        ValueError: it asks for anything else, or is damaged.
    """
    import numpy as np
    import torch

    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    numbers = [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]  # old numpy wrote the older name
    content = io.BytesIO(path.read_bytes())  # what fails from here on is the content's fault
    try:
        with _ALLOWING, torch.serialization.safe_globals([*numbers, *allowed]):
            return torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds; its text advises to run the file, so it is not passed on
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        why = f"it asks for {asked[1]}" if asked else f"damaged or of another format, {type(error).__name__}"
        raise ValueError(f"{path}: refused, nothing of it was run: not a checkpoint of plain tensors ({why})") from None


def fetch(url: str, dest: Path, expected: str, progress: Progress = silent) -> Path:
    """Download a file to `dest`, whole and verified or not at all. A right file that is there already is left alone.

    A connection that is cut is resumed where the server can (HTTP Range), else begun again, `ATTEMPTS` times in all.

    Args:
        url: http or https.
        expected: SHA-256, or at least its first 8 hexadecimal digits.
        progress: called with bytes done and bytes in all; may go back when a download begins again.

    Raises:
        WeightsError: no network, HTTP status, wrong checksum, disk full; the text says which.
    """
    expected = _digits(expected)
    if dest.is_file() and sha256(dest).startswith(expected):
        return dest
    part = dest.with_name(f".{dest.name}.{uuid4().hex}.part")
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb") as file:
                digest = _download(url, file, dest, progress)
            _wrong(dest, digest, expected, url)
            part.replace(dest)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(dest, 0) from error
        raise WeightsError(f"cannot write {dest}: {error.strerror or error}. RIVULET_CACHE moves the cache") from error
    return dest


def _download(url: str, file: BinaryIO, dest: Path, progress: Progress) -> str:
    """The body of `url` into `file`; returns its SHA-256."""
    digest, cause = hashlib.sha256(), ""
    with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
        for _ in range(ATTEMPTS):
            try:
                _attempt(client, url, file, digest.update, dest, progress)
                return digest.hexdigest()
            except _Cut as cut:
                cause = str(cut)
                if not file.tell():  # begun again from nothing: so does the checksum
                    digest = hashlib.sha256()
    raise WeightsError(
        f"cannot fetch {url}: {cause} ({ATTEMPTS} attempts). "
        f"Without network here, download it elsewhere and put it at {dest}"
    )


def _attempt(
    client: httpx.Client, url: str, file: BinaryIO, update: Callable[[bytes], None], dest: Path, progress: Progress
) -> None:
    """One request, from where `file` stands; after a `_Cut` the next one goes on from there."""
    done = file.tell()
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    try:
        with client.stream("GET", url, headers=headers) as reply:
            if done and not (reply.status_code == 206 and _begins(reply) == done):
                file.seek(0)
                file.truncate()
                raise _Cut(f"HTTP {reply.status_code} to a request for the rest of the file")
            if reply.status_code >= 500:
                raise _Cut(f"HTTP {reply.status_code}")
            if not reply.is_success:
                raise WeightsError(f"cannot fetch {url}: HTTP {reply.status_code} {reply.reason_phrase}")
            total = done + int(reply.headers.get("content-length", 0))
            if (free := shutil.disk_usage(dest.parent).free) < total - done:
                raise _full(dest, total - done, free)
            for piece in reply.iter_bytes(PIECE):
                file.write(piece)
                update(piece)
                done += len(piece)
                progress(done, max(total, done) if total else 0)
    except httpx.UnsupportedProtocol as error:
        raise WeightsError(f"cannot fetch {url}: expected http or https") from error
    except httpx.TransportError as error:
        raise _Cut(f"{type(error).__name__}: {error}") from error


def _begins(reply: httpx.Response) -> int:
    found = re.match(r"bytes (\d+)-", reply.headers.get("content-range", ""))
    return int(found[1]) if found else -1


def _digits(expected: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{8,64}", expected.lower()):
        raise ValueError(f"got checksum {expected!r}, expected 8 to 64 hexadecimal digits of a SHA-256")
    return expected.lower()


def _wrong(path: Path, got: str, expected: str, url: str = "") -> None:
    if got[: len(expected)] != expected:
        raise WeightsError(
            f"{url or path}: got SHA-256 {got[: len(expected)]}, expected {expected}. "
            + ("Nothing was kept" if url else "Delete the file and fetch it again")
        )


def _full(dest: Path, needs: int, free: int | None = None) -> WeightsError:
    free = shutil.disk_usage(dest.parent).free if free is None else free
    wanted = f"{dest.name} needs {needs / 1e6:.1f} MB, " if needs else ""
    return WeightsError(f"disk full: {wanted}{dest.parent} has {free / 1e6:.1f} MB. RIVULET_CACHE moves the cache")


@contextmanager
def bar(text: str) -> Iterator[Progress]:
    """A progress bar on standard error, for a command line; begins again with each file."""
    from tqdm import tqdm

    with tqdm(desc=text, unit="B", unit_scale=True, unit_divisor=1024, file=sys.stderr) as line:

        def progress(done: int, total: int) -> None:
            if done < line.n or total != (line.total or 0):
                line.reset(total or None)
            line.update(done - line.n)

        yield progress
