"""The page around the rooms, in a real Chromium: going from room to room, the bar, the keyboard, phones, and who cannot see."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import browsing as web
import pytest
import serving

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

AXE = web.ROOT / "clients" / "web" / "node_modules" / "axe-core" / "axe.min.js"
KEY = "rk_of_the_page"
KEYS = json.dumps([{"name": "page", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}])
ROOMS = {"karaoke": "Karaoke", "live": "Live mix", "meeting": "Meeting"}
microphone, browser = web.microphone, web.browser


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    if not (web.PAGE / "index.html").is_file() or not web.REAL:
        pytest.skip(
            "the page is not built (npm ci && npm run build in clients/web), or the embedded models are not there"
        )
    # By count: whether a busy machine could keep its promise is not what is asked here.
    with serving.process(RIVULET_ADMISSION="count", RIVULET_PAGE=str(web.PAGE)) as (host, _):
        yield f"http://{host}"


@pytest.fixture
def page(browser: Any, site: str) -> Iterator[Any]:
    with web.opened(browser, site, room="meeting") as page:
        yield page


def go(page: Any, room: str) -> None:
    page.get_by_role("link", name=ROOMS[room]).click()
    web.until(page, f"s.room === '{room}' && document.querySelector('main h1')")


def test_one_room_is_open_and_the_address_says_which(page: Any, site: str) -> None:
    for room, title in ROOMS.items():
        go(page, room)
        assert page.url == f"{site}/#{room}"
        assert page.title() == f"{title} · Rivulet"
        current = page.locator("nav [aria-current=page]")
        assert current.all_inner_texts() == [title]
        assert page.locator("main h1").count() == 1
    page.go_back()
    web.until(page, "s.room === 'live'")
    page.goto(f"{site}/")
    web.until(page, "s.room === 'karaoke'")


def test_a_room_that_is_left_leaves_nothing_open(page: Any) -> None:
    lines: list[Any] = []
    page.on("websocket", lambda line: lines.append(line))
    page.evaluate("""() => {
      const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      window.asked = [];
      navigator.mediaDevices.getUserMedia = async (...wish) => { const got = await ask(...wish); asked.push(got); return got; };
    }""")
    web.button(page, "Microphone").click()
    web.until(page, "s.phase === 'hearing' && s.sent > 0")
    assert [line.is_closed() for line in lines] == [False]
    assert page.evaluate("rivulet.state().vital.declared") > 0
    go(page, "karaoke")
    page.wait_for_function("asked.every((sound) => sound.getTracks().every((track) => track.readyState === 'ended'))")
    for _ in range(100):
        if all(line.is_closed() for line in lines):
            break
        page.wait_for_timeout(50)
    assert [line.is_closed() for line in lines] == [True]
    assert page.evaluate("rivulet.state().vital.declared") is None, "the bar speaks of the room that is open"
    go(page, "meeting")
    assert web.state(page)["phase"] == "idle"


def test_the_bar_tells_of_the_server_and_of_what_is_wrong(browser: Any, site: str) -> None:
    bar = "#bar"
    with web.opened(browser, site, room="meeting") as page:
        playwright.expect(page.locator(f"{bar} .link")).to_have_text("Server reached")
        web.until(page, "s.capacity !== null")
        playwright.expect(page.locator(f"{bar} .vitals")).to_contain_text("%")
        page.evaluate(
            "() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotFoundError')); }"
        )
        web.button(page, "Microphone").click()
        alert = page.get_by_role("alert")
        playwright.expect(alert).to_contain_text("No microphone was found. Plug one in")
        assert web.state(page)["failure"]["code"] == "not_found"
        assert alert.bounding_box()["y"] + alert.bounding_box()["height"] <= page.viewport_size["height"]
        web.button(page, "Dismiss").click()
        assert alert.count() == 0
        assert web.state(page)["failure"] is None


def test_a_key_opens_the_server_and_leaves_the_address(browser: Any) -> None:
    with serving.process(RIVULET_KEYS=KEYS, RIVULET_PAGE=str(web.PAGE)) as (host, _):
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://{host}/#live")
        playwright.expect(page.get_by_role("alert")).to_contain_text("#key=")
        page.goto(f"http://{host}/#meeting&key={KEY}")
        page.wait_for_function("rivulet.state().capacity !== null")
        assert page.url == f"http://{host}/#meeting="
        assert page.get_by_role("alert").count() == 0
        page.evaluate(f"location.hash = 'key={KEY}'")
        page.wait_for_function("location.hash === ''")
        assert web.state(page)["room"] == "meeting", "a key alone takes nobody away"
        context.close()


def test_the_keyboard_reaches_everything_in_its_order(page: Any) -> None:
    page.evaluate("document.activeElement.blur()")
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        text = page.evaluate(
            "(e => e === document.body ? '' : e.labels?.[0]?.textContent || e.ariaLabel || e.textContent)"
            "(document.activeElement)"
        )
        if text == "" or text in seen:
            break
        seen.append(text)
        outline = page.evaluate("(e => getComputedStyle(e.closest('.drop') ?? e).outlineStyle)(document.activeElement)")
        assert outline == "solid", f"nobody sees where the keyboard is: {text}"
    assert seen[:6] == ["Skip to the room", "Karaoke", "Live mix", "Meeting", "Microphone", "Tab audio"]
    assert seen[6].startswith("A recording")
    page.get_by_role("link", name="Karaoke").focus()
    page.keyboard.press("Enter")
    web.until(page, "s.room === 'karaoke'")
    web.button(page, "Skip to the room").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "room"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_rooms_fit_a_phone_and_pass_axe(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": 360, "height": 740})
    if AXE.is_file():
        page.evaluate(AXE.read_text())
    for room in ROOMS:
        go(page, room)
        for more in page.locator("details:not([open]) > summary").all():
            if more.is_visible():
                more.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, room
        assert page.evaluate(CROWDED) == [], f"{room}: too small for a thumb"
        if AXE.is_file():
            assert page.evaluate(FOUND) == [], room
        web.picture(page, f"{room}-360-{scheme}")


# Buttons and links of a text are as tall as a finger at least (WCAG 2.2, 2.5.8: 24 CSS pixels).
CROWDED = """[...document.querySelectorAll('main button, nav a, main select')]
  .filter((one) => one.checkVisibility()).map((one) => [one.textContent, one.getBoundingClientRect()])
  .filter(([, box]) => box.height < 24 || box.width < 24).map(([text]) => text)"""
FOUND = """axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa'] }).then(({ violations }) => violations.map(
  ({ id, nodes }) => `${id}: ${nodes.map((node) => node.target + ' ' + (node.any[0]?.message ?? '')).join('; ')}`))"""
