"""Mouth to ear in a real browser, over WebSocket and over WebRTC, side by side.

    python -m clients.bench.ear --url http://127.0.0.1:8000 --model music --seconds 30 --json out/ear.json

Chromium opens the page's Live mix with a microphone that plays a sound file, and this program listens beside the page:
it records what the microphone gives to Web Audio and what the page gives to the loudspeakers, in one AudioContext, so with
one clock. With all faders up the stems add up to the microphone's sound; how much later they do is found by generalised
cross-correlation (C. Knapp and G. Carter, "The generalized correlation method for estimation of time delay", 1976) of
one window after the other. Everything is in it but the delays of the sound devices, which a headless browser does not have:
capture, the way there, the server's receive buffer, framing, computing, encoding, the way back, the player's jitter buffer.

The transports take turns (`--rounds`), so that what else the machine does weighs on both. Exit code 2 with `--check`: WebRTC's
p95 is more than 120 ms above the WebSocket's.
"""

from __future__ import annotations

import argparse
import base64
import sys
import tempfile
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clients.bench import options, report, sound
from clients.bench.circumstances import circumstances

RATE = 48_000  # of the page's AudioContext
WINDOW, STEP = 2.0, 0.25  # s
LONGEST = 3.0  # s that are looked for
CLEAR, NEAR = 1.5, 0.03  # a peak counts if it is so many times what lies further from it than so many s
TRANSPORTS = ("websocket", "webrtc")
MORE_MS = 120.0  # that WebRTC may take beyond the WebSocket
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage", "--mute-audio",
    "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip

# Runs in the page before its own code: it knows nothing of the page but Web Audio.
LISTEN = """(() => {
  const ear = (window.ear = { outs: new Set(), microphone: null, context: null });
  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (to, ...more) {
    if (to === this.context.destination) { ear.context = this.context; ear.outs.add(this); }
    return connect.call(this, to, ...more);
  };
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => (ear.microphone = await ask(wanted));
  const code = `registerProcessor("ear", class extends AudioWorkletProcessor {
    process(inputs) {
      const planes = inputs.map((input) => input[0]?.slice() ?? new Float32Array(128));
      this.port.postMessage(planes, planes.map((plane) => plane.buffer));
      return true;
    }
  });`;
  ear.start = async () => {
    const { context } = ear;
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
    const mono = { channelCount: 1, channelCountMode: "explicit" };
    const node = new AudioWorkletNode(context, "ear", { numberOfInputs: 2, numberOfOutputs: 0, ...mono });
    const mouth = context.createMediaStreamSource(ear.microphone);
    connect.call(mouth, node, 0, 0);
    for (const out of ear.outs) connect.call(out, node, 0, 1);
    ear.planes = [[], []];
    node.port.onmessage = ({ data }) => data.forEach((plane, i) => ear.planes[i].push(plane));
  };
  ear.stop = () => ear.planes.map((parts) => {
    const bytes = new Uint8Array(parts.length * 512);
    parts.forEach((part, i) => bytes.set(new Uint8Array(part.buffer), i * 512));
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(text);
  });
})();"""


@dataclass(frozen=True)
class Heard:
    """What the microphone gave, and what came out, `[T]` each; and the page's state at the end."""

    mouth: sound.Array
    ear: sound.Array
    state: dict[str, Any]


def delays(mouth: sound.Array, ear: sound.Array, rate: int = RATE) -> tuple[list[float], int]:
    """By how much `ear` is later than `mouth`, in ms, window after window; and how many windows gave no clear answer.

    The cross-spectrum is whitened in part: between plain correlation, which a tone makes ambiguous, and the phase transform,
    which listens to noise where there is no sound. Tracks of a WebRTC session may stand some ms apart: the greatest peak counts.
    """
    window, step, longest, near = (round(seconds * rate) for seconds in (WINDOW, STEP, LONGEST, NEAR))
    size = 1 << (window + longest - 1).bit_length()
    found, unclear = [], 0
    for at in range(0, min(len(mouth), len(ear)) - window - longest, step):
        said, heard = mouth[at : at + window], ear[at : at + window + longest]
        cross = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(said, size))
        likeness = np.abs(np.fft.irfft(cross / (np.abs(cross) + 1e-9) ** 0.8, size)[:longest])
        best = int(np.argmax(likeness))
        rest = np.delete(likeness, slice(max(0, best - near), best + near))
        if likeness[best] > CLEAR * rest.max() and np.abs(said).max() > 1e-3:
            found.append(1000 * best / rate)
        else:
            unclear += 1
    return found, unclear


def summary(values: Sequence[float], unclear: int, declared: float | None) -> dict[str, Any]:
    """Percentiles, ms."""
    at = np.percentile(values, (5, 50, 95)) if values else (np.nan,) * 3
    p5, p50, p95 = (float(value) for value in at)
    most = max(values, default=float("nan"))
    return {"declared_ms": declared, "p5_ms": p5, "p50_ms": p50, "p95_ms": p95, "max_ms": most,
            "windows": len(values), "unclear": unclear}  # fmt: skip


@contextmanager
def opened(url: str, microphone: Path, chromium: str) -> Iterator[Any]:
    """A browser whose microphone plays this file; its page is at the Live mix, and listened to."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={microphone.resolve()}"]
        browser = driver.chromium.launch(executable_path=chromium, headless=True, args=flags)
        try:
            page = browser.new_page()
            page.add_init_script(LISTEN)
            page.goto(url)
            yield page
        finally:
            browser.close()


def heard(page: Any, transport: str, found: argparse.Namespace) -> Heard:
    """One session in the room, as a person would begin it."""
    patience = 1000 * found.timeout
    page.wait_for_selector("#live-model:enabled", timeout=patience)
    page.select_option("#live-model", found.model)
    page.click("label:has(input[name=live-kind][value=line])")
    page.click(f"label:has(input[name=live-transport][value={transport}])")
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_function("rivulet.state().phase === 'playing' && ear.context !== null", timeout=patience)
    page.get_by_role("button", name="Listen", exact=True).click()
    page.wait_for_timeout(1000 * found.warmup)
    page.evaluate("ear.start()")
    page.wait_for_timeout(1000 * (found.seconds + LONGEST))
    texts: list[str] = page.evaluate("ear.stop()")
    state: dict[str, Any] = page.evaluate("rivulet.state()")
    mouth, ear = (np.frombuffer(base64.b64decode(text), "<f4") for text in texts)
    return Heard(mouth, ear, state)


def measured(found: argparse.Namespace, microphone: Path) -> dict[str, Any]:
    """Both transports in turn, each session in a browser of its own."""
    pooled: dict[str, tuple[list[float], int, Any]] = {name: ([], 0, None) for name in TRANSPORTS}
    for _ in range(found.rounds):
        for name in TRANSPORTS:
            with opened(f"{found.url}/#live", microphone, found.chromium) as page:
                one = heard(page, name, found)
            late, unclear = delays(one.mouth, one.ear)
            before, vague, _ = pooled[name]
            pooled[name] = (before + late, vague + unclear, (one.state["declared"] or {}).get("ms"))
    told = {name: summary(*values) for name, values in pooled.items()}
    more = told["webrtc"]["p95_ms"] - told["websocket"]["p95_ms"]
    return {"model": found.model, "seconds": found.seconds, **told, "more_p95_ms": more, **circumstances()}


def table(told: dict[str, Any]) -> str:
    """A line a transport."""
    columns = {"declared": "declared_ms", "p5": "p5_ms", "p50": "p50_ms", "p95": "p95_ms", "max": "max_ms",
               "windows": "windows", "unclear": "unclear"}  # fmt: skip
    rows = [["", *columns]]
    rows += [[name, *(report.cell(told[name].get(key)) for key in columns.values())] for name in TRANSPORTS]
    more = f"mouth to ear, ms, {told['model']}; WebRTC's p95 {told['more_p95_ms']:+.1f} ms against the WebSocket's"
    return f"{report.grid(rows)}\n{more}"


def bursts(seconds: int) -> sound.Array:
    """Noise that comes and goes at random, `[1, T]`: unlike a band's bars it is like itself at no other time."""
    rng = np.random.default_rng(2)
    envelope = np.repeat(rng.random(seconds * 20) ** 4, RATE // 20)
    made: sound.Array = (0.08 * envelope * rng.normal(size=envelope.size)).astype(np.float32)[None]
    return made


def play(path: Path | None, folder: Path) -> Path:
    """The microphone's file: this one, or a synthetic band."""
    if path is not None:
        return path
    made = folder / "microphone.wav"
    pcm = sound.synthetic(60, RATE, 2) + bursts(60)
    with wave.open(str(made), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.rint(np.clip(pcm.T, -1, 1) * 32767).astype("<i2").tobytes())
    return made


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    made = options.browsed(options.parser("ear", __doc__))
    made.set_defaults(url="http://127.0.0.1:8000")
    made.add_argument("--model", default="music")
    made.add_argument("--seconds", type=float, default=20.0, help="of each session that count")
    made.add_argument("--warmup", type=float, default=4.0, help="seconds of it before them that do not")
    made.add_argument("--rounds", type=int, default=1, help="sessions of each transport")
    made.add_argument("--check", action="store_true", help=f"exit 2 if p95 > the WebSocket's + {MORE_MS:g} ms")
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; returns the exit code."""
    found = arguments(argv)
    if not found.chromium:
        print("clients.bench.ear: there is no Chromium on the PATH; install it, or say --chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        told = measured(found, play(found.audio, Path(folder)))
    print(table(told))
    if found.json:
        report.write_json(found.json, told)
    if not all(told[name]["windows"] for name in TRANSPORTS):
        print("clients.bench.ear: the microphone's sound was not found in what came out", file=sys.stderr)
        return 1
    return 2 if found.check and told["more_p95_ms"] > MORE_MS else 0


if __name__ == "__main__":
    sys.exit(main())
