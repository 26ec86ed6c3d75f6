"""What the tests of the page share: a server with the page, Chromium with a fake microphone, and sounds to play.

The page is the one that `RIVULET_PAGE` names, or clients/web/dist (`npm ci && npm run build` in clients/web). With the
embedded models the server is `python -m server serve`; without them it is the stand-in of clients/web/dev, whose stems
are bands. `RIVULET_SCREENSHOT=folder` keeps pictures.
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import fftconvolve, lfilter, resample_poly

ROOT = Path(__file__).parent.parent
PAGE = Path(os.environ.get("RIVULET_PAGE") or ROOT / "clients" / "web" / "dist")
RATE = 48_000
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
TRAINED = (ROOT / "models" / "embedded" / "music" / "model.safetensors").is_file()
REAL = TRAINED and (ROOT / "models" / "embedded" / "speech" / "model.safetensors").is_file()
WAIT = 120_000  # ms; two busy cores, a model to load, and a browser
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage", "--mute-audio",
    "--disable-features=LocalNetworkAccessChecks",  # of a page that a test changes on its way
    "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
]  # fmt: skip

# Planes to text and back: a list of half a million numbers takes the browser's driver a minute.
TEXT = """window.asText = (plane) => {
  const bytes = new Uint8Array(plane.buffer, plane.byteOffset, plane.byteLength);
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
};"""


# ---- what is heard

Sound = np.ndarray[Any, np.dtype[np.float32]]


def voice(seconds: float, rate: int = RATE, pitch: float = 180.0) -> Sound:
    """Pulses with vibrato through three formants, in syllables: enough of a singer for a page."""
    at = np.arange(int(seconds * rate)) / rate
    phase = np.cumsum(pitch * (1 + 0.02 * np.sin(2 * np.pi * 5.5 * at)) / rate)
    sound = np.diff(np.floor(phase), prepend=0.0)
    for formant, width in ((700, 80), (1220, 90), (2600, 120)):
        radius = np.exp(-np.pi * width / rate)
        sound = lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * formant / rate), radius**2], sound)
    sound *= np.clip(np.sin(2 * np.pi * 1.5 * at), 0, None)
    return np.asarray(0.2 * sound / np.abs(sound).max(), np.float32)


def band(seconds: float) -> Sound:
    """`[2, T]`: noise bursts, a low tone, a chord."""
    at = np.arange(int(seconds * RATE)) / RATE
    rng = np.random.default_rng(5)
    drums = rng.standard_normal(at.size) * np.exp(-30 * (at % 0.5)) * 0.15
    bass = 0.12 * np.sin(2 * np.pi * 55 * at)
    chord = sum(0.03 * np.sin(2 * np.pi * f * at) for f in (261.6, 329.6, 392.0))
    return np.asarray(np.stack((drums + bass + chord, 0.8 * drums + bass + 1.1 * chord)), np.float32)


def clips(data: Path, low: float, high: float) -> tuple[Sound, Sound]:
    """From a real song that no model has learned: vocals and accompaniment, `[2, T]`, rebuilt from its stems."""
    import soundfile

    vocals, rest = np.zeros((2, 2, int((high - low) * RATE)), np.float32)
    for path in sorted((data / "music" / "eif" / "caesium").glob("*/*.ogg")):
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
        sound = resample_poly(sound, 160, 147 * rate // 44_100, axis=0).T
        first = round((float(path.stem.split("__")[1][:-1]) - low) * RATE)
        head, tail = max(0, first), min(vocals.shape[1], first + sound.shape[1])
        if head < tail:
            (vocals if path.parent.name == "vocals" else rest)[:, head:tail] += sound[:, head - first : tail - first]
    return vocals, rest


def write(path: Path, sound: Sound, rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(sound.shape[0])
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.rint(sound.T * 32767).astype("<i2").tobytes())
    return path


def lag(heard: Sound, said: Sound) -> int:
    """Where in `heard` the beginning of `said` lies, by cross-correlation of the left channels."""
    likeness = fftconvolve(heard[0], said[0, ::-1])
    return int(np.argmax(likeness) - (said.shape[1] - 1))


def snr(got: Sound, expected: Sound) -> float:
    """dB, 200 for equal."""
    return float(10 * np.log10((expected**2).sum() / max(((got - expected) ** 2).sum(), 1e-20 * (expected**2).sum())))


def steepest(sound: Sound) -> float:
    """The largest step from one sample to the next."""
    return float(np.abs(np.diff(sound)).max())


# ---- server, browser, page


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    if not (PAGE / "index.html").is_file():
        pytest.skip("the page is not built: npm ci && npm run build in clients/web")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    peer = ["-m", "server", "serve", "--port", port] if REAL else ["clients/web/dev/peer.py", port]
    process = subprocess.Popen([sys.executable, *peer], cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1800):
            assert process.poll() is None, f"{' '.join(peer)} ended with {process.returncode}"
            try:
                with urllib.request.urlopen(f"{url}/{'readyz' if REAL else ''}", timeout=5):
                    break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wav that Chromium plays into its fake microphone, again and again: two voices in turn."""
    sounds = [voice(3, pitch=110), voice(3, pitch=230)]
    return write(tmp_path_factory.mktemp("microphone") / "voices.wav", np.concatenate(sounds)[None] * 2)


@pytest.fixture(scope="module")
def browser(microphone: Path) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium, or set CHROMIUM")
    with playwright.sync_playwright() as driver:
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=flags)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, site: str, isolated: bool = True, room: str = "karaoke") -> Iterator[Any]:
    """A room of the page, loaded; at the end it must not have complained on the console."""
    context = browser.new_context(viewport={"width": 1200, "height": 1100}, permissions=["microphone"])
    page = context.new_page()
    page.set_default_timeout(WAIT)
    complaints: list[str] = []
    page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.add_init_script(TEXT)
    if not isolated:
        page.route(f"{site}/", _without_isolation)
    enter(page, site, room)
    yield page
    context.close()
    assert complaints == []


def enter(page: Any, site: str, room: str) -> None:
    """Go there, and wait until the room is open and knows the models."""
    page.goto(f"{site}/#{room}")
    page.wait_for_function(
        f"window.rivulet?.state().room === '{room}' && document.querySelector('#room').childElementCount"
    )
    if room == "karaoke":
        page.wait_for_function("!document.querySelector('#model').disabled")


def _without_isolation(route: Any) -> None:
    """As a host would give it that does not send the two headers."""
    answer = route.fetch()
    headers = {name: value for name, value in answer.headers.items() if not name.startswith("cross-origin")}
    route.fulfill(response=answer, headers=headers)


def state(page: Any) -> dict[str, Any]:
    return page.evaluate("rivulet.state()")  # type: ignore[no-any-return]


def until(page: Any, condition: str) -> None:
    page.wait_for_function(f"(() => {{ const s = rivulet.state(); return {condition}; }})()")


def sound_of(texts: list[str]) -> Sound:
    return np.stack([np.frombuffer(base64.b64decode(text), "<f4") for text in texts])


def button(page: Any, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def picture(page: Any, name: str) -> None:
    if folder := os.environ.get("RIVULET_SCREENSHOT"):
        # As high as the page: in a picture of the whole of it the bar at the foot would lie across the room.
        height = page.evaluate("document.body.scrollHeight")
        page.set_viewport_size({"width": page.viewport_size["width"], "height": height})
        page.screenshot(path=Path(folder) / f"{name}.png")


def tap(page: Any) -> None:
    """Record what is heard from now on. Something must have been played before."""
    page.evaluate("rivulet.tap().then((tap) => { window.tap = tap; })")
    page.wait_for_function("!!window.tap")


def tapped(page: Any) -> Sound:
    """What has been heard since `tap`, `[2, T]`."""
    heard = page.evaluate("tap.stop().then((r) => { window.tap = null; return [asText(r.left), asText(r.right)]; })")
    return sound_of(heard)
