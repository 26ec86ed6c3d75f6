"""What the tests of Firefox (bidi.py) and WebKit (webdriver.py) share: the few things that a person does with the page.

Playwright drives Chromium; of the stock builds of others it wants commands that those do not have. An element is an expression
of JavaScript throughout.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import browsing as web

PAGE = web.PAGE
BUILT = (PAGE / "index.html").is_file()


class Driven(Protocol):
    @property
    def complaints(self) -> list[str]: ...

    def evaluate(self, expression: str) -> Any: ...

    def click(self, element: str) -> None:
        """By a mouse, in the middle: browsers let no page sound without it."""

    def choose(self, element: str, path: Path) -> None: ...

    def picture(self, path: Path) -> None: ...

    def wait_for_timeout(self, milliseconds: float) -> None: ...


def wait(page: Driven, condition: str, seconds: float = 90) -> None:
    """Until an expression holds."""
    until = time.monotonic() + seconds
    while not page.evaluate(f"Boolean({condition})"):
        if time.monotonic() > until:
            told = page.evaluate("window.rivulet?.state() ?? null")
            raise AssertionError(f"not in {seconds} s: {condition}\n{told}\n{page.complaints}")
        time.sleep(0.1)


def until(page: Driven, condition: str, seconds: float = 90) -> None:
    """`condition` of `s`, what `rivulet.state()` tells."""
    wait(page, f"(() => {{ const s = rivulet.state(); return {condition}; }})()", seconds)


def button(name: str) -> str:
    return f"[...document.querySelectorAll('button')].find((b) => (b.ariaLabel || b.textContent).trim() === {json.dumps(name)})"


def press(page: Driven, name: str) -> None:
    wait(page, f"{button(name)} && !{button(name)}.disabled")
    page.click(button(name))


def enter(page: Any, host: str, room: str) -> None:
    """A room of the page, loaded and knowing its models."""
    page.goto(f"http://{host}/#{room}")
    wait(page, f"window.rivulet?.state().room === '{room}' && rivulet.state().capacity")
    select = {"karaoke": "#model", "live": "#live-model"}.get(room)
    wait(page, f"!document.querySelector('{select}')?.disabled" if select else "document.querySelector('.sources')")


def one_of(tries: int, act: Callable[[], None]) -> None:
    """A busy machine loses samples of the input too, and nobody counts those: one time of some must be right."""
    for _ in range(tries - 1):
        try:
            return act()
        except AssertionError as error:
            print(error)
    act()


def picture(page: Driven, name: str) -> None:
    if folder := os.environ.get("RIVULET_SCREENSHOT"):
        page.picture(Path(folder) / f"{name}.png")
