"""The page in a real Chromium when its server is killed and started again, and with a server that asks for a key."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import serving
import test_browser as web

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(not web.REAL, reason="the embedded models are not there")]

RATE = web.RATE
ENVIRONMENT = {"RIVULET_SECRET": "the same for all of them", "RIVULET_PRELOAD": '["music", "speech"]'}
microphone, browser = web.microphone, web.browser


@contextmanager
def again(host: str) -> Iterator[psutil.Process]:
    """Another server on the port of one that was killed."""
    command = [sys.executable, "-m", "server", "serve", "--port", host.rpartition(":")[2], "--log-level", "warning"]
    process = psutil.Popen(command, cwd=web.ROOT, env={**os.environ, **ENVIRONMENT})
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)


@contextmanager
def opened(browser: Any, address: str) -> Iterator[Any]:
    """The page. Chromium complains on the console of a server that is away, so the console is not held against it."""
    context = browser.new_context(viewport={"width": 1000, "height": 1000}, permissions=["microphone"])
    page = context.new_page()
    page.set_default_timeout(web.WAIT)
    page.add_init_script(web.TEXT)
    page.goto(address)
    yield page
    context.close()


def ready(page: Any) -> None:
    page.wait_for_function("!document.querySelector('#model').disabled")


def test_a_song_goes_on_over_another_server(browser: Any, tmp_path: Path) -> None:
    song = web.band(30)
    with serving.process(**ENVIRONMENT) as (host, server), opened(browser, f"http://{host}") as page:
        ready(page)
        web.load(page, web.write(tmp_path / "song.wav", song))
        page.evaluate("window.kept = rivulet.keep()")
        web.button(page, "Play").click()
        web.until(page, f"s.phase === 'playing' && s.position > {2 * RATE}")
        server.kill()
        server.wait(20)
        notice = page.locator("#away")
        playwright.expect(notice).to_contain_text("reconnecting")
        web.picture(page, "reconnecting")
        with again(host):
            web.until(page, "s.resumes === 1 && !s.away")
            playwright.expect(notice).to_be_hidden()
            web.until(page, "s.drained")
        kept = page.evaluate("Object.entries(kept.stop()).map(([name, planes]) => [name, planes.map(asText)])")
        assert web.state(page)["failure"] is None
    stems = {name: web.sound_of(planes) for name, planes in kept}
    assert {stem.shape for stem in stems.values()} == {song.shape}
    whole = np.sum(list(stems.values()), axis=0)
    by_second = [web.snr(whole[:, at : at + RATE], song[:, at : at + RATE]) for at in range(0, song.shape[1], RATE)]
    # 21 dB: what lies above the model's rate is missing. With one sample out of place it would be 8.
    assert min(by_second) > 18, "the stems sum to the song, before and after"


def test_what_is_said_while_the_server_is_away_is_separated_too(browser: Any) -> None:
    with serving.process(**ENVIRONMENT) as (host, server), opened(browser, f"http://{host}") as page:
        ready(page)
        web.button(page, "Microphone").click()
        web.until(page, f"s.phase === 'playing' && s.told > {2 * RATE}")
        server.kill()
        server.wait(20)
        playwright.expect(page.locator("#away")).to_contain_text("The microphone goes on being recorded")
        with again(host):
            web.until(page, "s.resumes === 1 && !s.away")
            at = web.state(page)["sent"]
            web.until(page, f"s.told > {at + 2 * RATE}")
            assert web.state(page)["failure"] is None
            web.button(page, "Stop").click()


def test_a_key_in_the_address_lets_the_page_in_and_is_not_kept_there(browser: Any, tmp_path: Path) -> None:
    keys = [{"name": "page", "sha256": hashlib.sha256(b"rk_of_the_page").hexdigest()}]
    requests: list[str] = []
    with serving.process(**ENVIRONMENT, RIVULET_KEYS=json.dumps(keys)) as (host, _):
        with opened(browser, f"http://{host}") as page:
            page.on("request", lambda request: requests.append(request.url))
            page.on("websocket", lambda socket: requests.append(socket.url))
            error = page.get_by_role("alert")
            playwright.expect(error).to_contain_text("This server needs a key: add #key=… to the address")
            page.evaluate("location.hash = 'key=rk_of_the_page'")
            ready(page)
            assert error.is_hidden()
            assert "key" not in page.url
            web.load(page, web.write(tmp_path / "song.wav", web.band(3)))
            web.button(page, "Play").click()
            web.until(page, "s.drained")
            web.button(page, "Stop").click()
            web.button(page, "Play").click()
            web.until(page, "s.drained")
            assert web.state(page)["failure"] is None
    assert sum(url.endswith("/v1/tokens") for url in requests) == 2, "one for each connection"
    assert any(url.startswith("ws:") for url in requests)
    assert not [url for url in requests if re.search("rk_|token[.=]", url)]
