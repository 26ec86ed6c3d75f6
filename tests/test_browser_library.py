"""`@rivulet/client` as a package: built, and imported without a bundler by a page of another origin in Chromium, which plays four
stems over a WebSocket and over WebRTC. There is no shared memory on that page: the stems go to the worklet as messages.
"""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import test_browser_live as live

playwright, CHROMIUM, server = live.playwright, live.CHROMIUM, live.server
WEB = Path(__file__).parent.parent / "clients" / "web"
NODE = shutil.which("npx")
pytestmark = [
    *live.pytestmark,
    pytest.mark.skipif(
        NODE is None or not (WEB / "node_modules").is_dir(), reason="no Node, or not installed: make web"
    ),
]

WAIT = 60_000  # ms
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio"]
PAGE = """<!doctype html><title>A page of somebody else</title>
<button id="go">Go</button>
<script type="module">
  import { Failure, connect } from "./client/index.js";

  function sound(context, seconds) {
    const buffer = new AudioBuffer({ length: seconds * context.sampleRate, numberOfChannels: 2, sampleRate: context.sampleRate });
    for (const side of [0, 1]) {
      const plane = buffer.getChannelData(side);
      for (let i = 0; i < plane.length; i += 1) {
        const at = i / context.sampleRate;
        const hit = Math.exp(-30 * (at % 0.5)) * (Math.random() - 0.5) * 0.4;
        plane[i] = hit + 0.15 * Math.sin(2 * Math.PI * 55 * at) + 0.1 * Math.sin(2 * Math.PI * 330 * at);
      }
    }
    return buffer;
  }

  window.told = { levels: {}, events: [] };
  window.begin = async (options) => {
    const context = new AudioContext({ sampleRate: 48000 });
    const stream = await connect({ model: "music", context, source: sound(context, options.seconds), ...options });
    window.stream = stream;
    const meter = new AnalyserNode(context);
    stream.output.connect(meter);
    const samples = new Float32Array(meter.fftSize);
    stream.on("progress", () => {
      meter.getFloatTimeDomainData(samples);
      told.loudest = Math.max(told.loudest ?? 0, ...samples);
      for (const stem of stream.stems) told.levels[stem.name] = Math.max(told.levels[stem.name] ?? 0, stem.level);
    });
    for (const name of ["done", "ended"]) stream.on(name, (samples) => told.events.push([name, samples]));
    stream.on("failed", (failure) => told.events.push(["failed", failure.message]));
    return stream.stems.map((stem) => stem.name);
  };
  window.refused = (options) => connect({ model: "music", ...options }).catch((error) =>
    [error instanceof Failure, error.code, error.message, error.advice]);
  document.getElementById("go").addEventListener("click", () => (window.clicked = true));
  window.loaded = true;
</script>
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page and the built package beside it."""
    folder = tmp_path_factory.mktemp("somebody")
    out = str(folder / "client")
    assert NODE is not None
    build = [NODE, "vite", "build", "-c", "lib/vite.config.ts", "--outDir", out, "--emptyOutDir", "--logLevel", "warn"]
    subprocess.run(build, cwd=WEB, check=True, capture_output=True)
    subprocess.run([NODE, "tsc", "-p", "lib", "--outDir", f"{out}/types"], cwd=WEB, check=True, capture_output=True)
    (folder / "index.html").write_text(PAGE)
    return folder


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere(folder: Path) -> Iterator[str]:
    """The page's own server, which knows nothing of Rivulet and sends none of its headers."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def opened(url: str) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(WAIT)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        page.wait_for_function("window.loaded")
        page.get_by_role("button").click()  # without it a context does not run
        yield page
        browser.close()
        assert complaints == []


@pytest.mark.parametrize("transport", ["websocket", "webrtc"])
def test_a_page_of_another_origin_plays_four_stems(elsewhere: str, server: str, transport: str) -> None:
    with opened(elsewhere) as page:
        assert page.evaluate("crossOriginIsolated") is False
        seconds = 4
        options = {"url": f"http://{server}", "transport": transport, "seconds": seconds}
        assert page.evaluate("(options) => begin(options)", options) == ["vocals", "drums", "bass", "other"]
        page.wait_for_function("told.levels.bass > 0.05 && told.levels.drums > 0.02 && told.loudest > 0.1")
        page.wait_for_function("told.events.some(([name]) => name === 'ended' || name === 'failed')")
        events = dict(page.evaluate("told.events"))
        assert "failed" not in events
        assert events["ended"] == events["done"]
        if transport == "websocket":
            assert events["done"] == seconds * 48_000, "samples out == samples in"
            assert page.evaluate("stream.position") == seconds * 48_000
        else:
            assert events["done"] >= seconds * 48_000, (
                "what went up before the song began and after it ended is in it too"
            )
        page.evaluate("stream.close()")


def test_a_refusal_is_a_failure_with_advice(elsewhere: str, server: str) -> None:
    with opened(elsewhere) as page:
        for transport in ("websocket", "webrtc"):
            options = {"url": f"http://{server}", "transport": transport, "model": "none-such", "source": None}
            ask = "(o) => refused({ ...o, source: new AudioBuffer({ length: 4800, sampleRate: 48000 }) })"
            is_failure, code, message, advice = page.evaluate(ask, options)
            assert (is_failure, code) == (True, "unknown_model")
            assert "none-such" in message
            assert "Choose another" in advice


def test_the_package_is_whole(folder: Path) -> None:
    package = json.loads((folder / "client" / "package.json").read_text())
    assert package["name"] == "@rivulet/client"
    for path in (package["main"], package["types"], "README.md"):
        assert (folder / "client" / path).is_file()
    code = (folder / "client" / "index.js").read_text()
    assert "import " not in code.replace("import.meta", ""), "nothing else is needed"
    assert "registerProcessor" in code, "the worklets are inside"
