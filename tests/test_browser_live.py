"""The live mix room in a real Chromium with a fake line input, over a WebSocket and over WebRTC: asserted is what is heard.

The input is a loop, so that what is expected of every stem is known from one run of the model in this process, and any whole
period of what was heard can be compared with it, whenever it began.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import serving
import soundfile

from models import registry
from server import files, offline

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
ROOT = Path(__file__).parent.parent
PAGE = Path(os.environ.get("RIVULET_PAGE", ROOT / "clients" / "web" / "dist"))
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium, or set CHROMIUM"
    ),
    pytest.mark.skipif(not (PAGE / "index.html").is_file(), reason="the page is not built: make web"),
    pytest.mark.skipif(
        not (registry.EMBEDDED / "music" / "model.safetensors").is_file(), reason="no model is embedded"
    ),
]

RATE = 48_000
PERIOD = 3 * RATE  # samples of the loop
WAIT = 90_000  # ms: busy cores, and a browser
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage", "--mute-audio",
    "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
]  # fmt: skip
TRANSPORTS = ["websocket", "webrtc"]
Sound = np.ndarray[Any, np.dtype[np.float32]]

# Planes to text and back: a list of half a million numbers takes the browser's driver a minute.
TEXT = """window.asText = (plane) => {
  const bytes = new Uint8Array(plane.buffer, plane.byteOffset, plane.byteLength);
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
};
window.record = async (seconds) => {
  const tap = await rivulet.tap();
  await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  const { left, right } = await tap.stop();
  return [asText(left), asText(right)];
};"""


def band() -> Sound:
    """`[2, T]`, a whole period: drums, a bass line, a chord, and a hummed tone with vibrato."""
    at = np.arange(PERIOD) / RATE
    rng = np.random.default_rng(5)
    drums = rng.standard_normal(at.size) * np.exp(-25 * (at % 0.5)) * 0.2
    bass = 0.15 * np.sin(2 * np.pi * 55 * at) + 0.05 * np.sin(2 * np.pi * 110 * at)
    chord = sum(0.04 * np.sin(2 * np.pi * f * at) for f in (262.0, 330.0, 392.0))
    hum = sum(0.05 / k * np.sin(2 * np.pi * 220 * k * at + 0.4 * k * np.sin(2 * np.pi * 5 * at)) for k in range(1, 12))
    return np.asarray(np.stack((drums + bass + chord + hum, 0.8 * drums + bass + 1.1 * chord + hum)), np.float32)


def tone() -> Sound:
    """`[2, T]`: 440 Hz, of which the loop holds whole turns, so that a step in what is heard is a step of the mixer."""
    wave = 0.25 * np.sin(2 * np.pi * 440 * np.arange(PERIOD) / RATE)
    return np.asarray(np.stack((wave, wave)), np.float32)


def write(path: Path, sound: Sound) -> Path:
    soundfile.write(path, sound.T, RATE, subtype="PCM_16")
    return path


shared: list[
    str
] = []  # the server of all modules that have this fixture: each of them makes a fixture of its own of it


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    if shared:
        yield shared[0]
        return
    environment = {"RIVULET_PRELOAD": '["music"]', "RIVULET_PAGE": str(PAGE), "RIVULET_ORIGINS": '["*"]'}
    with serving.process(**environment) as (host, _):
        shared.append(host)
        yield host
        shared.clear()


@contextmanager
def chromium(wav: Path) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={wav}"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=flags)
        yield browser
        browser.close()


@contextmanager
def room(browser: Any, host: str, width: int = 1000, script: str = "") -> Iterator[Any]:
    """The room, with the models to choose from; at the end it must not have complained on the console."""
    context = browser.new_context(viewport={"width": width, "height": 1000}, permissions=["microphone"])
    page = context.new_page()
    page.set_default_timeout(WAIT)
    complaints: list[str] = []
    page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.add_init_script(TEXT + script)
    page.goto(f"http://{host}/#live")
    page.wait_for_function("!document.querySelector('#live-model')?.disabled")
    yield page
    context.close()
    assert complaints == []


def state(page: Any) -> dict[str, Any]:
    return page.evaluate("rivulet.state()")  # type: ignore[no-any-return]


def until(page: Any, condition: str) -> None:
    page.wait_for_function(f"(() => {{ const s = rivulet.state(); return {condition}; }})()")


def button(page: Any, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def start(page: Any, transport: str) -> None:
    """A session that is heard; its first seconds, in which jitter buffers and cushions settle, are over."""
    if transport == "webrtc":
        page.get_by_role("radio", name="WebRTC").check()
    button(page, "Start").click()
    until(page, "s.phase === 'playing' && s.stems.length === 4")
    button(page, "Listen").click()
    until(page, f"s.position > {2 * PERIOD}")


def sound_of(texts: list[str]) -> Sound:
    return np.stack([np.frombuffer(base64.b64decode(text), "<f4") for text in texts])


def picture(page: Any, name: str) -> None:
    if folder := os.environ.get("RIVULET_SCREENSHOT"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


# ---- what every stem holds

EDGES = [40, 90, 180, 350, 700, 1400, 2800, 5600]


def bands(sound: Sound) -> Sound:
    """dB in each octave of one period that repeats: then it does not matter where it is cut."""
    spectrum = np.abs(np.fft.rfft(sound[:PERIOD])) ** 2
    hertz = np.fft.rfftfreq(PERIOD, 1 / RATE)
    power = [spectrum[(hertz >= low) & (hertz < high)].sum() for low, high in pairwise(EDGES)]
    return np.asarray(10 * np.log10(np.array(power) / PERIOD**2 + 1e-15), np.float32)


def coded(sound: Sound) -> Sound:
    """As Opus leaves it at the bitrate that the page asks for."""
    kept = io.BytesIO()
    with av.open(kept, "w", format="ogg") as out:
        stream = out.add_stream("libopus", rate=RATE, layout="stereo")
        stream.bit_rate = 192_000
        pieces = av.AudioFifo()
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.T).reshape(1, -1), "flt", "stereo")
        frame.sample_rate = RATE
        pieces.write(frame)
        while (piece := pieces.read(960)) is not None:
            piece.sample_rate, piece.pts = RATE, None
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    kept.seek(0)
    with av.open(kept) as back:
        return np.concatenate([one.to_ndarray() for one in back.decode(audio=0)], axis=1)[:, : sound.shape[1]]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Sound]]:
    """By transport: the third period of every stem, by the model in this process, of the input as it arrives: what lies
    20 dB under the vocals (the bass, let through) is 3 dB less once Opus has been there."""
    folder, loops = tmp_path_factory.mktemp("loop"), np.tile(band(), 3)

    async def run(path: Path) -> dict[str, Sound]:
        separator = registry.build()["music"].load(None)
        parts = [part async for part in offline.separate(files.read(str(path)), separator)]
        return {name: np.concatenate([part[name] for part in parts], axis=1)[:, -PERIOD:] for name in parts[0]}

    heard = {"websocket": loops, "webrtc": coded(loops)}
    return {name: asyncio.run(run(write(folder / f"{name}.wav", sound))) for name, sound in heard.items()}


def distance(got: Sound, wanted: Sound) -> float:
    """dB, the most in any octave that carries what is wanted: within 25 dB of its strongest."""
    heard, reference = bands(got), bands(wanted)
    carrying = reference > reference.max() - 25
    return float(np.abs(heard - reference)[carrying].max())


def check(got: Sound, name: str, side: int, expected: dict[str, Sound]) -> None:
    """It is that stem: near to what is expected of it, and far from what is expected of the others."""
    far = {other: distance(got, stem[side]) for other, stem in expected.items()}
    assert far[name] < 3, far
    assert min(value for other, value in far.items() if other != name) > 2 * far[name], far


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_stem_holds_what_the_model_makes_of_the_input(
    server: str, tmp_path: Path, expected: dict[str, dict[str, Sound]], transport: str
) -> None:
    """Two stems at a time: one hard left, one hard right. Over a WebSocket the samples that came are compared too."""
    with chromium(write(tmp_path / "band.wav", band())) as browser, room(browser, server) as page:
        start(page, transport)
        for names in (("Vocals", "Drums"), ("Bass", "Other")):
            page.evaluate("window.kept = rivulet.keep()")
            heard = pair(page, names)
            kept = page.evaluate("Object.entries(kept.stop()).map(([n, p]) => [n, p.map(asText)])")
            for side, name in enumerate(names):
                check(heard[side], name.lower(), side, expected[transport])
            for name, planes in kept if transport == "websocket" else []:
                check(sound_of(planes)[0], name, 0, expected[transport])
        told = state(page)
        assert told["failure"] is None
        assert told["transport"] == transport
        picture(page, f"live-{transport}")
        button(page, "Stop").click()
        until(page, "s.phase === 'idle'")


def pair(page: Any, names: tuple[str, str]) -> Sound:
    """`[2, T]`, a period: one stem on the left, the other on the right."""
    for name, pan in zip(names, ("-1", "1"), strict=True):
        page.get_by_role("button", name=f"Solo {name}").click()
        page.get_by_role("slider", name=f"{name} pan").fill(pan)
    heard = undisturbed(page, f"record({PERIOD / RATE + 0.3})")
    for name in names:
        page.get_by_role("button", name=f"Solo {name}").click()
    return heard[:, -PERIOD:]


TRIES = 8


def undisturbed(page: Any, recording: str) -> Sound:
    """What was recorded while nothing ran dry, was made up or stretched: else it says nothing of what is tested."""
    for _ in range(TRIES):
        before = dropouts(page)
        heard = sound_of(page.evaluate(recording))
        page.wait_for_timeout(400)  # the browser's figures are that old
        if dropouts(page) == before:
            return heard
    raise AssertionError(
        f"sound was made up or left out in each of {TRIES} recordings, the last time {before} became {dropouts(page)}: "
        f"this machine is too busy to play (load {os.getloadavg()[0]:.1f}); run this file on its own"
    )


def dropouts(page: Any) -> Any:
    """What a busy machine does to the sound, and no mixer can help."""
    told = state(page)
    if told["player"]:
        return told["player"]["underruns"], told["player"]["skipped"]
    return told["network"]["concealed"], told["network"]["stretched"]


# ---- how soon a knob acts

MARK = 15_000  # Hz: no stem of this model reaches it
SEQUENCE = """async (loudest) => {
  const stream = rivulet.stream();
  const context = stream.context;
  const right = new ChannelMergerNode(context, { numberOfInputs: 2 });
  right.connect(stream.output);
  const after = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  const tap = await rivulet.tap();
  const sorted = stream.stems.toSorted((a, b) => b.level - a.level);
  const [heard, other] = [sorted.slice(0, loudest), sorted.at(-1)];
  for (const stem of stream.stems) stem.gain = heard.includes(stem) ? 1 : 0;
  const turn = async (stems, change) => {  // and a mark of 20 ms on the right, as soon as the page can make one
    const tone = new OscillatorNode(context, { frequency: 15000 });
    tone.connect(new GainNode(context, { gain: 0.2 })).connect(right, 0, 1);
    tone.start();
    tone.stop(context.currentTime + 0.02);
    for (const stem of stems) Object.assign(stem, change);
    await after(0.4);
  };
  await after(0.5);
  await turn(heard, { muted: true });
  await turn(heard, { muted: false });
  await turn(heard, { gain: 0.25 });
  await turn(heard, { gain: 1 });
  await turn([other], { solo: true });
  await turn([other], { solo: false });
  const { left, right: marks } = await tap.stop();
  right.disconnect();
  return [asText(left), asText(marks)];
}"""


def marks(right: Sound) -> list[int]:
    """The first samples of the bursts: where the upper band comes up after a silence of its own."""
    taps = np.cos(2 * np.pi * MARK / RATE * np.arange(96)) * np.hanning(96)
    quadrature = np.sin(2 * np.pi * MARK / RATE * np.arange(96)) * np.hanning(96)
    loud = np.hypot(np.convolve(right, taps), np.convolve(right, quadrature)) > 2
    rises = np.flatnonzero(loud[1:] & ~loud[:-1])
    return [int(at) - 48 for i, at in enumerate(rises) if i == 0 or at - rises[i - 1] > RATE // 10]


def level(left: Sound, at: int) -> float:
    """The amplitude of the tone in 10 ms from `at` on: 4.4 turns of it."""
    part = left[at : at + 480] * np.hanning(480)
    return float(np.abs(part @ np.exp(-2j * np.pi * 440 / RATE * np.arange(at, at + 480))) / 120)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_mute_solo_and_gains_act_within_50_ms_and_without_a_click(server: str, tmp_path: Path, transport: str) -> None:
    """Over the WebSocket three stems together, which are nearly all of the tone, steadily. Over WebRTC they are some samples
    apart for moments, and their sum says nothing of a gain: one alone, to which the model gives now more, now less of it."""
    loudest, wanders = (3, 0.05) if transport == "websocket" else (1, 0.2)
    with chromium(write(tmp_path / "tone.wav", tone())) as browser, room(browser, server) as page:
        start(page, transport)
        left, right = undisturbed(page, f"({SEQUENCE})({loudest})")
        button(page, "Stop").click()
        until(page, "s.phase === 'idle'")
    places = marks(right)
    assert len(places) == 6
    full = level(left, places[0] - RATE // 10)
    assert full > 0.1, "the tone is heard"
    for at, wanted in zip(places, (0, 1, 0.25, 1, 0, 1), strict=True):
        now = level(left, at + 2400) / full
        assert now == pytest.approx(wanted, rel=wanders, abs=0.05), "50 ms after the knob was turned"
    # The tone's own steepest step, and that of a gain which goes from one to nothing (a ramp of 10 ms over the WebSocket, an
    # exponential of 2.5 ms over WebRTC), at twice what they come to together. A cut of the tone would be a step of `full`.
    own, ramp = 2 * np.pi * 440 / RATE, 1 / 480 if transport == "websocket" else 1 / 120
    steps = np.abs(np.diff(left[places[0] - 2400 : places[-1] + 4800]))
    assert steps.max() < 2 * full * (own + ramp) < 0.25 * full


def test_it_is_quiet_until_somebody_listens_and_says_what_it_knows(server: str, tmp_path: Path) -> None:
    with chromium(write(tmp_path / "band.wav", band())) as browser, room(browser, server) as page:
        button(page, "Start").click()
        until(page, "s.phase === 'playing' && s.position > 0")
        told = page.locator("#live-status")
        playwright.expect(told).to_contain_text("put on headphones, then press Listen")
        assert np.abs(sound_of(page.evaluate("record(0.5)"))).max() == 0
        until(page, "s.measured.ear > 0")
        now = state(page)
        assert now["declared"]["ms"] == now["vital"]["declared"]
        assert now["vital"]["ear"] > now["vital"]["measured"] > 0
        button(page, "Pause").click()
        until(page, "s.player.phase === 'paused'")
        held = state(page)["sent"]
        page.wait_for_timeout(500)
        assert state(page)["sent"] == held, "paused: nothing is heard by the server"
        button(page, "Go on").click()
        until(page, f"s.sent > {held}")
        page.get_by_role("link", name="Karaoke").click()
        page.wait_for_function("rivulet.state().room === 'karaoke'")
        page.wait_for_function("fetch('/v1/capacity').then((a) => a.json()).then((c) => c.sessions === 0)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_has_a_name_and_a_phone_needs_no_sideways_scrolling(
    server: str, tmp_path: Path, scheme: str
) -> None:
    with chromium(write(tmp_path / "band.wav", band())) as browser, room(browser, server, 360) as page:
        page.emulate_media(color_scheme=scheme)
        button(page, "Start").click()
        until(page, "s.stems.length === 4")
        page.locator("#live-obs summary").click()
        nameless = "e => !(e.ariaLabel || e.labels?.length || e.textContent.trim())"
        assert page.evaluate(f"[...document.querySelectorAll('button, input, select')].filter({nameless}).length") == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.get_by_role("slider", name="Drums pan").press("ArrowLeft")
        page.get_by_role("button", name="Mute Bass").press("Enter")
        stems = {stem["name"]: stem for stem in state(page)["stems"]}
        assert stems["drums"]["pan"] == pytest.approx(-0.05)
        assert [stems["bass"]["gain"], stems["other"]["gain"]] == [0, 1]
        address = page.get_by_label("WHIP address", exact=True).input_value()
        assert address.startswith(f"http://{server}/whip?model=music&name=")
        assert page.get_by_label("Drums: WHEP address").first.input_value().endswith("?stem=drums")
        picture(page, f"live-phone-{scheme}")


def test_what_goes_wrong_is_said_with_what_to_do(server: str, tmp_path: Path) -> None:
    full = '{"error": {"code": "capacity", "message": "all 64 sessions are taken"}}'
    with chromium(write(tmp_path / "band.wav", band())) as browser:
        context = browser.new_context(permissions=["microphone"])
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.add_init_script("delete MediaDevices.prototype.getDisplayMedia")
        page.goto(f"http://{server}/#live")
        page.wait_for_function("!document.querySelector('#live-model')?.disabled")
        error = page.get_by_role("alert")
        page.get_by_role("radio", name="Tab or system sound").check()
        button(page, "Start").click()
        playwright.expect(error).to_contain_text("cannot hand over the sound of a tab. Use Chrome or Edge")
        page.get_by_role("radio", name="Microphone").check()
        page.get_by_role("radio", name="WebRTC").check()
        taken = {"status": 503, "content_type": "application/json", "body": full}
        page.route(
            "**/v1/rtc", lambda route: route.fulfill(**taken) if route.request.method == "POST" else route.continue_()
        )
        button(page, "Start").click()
        playwright.expect(error).to_contain_text("all 64 sessions are taken. Wait a minute and try again, or choose")
        assert state(page)["phase"] == "idle"
        context.close()
