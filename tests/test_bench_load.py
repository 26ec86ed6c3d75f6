"""The load, stall, churn and GStreamer benchmarks, each against a real server over real sockets."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import serving
from rivulet_client.testing import Behaviour, Peer

from clients.bench import churn, gst, load, stall, stalled
from models import toys
from server import promise
from streaming.framing import Framing

# Long hops: what is promised is kept on a machine that others use too.
CALM = toys.Split(toys._spec("calm", Framing(3200, 3200)))
# 705 kB of f32le a second: buffers are soon full.
LOUD = toys.Split(replace(toys._spec("loud", Framing(3200, 3200), channels=2), rate=44_100))


def serve(**settings: Any) -> Any:
    return serving.running(serving.toy_registry(CALM, LOUD), admission="count", **settings)


def bench(module: Any, url: str, out: Path, *options: object) -> tuple[int, dict[str, Any]]:
    """The exit code and the figures."""
    code = module.main(["--url", url, "--json", str(out / "out.json"), *map(str, options)])
    return code, json.loads((out / "out.json").read_text(), parse_constant=pytest.fail)


QUICK = ("--settle", 0.3, "--hold", 1.2)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_ramp_ends_at_the_door(
    tmp_path: Path, processes: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promise, "ALLOWANCE", 60.0)  # a promise that the busiest machine keeps
    with serve(max_sessions=2) as host:
        more = ("--model", "calm", "--processes", processes, "--plot", tmp_path / "load.png")
        code, figures = bench(load, f"ws://{host}", tmp_path, *QUICK, *more)
    assert code == 0, capsys.readouterr()
    assert [(row["sessions"], row["kept"]) for row in figures["steps"]] == [(1, True), (2, True), (2, True)]
    assert figures["knee"] == figures["door"]["admitted"] == 2
    refusal = figures["door"]["first_refusal"]
    assert (refusal["code"], refusal["close"]) == ("capacity", 1013)
    assert refusal["ms"] > 0
    assert refusal["retry_after_ms"] > 0
    assert figures["samples_in"] == figures["samples_out"] > 2 * 16_000 * 3
    last = figures["steps"][-1]
    assert last["chunks"] >= 2 * 2
    assert last["p50_ms"] <= last["p95_ms"] <= last["p99_ms"] <= last["max_ms"] <= last["worst_declared_ms"]
    assert last["batch_mean"] >= 1
    assert last["rss_mib"] > 10  # the server is a thread of this process, found by its port
    assert (tmp_path / "load.png").read_bytes().startswith(b"\x89PNG")
    assert "2 admitted, then capacity" in capsys.readouterr().out


def test_all_stay_and_whoever_knocks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.bench.ramp.KNOCK_EVERY", 0.5)
    with serve(max_sessions=3) as host:
        models = ("--model", "calm", "--model", "loud", "--step", 3, "--hold-at-max", 2)
        code, figures = bench(load, f"ws://{host}", tmp_path, *QUICK, *models)
    held = figures["hold"]
    assert code == 0
    assert [each["model"] for each in held["per_session"]] == ["calm", "loud", "calm"]
    assert all(each["chunks"] >= 4 for each in held["per_session"])
    assert len(held["knocks"]) >= 1
    assert {knock["code"] for knock in held["knocks"]} == {"capacity"}
    assert held["let_in"] == 0
    assert held["refused_max_ms"] == max(knock["ms"] for knock in held["knocks"])
    assert figures["failures"] == []


async def test_a_broken_promise_ends_the_ramp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with Peer(Behaviour(delay_s=0.1, promise_ms=20.0)) as peer:
        code, figures = await asyncio.to_thread(bench, load, peer.url, tmp_path, *QUICK, "--model", "toy", "--check")
    assert code == 2
    assert (figures["knee"], figures["door"]) == (0, {"admitted": 1, "first_refusal": None})
    assert figures["steps"][0]["late_chunks"] == figures["steps"][0]["chunks"] > 10
    assert figures["steps"][0]["loop_lag_p99_ms"] is None  # the peer has no /metrics
    assert "BROKEN 1 sessions: p99" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (Behaviour(drop_after=300_000), "FAILED the connection ended before done"),
        (Behaviour(gap=5), "FAILED protocol: got stems from sample 446, expected 441"),
        (Behaviour(fatal=("internal", 1011)), "FAILED internal: no: internal"),
        (Behaviour(miscount=1), "done says"),
    ],
)
async def test_a_failed_session_is_exit_code_1(
    behaviour: Behaviour, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Peer(behaviour) as peer:
        options = (*QUICK, "--model", "toy", "--most", 1)
        code, _ = await asyncio.to_thread(bench, load, peer.url, tmp_path, *options)
    assert code == 1
    assert said in capsys.readouterr().out


async def test_a_stalled_client_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(send_timeout_s=1.0) as host:
        options = (
            "--model",
            "loud",
            "--format",
            "f32le",
            "--sessions",
            3,
            "--seconds",
            8,
            "--rounds",
            1,
            "--settle",
            0.3,
        )
        code, figures = await asyncio.to_thread(bench, stall, f"ws://{host}", tmp_path, *options)
    assert code == 0, capsys.readouterr().out
    reading, stalling = figures["phases"]
    assert (reading["phase"], stalling["phase"], reading["stalled"]) == ("A", "B", None)
    end = stalling["stalled"]
    assert (end["code"], end["error"]) == (4408, "timeout")
    assert 1.0 <= end["ended_s"] < 8
    assert stalling["seconds"] < 8  # the others are counted as long as it was there
    assert 0 < end["hidden_s"] <= end["drained_s"]
    assert end["hidden_s"] + end["client_s"] == pytest.approx(end["drained_s"])
    assert reading["chunks"] >= 2 * 20
    assert figures["ratio_p99"] == pytest.approx(figures["B"]["p99_ms"] / figures["A"]["p99_ms"])
    assert figures["failures"] == []


def test_a_server_that_lets_a_stalled_client_be_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalled, "DRAINING", 0.5)
    with serve(send_timeout_s=60.0) as host:
        options = ("--model", "calm", "--sessions", 2, "--seconds", 1, "--rounds", 1, "--settle", 0.3)
        code, figures = bench(stall, f"ws://{host}", tmp_path, *options)
    assert code == 1
    assert figures["failures"] == ["the server let the stalled session be"]
    assert figures["phases"][1]["stalled"]["hidden_s"] is None


def test_clients_that_vanish_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ("--model", "calm", "--cycles", 12, "--every", 6, "--warmup", 0, "--seconds-each", 0.1, "--rest", 0.2)
    with serve(max_sessions=2) as host:
        code, figures = bench(churn, f"ws://{host}", tmp_path, *quick, "--concurrency", 4)
    assert code == 0, capsys.readouterr().out
    assert [look["cycles"] for look in figures["looks"]] == [0, 6, 12]
    assert [look["sessions"] for look in figures["looks"]] == [0, 0, 0]
    assert all(look["rss_mib"] > 10 and look["files"] > 3 for look in figures["looks"])
    assert isinstance(figures["kib_per_cycle"], float)
    assert set(figures["refused"]) == {"capacity"}  # two at once are more than the server takes


@pytest.mark.parametrize("options", [("--buffer-ms", 10), ("--buffer-frames", 1024, "--rate", 48_000)])
def test_gst_frames_out_equal_frames_in(tmp_path: Path, options: tuple[object, ...]) -> None:
    with serve() as host:
        code, figures = bench(gst, f"ws://{host}", tmp_path, "--model", "loud", "--seconds", 1.5, *options)
    assert code == 0
    assert figures["samples_in"] == figures["samples_out"] >= 1.5 * figures["rate"]
    assert figures["declared_ms"] == int(figures["declared_ms"]) > 0
    assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    assert figures["largest_message"] % (2 * gst.FRAME) == 0
    assert figures["chunks"] >= 5


def test_gst_says_why_it_was_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve() as host:
        code, figures = bench(gst, f"ws://{host}", tmp_path, "--model", "opera", "--seconds", 0.1)
        assert "refused: got model 'opera'" in figures["failures"][0]
        assert code == 1
        assert bench(gst, f"ws://{host}", tmp_path, "--model", "loud", "--overlap", 1, "--seconds", 0.1)[0] == 1
    assert gst.main(["--url", f"ws://{host}", "--seconds", "0.1"]) == 1
    assert gst.main(["--url", "host:1"]) == 1
    said = capsys.readouterr().out
    for part in ("got overlap '1.0'", "unreachable"):
        assert part in said


def test_wrong_options_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with serve(max_sessions=1) as host:
        url = f"ws://{host}"
        assert load.main(["--url", url, "--model", "opera"]) == 1
        assert load.main(["--url", url, "--model", "calm", "--step", "0"]) == 1
        assert stall.main(["--url", url, "--model", "calm", "--sessions", "2"]) == 1
        assert stall.main(["--url", url, "--model", "calm", "--sessions", "1"]) == 1
        assert churn.main(["--url", url, "--model", "calm", "--cycles", "0"]) == 1
        assert load.main(["--url", url, "--model", "calm", "--pid", "999999999"]) == 1
    said = capsys.readouterr().err
    for part in (
        "got model 'opera'",
        "--step",
        "refused with capacity",
        "got 1 sessions",
        "--cycles",
        "no such process",
    ):
        assert part in said
