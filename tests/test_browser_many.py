"""Many stems in Chromium. Eight over a WebSocket: no dropout, no drift; seconds here, ten minutes among the slow ones. Four over
WebRTC: side by side."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import serving
import test_browser_live as live

from clients.bench import browser, ear, sound
from models import toys
from models.separator import Spec
from streaming.framing import Array, Framing

pytestmark = live.pytestmark[:3]  # the model needs no weights
NAMES = tuple(f"part_{number}" for number in range(1, 9))
WEIGHTS = np.array([0.1, 0.15, 0.05, 0.2, 0.1, 0.15, 0.05, 0.2], np.float32)


@dataclass(frozen=True)
class Eight:
    """Shares of its input: at any instant every part is that instant's sample, so that drift is a difference in time alone."""

    spec: Spec = replace(
        toys.Split().spec,
        name="toy-eight",
        rate=48_000,
        channels=2,
        sources=NAMES,
        framing=Framing(window=960, hop=960),
    )

    def start(self) -> None:
        return None

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
        return np.asarray(pcm[:, None] * WEIGHTS[None, : len(self.spec.sources), None, None], np.float32), list(states)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    eight: Any = Eight()  # frozen, which the protocol does not ask for
    with serving.running({"toy-eight": serving.entry(eight)}, page=live.PAGE) as host:
        yield host


def options(host: str, seconds: float) -> argparse.Namespace:
    told = ["--url", f"http://{host}", "--model", "toy-eight", "--seconds", str(seconds)]
    return browser.arguments([*told, "--chromium", str(live.CHROMIUM)])


def measured(host: str, seconds: float, tmp_path: Any) -> dict[str, Any]:
    found = options(host, seconds)
    with ear.opened(f"{found.url}/#live", ear.play(None, tmp_path), found.chromium) as page:
        return browser.watch(page, found)


def test_eight_stems_stay_together(server: str, tmp_path: Any) -> None:
    for _ in range(3):
        told = measured(server, 4, tmp_path)
        if told["underruns"] == told["skipped"] == 0:
            break
    assert told["stems"] == 8
    assert told["stems_apart_ms"] == 0, "one ring, one clock"
    assert told["gaps"] == 0
    assert told["failure"] is None
    assert told["underruns"] == told["skipped"] == 0, (
        "three times: too busy a machine, or a fault; run this file on its own"
    )
    assert abs(told["drift_ms"]) < 5


TAPPED = """() => {
  const Original = RTCPeerConnection;
  window.RTCPeerConnection = class extends Original {
    constructor(terms) {
      super(terms);
      window.pc = this;
    }
  };
  window.late = (number, ms) => {  // that track alone, whatever the library asks for
    const { receiver } = pc.getTransceivers()[number];
    receiver.jitterBufferTarget = ms;
    Object.defineProperty(receiver, "jitterBufferTarget", { set() {}, get: () => ms });
  };
  // What each receiver put in or left out, so that it is later than before: nobody can compare stems while that goes on.
  window.made = async () => [...(await pc.getStats()).values()].filter((row) => row.type === "inbound-rtp").map((row) =>
    row.insertedSamplesForDeceleration + row.concealedSamples - row.removedSamplesForAcceleration);
}"""


def side_by_side(page: Any, tries: int = 8) -> tuple[float, list[int]]:
    """ms between the first stem and the others, the most, while nothing was made up or left out; and what had been till then."""
    for _ in range(tries):
        before = page.evaluate("made()")
        page.wait_for_timeout(1500)  # two looks of the library, and the slide
        found = [browser.together(page, [NAMES[0], name]) for name in NAMES[1:4]]
        if before == page.evaluate("made()"):
            assert None not in found
            return max(abs(1000 * one / live.RATE) for one in found if one is not None), before
    raise AssertionError(f"the browser made sound up all the time, in {tries} tries: this machine is too busy to tell")


def test_stems_over_webrtc_are_heard_side_by_side(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the browser makes one of them wait longer than the others."""
    monkeypatch.setattr(browser, "PART", 1000)
    four: Any = Eight(replace(Eight.spec, name="toy-four", sources=NAMES[:4]))
    with (
        serving.running({"toy-four": serving.entry(four)}, page=live.PAGE) as host,
        live.chromium(ear.play(None, tmp_path)) as chromium,
        live.room(chromium, host, script=f"({TAPPED})()") as page,
    ):
        page.select_option("#live-model", "toy-four")
        live.start(page, "webrtc")
        apart, before = side_by_side(page)
        assert apart < 3
        page.evaluate("late(1, 100)")
        page.wait_for_timeout(5000)  # its jitter buffer grows slowly, and the others slide after it by 2 % of the speed
        apart, now = side_by_side(page)
        behind = (now[1] - before[1]) - (now[0] - before[0])
        assert behind > 1000, "samples: that track does wait longer, which is what is made good"
        assert apart < 3


@pytest.mark.slow
def test_eight_stems_for_ten_minutes(server: str, tmp_path: Any) -> None:
    told = measured(server, 600, tmp_path)
    print(told)
    assert browser.good(told), told


def test_the_measure_sees_a_stem_that_is_late() -> None:
    noise = sound.synthetic(2, 48_000, 1)[0]
    for late in (0, 1, 240, -240):
        assert browser.apart(noise, 0.5 * np.roll(noise, late)) == late
    assert browser.apart(noise, np.random.default_rng(1).standard_normal(noise.size)) is None
    first = {"position": 0, "time": 1.0, "underruns": 1, "skipped": 0, "gaps": 0, "sent": 0, "ear": 90, "failure": None}
    last = first | {"position": 10 * 48_000 - 480, "time": 11.0, "sent": 480_000}
    told = browser.figures(first, last, [0, None])
    assert told["drift_ms"] == pytest.approx(-10)
    assert not browser.good(told)
    now = first | {"time": 2.5, "sent": 48_000, "skipped": 64}
    assert browser.happened(0.5, first, now) == [
        {"at_s": 2.0, "underruns": 0, "skipped": 64, "gaps": 0, "microphone_silent_ms": 500.0}
    ]
    assert browser.happened(0.5, first, first | {"time": 2.5}) == []
    assert browser.good(browser.figures(first, last | {"position": 480_000}, [0, 0]))
