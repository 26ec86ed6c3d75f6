"""A stock Firefox, headless, driven over WebDriver BiDi (https://w3c.github.io/webdriver-bidi/): no driver program in between."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
PREFERENCES = {
    "media.navigator.permission.disabled": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,  # no mDNS here
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}


class Page:
    """One tab. What the page says on the console as a warning or an error, and what it does not catch, are `complaints`."""

    def __init__(self, socket: ClientConnection) -> None:
        self.complaints: list[str] = []
        self._socket = socket
        self._asked = 0
        self.command("session.new", capabilities={})
        self.command("session.subscribe", events=["log.entryAdded"])
        self._tab = self.command("browsingContext.getTree")["contexts"][0]["context"]
        self.command("browsingContext.setViewport", context=self._tab, viewport={"width": 1200, "height": 1100})

    def command(self, method: str, **params: Any) -> Any:
        """The result. Raises RuntimeError with the browser's words."""
        self._asked += 1
        self._socket.send(json.dumps({"id": self._asked, "method": method, "params": params}))
        while True:
            said = json.loads(self._socket.recv(timeout=120))
            if said["type"] == "event":
                self._heard(said["params"])
            elif said["id"] == self._asked and said["type"] == "error":
                raise RuntimeError(f"{method}: {said['error']}: {said['message']}")
            elif said["id"] == self._asked:
                return said["result"]

    def _heard(self, entry: dict[str, Any]) -> None:
        if entry["level"] in ("warn", "error"):
            self.complaints.append(str(entry["text"]))

    def before(self, script: str) -> None:
        """Runs in every document, before its own."""
        self.command("script.addPreloadScript", functionDeclaration=f"() => {{ {script} }}")

    def goto(self, url: str) -> None:
        self.command("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """What it comes to, awaited, as JSON."""
        said = self._evaluate(f"(async () => JSON.stringify(await ({expression})) ?? 'null')()")
        return json.loads(said["value"])

    def _evaluate(self, expression: str) -> Any:
        result = self.command(
            "script.evaluate", expression=expression, target={"context": self._tab}, awaitPromise=True
        )
        if result["type"] == "exception":
            raise RuntimeError(result["exceptionDetails"]["text"])
        return result["result"]

    def _shared(self, element: str) -> dict[str, str]:
        found = self._evaluate(
            f"(() => {{ const e = {element}; e.scrollIntoView({{ block: 'center' }}); return e; }})()"
        )
        return {"sharedId": found["sharedId"]}

    def click(self, element: str) -> None:
        move = {"type": "pointerMove", "x": 0, "y": 0, "origin": {"type": "element", "element": self._shared(element)}}
        acts = [move, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        mouse = {"type": "pointer", "id": "mouse", "actions": acts}
        self.command("input.performActions", context=self._tab, actions=[mouse])

    def choose(self, element: str, path: Path) -> None:
        self.command("input.setFiles", context=self._tab, element=self._shared(element), files=[str(path)])

    def picture(self, path: Path) -> None:
        taken = self.command("browsingContext.captureScreenshot", context=self._tab, origin="document")
        path.write_bytes(base64.b64decode(taken["data"]))

    def wait_for_timeout(self, milliseconds: float) -> None:
        time.sleep(milliseconds / 1000)


@contextmanager
def firefox(profile: Path, environment: Mapping[str, str]) -> Iterator[Page]:
    """`profile`: an empty folder."""
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()]
    (profile / "user.js").write_text("".join(lines))
    command = [str(FIREFOX), "--headless", "--no-remote", "--remote-debugging-port=0", "--profile", str(profile)]
    said = profile / "said.txt"
    with said.open("wb") as log:
        surroundings = {**os.environ, **environment}
        process = subprocess.Popen(command, env=surroundings, stderr=log, stdout=subprocess.DEVNULL)
    try:
        while (found := re.search(r"BiDi listening on (ws://\S+)", said.read_text())) is None:
            assert process.poll() is None, said.read_text()
            time.sleep(0.1)
        with connect(f"{found[1]}/session", max_size=None, ping_interval=None, compression=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait(30)
