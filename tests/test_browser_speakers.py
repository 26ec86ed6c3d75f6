"""The page with a conversation, in a real Chromium: a lane a person, their turns, their names, and the sound of each.

The server is the stand-in of clients/web/dev, whose conversation is a script: what must be heard, and seen, is known. The
last test asks a real server, where it has speakers.
"""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serving
import test_browser as web

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

RATE = web.RATE
DEV = web.ROOT / "clients" / "web" / "dev"
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
    if not (web.ROOT / "clients" / "web" / "dist" / "index.html").is_file():
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
    with web.opened(browser, site) as page:
        yield page


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven seconds: two people, who overlap."""
    sound = np.concatenate([web.voice(3.8, pitch=110), web.voice(3.2, pitch=230)])
    return web.write(tmp_path_factory.mktemp("talk") / "A talk at the table.wav", sound[None])


def lanes(page: Any) -> list[str]:
    return page.locator(".person").evaluate_all("all => all.map(one => one.ariaLabel)")  # type: ignore[no-any-return]


def into(page: Any, what: str) -> None:
    page.get_by_role("radio", name=what).check()


def test_everybody_gets_a_lane_when_they_first_speak(page: Any) -> None:
    now = page.locator("#people .now")
    web.button(page, "Microphone").click()
    web.until(page, "s.phase === 'playing' && s.mode === 'speakers'")
    assert lanes(page) == []
    playwright.expect(now).to_contain_text("Nobody has spoken yet")
    web.until(page, "s.speakers.length === 1")
    assert lanes(page) == ["Speaker 1"]
    playwright.expect(now).to_have_text("Speaker 1 speaks.")
    assert "speaking" in page.get_by_role("group", name="Speaker 1").get_attribute("class")
    web.until(page, "s.speakers.length === 2")
    assert lanes(page) == ["Speaker 1", "Speaker 2"]
    web.until(page, "s.active.join() === '1'")
    playwright.expect(now).to_have_text("Speaker 2 speaks.")
    assert all(stem["gain"] == 0 for stem in web.state(page)["stems"]), "silent until asked: loudspeakers feed back"
    figures = page.locator("#figures").inner_text()
    assert "by script" in figures
    assert web.state(page)["declared"]["samples"] == 0.4 * RATE

    name = page.get_by_label("Name of speaker 1")
    name.fill("Ada")
    name.press("Enter")
    for control in ("Mute Ada", "Solo Ada"):
        assert web.button(page, control).is_visible()
    assert page.get_by_role("slider", name="Ada volume").is_visible()
    web.button(page, "Stop").click()
    assert lanes(page) == ["Ada", "Speaker 2"], "what was said can still be looked at"
    web.button(page, "Microphone").click()
    web.until(page, "s.phase === 'playing' && s.speakers.length === 1")
    assert lanes(page) == ["Ada"], "a name is kept while the page is open"
    page.get_by_label("Name of speaker 1").fill("")
    page.get_by_label("Name of speaker 1").press("Enter")
    assert lanes(page) == ["Speaker 1"]
    web.button(page, "Stop").click()


def test_a_conversation_from_a_file_sounds_as_its_lanes_say(page: Any, talk: Path) -> None:
    into(page, "Speakers")
    web.load(page, talk)
    heard, stems, first = web.play_through(page, "Mute Speaker 1")
    assert list(stems) == [f"speaker_{n}" for n in (1, 2, 3, 4)]
    assert {stem.shape[1] for stem in stems.values()} == {7 * RATE}, "samples out == samples in"
    expected = stems["speaker_2"][:, first + RATE // 20 :]
    expected = np.repeat(expected, 2, axis=0) if len(expected) == 1 else expected
    at = web.lag(heard, expected)
    assert web.snr(heard[:, at : at + expected.shape[1]], expected) > 40, "with Speaker 1 muted, Speaker 2 alone"
    alone = slice(5 * RATE, 7 * RATE)
    assert np.abs(stems["speaker_2"][:, alone]).max() > 0.1
    assert np.abs(stems["speaker_1"][:, alone]).max() == 0

    told = [(turn["speaker"], turn["start"], turn["end"]) for turn in web.state(page)["turns"]]
    begun = [turn for turn in script() if turn[1] < 7]
    assert told == [(speaker, round(start * RATE), round(min(end, 7) * RATE)) for speaker, start, end in begun]
    page.get_by_text("Turns as a list").click()
    playwright.expect(page.locator(".listed li").first).to_have_text("0:00 to 0:04: Speaker 1")


def test_the_turns_can_be_taken_away(page: Any, talk: Path) -> None:
    into(page, "Speakers")
    web.load(page, talk)
    assert page.locator(".person").count() == 0
    web.button(page, "Play").click()
    web.until(page, "s.speakers.length === 2 && s.drained")
    web.button(page, "Stop").click()
    page.get_by_label("Name of speaker 2").fill("Grace Hopper")
    page.get_by_label("Name of speaker 2").press("Tab")
    files = {}
    for kind in ("RTTM", "JSON"):
        with page.expect_download() as saved:
            web.button(page, f"Save the turns as {kind}").click()
        assert saved.value.suggested_filename == f"A talk at the table.{kind.lower()}"
        files[kind] = Path(saved.value.path()).read_text()
    assert files["RTTM"].splitlines() == [
        "SPEAKER A_talk_at_the_table 1 0.400 3.700 <NA> <NA> Speaker_1 <NA> <NA>",
        "SPEAKER A_talk_at_the_table 1 3.600 3.400 <NA> <NA> Grace_Hopper <NA> <NA>",
    ]
    body = json.loads(files["JSON"])
    assert (body["speakers"], body["diarizer"]) == (["Speaker 1", "Grace Hopper"], "script")
    assert [(turn["start"], turn["end"]) for turn in body["turns"]] == [(0.4, 4.1), (3.6, 7.0)]


def test_music_keeps_its_stems_and_the_keyboard_chooses(page: Any, talk: Path) -> None:
    web.load(page, talk)
    web.button(page, "Play").click()
    web.until(page, "s.stems.length === 4 && s.mode === 'separate'")
    assert page.get_by_role("group", name="Drums").is_visible()
    assert page.locator("#people").is_hidden()
    page.get_by_role("radio", name="Automatic").focus()
    page.keyboard.press("ArrowLeft")
    assert page.get_by_role("radio", name="Speakers").is_checked()
    web.button(page, "Play").click()
    web.until(page, "s.mode === 'speakers' && s.speakers.length > 0")
    assert page.locator("#strips .strip").count() == 0
    assert page.get_by_role("group", name="Speaker 1").is_visible()
    web.button(page, "Stop").click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1000])
def test_it_fits_and_everything_has_a_name(page: Any, talk: Path, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 740})
    into(page, "Speakers")
    web.load(page, talk)
    web.button(page, "Play").click()
    web.until(page, "s.speakers.length === 2 && s.position > 4 * 48000")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    nameless = "e => !(e.ariaLabel || e.labels?.length || e.textContent.trim())"
    assert page.evaluate(f"[...document.querySelectorAll('button, input, select')].filter({nameless}).length") == 0
    painted = """canvas => {
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      return new Set(new Uint32Array(data.buffer)).size;
    }"""
    for canvas in page.locator(".turns").all():
        assert canvas.evaluate(painted) > 3, "turns, their levels and the playhead"
    web.picture(page, f"speakers-{width}-{scheme}")
    web.button(page, "Stop").click()


@pytest.mark.skipif(not web.REAL, reason="the embedded models are not there")
def test_a_real_server_tells_who_speaks(browser: Any, data: Path, tmp_path: Path) -> None:
    import soundfile

    folder = data / "speech" / "librispeech"
    two = [sorted((folder / name).glob("*.flac"))[0] for name in ("83", "8838")]
    sound = np.concatenate([soundfile.read(path, dtype="float32")[0][: 16_000 * 4] for path in two] * 2)
    with serving.process(RIVULET_PRELOAD='["speech"]') as (host, _):
        with urllib.request.urlopen(f"http://{host}/v1/models", timeout=30) as answer:
            if not any("speakers" in model.get("modes", []) for model in json.load(answer)):
                pytest.skip("this server has no speakers")
        with web.opened(browser, f"http://{host}") as page:
            into(page, "Speakers")
            web.load(page, web.write(tmp_path / "two.wav", sound[None], 16_000))
            page.evaluate("window.kept = rivulet.keep()")
            web.button(page, "Play").click()
            web.until(page, "s.drained || s.failure")
            kept = page.evaluate("Object.entries(kept.stop()).map(([name, planes]) => [name, planes.map(asText)])")
            now = web.state(page)
            web.picture(page, "speakers-real")
            web.button(page, "Stop").click()
    assert now["failure"] is None
    assert {web.sound_of(planes).shape[1] for _, planes in kept} == {16 * RATE}
    assert now["declared"]["samples"] > 0
    assert all(turn["final"] for turn in now["turns"])
    assert len(now["speakers"]) >= 2, "each had the floor twice"
