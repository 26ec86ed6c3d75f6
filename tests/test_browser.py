"""The web page in a real Chromium against a real server: what is asserted is the sound that comes out.

Needs `npm ci && npm run build` in clients/web, Playwright, and Chromium (CHROMIUM, or one on the PATH). With the embedded
models the server is `python -m server serve`; without them it is the stand-in of clients/web/dev, whose stems are bands.
`RIVULET_SCREENSHOT=folder` keeps pictures.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import fftconvolve, lfilter, resample_poly

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent
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


# ---- server, browser, page


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    if not (ROOT / "clients" / "web" / "dist" / "index.html").is_file():
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
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium, or set CHROMIUM")
    with playwright.sync_playwright() as driver:
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=flags)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, site: str, isolated: bool = True) -> Iterator[Any]:
    """The page, loaded; at the end it must not have complained on the console."""
    context = browser.new_context(viewport={"width": 1000, "height": 1000}, permissions=["microphone"])
    page = context.new_page()
    page.set_default_timeout(WAIT)
    complaints: list[str] = []
    page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.add_init_script(TEXT)
    if not isolated:
        page.route(f"{site}/", _without_isolation)
    page.goto(site)
    page.wait_for_function("!document.querySelector('#model').disabled")
    yield page
    context.close()
    assert complaints == []


def _without_isolation(route: Any) -> None:
    """As a host would give it that does not send the two headers."""
    answer = route.fetch()
    headers = {name: value for name, value in answer.headers.items() if not name.startswith("cross-origin")}
    route.fulfill(response=answer, headers=headers)


@pytest.fixture
def page(browser: Any, site: str) -> Iterator[Any]:
    with opened(browser, site) as page:
        yield page


def state(page: Any) -> dict[str, Any]:
    return page.evaluate("rivulet.state()")  # type: ignore[no-any-return]


def until(page: Any, condition: str) -> None:
    page.wait_for_function(f"(() => {{ const s = rivulet.state(); return {condition}; }})()")


def sound_of(texts: list[str]) -> Sound:
    return np.stack([np.frombuffer(base64.b64decode(text), "<f4") for text in texts])


def load(page: Any, path: Path) -> None:
    page.set_input_files("#file", path)
    playwright.expect(page.locator("#status")).to_have_text("Ready. Press Play.")


def button(page: Any, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def picture(page: Any, name: str) -> None:
    if folder := os.environ.get("RIVULET_SCREENSHOT"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def play_through(page: Any, before: str = "") -> tuple[Sound, dict[str, Sound], int]:
    """Play the loaded song once: what was heard, the stems that came, and from which sample of the song it was recorded.

    Paused until all stems are here, so that no slowness of this machine can put a gap into the sound. `before`: the name
    of a button to press while paused.
    """
    page.evaluate("window.kept = rivulet.keep()")
    button(page, "Play").click()
    until(page, "s.phase === 'playing'")
    button(page, "Pause").click()
    until(page, "s.drained && s.player?.phase === 'paused'")
    if before:
        button(page, before).click()
    first = state(page)["position"]
    page.evaluate("rivulet.tap().then((tap) => { window.tap = tap; })")
    page.wait_for_function("!!window.tap")
    button(page, "Play").click()
    until(page, "s.phase === 'ended'")
    heard = page.evaluate("tap.stop().then((r) => { window.tap = null; return [asText(r.left), asText(r.right)]; })")
    kept = page.evaluate("Object.entries(kept.stop()).map(([name, planes]) => [name, planes.map(asText)])")
    return sound_of(heard), {name: sound_of(planes) for name, planes in kept}, first


# ---- tests


def test_loads_in_silence_and_names_everything(page: Any) -> None:
    assert page.evaluate("crossOriginIsolated")
    assert page.locator("#model option").count() >= 3
    for name in ("Microphone", "Play", "Stop", "Listen"):
        assert button(page, name).count() == 1
    nameless = "e => !(e.ariaLabel || e.labels?.length || e.textContent.trim())"
    assert page.evaluate(f"[...document.querySelectorAll('button, input, select')].filter({nameless}).length") == 0
    assert button(page, "Play").is_disabled()
    picture(page, "empty")


@dataclass(frozen=True)
class Take:
    """One playing of the song, cut to where it was recorded: `[2, T]` each."""

    heard: Sound
    stems: dict[str, Sound]
    mixture: Sound
    vocals: Sound  # the true ones


@pytest.fixture(scope="module", params=[True, False], ids=["shared memory", "messages"])
def takes(
    browser: Any, site: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> list[Take]:
    """The song with every fader up, and with the vocals muted."""
    data = ROOT.parent / "shared" / "data"
    vocals, rest = clips(data, 193.8, 200.8) if data.is_dir() else (np.stack([voice(7), voice(7)]), band(7))
    mixture = vocals + rest
    result = []
    with opened(browser, site, isolated=request.param) as page:
        assert page.evaluate("crossOriginIsolated") is request.param
        load(page, write(tmp_path_factory.mktemp("song") / "song.wav", mixture))
        for before in ("", "Mute Vocals"):
            heard, stems, first = play_through(page, before)
            assert {len(stem[0]) for stem in stems.values()} == {mixture.shape[1]}, "samples out == samples in"
            part = slice(first + RATE // 20, mixture.shape[1])  # without the fade after the pause
            stems = {name: stem[:, part] for name, stem in stems.items()}
            audible = np.sum(
                [stem for name, stem in stems.items() if name != before.removeprefix("Mute ").lower()], axis=0
            )
            at = lag(heard, audible)
            heard = heard[:, at : at + audible.shape[1]]
            result.append(Take(heard, stems, mixture[:, part], vocals[:, part]))
        picture(page, "song" if request.param else "song-messages")
    return result


def share(heard: Sound, source: Sound) -> float:
    """How much of `source` is in `heard`: the coefficient of its projection."""
    return float((heard * source).sum() / (source**2).sum())


def test_with_every_fader_up_the_song_is_heard(takes: list[Take]) -> None:
    take = takes[0]
    assert snr(take.heard, np.sum(list(take.stems.values()), axis=0)) > 40
    assert snr(take.heard, take.mixture) > 15, "the stems sum to the song"


def test_a_muted_stem_is_gone_and_the_others_are_untouched(takes: list[Take]) -> None:
    take = takes[1]
    assert snr(take.heard, np.sum([stem for name, stem in take.stems.items() if name != "vocals"], axis=0)) > 40
    gone = share(take.mixture, take.vocals) - share(take.heard, take.vocals)
    assert gone == pytest.approx(share(take.stems["vocals"], take.vocals), abs=0.01), "as much singer as the stem held"


@pytest.mark.skipif(not TRAINED, reason="no trained model for music is embedded")
def test_muting_takes_the_true_singer_away(takes: list[Take]) -> None:
    """The page, the server and the model together: with Vocals muted the true accompaniment is nearer than the song is.

    By how much is the model's affair, and stands in its card; here a model that does not find the voice at all fails.
    """
    up, muted = (snr(take.heard, take.mixture - take.vocals) for take in takes)
    assert muted > up, f"to the accompaniment {up:.1f} dB, and {muted:.1f} dB with vocals muted"


def test_a_long_song_is_read_only_so_far_ahead_and_a_pause_stops_it(page: Any, tmp_path: Path) -> None:
    load(page, write(tmp_path / "long.wav", band(40)))
    button(page, "Play").click()
    until(page, "s.phase === 'playing' && s.position > 0")
    button(page, "Pause").click()
    until(page, "s.player?.phase === 'paused'")
    bound = "s.position + s.declared.samples + 8 * 48000"
    until(page, f"s.sent >= {bound}")
    held = state(page)
    page.wait_for_timeout(1500)
    later = state(page)
    assert (later["sent"], later["position"]) == (held["sent"], held["position"])
    assert page.evaluate(f"(() => {{ const s = rivulet.state(); return s.sent - ({bound}); }})()") < 4096
    button(page, "Play").click()
    until(page, f"s.position > {held['position'] + RATE} && s.sent > {held['sent']}")

    page.locator("#seek").focus()
    page.keyboard.press("End")
    until(page, "s.phase === 'ended'")
    assert state(page)["position"] == 40 * RATE
    page.keyboard.press("Home")
    until(page, "s.position === 0")
    button(page, "Play").click()
    until(page, "s.position > 0")
    button(page, "Stop").click()
    until(page, "s.phase === 'idle' && s.position === 0 && s.sent === 0")


def test_the_keyboard_moves_faders_and_gains_follow(page: Any, tmp_path: Path) -> None:
    load(page, write(tmp_path / "song.wav", band(4)))
    button(page, "Play").click()
    until(page, "s.stems.length === 4")
    button(page, "Pause").click()
    fader = page.get_by_role("slider", name="Drums volume")
    fader.focus()
    page.keyboard.press("ArrowLeft")
    gains = {stem["name"]: stem["gain"] for stem in state(page)["stems"]}
    assert gains == pytest.approx(dict.fromkeys(gains, 1.0) | {"drums": 10 ** (-0.5 / 20)})
    assert fader.get_attribute("aria-valuetext") == "−0.5 dB"
    page.get_by_role("button", name="Solo Bass").press("Enter")
    assert [stem["name"] for stem in state(page)["stems"] if stem["gain"]] == ["bass"]
    assert page.get_by_role("button", name="Solo Bass").get_attribute("aria-pressed") == "true"


def test_a_microphone_becomes_speakers_with_figures(page: Any) -> None:
    if page.locator("#into").is_visible():  # a track a person: test_browser_speakers.py
        page.get_by_role("radio", name="Stems").check()
    button(page, "Microphone").click()
    until(page, "s.phase === 'playing' && s.stems.length >= 2 && s.player?.phase === 'playing'")
    assert page.get_by_role("group", name="Speaker 1").is_visible()
    assert page.get_by_role("group", name="Speaker 2").is_visible()
    assert all(stem["gain"] == 0 for stem in state(page)["stems"]), "silent until asked: loudspeakers feed back"
    playwright.expect(page.locator("#status")).to_contain_text("headphones")

    button(page, "Listen").click()
    page.evaluate("rivulet.tap().then((tap) => { window.tap = tap; })")
    until(page, "s.stems.some((stem) => stem.peak > 0.02)")
    page.wait_for_timeout(3000)
    heard = page.evaluate("tap.stop().then((r) => [asText(r.left), asText(r.right)])")
    assert 20 * np.log10(sound_of(heard).std()) > -50

    until(page, "s.measured.ear > 0")
    now = state(page)
    assert now["told"] <= now["sent"]
    assert now["declared"]["samples"] > 0
    assert 0 < now["measured"]["median"] <= now["measured"]["worst"]
    figures = page.locator("#figures").inner_text()
    for name in ("Promised", "Microphone to stems", "Microphone to ear"):
        assert re.search(rf"{name}\s+\d+(\.\d)? m?s", figures), figures
    picture(page, "microphone")

    button(page, "Pause").click()
    until(page, "s.player?.phase === 'paused'")
    held = state(page)["sent"]
    page.wait_for_timeout(500)
    assert state(page)["sent"] == held
    button(page, "Play").click()
    until(page, f"s.sent > {held + RATE}")
    button(page, "Stop").click()
    until(page, "s.phase === 'idle'")


def test_what_goes_wrong_is_said_with_what_to_do(page: Any, tmp_path: Path) -> None:
    (tmp_path / "letter.mp3").write_bytes(b"Dear browser, this is no music." * 100)
    page.set_input_files("#file", tmp_path / "letter.mp3")
    error = page.get_by_role("alert")
    playwright.expect(error).to_contain_text("cannot decode “letter.mp3”. Try MP3")

    load(page, write(tmp_path / "song.wav", band(2)))
    assert error.is_hidden()
    full = '{"type": "error", "code": "capacity", "message": "all 64 sessions are taken", "fatal": true}'

    def refuse(route: Any) -> None:
        route.on_message(lambda _: (route.send(full), route.close(code=1013)))

    page.route_web_socket("**/v1/stream", refuse)
    button(page, "Play").click()
    playwright.expect(error).to_contain_text("all 64 sessions are taken. The server is full: wait a minute")
    picture(page, "error")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(page: Any, tmp_path: Path, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    load(page, write(tmp_path / "A song with quite a long name (extended version).wav", band(6)))
    button(page, "Play").click()
    until(page, "s.phase === 'ended'" if os.environ.get("RIVULET_SCREENSHOT") else "s.stems.length === 4")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    picture(page, f"phone-{scheme}")
