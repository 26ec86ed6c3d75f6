"""The song that comes along, in the rooms that play it, with a real server: also where the README's pictures are taken.

    RIVULET_SCREENSHOT=docs pytest tests/test_browser_demos.py tests/test_browser_speakers.py -k "demo or scene"

keeps karaoke.png, live.png and meeting.png.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browsing as web
import numpy as np
import pytest
import serving
import soundfile

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not web.TRAINED, reason="no trained model for music is embedded"),
]

RATE = web.RATE
SONG = web.ROOT / "clients" / "web" / "public" / "demo" / "song.ogg"
BAR = 2.5  # s: the first has no singer (models/training/demo_song.py)


@pytest.fixture(scope="module")
def song() -> web.Sound:
    """`[2, T]`."""
    sound, rate = soundfile.read(SONG, dtype="float32")
    assert rate == RATE
    return np.asarray(sound.T)


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory, song: web.Sound) -> Path:
    """What Chromium plays into its fake line input: the song without its intro."""
    part = song[:, round(BAR * RATE) : round(9 * BAR * RATE)] * 0.9
    return web.write(tmp_path_factory.mktemp("line") / "song.wav", part)


browser = web.browser


@pytest.fixture(scope="module")
def real() -> Iterator[str]:
    if not (web.PAGE / "index.html").is_file():
        pytest.skip("the page is not built: npm ci && npm run build in clients/web")
    # By count: whether a busy machine could keep its promise is not what is asked here.
    more = {"RIVULET_ADMISSION": "count", "RIVULET_PAGE": str(web.PAGE)}
    with serving.process(RIVULET_PRELOAD='["music"]', **more) as (host, _):
        yield f"http://{host}"


def power(sound: web.Sound) -> float:
    """dB."""
    return float(10 * np.log10(np.square(sound).mean() + 1e-12))


def picture(page: Any, name: str) -> None:
    """All of the room and the bar under it, in one piece."""
    if folder := os.environ.get("RIVULET_SCREENSHOT"):
        page.set_viewport_size({"width": 1100, "height": page.evaluate("document.body.scrollHeight")})
        page.wait_for_timeout(400)  # canvases take their new size
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_the_demo_song_is_taken_apart(browser: Any, real: str, song: web.Sound) -> None:
    with web.opened(browser, real, room="karaoke") as page:
        web.button(page, "Try a song").click()
        web.until(page, "s.complete")
        kept = page.evaluate("Object.entries(rivulet.stems()).map(([name, planes]) => [name, planes.map(asText)])")
        stems = {name: web.sound_of(planes) for name, planes in kept}
        if web.state(page)["phase"] != "playing":
            web.button(page, "Play").click()
        web.until(page, "s.position > 9 * 48000")
        picture(page, "karaoke")
    assert set(stems) == {"vocals", "drums", "bass", "other"}
    together = np.sum(list(stems.values()), axis=0)
    assert abs(together.shape[1] - song.shape[1]) < RATE // 100
    length = min(together.shape[1], song.shape[1])
    assert web.snr(together[:, :length], song[:, :length]) > 30, "the stems sum to the song"
    intro, sung = slice(0, round(0.9 * BAR * RATE)), slice(round(BAR * RATE), round(9 * BAR * RATE))
    for name in ("drums", "bass"):
        assert abs(power(stems[name][:, intro]) - power(stems[name][:, sung])) < 4, "they play from the first bar on"
    rise = power(stems["vocals"][:, sung]) - power(stems["vocals"][:, intro])
    assert rise > 6, f"the singer comes in with the second bar: {rise:.1f} dB"


def test_the_demo_song_through_a_line_input(browser: Any, real: str) -> None:
    with web.opened(browser, real, room="live") as page:
        page.wait_for_function("!document.querySelector('#live-model')?.disabled")
        web.button(page, "Start").click()
        web.until(page, "s.phase === 'playing' && s.stems.length === 4")
        web.button(page, "Listen").click()
        loudest: dict[str, float] = {}
        for _ in range(60):
            page.wait_for_timeout(100)
            for stem in web.state(page)["stems"]:
                loudest[stem["name"]] = max(loudest.get(stem["name"], 0), stem["peak"])
        web.until(page, "s.vital.ear > 0 && s.vital.measured > 0")
        picture(page, "live")
        web.button(page, "Stop").click()
    assert all(peak > 0.05 for peak in loudest.values()), loudest
