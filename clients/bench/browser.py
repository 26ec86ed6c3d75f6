"""Whether the page plays many stems for long without a dropout, and without a drift between them or against the clock.

    python -m clients.bench.browser --url http://127.0.0.1:8000 --model music --seconds 600 --json out/browser.json

Chromium opens the page's Live mix over a WebSocket. Three clocks are compared: the samples that were played, the time of the
AudioContext that plays them, and what the microphone gave. How far two stems are apart is measured at the loudspeakers: one
hard left, one hard right, at the beginning and at the end, by cross-correlation; a model whose stems are unlike needs none of
that, and gets none. Exit code 2 with `--check`: a dropout, or more than 5 ms of drift.
"""

from __future__ import annotations

import argparse
import base64
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clients.bench import options, report
from clients.bench.circumstances import circumstances
from clients.bench.ear import opened, play

RATE = 48_000  # of the page's AudioContext
MOST_MS = 5.0
PART = 2000  # ms that are recorded, to compare two stems
RECORD = """(ms) => rivulet.tap().then((tap) => new Promise((resolve) => setTimeout(resolve, ms)).then(() => tap.stop()))
  .then(({ left, right }) => [left, right].map((plane) => {
    const bytes = new Uint8Array(plane.buffer);
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(text);
  }))"""


def apart(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any], most: int = RATE // 10) -> int | None:
    """By how many samples the right one is late, within 0.1 s; None where the two are not alike."""
    size = 1 << (len(left) + most).bit_length()
    cross = np.fft.irfft(np.conj(np.fft.rfft(left, size)) * np.fft.rfft(right, size))
    near = np.concatenate((cross[-most:], cross[:most]))
    best = int(np.argmax(np.abs(near)))
    strength = abs(near[best]) / max(float(np.linalg.norm(left) * np.linalg.norm(right)), 1e-9)
    return best - most if strength > 0.5 else None


def together(page: Any, names: Sequence[str]) -> int | None:
    """How far the first and the last stem are apart in what is heard, in samples."""
    page.evaluate(
        """([first, last]) => { for (const stem of rivulet.stream().stems) Object.assign(stem,
        { solo: stem.name === first || stem.name === last, pan: stem.name === first ? -1 : stem.name === last ? 1 : 0 }); }""",
        [names[0], names[-1]],
    )
    page.wait_for_timeout(100)
    left, right = (np.frombuffer(base64.b64decode(text), "<f4") for text in page.evaluate(RECORD, PART))
    page.evaluate("() => { for (const stem of rivulet.stream().stems) Object.assign(stem, { solo: false, pan: 0 }); }")
    return apart(left[RATE // 4 :], right[RATE // 4 :])


def sample(page: Any) -> dict[str, Any]:
    state: dict[str, Any] = page.evaluate("rivulet.state()")
    return {**state["player"], "sent": state["sent"], "ear": state["measured"]["ear"], "failure": state["failure"]}


def watch(page: Any, found: argparse.Namespace) -> dict[str, Any]:
    patience = 1000 * found.timeout
    page.wait_for_selector("#live-model:enabled", timeout=patience)
    page.select_option("#live-model", found.model)
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_function("rivulet.state().player?.phase === 'playing'", timeout=patience)
    page.get_by_role("button", name="Listen", exact=True).click()
    page.wait_for_timeout(1000 * found.warmup)
    names = [stem["name"] for stem in page.evaluate("rivulet.state().stems")]
    stems = [together(page, names)]
    first = last = sample(page)
    when: list[dict[str, float]] = []
    for _ in range(2 * round(found.seconds) + 2):  # by the clock of the sound; not for ever, if that stands still
        if (left := first["time"] + found.seconds - last["time"]) <= 0:
            break
        page.wait_for_timeout(1000 * min(left, 1.0))
        before, last = last, sample(page)
        when += happened(first["time"], before, last)
    stems.append(together(page, names))
    return {"stems": len(names), **figures(first, last, stems), "when": when}


def happened(origin: float, before: dict[str, Any], now: dict[str, Any]) -> list[dict[str, float]]:
    """What went wrong between two samples of the page's state, and for how long the microphone gave nothing: at most one row."""
    rows = {key: now[key] - before[key] for key in ("underruns", "skipped", "gaps")}
    if not any(rows.values()):
        return []
    silent = now["time"] - before["time"] - (now["sent"] - before["sent"]) / RATE
    return [{"at_s": round(now["time"] - origin, 1), **rows, "microphone_silent_ms": round(1000 * silent, 1)}]


def figures(first: dict[str, Any], last: dict[str, Any], apart: Sequence[int | None]) -> dict[str, Any]:
    """What happened between two samples of the page's state."""
    played, seconds = last["position"] - first["position"], last["time"] - first["time"]
    known = [1000 * abs(samples) / RATE for samples in apart if samples is not None]
    return {
        "seconds": seconds,
        "underruns": last["underruns"] - first["underruns"],
        "skipped": last["skipped"] - first["skipped"],
        "gaps": last["gaps"] - first["gaps"],
        "drift_ms": 1000 * (played / RATE - seconds),
        "microphone_ms": 1000 * ((last["sent"] - first["sent"]) / RATE - seconds),
        "stems_apart_ms": max(known) if known else None,
        "ear_ms": [first["ear"], last["ear"]],
        "failure": last["failure"],
    }


def good(told: dict[str, Any]) -> bool:
    steady = abs(told["drift_ms"]) <= MOST_MS and (told["stems_apart_ms"] or 0) <= MOST_MS
    return steady and not (told["underruns"] or told["skipped"] or told["gaps"] or told["failure"])


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    made = options.browsed(options.parser("browser", __doc__))
    made.set_defaults(url="http://127.0.0.1:8000")
    made.add_argument("--model", default="music")
    made.add_argument("--seconds", type=float, default=30.0, help="that count")
    made.add_argument("--warmup", type=float, default=6.0, help="seconds before them that do not")
    made.add_argument(
        "--check", action="store_true", help=f"exit 2 at a dropout, or a drift of more than {MOST_MS:g} ms"
    )
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; returns the exit code."""
    found = arguments(argv)
    if not found.chromium:
        print("clients.bench.browser: there is no Chromium on the PATH; install it, or say --chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        with opened(f"{found.url}/#live", play(found.audio, Path(folder)), found.chromium) as page:
            told = {"model": found.model, **watch(page, found), **circumstances()}
    print(report.grid([["", "got"], *([key, str(told[key])] for key in told if not isinstance(told[key], dict))]))
    if found.json:
        report.write_json(found.json, told)
    return 2 if found.check and not good(told) else 0


if __name__ == "__main__":
    sys.exit(main())
