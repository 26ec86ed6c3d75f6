"""The page in WebKitGTK: what a Safari-like browser without WebRTC and without SharedArrayBuffer makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browsing as web
import driving
import numpy as np
import pytest
import soundcard
import webdriver
from browsing import RATE, Sound
from driving import press, until, wait

live = pytest.importorskip("test_browser_live")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        webdriver.WEBKIT is None, reason="no WebKit on this machine: apt-get install webkit2gtk-driver xvfb"
    ),
    pytest.mark.skipif(
        soundcard.PULSE is None, reason="no sound card to be made: apt-get install pulseaudio gstreamer1.0-pulseaudio"
    ),
    pytest.mark.skipif(not driving.BUILT, reason="the page is not built: make web"),
    pytest.mark.skipif(not web.REAL, reason="no model is embedded"),
]
server, expected = live.server, live.expected


@pytest.fixture
def page(tmp_path: Path) -> Iterator[webdriver.Page]:
    wav = live.write(tmp_path / "said.wav", np.tile(live.band(), 100))
    with soundcard.sound_card(wav) as environment, webdriver.webkit(environment) as page:
        yield page
        assert page.complaints == []


def sound(page: webdriver.Page, expression: str) -> dict[str, Sound]:
    """Of an expression that gives `{name: [planes]}`."""
    page.run(live.TEXT)
    texts = page.evaluate(f"Object.entries({expression}).map(([name, planes]) => [name, planes.map(asText)])")
    return {name: np.asarray(live.sound_of(planes), np.float32) for name, planes in texts}


def test_the_song_that_comes_along_is_separated_played_and_sought(server: str, page: webdriver.Page) -> None:
    driving.enter(page, server, "karaoke")
    assert not page.evaluate("rivulet.state().shared"), "stems come as messages"
    press(page, "Try a song")
    until(page, "s.complete")
    stems = sound(page, "rivulet.stems()")
    length = page.evaluate("rivulet.state().duration")
    assert {stem.shape for stem in stems.values()} == {(2, length)}
    assert all(np.abs(stem).max() > 0.01 for stem in stems.values())
    press(page, "Play")
    until(page, f"s.position > {RATE}")
    press(page, "Pause")
    until(page, "s.player.phase === 'paused'")
    page.click("document.querySelector('[data-stem] canvas')")  # in the middle
    until(page, f"Math.abs(s.position - {length // 2}) < {RATE}")
    first = page.evaluate("rivulet.state().position")
    press(page, "Mute Vocals")
    page.evaluate("rivulet.tap().then((tap) => { window.tap = tap; })")
    press(page, "Play")
    until(page, f"s.position > {first + 5 * RATE}")
    heard = sound(page, "await tap.stop().then(({ left, right }) => ({ heard: [left, right] }))")["heard"]
    rest = np.sum([stem for name, stem in stems.items() if name != "vocals"], axis=0)
    rest = rest[:, first + RATE // 10 : first + 4 * RATE]
    at = web.lag(heard, rest)
    assert web.snr(heard[:, at : at + rest.shape[1]], rest) > 40
    assert page.evaluate("rivulet.state().failure") is None
    driving.picture(page, "webkit-karaoke")


def test_a_live_input_over_a_websocket(
    server: str, page: webdriver.Page, expected: dict[str, dict[str, Sound]]
) -> None:
    driving.enter(page, server, "live")
    press(page, "Start")
    until(page, f"s.phase === 'playing' && s.stems.length === 4 && s.position > {2 * live.PERIOD}")

    def a_period() -> None:
        page.evaluate("(window.kept = rivulet.keep(), null)")
        until(page, f"s.told > {page.evaluate('rivulet.state().told') + live.PERIOD + RATE}")
        stems = sound(page, "kept.stop()")
        assert list(stems) == ["vocals", "drums", "bass", "other"]
        for name, stem in stems.items():
            live.check(stem[0][-live.PERIOD :], name, 0, expected["websocket"])

    driving.one_of(4, a_period)
    assert page.evaluate("rivulet.state().failure") is None
    press(page, "Stop")
    until(page, "s.phase === 'idle'")


def test_what_is_not_there_is_said(server: str, page: webdriver.Page) -> None:
    driving.enter(page, server, "live")
    assert page.evaluate("document.querySelector('[name=live-transport][value=webrtc]').disabled")
    assert page.evaluate("document.querySelector('#live-output').disabled"), "nor a choice of loudspeakers"
    wait(page, "document.body.textContent.includes('This browser has no WebRTC: open the page in Chrome')")
    driving.picture(page, "webkit-live")
    driving.enter(page, server, "meeting")
    assert page.evaluate("document.querySelector('#meeting-transport option[value=webrtc]').disabled")
    driving.picture(page, "webkit-meeting")


def test_a_meeting_has_a_lane_a_person_and_their_turns(server: str, page: webdriver.Page) -> None:
    driving.enter(page, server, "meeting")
    press(page, "Try a scene")
    until(page, "s.phase === 'done'", 180)
    told: dict[str, Any] = page.evaluate("rivulet.state()")
    assert {turn["speaker"] for turn in told["turns"]} >= {0, 1}
    assert page.evaluate("document.querySelectorAll('.person').length") >= 2
