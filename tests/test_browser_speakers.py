"""The meeting room in a real Chromium: a lane a person, their turns, their names, and the sound of each.

The server is the stand-in of clients/web/dev, whose conversation is a script: what must be heard, and seen, is known. The
last tests ask a real server, where it has speakers.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import wave
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browsing as web
import numpy as np
import pytest
import serving
import soundfile

from streaming import der, rttm

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

RATE = web.RATE
DEV = web.ROOT / "clients" / "web" / "dev"
DEMO = web.ROOT / "clients" / "web" / "public" / "demo"
microphone, browser = web.microphone, web.browser


def script() -> list[tuple[int, float, float]]:
    """Speaker, from, to (s)."""
    spec = importlib.util.spec_from_file_location("talk", DEV / "talk.py")
    assert spec is not None
    assert spec.loader is not None
    talk = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(talk)
    return list(talk.SCRIPT)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    if not (web.PAGE / "index.html").is_file():
        pytest.skip("the page is not built: npm ci && npm run build in clients/web")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    process = subprocess.Popen([sys.executable, str(DEV / "peer.py"), port], cwd=web.ROOT)
    try:
        for _ in range(600):
            assert process.poll() is None
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def page(browser: Any, site: str) -> Iterator[Any]:
    with web.opened(browser, site, room="meeting") as page:
        yield page


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven seconds: two people, who overlap."""
    sound = np.concatenate([web.voice(3.8, pitch=110), web.voice(3.2, pitch=230)])
    return web.write(tmp_path_factory.mktemp("talk") / "A talk at the table.wav", sound[None])


def lanes(page: Any) -> list[str]:
    return page.locator(".person").evaluate_all("all => all.map(one => one.ariaLabel)")  # type: ignore[no-any-return]


def heard(page: Any, path: Path) -> None:
    """Choose a recording, and wait until all of it has been heard."""
    page.set_input_files("#meeting-file", path)
    web.until(page, "s.phase === 'done' && s.told === s.length")


def option(page: Any, label: str, value: str | bool) -> None:
    if not page.locator(".options").evaluate("one => one.open"):
        page.get_by_text("Options", exact=True).click()
    field = page.get_by_label(label)
    if isinstance(value, str) and field.evaluate("one => one.tagName") == "SELECT":
        field.select_option(value)
    elif isinstance(value, str):
        field.fill(value)
    else:
        field.set_checked(value)


def saved(page: Any, name: str) -> tuple[str, bytes]:
    """What a button hands over: the file's name and its content."""
    with page.expect_download() as download:
        web.button(page, name).click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_everybody_gets_a_lane_when_they_first_speak(page: Any) -> None:
    now = page.locator(".now")
    web.button(page, "Microphone").click()
    web.until(page, "s.phase === 'hearing' && s.mode === 'speakers'")
    assert lanes(page) == []
    playwright.expect(now).to_contain_text("Nobody has spoken yet")
    web.until(page, "s.speakers.length === 1")
    assert lanes(page) == ["Speaker 1"]
    playwright.expect(now).to_have_text("Speaker 1 speaks.")
    playwright.expect(page.get_by_role("group", name="Speaker 1")).to_have_class("strip person speaking")
    web.until(page, "s.speakers.length === 2")
    assert lanes(page) == ["Speaker 1", "Speaker 2"]
    web.until(page, "s.active.join() === '1'")
    playwright.expect(now).to_have_text("Speaker 2 speaks.")
    live = web.state(page)
    assert all(stem["gain"] == 0 for stem in live["stems"]), "silent until asked: loudspeakers feed back"
    assert (live["diarizer"], live["declared"]["samples"]) == ("script", 0.4 * RATE)
    web.until(page, "s.vital.declared === 405 && s.vital.measured > 300 && s.vital.ear > s.vital.measured")

    name = page.get_by_label("Name of speaker 1")
    name.fill("Ada")
    name.press("Enter")
    for control in ("Mute Ada", "Solo Ada", "Save the track of Ada"):
        assert web.button(page, control).is_visible()
    assert page.get_by_role("slider", name="Ada volume").is_visible()
    web.button(page, "Stop").click()
    web.until(page, "s.phase === 'done'")
    assert lanes(page) == ["Ada", "Speaker 2"], "what was said can still be looked at"
    after = web.state(page)
    assert all(turn["final"] for turn in after["turns"])
    assert after["kept"]["end"] == after["length"] == after["sent"], "and heard again: nothing that was sent is missing"
    web.button(page, "Microphone").click()
    web.until(page, "s.phase === 'hearing' && s.speakers.length === 1")
    assert lanes(page) == ["Ada"], "a name is kept while the page is open"
    page.get_by_label("Name of speaker 1").fill("")
    page.get_by_label("Name of speaker 1").press("Enter")
    assert lanes(page) == ["Speaker 1"]


def test_a_live_meeting_pauses_and_is_listened_to_when_asked(page: Any) -> None:
    web.button(page, "Microphone").click()
    web.until(page, "s.phase === 'hearing' && s.position > 0")
    web.button(page, "Listen").click()
    web.until(page, "s.stems.every((stem) => stem.gain === 1)")
    web.button(page, "Pause").click()
    web.until(page, "s.phase === 'paused'")
    sent = web.state(page)["sent"]
    page.wait_for_timeout(300)
    assert web.state(page)["sent"] == sent, "nothing is sent"
    web.button(page, "Go on").click()
    web.until(page, f"s.phase === 'hearing' && s.sent > {sent}")


def test_a_conversation_from_a_file_sounds_as_its_lanes_say(page: Any, talk: Path) -> None:
    page.evaluate("window.kept = rivulet.keep()")
    heard(page, talk)
    stems = {
        name: web.sound_of(planes)
        for name, planes in page.evaluate(
            "Object.entries(kept.stop()).map(([name, planes]) => [name, planes.map(asText)])"
        )
    }
    assert list(stems) == [f"speaker_{n}" for n in (1, 2, 3, 4)]
    assert {stem.shape[1] for stem in stems.values()} == {7 * RATE}, "samples out == samples in"
    web.button(page, "Mute Speaker 1").click()
    web.button(page, "Play").click()
    web.until(page, "s.playback === 'playing' && s.player?.phase === 'playing'")
    web.button(page, "Pause").click()
    web.until(page, "s.player.phase === 'paused'")
    first = web.state(page)["position"]
    web.tap(page)
    web.button(page, "Play").click()
    web.until(page, "s.playback === 'ended'")
    sound = web.tapped(page)
    expected = np.repeat(stems["speaker_2"][:, first + RATE // 20 :], 2, axis=0)
    at = web.lag(sound, expected)
    assert web.snr(sound[:, at : at + expected.shape[1]], expected) > 40, "with Speaker 1 muted, Speaker 2 alone"
    alone = slice(5 * RATE, 7 * RATE)
    assert np.abs(stems["speaker_2"][:, alone]).max() > 0.1
    assert np.abs(stems["speaker_1"][:, alone]).max() == 0

    told = [(turn["speaker"], turn["start"], turn["end"]) for turn in web.state(page)["turns"]]
    begun = [turn for turn in script() if turn[1] < 7]
    assert told == [(speaker, round(start * RATE), round(min(end, 7) * RATE)) for speaker, start, end in begun]


def test_any_turn_can_be_heard_again(page: Any, talk: Path) -> None:
    heard(page, talk)
    page.get_by_text("Turns as a list").click()
    assert page.locator(".listed li").all_text_contents() == [
        "0:00.4 to 0:04.1 Speaker 1", "0:03.6 to 0:07.0 Speaker 2",
    ]  # fmt: skip
    web.button(page, "Play from 0:03.6").click()
    web.until(page, "s.playback === 'playing' && s.position > 3.6 * 48000")
    playwright.expect(page.locator(".now")).to_contain_text("Speaker 2")
    position = page.get_by_role("slider", name="Position in the meeting")
    position.focus()
    page.keyboard.press("Home")
    web.until(page, "s.position < 3 * 48000")
    web.until(page, "s.speaking.join() === '0'")
    web.button(page, "Stop").click()
    assert web.state(page)["position"] == 0


def test_the_turns_and_the_tracks_can_be_taken_away(page: Any, talk: Path) -> None:
    heard(page, talk)
    page.get_by_label("Name of speaker 2").fill("Grace Hopper")
    page.get_by_label("Name of speaker 2").press("Tab")
    files = {kind: saved(page, f"Save the turns as {kind}") for kind in ("RTTM", "JSON", "Text")}
    assert [name for name, _ in files.values()] == [f"A talk at the table.{end}" for end in ("rttm", "json", "txt")]
    assert files["RTTM"][1].decode().splitlines() == [
        "SPEAKER A_talk_at_the_table 1 0.400 3.700 <NA> <NA> Speaker_1 <NA> <NA>",
        "SPEAKER A_talk_at_the_table 1 3.600 3.400 <NA> <NA> Grace_Hopper <NA> <NA>",
    ]
    body = json.loads(files["JSON"][1])
    assert (body["speakers"], body["diarizer"]) == (["Speaker 1", "Grace Hopper"], "script")
    assert [(turn["start"], turn["end"]) for turn in body["turns"]] == [(0.4, 4.1), (3.6, 7.0)]
    assert files["Text"][1].decode() == "[0:00.4 - 0:04.1] Speaker 1\n[0:03.6 - 0:07.0] Grace Hopper\n"

    name, track = saved(page, "Save the track of Grace Hopper")
    assert name == "A talk at the table Grace Hopper.wav"
    sound = pcm(track)
    assert (sound.shape, np.abs(sound[: round(3.5 * RATE)]).max()) == ((7 * RATE,), 0)
    given = pcm(talk.read_bytes())
    alone = slice(round(4.2 * RATE), 7 * RATE)
    assert np.abs(sound[alone].astype(int) - given[alone]).max() <= 1, "who speaks alone is the recording itself"
    name, archive = saved(page, "Save all tracks and turns as a zip")
    assert name == "A talk at the table.zip"
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        assert opened.read("A talk at the table Grace Hopper.wav") == track
        assert sorted(opened.namelist())[2:] == ["turns.json", "turns.rttm", "turns.txt"]


def pcm(data: bytes) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Of a WAV file of one channel at 48 kHz."""
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def test_only_who_speaks_when(page: Any, talk: Path) -> None:
    starts: list[dict[str, Any]] = []
    page.on("websocket", lambda line: line.on("framesent", lambda said: starts.append(first(said))))
    option(page, "Only who speaks when", True)
    option(page, "Most people", "3")
    option(page, "One person at a time", True)
    option(page, "Wait to decide", "0.5")
    option(page, "Diarizer", "mine@10s")
    heard(page, talk)
    assert starts[0]["mode"] == "diarize"
    assert starts[0]["speakers"] == {
        "max": 3, "exclude_overlaps": True, "buffer_time_s": 0.5, "diarizer": "mine@10s",
    }  # fmt: skip
    assert starts[0]["live"] is False
    assert lanes(page) == ["Speaker 1", "Speaker 2"]
    assert page.get_by_role("slider", name="Speaker 1 volume").count() == 0, "there is no sound to turn"
    assert web.button(page, "Play").is_disabled()
    web.button(page, "Microphone").click()
    web.until(page, "s.phase === 'hearing' && s.speakers.length === 1 && s.vital.measured > 0")
    web.button(page, "Stop").click()
    web.until(page, "s.phase === 'done'")


def first(said: str | bytes) -> dict[str, Any]:
    return dict(json.loads(said)) if isinstance(said, str) else {}


def test_what_is_not_to_be_kept_is_not(page: Any) -> None:
    option(page, "Keep what is said in this page", False)
    web.button(page, "Microphone").click()
    web.until(page, "s.phase === 'hearing' && s.speakers.length === 1")
    web.button(page, "Stop").click()
    web.until(page, "s.phase === 'done'")
    assert web.state(page)["kept"] == {"bytes": 0, "from": 0, "end": 0}
    assert web.button(page, "Play").is_disabled()
    assert web.button(page, "Save the track of Speaker 1").is_disabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1000])
def test_it_fits_and_the_lanes_are_drawn(page: Any, talk: Path, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 740})
    heard(page, talk)
    page.get_by_label("Position in the meeting").evaluate(
        "one => { one.value = 4.5; one.dispatchEvent(new Event('change')); }"
    )
    web.until(page, "s.position > 4 * 48000")
    page.wait_for_timeout(500)  # the next picture
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    painted = """canvas => {
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      return new Set(new Uint32Array(data.buffer)).size;
    }"""
    for canvas in page.locator(".turns").all():
        assert canvas.evaluate(painted) > 3, "turns, their levels and the playhead"
    assert page.locator(".whole").evaluate(painted) > 3, "everybody, and the playhead"
    web.picture(page, f"meeting-{width}-{scheme}")


# ---- a real server


@pytest.fixture(scope="module")
def real() -> Iterator[str]:
    if not web.REAL:
        pytest.skip("the embedded models are not there")
    # By count: whether a busy machine could keep its promise is not what is asked here.
    more = {"RIVULET_ADMISSION": "count", "RIVULET_PAGE": str(web.PAGE)}
    with serving.process(RIVULET_PRELOAD='["speech"]', **more) as (host, _):
        with urllib.request.urlopen(f"http://{host}/v1/models", timeout=30) as answer:
            if not any("speakers" in model.get("modes", []) for model in json.load(answer)):
                pytest.skip("this server has no speakers")
        yield f"http://{host}"


def error(turns: list[dict[str, Any]], length: int) -> der.Errors:
    """Against what the two by the river really say when, as far as `length` samples."""
    (said,) = rttm.read((DEMO / "scene.rttm").read_text(), RATE).values()
    reference = [rttm.Segment(one.start, min(one.end, length), one.speaker) for one in said if one.start < length]
    told = [rttm.Segment(turn["start"], turn["end"], str(turn["speaker"])) for turn in turns]
    return der.score(reference, told)


def test_the_scene_that_comes_along_is_told_right(browser: Any, real: str) -> None:
    with web.opened(browser, real, room="meeting") as page:
        web.button(page, "Try a scene").click()
        web.until(page, "s.playback === 'playing' && s.position > 0")
        web.until(page, "s.phase === 'done'")
        page.get_by_label("Name of speaker 1").fill("Miller")
        page.get_by_label("Name of speaker 2").fill("Ferrywoman")
        page.get_by_label("Name of speaker 2").press("Enter")
        page.get_by_label("Position in the meeting").evaluate(
            "one => { one.value = 13.4; one.dispatchEvent(new Event('change')); }"
        )
        web.until(page, "s.player?.phase === 'playing' && s.position > 13.6 * 48000")
        page.wait_for_timeout(250)
        now = web.state(page)
        if os.environ.get("RIVULET_SCREENSHOT"):
            page.set_viewport_size({"width": 1100, "height": page.evaluate("document.body.scrollHeight")})
            page.screenshot(path=Path(os.environ["RIVULET_SCREENSHOT"]) / "meeting.png")
    assert len(now["speakers"]) == 2
    assert now["length"] == now["kept"]["end"]
    errors = error(now["turns"], now["length"])
    assert errors.rate < 0.12, errors
    assert errors.confusion < 0.02 * errors.total, errors


def test_over_webrtc_people_have_lanes_too(browser: Any, tmp_path: Path, real: str) -> None:
    """The fake microphone plays the scene; what comes over the network is heard, and told by the same turns."""
    sound, rate = soundfile.read(DEMO / "scene.ogg", dtype="float32")
    assert rate == RATE
    wav = web.write(tmp_path / "scene.wav", np.concatenate([sound, np.zeros(RATE, np.float32)])[None])
    flags = [*web.FLAGS, f"--use-file-for-fake-audio-capture={wav}"]
    chromium = browser.browser_type.launch(executable_path=web.CHROMIUM, headless=True, args=flags)
    with web.opened(chromium, real, room="meeting") as page:
        option(page, "Carried by", "webrtc")
        web.button(page, "Microphone").click()
        web.until(page, "s.phase === 'hearing' && s.mode === 'speakers'")
        web.button(page, "Listen").click()
        web.until(page, "s.speakers.length === 2 && s.stems.some((stem) => stem.peak > 0.01)")
        now = web.state(page)
        web.button(page, "Stop").click()
        web.until(page, "s.phase === 'done'")
        after = web.state(page)
    chromium.close()
    assert now["transport"] == "webrtc"
    assert now["vital"]["declared"] > 0
    assert after["kept"]["end"] == 0, "over WebRTC no samples come that could be kept"
    assert all(turn["final"] for turn in after["turns"])
