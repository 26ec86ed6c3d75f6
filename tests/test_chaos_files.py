"""Disks that are full and checkpoints that are damaged: a clear word, nothing half-written, and everybody else is served."""

from __future__ import annotations

import functools
import hashlib
import http.server
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
import serving
from checkpoints_convtasnet import tiny_checkpoint
from checkpoints_demucs import tiny_repo
from faults import END

from models import registry
from models.weights import WeightsError

ROOT = Path(__file__).parent.parent
SIZE = 3 << 20
LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"
FETCH = """
import sys
from pathlib import Path
from models import weights
try:
    weights.fetch(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
except weights.WeightsError as error:
    sys.exit(f"WeightsError: {error}")
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Where 3 MiB can be had, and their SHA-256."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "weights.th").write_bytes(body := bytes(range(256)) * (SIZE // 256))
    handler = functools.partial(Quiet, directory=str(tmp_path / "shop"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/weights.th", hashlib.sha256(body).hexdigest()
        server.shutdown()
        thread.join()


def test_a_file_larger_than_may_be_written_is_told_and_leaves_nothing(address: tuple[str, str], tmp_path: Path) -> None:
    """The write itself fails, in the middle, as on a quota that nobody can ask for beforehand."""
    dest = tmp_path / "cache" / "weights.th"
    command = [sys.executable, "-c", LIMITED + FETCH, address[0], str(dest), address[1]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert f"WeightsError: cannot write {dest}: File too large. RIVULET_CACHE moves the cache" in done.stderr
    assert not list(dest.parent.iterdir())


@pytest.mark.parametrize("told", [True, False])
def test_a_disk_of_one_mebibyte_is_told_and_leaves_nothing(
    address: tuple[str, str], tmp_path: Path, told: bool
) -> None:
    """A file system that is really full. `told`: its space can be asked for; else the write is tried, and fails."""
    unshare = shutil.which("unshare")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=1m tmpfs {disk}"
    if not unshare or subprocess.run([unshare, "-rm", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    fetch = FETCH if told else FETCH.replace("try:", "weights.shutil.disk_usage = lambda _: (0, 0, 1 << 40)\ntry:")
    fetch = fetch.replace("(0, 0, 1 << 40)", "type('Usage', (), {'free': 1 << 40})")
    script = f'{mount} && {{ "$0" "$@"; echo exit $?; ls -A {disk}/cache; }}'
    dest = disk / "cache" / "weights.th"
    command = [unshare, "-rm", "sh", "-c", script, sys.executable, "-c", fetch, address[0], str(dest), address[1]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "WeightsError: disk full" in done.stderr
    assert "RIVULET_CACHE moves the cache" in done.stderr
    assert done.stdout.splitlines() == ["exit 1"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    """A byte of the head of the file: its directory, where the format has one."""
    data = bytearray(path.read_bytes())
    data[20] ^= 0xFF
    path.write_bytes(data)


def embedded(folder: Path) -> tuple[Path, Path]:
    shutil.copytree(registry.EMBEDDED / "speech", folder / "mine")
    return folder / "mine", folder / "mine" / "model.safetensors"


def demucs(folder: Path) -> tuple[Path, Path]:
    return tiny_repo(folder / "repo"), next((folder / "repo").glob("*.th"))


def asteroid(folder: Path) -> tuple[Path, Path]:
    path = tiny_checkpoint(folder / "tiny.pth")
    return path, path


MAKERS = (embedded, demucs, asteroid)
# A pickle in a zip is read from its end: what its head holds does not matter.
DAMAGED = [
    (make, damage) for make in MAKERS for damage in (cut, emptied, flipped) if (make, damage) != (asteroid, flipped)
]


@pytest.mark.parametrize(("make", "damage"), DAMAGED)
def test_a_damaged_checkpoint_is_refused_by_name(
    make: Callable[[Path], tuple[Path, Path]], damage: Callable[[Path], None], tmp_path: Path
) -> None:
    path, file = make(tmp_path)
    damage(file)
    with pytest.raises((ValueError, WeightsError), match=re.escape(file.name)):
        registry.from_path("mine", path)


@pytest.mark.parametrize("make", MAKERS)
def test_whoever_starts_a_server_with_one_is_told_in_a_line(
    make: Callable[[Path], tuple[Path, Path]], tmp_path: Path
) -> None:
    path, file = make(tmp_path)
    cut(file)
    command = [sys.executable, "-m", "server", "serve", "--port", "0", "--model", f"mine={path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2, done.stderr[-500:]
    assert file.name in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_checkpoint_that_is_damaged_while_the_server_runs_harms_nobody_else(tmp_path: Path) -> None:
    """Read when it is first asked for, as a bag's files are: its session is refused, all others are served."""
    repo = tiny_repo(tmp_path, bag=True)
    models = serving.toy_registry() | {"mine": registry.from_path("mine", repo)}
    cut(max(repo.glob("*.th")))
    with serving.running(models) as host:
        for _ in range(2):
            first = serving.start("mine", rate=44_100, channels=2)
            _, texts, code = await serving.converse(host, first, [END])
            assert (texts[-1]["code"], code) == ("model_unavailable", 4503)
            assert str(tmp_path) not in texts[-1]["message"]
        stems, _, code = await serving.converse(host, serving.start("toy-split"), [bytes(6400), END])
        assert (stems is not None and stems.shape[2], code) == (1600, 1000)
