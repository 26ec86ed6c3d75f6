"""Fetching over a real socket: what arrives whole and right is kept, all else leaves nothing behind."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from models import weights
from models.weights import WeightsError, fetch

BODY = bytes(range(256)) * 20_000  # 5.1 MB, several pieces
SHA = hashlib.sha256(BODY).hexdigest()
CUT = 3 << 20


class Handler(BaseHTTPRequestHandler):
    """`/good`, `/missing`, `/down`, `/unsized`; `/cut*` end early: `-once` then resume, `-plain` knows no Range."""

    log: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.log.append((self.path, asked))
        first = sum(path == self.path for path, _ in self.log) == 1
        if self.path == "/missing":
            return self.send_error(404)
        if self.path == "/down":
            return self.send_error(503)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/good")
            return self.end_headers()
        start = int(asked[6:-1]) if asked and self.path in ("/cut-once", "/cut-lying") else 0
        self.send_response(206 if start else 200)
        if start:
            told = start + (7 if self.path == "/cut-lying" else 0)
            self.send_header("Content-Range", f"bytes {told}-{len(BODY) - 1}/{len(BODY)}")
        if self.path != "/unsized":
            self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        ends = self.path.startswith("/cut") and (first or self.path == "/cut-always")
        self.wfile.write(BODY[start : CUT if ends else None])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    log: list[tuple[str, str | None]] = []
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Handler,), {"log": log}))
    thread = Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}", log
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def nothing_left(folder: Path) -> bool:
    return not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize("path", ["/good", "/moved", "/unsized", "/cut-once", "/cut-plain", "/cut-lying"])
@pytest.mark.parametrize("digits", [8, 64])
def test_arrives_whole(server, tmp_path, path, digits):
    steps: list[tuple[int, int]] = []
    dest = tmp_path / "new" / "file.th"
    found = fetch(server[0] + path, dest, SHA[:digits].upper(), lambda done, total: steps.append((done, total)))
    assert found == dest
    assert dest.read_bytes() == BODY
    assert list(dest.parent.iterdir()) == [dest]
    assert steps[-1] == (len(BODY), 0 if path == "/unsized" else len(BODY))
    assert len(steps) > 3


def test_a_cut_connection_is_resumed(server, tmp_path):
    fetch(server[0] + "/cut-once", tmp_path / "f", SHA)
    (_, first), (_, second) = server[1]
    assert first is None
    assert second is not None
    assert 0 < int(second[6:-1]) <= CUT


def test_a_right_file_is_left_alone_and_a_wrong_one_replaced(server, tmp_path):
    dest = tmp_path / "f"
    dest.write_bytes(BODY)
    fetch(server[0] + "/good", dest, SHA)
    assert server[1] == []
    dest.write_bytes(b"damaged")
    fetch(server[0] + "/good", dest, SHA)
    assert dest.read_bytes() == BODY


@pytest.mark.parametrize(
    ("path", "expected", "text"),
    [
        ("/good", "0123abcd", f"got SHA-256 {SHA[:8]}, expected 0123abcd"),
        ("/missing", SHA, "HTTP 404"),
        ("/down", SHA, r"HTTP 503 \(3 attempts\)"),
        ("/cut-always", SHA, "3 attempts.*put it at"),
    ],
)
def test_failures_are_named_and_leave_nothing(server, tmp_path, path, expected, text):
    with pytest.raises(WeightsError, match=text):
        fetch(server[0] + path, tmp_path / "new" / "f", expected)
    assert nothing_left(tmp_path / "new")


def test_a_failure_keeps_the_file_that_was_there(server, tmp_path):
    dest = tmp_path / "f"
    dest.write_bytes(b"old")
    with pytest.raises(WeightsError):
        fetch(server[0] + "/missing", dest, SHA)
    assert dest.read_bytes() == b"old"


def test_no_network(tmp_path):
    with pytest.raises(WeightsError, match=r"ConnectError.*download it elsewhere"):
        fetch("http://127.0.0.1:9/f", tmp_path / "f", SHA)
    with pytest.raises(WeightsError, match="expected http or https"):
        fetch("file:///etc/passwd", tmp_path / "f", SHA)
    assert nothing_left(tmp_path)


def test_checksums_that_are_none(tmp_path):
    for expected in ("", "0123abc", "../../etc", "g" * 8, SHA + "0"):
        with pytest.raises(ValueError, match="hexadecimal"):
            fetch("http://127.0.0.1:9/f", tmp_path / "f", expected)


def test_disk_full(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(WeightsError, match=r"disk full: f needs 5\.1 MB, .* has 0\.0 MB"):
        fetch(server[0] + "/good", tmp_path / "f", SHA)

    def write(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weights, "_download", write)
    with pytest.raises(WeightsError, match="disk full"):
        fetch(server[0] + "/good", tmp_path / "f", SHA)
    assert nothing_left(tmp_path)


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"cannot write.*RIVULET_CACHE"):
        fetch(server[0] + "/good", tmp_path / "plain" / "f", SHA)


def test_two_processes_at_once(server, tmp_path):
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        found = pool.starmap(fetch, [(server[0] + "/good", tmp_path / "f", SHA)] * 4)
    assert found == [tmp_path / "f"] * 4
    assert (tmp_path / "f").read_bytes() == BODY
    assert list(tmp_path.iterdir()) == [tmp_path / "f"]


def test_verify(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(BODY)
    assert weights.sha256(path) == SHA
    weights.verify(path, SHA[:8])
    with pytest.raises(WeightsError, match=f"f: got SHA-256 {SHA[:8]}, expected 01234567"):
        weights.verify(path, "01234567")


def test_where_files_are(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("RIVULET_CACHE", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert weights.cache("demucs", "f") == tmp_path / ".cache" / "rivulet" / "demucs" / "f"
    assert weights.find("f", "demucs") is None
    hub = tmp_path / ".cache" / "torch" / "hub" / "checkpoints" / "f"
    hub.parent.mkdir(parents=True)
    hub.touch()
    assert weights.find("f", "demucs") == hub
    monkeypatch.setenv("RIVULET_CACHE", str(tmp_path / "mine"))
    mine = weights.cache("demucs", "f")
    mine.parent.mkdir(parents=True)
    mine.touch()
    assert weights.find("f", "demucs") == mine == tmp_path / "mine" / "demucs" / "f"


def test_bar(capsys):
    with weights.bar("f") as progress:
        for done, total in ((0, 0), (5, 10), (10, 10), (3, 20), (20, 20), (7, 0)):
            progress(done, total)
    assert "f" in capsys.readouterr().err
