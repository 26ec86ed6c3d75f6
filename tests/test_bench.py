"""The latency benchmark: its arithmetic on synthetic timelines, and a run of it against a peer of known delay."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rivulet_client.codec import Ready, Stats
from rivulet_client.testing import Behaviour, Peer

from clients.bench import latency, report, sound
from clients.bench.timeline import (
    Arrival,
    Timeline,
    capture_latency,
    compute,
    counted,
    due,
    percentile,
    send_latency,
    spread,
    summary,
)

READY = Ready("s", "toy", ("low",), 1000, 1, "s16le", 20, 50.0)
STATS = Stats(heard=100, told=80, lag_ms=4.0, compute_p50_ms=2.0, compute_p95_ms=3.0, queue_p95_ms=0.5)


def recorded(**changes: Any) -> Timeline:
    """1 kHz, packets of 10 ms sent 1 ms late, chunks of 20 ms that each come 40 ms after the packet of their first sample."""
    timeline = Timeline(1000, 10, t0=5.0, finished=5.25, ready=READY, done=200)
    timeline.sent = [due(timeline, index) + 0.001 for index in range(20)]
    timeline.arrivals = [Arrival(at, 20, timeline.sent[at // 10] + 0.040) for at in range(0, 200, 20)]
    for name, value in changes.items():
        setattr(timeline, name, value)
    return timeline


@pytest.mark.parametrize(
    ("values", "p", "expected"),
    [([1], 50, 1), ([3, 1, 2], 50, 2), ([4, 1, 3, 2], 50, 2), (range(1, 101), 95, 95), (range(1, 101), 99, 99),
     (range(1, 12), 95, 11), ([1, 2], 0, 1), ([1, 2], 100, 2)],
)  # fmt: skip
def test_percentile_is_nearest_rank(values: Any, p: float, expected: float) -> None:
    assert percentile(list(values), p) == expected


def test_nothing_has_no_percentile() -> None:
    assert math.isnan(percentile([], 50))
    assert math.isnan(spread([])["max_ms"])


def test_the_schedule_does_not_drift() -> None:
    timeline = Timeline(44_100, 441, t0=1.0)
    assert due(timeline, 0) == pytest.approx(1.01, abs=1e-12)
    assert due(timeline, 360_000 - 1) == pytest.approx(3601.0, abs=1e-9)


def test_latency_is_that_of_the_first_sample() -> None:
    timeline = Timeline(1000, 10, t0=2.0, sent=[2.010, 2.020, 2.031])
    assert send_latency(timeline, Arrival(0, 30, 2.05)) == pytest.approx(0.040)
    assert send_latency(timeline, Arrival(9, 1, 2.05)) == pytest.approx(0.040)
    assert send_latency(timeline, Arrival(10, 1, 2.05)) == pytest.approx(0.030)
    assert send_latency(timeline, Arrival(25, 5, 2.05)) == pytest.approx(0.019)
    assert capture_latency(timeline, Arrival(25, 5, 2.05)) == pytest.approx(0.025)
    assert capture_latency(timeline, Arrival(0, 5, 2.05)) == pytest.approx(0.050)


def test_the_warmup_does_not_count() -> None:
    timeline = recorded(arrivals=[Arrival(0, 99, 6), Arrival(99, 1, 6), Arrival(100, 0, 6), Arrival(100, 100, 6)])
    assert counted(timeline, 0.1) == [Arrival(100, 100, 6)]


def test_summary_of_two_sessions() -> None:
    fast = recorded(stats=[(4.9, STATS), (5.1, STATS)])
    slow = recorded(arrivals=[Arrival(*head, at + 0.020) for *head, at in fast.arrivals])
    figures = summary([fast, slow], warmup=0.0)
    expected = {"declared_ms": 50, "p50_ms": 40, "p95_ms": 60, "p99_ms": 60, "max_ms": 60, "slip_p99_ms": 1}
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert figures["capture_max_ms"] == pytest.approx(60 + 10 + 1)
    counts = {"sessions": 2, "samples_in": 400, "samples_out": 400, "chunks": 20, "late_chunks": 10, "failures": []}
    assert {name: figures[name] for name in counts} == counts
    assert [each["p99_ms"] for each in figures["per_session"]] == pytest.approx([40, 60])
    assert (figures["compute_p50_ms"], figures["compute_p95_ms"], figures["tick_ms"]) == (2.0, 3.0, 20.0)


def test_rtf_from_stats_or_from_the_wall() -> None:
    assert compute(recorded(stats=[(5.1, STATS)]), 0.0)["rtf"] == pytest.approx(2 / 20)
    assert compute(recorded(stats=[(5.1, STATS)]), 0.15) == {"rtf": pytest.approx(0.25 / 0.2)}
    assert summary([recorded()], 0.0)["rtf_source"] == "wall"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"done": 190}, "200 samples in, 200 out, done says 190"),
        ({"arrivals": [Arrival(0, 20, 5.1)]}, "200 samples in, 20 out"),
        ({"done": None}, "done says None"),
        ({"error": "capacity: full", "arrivals": [], "sent": [], "ready": None}, "capacity: full"),
    ],
)
def test_failures_are_told(changes: dict[str, Any], said: str) -> None:
    figures = {**summary([recorded(), recorded(**changes)], 0.0), "model": "toy"}
    assert [said in failure for failure in figures["failures"]] == [True]
    assert f"FAILED {figures['failures'][0]}" in report.table(figures)


def test_json_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.json"
    report.write_json(path, summary([recorded(ready=None, arrivals=[], sent=[], error="no")], 0.0))
    figures = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert figures["p99_ms"] is None


# --- what it plays ---


@pytest.mark.parametrize("rate", [8000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_synthetic_sound_is_sound(rate: int, channels: int) -> None:
    pcm = sound.synthetic(3.0, rate, channels)
    assert pcm.shape == (channels, 3 * rate)
    assert pcm.dtype == np.float32
    assert np.array_equal(pcm, sound.synthetic(3.0, rate, channels))
    assert 0.3 < np.abs(pcm).max() <= 0.5
    blocks = pcm[:, : 3 * rate // 100 * 100].reshape(channels, -1, rate // 100)
    assert np.sqrt((blocks**2).mean(axis=2)).min() > 1e-3


def test_packets_are_whole() -> None:
    pcm = np.arange(25, dtype=np.float32)[np.newaxis]
    assert [piece[0, 0] for piece in sound.packets(pcm, 10, most=9)] == [0, 10]
    assert len(sound.packets(pcm, 10, most=1)) == 1
    assert sound.packets(pcm, 60, most=9)[0].shape == (1, 60)
    with pytest.raises(ValueError, match="0 samples"):
        sound.packets(pcm[:, :0], 10, most=1)


def test_fit() -> None:
    stereo = np.float32([[1, 2], [3, 6]])
    assert np.array_equal(sound.fit(stereo, 1), [[2, 4]])
    assert np.array_equal(sound.fit(stereo[:1], 2), [[1, 2], [1, 2]])
    assert sound.fit(np.zeros((6, 2), np.float32), 2).shape == (2, 2)


@pytest.mark.parametrize("installed", [True, False])
def test_a_wav_file(installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.array([[1, -2], [16384, -32768]], "<i2").tobytes())
    if not installed:
        monkeypatch.setitem(sys.modules, "soundfile", None)
    pcm, rate = sound.load(tmp_path / "a.wav")
    assert rate == 8000
    assert np.array_equal(pcm, np.float32([[1 / 32768, 0.5], [-2 / 32768, -1]]))


# --- a run ---


async def run(peer: Peer, *options: object) -> int:
    arguments = ["--url", peer.url, "--warmup", "0.2", *map(str, options)]
    return await asyncio.to_thread(latency.main, arguments)


async def test_it_measures_a_known_delay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, png = tmp_path / "out.json", tmp_path / "out.png"
    behaviour = Behaviour(delay_s=0.1, hold=882, tick=441)
    async with Peer(behaviour) as peer:
        code = await run(peer, "--seconds", 2, "--sessions", 2, "--packet-ms", 5, "--json", out, "--plot", png)
    assert code == 0, capsys.readouterr().out
    figures = json.loads(out.read_text())
    # 441 samples are told once 1323 have come: the first of them has waited for 20 ms of later packets, and then 100 ms.
    assert figures["p50_ms"] >= 100 + 20
    assert figures["capture_p50_ms"] >= figures["p50_ms"]
    assert figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    assert figures["declared_ms"] == pytest.approx(130)
    assert figures["samples_in"] == figures["samples_out"] == 2 * 441 * 220  # 2.2 s, 5 ms each
    assert (figures["sessions"], len(figures["per_session"]), figures["failures"]) == (2, 2, [])
    assert (figures["rate"], figures["channels"], figures["model"]) == (44_100, 2, "music")
    assert figures["rtf"] == pytest.approx(0.2)
    assert figures["packages"]["numpy"] == np.__version__
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "declared" in capsys.readouterr().out


async def test_check_holds_the_server_to_its_word() -> None:
    quick = ("--seconds", 0.3, "--rate", 16_000, "--channels", 1)
    async with Peer(Behaviour(delay_s=0.1, promise_ms=20.0)) as peer:
        assert await run(peer, *quick, "--check") == 2
        assert await run(peer, *quick) == 0
    async with Peer(Behaviour(promise_ms=10_000.0)) as peer:
        assert await run(peer, *quick, "--check") == 0


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (Behaviour(refuse=("capacity", 1013)), "FAILED capacity: no: capacity"),
        (Behaviour(drop_after=3000), "FAILED the connection ended before done"),
        (Behaviour(gap=5), "FAILED got stems from sample 446, expected 441"),
        (Behaviour(gap=-5), "FAILED got stems from sample 436, expected 441"),
        (Behaviour(miscount=1), "done says"),
        (Behaviour(fatal=("internal", 1011)), "FAILED internal: no: internal"),
    ],
)
async def test_a_failed_session_is_exit_code_1(
    behaviour: Behaviour, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async with Peer(behaviour) as peer:
        assert await run(peer, "--seconds", 0.3, "--sessions", 2, "--plot", tmp_path / "a.png") == 1
    assert said in capsys.readouterr().out


async def test_wrong_options_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(160))
    async with Peer() as peer:
        assert await run(peer, "--model", "opera") == 1
        assert await run(peer, "--rate", 16_000, "--audio", tmp_path / "a.wav") == 1
        assert await run(peer, "--seconds", -1) == 1
        url = peer.url
    assert await asyncio.to_thread(latency.main, ["--url", url]) == 1
    said = capsys.readouterr().err
    for part in ("got model 'opera', the server has toy", "got --rate 16000", "packets in 1 sessions", "refused"):
        assert part in said


def test_the_plot_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(RuntimeError, match="pip install matplotlib"):
        report.plot(tmp_path / "a.png", [], {}, 0.0)


def test_it_runs_as_a_module() -> None:
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "clients.bench.latency", "--help"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert "--packet-ms" in done.stdout
