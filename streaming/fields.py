"""What each field of a client's message may be. A check takes the field's name and what came, and gives the value.

What is wrong is a ValueError, whose message names what was got and what was expected.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from streaming.turns import MOST

FORMATS: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
MODES = ("separate", "speakers", "diarize")
RATES = (8_000, 192_000)
MAX_TOKEN = 4096  # characters of a resume token
LAST_SAMPLE = 1 << 53  # beyond it JavaScript's numbers skip some


def _text(name: str, value: Any, most: int = 200) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise ValueError(f"got {name} {str(value)[:40]!r}, expected a text of 1 to {most} characters")
    return value


def _one_of(*choices: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"got {name} {str(value)[:40]!r}, expected one of {', '.join(choices)}")
        return value

    return check


def _whole(low: int, high: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"got {name} {str(value)[:40]}, expected a whole number from {low} to {high}")
        return value

    return check


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"got {name} {str(value)[:40]}, expected a number")
    return float(value)


def _between(low: float, high: float, unit: str = "") -> Callable[[str, Any], float]:
    def check(name: str, value: Any) -> float:
        if not low <= (number := _number(name, value)) <= high:
            raise ValueError(f"got {name} {number:g}{unit}, expected {low:g} to {high:g}{unit}")
        return number

    return check


def _names(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= 32 or len(set(map(str, value))) != len(value):
        raise ValueError(f"got {name} {str(value)[:40]}, expected a list of 1 to 32 different names")
    return tuple(_text(name, item) for item in value)


def _gains(name: str, value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ValueError(f"got {name} {str(value)[:40]}, expected an object of stem: gain")
    return {stem: _number(f"gain of {stem[:40]}", gain) for stem, gain in value.items()}


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"got {name} {str(value)[:40]}, expected true or false")
    return value


def _speakers(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"got {name} {str(value)[:40]}, expected an object of options")
    if unknown := set(value) - set(SPEAKERS):
        raise ValueError(
            f"got unknown option {min(unknown)[:40]!r} in speakers, known are {', '.join(sorted(SPEAKERS))}"
        )
    given = {key: SPEAKERS[key](f"{name}.{key}", one) for key, one in value.items() if one is not None}
    if given.get("onset", 1.0) < given.get("offset", 0.0):
        raise ValueError(
            f"got speakers.offset {given['offset']:g} above speakers.onset {given['onset']:g}, expected not above"
        )
    return given


SPEAKERS: dict[str, Callable[[str, Any], Any]] = {
    "max": _whole(1, MOST),
    "diarizer": _text,
    "first": _text,
    "exclude_overlaps": _flag,
    "min_duration_s": _between(0, 10, " s"),
    "gap_threshold_s": _between(0, 10, " s"),
    "buffer_time_s": _between(0, 10, " s"),
    "onset": _between(0.01, 0.99),
    "offset": _between(0.01, 0.99),
}
FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "model": _text,
    "rate": _whole(*RATES),
    "channels": _whole(1, 2),
    "format": _one_of(*FORMATS),
    "stems": _names,
    "output": _one_of("stems", "mix"),
    "gains": _gains,
    "mono": _flag,
    "latency_ms": _number,
    "live": _flag,
    "mode": _one_of(*MODES),
    "speakers": _speakers,
    "token": partial(_text, most=MAX_TOKEN),
    "received": _whole(0, LAST_SAMPLE),
    "id": _text,
}
