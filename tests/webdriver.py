"""WebKitGTK's MiniBrowser on a screen that nobody sees, driven over WebDriver (https://www.w3.org/TR/webdriver2/)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

WEBKIT = shutil.which("WebKitWebDriver") and shutil.which("Xvfb")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver, section 12
SCRIPT = """const done = arguments[0];
(async () => JSON.stringify(await (%s)) ?? "null")().then(done, (error) => done({ error: String(error) }));"""


class Page:
    """One window. `complaints`: errors that nobody caught since the page was loaded."""

    def __init__(self, driver: str) -> None:
        self._client = httpx.Client(base_url=f"{driver}/session", timeout=120)
        self.version: str = ""
        started = self._ask("POST", "", capabilities={"alwaysMatch": {}})
        self.version = started["capabilities"]["browserVersion"]
        self._client.base_url = f"{driver}/session/{started['sessionId']}"

    def _ask(self, method: str, path: str, **body: Any) -> Any:
        """The value. Raises RuntimeError with the driver's words."""
        answer = self._client.request(method, path, json=body if method == "POST" else None).json()["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(f"{path}: {answer['error']}: {answer['message']}")
        return answer

    @property
    def complaints(self) -> list[str]:
        return self.evaluate("window.complaints ?? []")  # type: ignore[no-any-return]

    def goto(self, url: str) -> None:
        self._ask("POST", "/url", url=url)
        self.run(
            "window.complaints = [];"
            "addEventListener('error', (event) => complaints.push(event.message));"
            "addEventListener('unhandledrejection', (event) => complaints.push(String(event.reason)));"
        )

    def run(self, script: str) -> Any:
        return self._ask("POST", "/execute/sync", script=script, args=[])

    def evaluate(self, expression: str) -> Any:
        """What it comes to, awaited, as JSON."""
        said = self._ask("POST", "/execute/async", script=SCRIPT % expression, args=[])
        if not isinstance(said, str):
            raise RuntimeError(said["error"])
        return json.loads(said)

    def _element(self, expression: str) -> str:
        return str(self.run(f"return {expression}")[ELEMENT])

    def click(self, element: str) -> None:
        self._ask("POST", f"/element/{self._element(element)}/click")

    def choose(self, element: str, path: Path) -> None:
        self._ask("POST", f"/element/{self._element(element)}/value", text=str(path))

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._ask("GET", "/screenshot")))

    def wait_for_timeout(self, milliseconds: float) -> None:
        time.sleep(milliseconds / 1000)

    def close(self) -> None:
        self._ask("DELETE", "")
        self._client.close()


@contextmanager
def webkit(environment: Mapping[str, str]) -> Iterator[Page]:
    read, write = os.pipe()
    screen = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1200x1100x24", "-nolisten", "tcp"],
        pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    running = [screen]
    try:
        with os.fdopen(read) as told:
            display = f":{told.readline().strip()}"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        surroundings = {**os.environ, **environment, "DISPLAY": display}
        running.append(subprocess.Popen(
            ["WebKitWebDriver", f"--port={port}"], env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ))  # fmt: skip
        _listening(port)
        page = Page(f"http://127.0.0.1:{port}")
        try:
            yield page
        finally:
            page.close()
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(30)


def _listening(port: int) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("WebKitWebDriver does not answer")
