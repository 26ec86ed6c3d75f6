"""The server that is fuzzed: a process of its own with the toy models, its log, its figures, its memory."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from fuzz.complaints import complaints

HERE = Path(__file__).parent
SETTINGS = {
    "RIVULET_ADMISSION": "count",
    "RIVULET_MAX_SESSIONS": "200",
    "RIVULET_MAX_FILE_SESSIONS": "200",
    "RIVULET_IDLE_TIMEOUT_S": "3",
    "RIVULET_SEND_TIMEOUT_S": "3",
    "RIVULET_RESUME_S": "100000",
    "RIVULET_SECRET": "a secret of the fuzzer, of 32 bytes",
    "RIVULET_LOG_FORMAT": "json",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Target:
    """A running server. `log` is its standard error."""

    port: int
    process: psutil.Process
    log: Path

    def rss(self) -> float:
        """MiB."""
        return float(self.process.memory_info().rss / 2**20)

    def files(self) -> int:
        """Open file descriptors."""
        return int(self.process.num_fds())

    def sessions(self) -> float:
        """Sessions open now, of all models."""
        return sum(float(value) for value in re.findall(r"^rivulet_sessions{.*} (\S+)$", self._metrics(), re.MULTILINE))

    def figure(self, name: str) -> float:
        """One figure, by its name with its labels; 0 while there is none."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self._metrics(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def connections(self) -> int:
        """TCP connections that it holds, this question's left out: none is open while it is asked."""
        return sum(one.status != psutil.CONN_LISTEN for one in self.process.net_connections("tcp"))

    def series(self) -> int:
        """How many figures it keeps."""
        return len(re.findall(r"^rivulet_", self._metrics(), re.MULTILINE))

    def complaints(self) -> list[str]:
        """Errors in the log which nobody expects; of each kind the first."""
        return complaints(self.log.read_text(errors="replace"))

    def _metrics(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=30).text


@contextmanager
def started(folder: Path, port: int = 0, **settings: str) -> Iterator[Target]:
    """A ready server; stopped by SIGTERM, and killed if that does not do. `port` 0: any that is free."""
    port = port or _free()
    log = folder / "server.log"
    with log.open("wb") as file:
        command = [sys.executable, "-X", "dev", str(HERE / "toyserver.py"), "--port", str(port)]
        process = psutil.Popen(command, env={**os.environ, **SETTINGS, **settings}, stdout=file, stderr=file)
        try:
            _wait(port, process)
            yield Target(port, process, log)
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(40)
            except psutil.TimeoutExpired:
                process.kill()
                raise


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int, process: psutil.Process) -> None:
    for _ in range(300):
        assert process.is_running(), "the server has died"
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError("the server is not ready after a minute")
