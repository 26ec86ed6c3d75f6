"""Eight stems over a WebSocket in Chromium: no dropout, no drift. Seconds here; ten minutes among the slow ones."""

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
        return np.asarray(pcm[:, None] * WEIGHTS[None, :, None, None], np.float32), list(states)


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
    told = measured(server, 4, tmp_path)
    assert told["stems"] == 8
    assert told["stems_apart_ms"] == 0, "one ring, one clock"
    assert told["gaps"] == 0
    assert told["failure"] is None
    if told["underruns"] == told["skipped"] == 0:  # what a busy machine does is another matter
        assert abs(told["drift_ms"]) < 5


@pytest.mark.slow
def test_eight_stems_for_ten_minutes(server: str, tmp_path: Any) -> None:
    told = measured(server, 600, tmp_path)
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
    assert browser.good(browser.figures(first, last | {"position": 480_000}, [0, 0]))
