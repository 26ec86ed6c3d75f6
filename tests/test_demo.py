"""The song and the scene that ship with the page: what they are, and that the program which made them still makes them."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from streaming import rttm

FOLDER = Path(__file__).parent.parent / "clients" / "web" / "public" / "demo"
RATE = 48000


def shipped(name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """`[T, C]`."""
    sound, rate = soundfile.read(FOLDER / name, dtype="float32", always_2d=True)
    assert rate == RATE
    return np.asarray(sound)


def test_they_are_small_sound_and_loud_enough() -> None:
    for name, channels, seconds in (("song.ogg", 2, 27.5), ("scene.ogg", 1, 31.9)):
        assert (FOLDER / name).stat().st_size < 600_000
        sound = shipped(name)
        assert sound.shape[1] == channels
        assert abs(len(sound) / RATE - seconds) < 0.1
        assert 0.3 < np.abs(sound).max() <= 1.05, "Opus may overshoot by a little"


def test_the_scene_has_two_people_who_pause_and_interrupt_each_other() -> None:
    (said,) = rttm.read((FOLDER / "scene.rttm").read_text(), RATE).values()
    assert {one.speaker for one in said} == {"speaker_1", "speaker_2"}
    sounding = np.zeros((2, max(one.end for one in said)), bool)
    for one in said:
        sounding[int(one.speaker[-1]) - 1, one.start : one.end] = True
    both, nobody = sounding.all(0).sum() / RATE, (~sounding.any(0)).sum() / RATE
    assert both > 1
    assert nobody > 3
    sound = shipped("scene.ogg")[: sounding.shape[1], 0]
    assert np.sqrt((sound[sounding.any(0)] ** 2).mean()) > 30 * np.sqrt((sound[~sounding.any(0)] ** 2).mean())


def same(made: np.ndarray[Any, Any], kept: np.ndarray[Any, Any]) -> float:
    """dB of what is alike over what is not, Opus's own noise included."""
    assert abs(len(made) - len(kept)) <= 1
    length = min(len(made), len(kept))
    return float(10 * np.log10((made[:length] ** 2).sum() / ((made[:length] - kept[:length]) ** 2).sum()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["song", "scene"])
def test_the_program_still_makes_them(name: str) -> None:
    if importlib.util.find_spec("pyworld") is None:  # which cannot be imported bare: see models.training.sing
        pytest.skip("pyworld is not installed")
    for tool in ("espeak-ng", "fluidsynth"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on this machine")
    from models.training import demo, demo_scene, demo_song

    make: dict[str, Callable[[], np.ndarray[Any, Any]]] = {
        "song": lambda: demo.song(demo_song.stems()),
        "scene": lambda: demo_scene.scene()[0].sum(0)[:, None],
    }
    assert same(make[name](), shipped(f"{name}.ogg")) > 15
