"""A real server and a real peer in two network namespaces, and a bad line between them: 5 % loss and 50 ms of jitter.

`RIVULET_LINE_S=600` (or `-m slow`) is the long version. What is asserted does not depend on the machine's speed: samples, gaps
and how long packets waited; latencies are printed (`-s`), and asserted only not to grow over the minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import pytest
from netns.link import SERVER, Line, Link, link, missing

HERE = Path(__file__).parent / "netns"
REASON = missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
BAD = 0.05, 0.05  # of packets, s


@pytest.fixture(scope="module")
def ends() -> Iterator[Link]:
    with link() as two:
        yield two


@pytest.fixture(scope="module")
def host(ends: Link) -> Iterator[str]:
    with running([*ends.at("server"), sys.executable, str(HERE / "serve.py"), SERVER]) as server:
        assert server.stdout is not None
        yield f"{SERVER}:{int(server.stdout.readline())}"


@contextmanager
def running(command: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The process, while this is open, and at most a quarter of an hour."""
    paths = os.pathsep.join((str(HERE.parent), str(HERE.parent.parent)))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths, **environment}
    ) as process:
        watchdog = threading.Timer(900, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            process.terminate()


def weather(line: Line, loss: float = 0.0, jitter: float = 0.0) -> None:
    line.loss, line.jitter = loss, jitter


def converse(
    ends: Link,
    command: list[str],
    bad: Callable[[int], bool],
    weathers: tuple[float, float] = BAD,
    **environment: str,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The peer's seconds and its account; in the seconds that are `bad` the line has that loss and jitter."""
    weather(ends.line)
    seconds: list[dict[str, Any]] = []
    with running([*ends.at("client"), sys.executable, *command], **environment) as peer:
        for said in peer.stdout or ():
            print(said[:400].rstrip())
            seconds.append(json.loads(said))
            weather(ends.line, *(weathers if bad(len(seconds)) else ()))
        assert peer.wait() == 0
    return seconds[:-1], seconds[-1]


def exact(account: dict[str, Any]) -> None:
    """Samples out are samples in, on every track, at their places, whatever was lost on the way."""
    assert account["done"] == account["heard"] == account["told"]
    # What was said, and at most the silence that the clock put where nothing came any more, in whole packets.
    assert 0 <= account["done"] - account["said"] <= 24_000
    assert max(account["ends"]) <= account["done"]
    assert min(account["ends"]) >= account["done"] - 9600  # the last packets may be lost, as any
    assert all(account["steady"])
    assert account["lags"] == [0] * len(account["lags"])
    assert account["clock"] == 0


@pytest.mark.parametrize("model", ["quick", pytest.param("slow", marks=pytest.mark.slow)])
def test_a_bad_line_costs_no_sample_and_its_delay_is_gone_with_it(ends: Link, host: str, model: str) -> None:
    lost = ends.line.lost
    seconds, account = converse(ends, [str(HERE / "peer.py"), host, model, "8"], lambda second: 2 <= second < 5)
    assert ends.line.lost > lost
    exact(account)
    media = account["media"]
    assert 0 < media["lost"] < 60
    assert media["concealed"] >= 960 * media["lost"] - 960 * media["recovered"]
    assert media["discarded"] <= 20
    # Uniform jitter of 50 ms is told as a third of that; and then it is over.
    assert max(one["media"].get("jitter_ms", 0) for one in seconds) > 5
    assert media["buffer_ms"] < 20


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_chromium_over_a_bad_line(ends: Link, host: str) -> None:
    """It hides its addresses behind names that nobody here can resolve, and connects all the same."""
    pytest.importorskip("playwright")
    _, account = converse(ends, [str(HERE / "browser.py"), host, "quick", "10"], lambda second: 2 <= second < 5)
    media, tracks = account["media"], account["tracks"]
    assert account["done"]["samples"] > 9 * 48_000
    assert media["lost"] > 0
    assert media["buffer_ms"] < 20
    assert len(tracks) == 2
    for track in tracks:
        assert track["lost"] > 0
        assert track["came"] > 300
        assert track["energy"] > 0


@pytest.mark.slow
def test_ten_minutes_of_a_bad_line_do_not_grow(ends: Link, host: str) -> None:
    length = int(os.environ.get("RIVULET_LINE_S", "600"))
    seconds, account = converse(
        ends, [str(HERE / "peer.py"), host, "quick", str(length)], lambda second: second < length - 5
    )
    exact(account)
    fifth = length // 5
    first, last = ([one["p50"] for one in part if "p50" in one] for part in (seconds[:fifth], seconds[-fifth:]))
    print("latency p50, ms: first fifth", statistics.median(first), "last fifth", statistics.median(last))
    assert statistics.median(last) <= statistics.median(first) + 40
    assert account["media"]["lost"] <= 0.08 * length * 50
    assert account["media"]["discarded"] <= 0.02 * length * 50


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_ten_minutes_of_chromium_over_a_bad_line_do_not_grow(ends: Link, host: str) -> None:
    """What it says of every track, whole packets that came or were lost, is what the session had: no sample more or less."""
    pytest.importorskip("playwright")
    length = max(60, int(os.environ.get("RIVULET_LINE_S", "600")))
    command = [str(HERE / "browser.py"), host, "quick", str(length)]
    seconds, account = converse(ends, command, lambda second: second < length - 10)
    media, done = account["media"], account["done"]["samples"]
    print("samples", done, "packets sent", account["sends"]["packetsSent"], "tracks", account["tracks"])
    assert done == account["stats"]["heard"] == account["stats"]["told"]
    assert abs(960 * account["sends"]["packetsSent"] - done) <= 24_000  # before it was ready, and after the end
    for track in account["tracks"]:
        assert done - 9600 <= 960 * (track["came"] + track["lost"]) <= done  # the last may be lost without its knowing
    assert media["lost"] <= 0.08 * length * 50
    assert media["buffer_ms"] < 20, "the line is good again: what comes in waits for nothing"
    late = [one["late"] for one in seconds if one["late"] is not None]
    fifth = length // 5
    first, last, after = (statistics.median(part) for part in (late[10:fifth], late[-fifth:-10], late[-3:]))
    print(
        f"played out later than in the first fifth, ms: last fifth {last - first:.0f}, on a good line {after - first:.0f}"
    )
    assert last <= first + 40
    assert after <= first + 10


def voice(path: Path) -> Path:
    """Real speech, which ships with the repository, as a WAV file at 48 kHz."""
    talk = HERE.parent.parent / "models" / "embedded" / "voiceprint" / "talk.flac"
    with av.open(str(talk)) as source, wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        resampler = av.AudioResampler("s16", "mono", 48_000)
        for frame in source.decode(audio=0):
            for part in resampler.resample(frame):
                file.writeframes(part.to_ndarray().tobytes())
    return path


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_speech_out_of_chromium_is_recovered_by_its_fec(ends: Link, host: str, tmp_path: Path) -> None:
    """A tenth of its packets is lost, and RTCP says so: from then on they carry what was before them, where somebody speaks."""
    pytest.importorskip("playwright")
    environment = {"VOICE": str(voice(tmp_path / "talk.wav"))}
    command = [str(HERE / "browser.py"), host, "speech", "20"]
    seconds, account = converse(ends, command, lambda second: 2 <= second < 17, (0.1, 0.0), **environment)
    media = account["media"]
    print("lost", media["lost"], "recovered", media["recovered"], seconds[-1]["sends"]["targetBitrate"], "bit/s")
    assert 30 < media["lost"] < 150
    assert media["recovered"] >= media["lost"] // 5
    assert media["concealed"] <= 960 * (media["lost"] - media["recovered"]) + 48_000
