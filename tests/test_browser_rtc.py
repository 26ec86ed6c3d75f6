"""What is WebRTC's own in the browser's library: marks, the server's mix, how calls end and fail, and what is measured."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil
import pytest
import serving
import test_browser_live as live

playwright = live.playwright
pytestmark = live.pytestmark
server = live.server
ENVIRONMENT = {"RIVULET_PRELOAD": '["music"]', "RIVULET_PAGE": str(live.PAGE), "RIVULET_DRAIN_S": "1"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with live.chromium(live.write(tmp_path_factory.mktemp("input") / "band.wav", live.band())) as browser:
        yield browser


def test_marks_come_back_and_what_is_measured_hangs_together(browser: Any, server: str) -> None:
    with live.room(browser, server) as page:
        live.start(page, "webrtc")
        before = live.state(page)["sent"]
        at = page.evaluate("rivulet.mark()")
        now = live.state(page)
        assert before - live.RATE < at <= now["sent"] + live.RATE, "the session's timeline is what was sent"
        assert now["declared"]["ms"] == now["vital"]["declared"]
        live.until(page, "s.measured.ear > 0 && s.media !== null && s.network.roundTrip !== null")
        now = live.state(page)
        assert 0 < now["measured"]["median"] <= now["measured"]["ear"]
        assert now["position"] < now["sent"] + live.RATE
        assert now["network"]["received"] > 100
        assert [now["network"]["lost"], now["media"]["lost"]] == [0, 0]
        live.button(page, "Stop").click()
        live.until(page, "s.phase === 'idle'")
        page.wait_for_function("fetch('/v1/capacity').then((a) => a.json()).then((c) => c.sessions === 0)")


def test_the_servers_mix_is_one_track_with_its_own_gains(browser: Any, server: str) -> None:
    """Asked for by the library itself: the room has no use for it."""
    offers: list[dict[str, Any]] = []
    with live.room(browser, server) as page:

        def as_mix(route: Any) -> None:
            if route.request.method != "POST":
                route.continue_()
                return
            asked = json.loads(route.request.post_data)
            offers.append(asked)
            asked["start"] |= {"output": "mix", "gains": {"vocals": 0, "drums": 0, "other": 0}}
            route.continue_(post_data=json.dumps(asked))

        page.route("**/v1/rtc", as_mix)
        page.get_by_role("radio", name="WebRTC").check()
        live.button(page, "Start").click()
        live.until(page, "s.phase === 'playing' && s.stems.length === 1")
        assert [stem["name"] for stem in live.state(page)["stems"]] == ["mix"]
        assert offers[0]["sdp"].count("m=audio") == 4, "a line a stem, up front"
        opus = re.findall(r"a=fmtp:\S+ (\S*useinbandfec\S*)", offers[0]["sdp"])
        wanted = {"stereo=1", "sprop-stereo=1", "maxaveragebitrate=192000"}
        assert [wanted <= set(line.split(";")) for line in opus] == [True] * 4, "music, in stereo"
        live.button(page, "Listen").click()
        live.until(page, f"s.position > {live.RATE}")
        live.until(page, "s.stems[0].peak > 0.05")  # the bass
        page.evaluate("rivulet.stream().setGains({ bass: 0 })")
        live.until(page, "s.stems[0].peak < 0.005")
        heard = live.sound_of(page.evaluate("record(0.5)"))
        assert 0 <= np.abs(heard).max() < 0.01
        live.button(page, "Stop").click()
        live.until(page, "s.phase === 'idle'")


def nowhere(said: dict[str, Any]) -> dict[str, Any]:
    return said | {"sdp": re.sub(r"(a=candidate:\S+ \d+ \S+ \d+) \S+", r"\1 192.0.2.1", said["sdp"])}


def test_no_way_through_for_the_sound_is_said_so(browser: Any, server: str) -> None:
    """Offer and answer are changed on their way: their candidates lie in a network that is nowhere (RFC 5737)."""
    context = browser.new_context(permissions=["microphone"])
    page = context.new_page()
    page.set_default_timeout(live.WAIT)

    def astray(route: Any) -> None:
        if route.request.method != "POST":
            route.continue_()
            return
        answer = route.fetch(post_data=json.dumps(nowhere(json.loads(route.request.post_data))))
        route.fulfill(response=answer, body=json.dumps(nowhere(answer.json())))

    page.route("**/v1/rtc", astray)
    page.goto(f"http://{server}/#live")
    page.wait_for_function("!document.querySelector('#live-model')?.disabled")
    page.get_by_role("radio", name="WebRTC").check()
    live.button(page, "Start").click()
    error = page.get_by_role("alert")
    playwright.expect(error).to_contain_text("No way was found for the sound", timeout=live.WAIT)
    playwright.expect(error).to_contain_text("use a WebSocket, or a server with TURN")
    assert live.state(page)["phase"] == "idle"
    context.close()


@contextmanager
def again(host: str) -> Iterator[None]:
    """Another server on the port of one that is gone."""
    command = [sys.executable, "-m", "server", "serve", "--port", host.rpartition(":")[2], "--log-level", "warning"]
    process = psutil.Popen(command, cwd=live.ROOT, env={**os.environ, **ENVIRONMENT})
    try:
        yield
    finally:
        process.kill()
        process.wait(20)


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_a_call_is_taken_up_again_by_the_next_server(browser: Any, end: str) -> None:
    """Killed without a word, or sent away, which it announces. Nobody presses a button."""
    with serving.process(**ENVIRONMENT) as (host, process):
        context = browser.new_context(permissions=["microphone"])
        page = context.new_page()
        page.set_default_timeout(live.WAIT)
        page.add_init_script(live.TEXT)
        page.goto(f"http://{host}/#live")
        page.wait_for_function("!document.querySelector('#live-model')?.disabled")
        live.start(page, "webrtc")
        page.get_by_role("button", name="Solo Bass").click()
        page.get_by_role("slider", name="Bass pan").fill("-1")
        page.evaluate("window.bass = rivulet.stream().stems.find((stem) => stem.name === 'bass')")
        live.until(page, "bass.level > 0.02")
        before = live.state(page)
        getattr(process, end)()
        process.wait(20)
        playwright.expect(page.locator("#bar")).to_contain_text("reconnecting", timeout=live.WAIT)
        playwright.expect(page.locator("#live-status")).to_contain_text("The connection was lost. It is looked for")
        mark = page.evaluate_handle("({ at: rivulet.mark() })")  # goes with the next call
        with again(host):
            live.until(page, f"!s.away && s.session !== '{before['session']}' && s.media !== null && bass.level > 0.02")
            playwright.expect(page.locator("#bar")).not_to_contain_text("reconnecting")
            playwright.expect(page.get_by_text("it is a new session")).to_be_visible()
            left, right = live.sound_of(page.evaluate("record(1)"))
            now = live.state(page)
            assert page.evaluate("({ at }) => at", mark) > before["position"], "the timeline goes on"
        context.close()
    assert (now["phase"], now["failure"]) == ("playing", None)
    assert [stem["gain"] for stem in now["stems"]] == [stem["gain"] for stem in before["stems"]] == [0, 0, 1, 0]
    assert now["sent"] + live.RATE > now["position"] > before["position"]
    assert np.abs(left).max() > 0.02, "it is heard again, where it was put"
    assert np.abs(right).max() < 1e-3
    assert live.bands(np.resize(left, live.PERIOD))[:2].max() > live.bands(np.resize(left, live.PERIOD))[3:].max() + 6
