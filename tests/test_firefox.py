"""The page in a stock Firefox, headless: what is heard in each room, and that nothing is complained of.

The microphone is a real one to Firefox: soundcard.py. The page may sound because it was clicked, as everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bidi
import browsing as web
import driving
import numpy as np
import pytest
import serving
import soundcard
from browsing import RATE, Sound
from driving import press, until, wait

live = pytest.importorskip("test_browser_live")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bidi.FIREFOX is None, reason="no Firefox on this machine: apt-get install firefox-esr"),
    pytest.mark.skipif(soundcard.PULSE is None, reason="no sound card to be made: apt-get install pulseaudio"),
    pytest.mark.skipif(not driving.BUILT, reason="the page is not built: make web"),
    pytest.mark.skipif(not web.REAL, reason="no model is embedded"),
]
server, expected = live.server, live.expected


@contextmanager
def room(host: str, name: str, folder: Path, said: Sound | None = None) -> Iterator[bidi.Page]:
    """`said`: `[2, T]`, into the microphone, again and again. At the end the page must not have complained."""
    profile, wav = folder / "profile", None
    profile.mkdir()
    if said is not None:
        wav = live.write(folder / "said.wav", np.tile(said, -(-300 * RATE // said.shape[1])))
    with soundcard.sound_card(wav) as environment, bidi.firefox(profile, environment) as page:
        page.before(live.TEXT)
        driving.enter(page, host, name)
        yield page
        assert page.complaints == []


def test_a_song_is_separated_played_and_sought(server: str, tmp_path: Path) -> None:
    song = web.band(8)
    with room(server, "karaoke", tmp_path) as page:
        assert page.evaluate("rivulet.state().shared"), "the stems go through shared memory"
        page.choose("document.querySelector('#file')", web.write(tmp_path / "song.wav", song))
        until(page, "s.complete")
        kept = page.evaluate("Object.entries(rivulet.stems()).map(([name, planes]) => [name, planes.map(asText)])")
        stems = {name: of_text(planes) for name, planes in kept}
        assert {name: stem.shape for name, stem in stems.items()} == dict.fromkeys(stems, song.shape)
        press(page, "Play")
        until(page, f"s.position > {RATE}")
        press(page, "Pause")
        until(page, "s.player.phase === 'paused'")
        page.click("document.querySelector('[data-stem] canvas')")  # in the middle
        until(page, f"Math.abs(s.position - {4 * RATE}) < {RATE // 10}")
        from_here = page.evaluate("rivulet.state().position")
        press(page, "Mute Vocals")
        page.evaluate("rivulet.tap().then((tap) => { window.tap = tap; })")
        press(page, "Play")
        until(page, "s.phase === 'ended'")
        heard = of_text(page.evaluate("tap.stop().then(({ left, right }) => [asText(left), asText(right)])"))
        rest = np.sum([stem for name, stem in stems.items() if name != "vocals"], axis=0)[:, from_here + RATE // 50 :]
        at = web.lag(heard, rest)
        assert web.snr(heard[:, at : at + rest.shape[1]], rest) > 40
        driving.picture(page, "firefox-karaoke")


def of_text(texts: list[str]) -> Sound:
    return np.asarray(live.sound_of(texts), np.float32)


@pytest.mark.parametrize("transport", live.TRANSPORTS)
def test_every_stem_of_a_live_input_is_what_the_model_makes_of_it(
    server: str, tmp_path: Path, expected: dict[str, dict[str, Sound]], transport: str
) -> None:
    with room(server, "live", tmp_path, live.band()) as page:
        page.evaluate(f"document.querySelector('[name=live-transport][value={transport}]').click()")
        press(page, "Start")
        until(page, "s.phase === 'playing' && s.stems.length === 4")
        press(page, "Listen")
        until(page, f"s.position > {2 * live.PERIOD}")
        for names in (("vocals", "drums"), ("bass", "other")):
            for name, pan in zip(names, (-1, 1), strict=True):
                knob(page, name, solo="true", pan=str(pan))
            driving.one_of(4, lambda pair=names: heard_apart(page, pair, expected[transport]))  # type: ignore[misc]
            for name in names:
                knob(page, name, solo="false")
        assert np.abs(heard_in(page, 0.5)).max() > 0.1
        press(page, "Mute Bass")
        for name in ("Vocals", "Drums", "Other"):
            press(page, f"Mute {name}")
        page.wait_for_timeout(300)
        assert np.abs(heard_in(page, 0.5)).max() < 1e-4
        told = page.evaluate("rivulet.state()")
        assert (told["failure"], told["transport"]) == (None, transport)
        assert [stem["gain"] for stem in told["stems"]] == [0, 0, 0, 0]
        assert abs(told["sent"] - told["position"]) < 2 * RATE, (
            "counted, though Firefox does not say how long packets are"
        )
        driving.picture(page, f"firefox-live-{transport}")
        press(page, "Stop")
        until(page, "s.phase === 'idle'")


def heard_apart(page: bidi.Page, names: tuple[str, str], expected: dict[str, Sound]) -> None:
    heard = live.undisturbed(page, f"record({live.PERIOD / RATE + 0.3})")[:, -live.PERIOD :]
    for side, name in enumerate(names):
        live.check(heard[side], name, side, expected)


def knob(page: bidi.Page, stem: str, **values: str) -> None:
    change = ", ".join(f"{name}: {value}" for name, value in values.items())
    page.evaluate(f"Object.assign(rivulet.stream().stems.find((one) => one.name === '{stem}'), {{ {change} }}) && null")


def heard_in(page: bidi.Page, seconds: float) -> Sound:
    return of_text(page.evaluate(f"record({seconds})"))


def test_a_meeting_has_a_lane_a_person_and_their_turns(server: str, tmp_path: Path) -> None:
    with room(server, "meeting", tmp_path) as page:
        press(page, "Try a scene")
        until(page, "s.phase === 'done'", 180)
        told = page.evaluate("rivulet.state()")
        assert {turn["speaker"] for turn in told["turns"]} >= {0, 1}
        assert all(turn["final"] for turn in told["turns"])
        lanes = page.evaluate("[...document.querySelectorAll('.person')].map((one) => one.ariaLabel)")
        assert lanes[:2] == ["Speaker 1", "Speaker 2"]
        driving.picture(page, "firefox-meeting")


@pytest.mark.parametrize("transport", live.TRANSPORTS)
def test_a_live_meeting_shows_who_speaks(server: str, tmp_path: Path, transport: str) -> None:
    talk = np.concatenate([web.voice(4, pitch=110), web.voice(4, pitch=230)])
    with room(server, "meeting", tmp_path, np.stack((talk, talk))) as page:
        select = "document.querySelector('#meeting-transport')"
        page.evaluate(f"({select}.value = '{transport}')")
        page.evaluate(f"{select}.dispatchEvent(new Event('input', {{ bubbles: true }}))")
        press(page, "Microphone")
        until(page, f"s.phase === 'hearing' && s.transport === '{transport}'")
        until(page, "s.speakers.length >= 1 && s.turns.length >= 1")
        assert page.evaluate("document.querySelectorAll('.person').length") >= 1
        press(page, "Stop")
        until(page, "s.phase === 'done'")
        assert page.evaluate("rivulet.state().failure") is None


OTHER = """new Promise((resolve) => {
  window.other = new WebSocket(`ws://${location.host}/v1/stream`);
  other.onopen = () => other.send(%s);
  other.onmessage = () => resolve(null);
})"""


@pytest.mark.parametrize("transport", live.TRANSPORTS)
def test_a_server_that_is_full_is_waited_for_and_that_is_said(tmp_path: Path, transport: str) -> None:
    """Before there is a stream: `notice` of ConnectOptions."""
    settings = {"page": driving.PAGE, "max_sessions": 1, "origins": ["*"]}
    with serving.running(serving.toy_registry(), **settings) as host, room(host, "live", tmp_path, live.tone()) as page:
        start = serving.start(page.evaluate("document.querySelector('#live-model').value"), rate=RATE)
        page.evaluate(OTHER % json.dumps(start))
        page.evaluate(f"document.querySelector('[name=live-transport][value={transport}]').click()")
        press(page, "Start")
        wait(page, "/Trying again in \\d+ s \\(1 of 5\\)/.test(document.querySelector('.notice').textContent)")
        page.evaluate("other.close()")
        until(page, "s.phase === 'playing'")
        assert page.evaluate("document.querySelector('.notice').hidden"), "it was, and is no more"


@pytest.mark.skipif(Path("/dev/snd").exists(), reason="this machine has a sound card")
def test_a_machine_without_sound_is_told_of_it(server: str, tmp_path: Path) -> None:
    with bidi.firefox(tmp_path, {"PULSE_SERVER": "unix:/nowhere"}) as page:
        driving.enter(page, server, "live")
        press(page, "Start")
        wait(
            page, "document.querySelector('[role=alert]').textContent.startsWith('The browser does not begin to play.')"
        )
        until(page, "s.phase === 'idle'")
