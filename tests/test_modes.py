"""Which model runs a session of which mode."""

from __future__ import annotations

from dataclasses import replace

import pytest
import serving
from toy_diarizer import BySign

from models import toys
from models.chain import Chain
from models.modes import Modes
from models.registry import Entry
from models.speakers import Speakers

LOADS: list[str] = []


def modes() -> Modes:
    LOADS.clear()

    def entry(name: str, **changes: object) -> Entry:
        def load(_: object) -> toys.Split:
            LOADS.append(name)
            spec = replace(toys.Split().spec, name=name, sources=changes.get("sources", ("a", "b")))  # type: ignore[arg-type]
            return toys.Split(spec)

        return replace(serving.entry(toys.Split()), name=name, load=load, **changes)  # type: ignore[arg-type]

    registry = {
        "voices": entry("voices", interchangeable=True),
        "song": entry("song", sources=("vocals", "rest")),
    }
    return Modes(registry, {"by-sign": BySign, "few": lambda: BySign(2)}, lambda: None)


def test_separate_is_the_model_itself() -> None:
    found = modes()
    assert found.entry(found.registry["song"], "separate", {}) is found.registry["song"]


def test_who_can_do_what() -> None:
    found = modes()
    assert found.of(found.registry["voices"]) == ("separate", "speakers", "diarize")
    assert found.of(found.registry["song"]) == ("separate",)
    assert Modes(found.registry, {}, lambda: None).of(found.registry["voices"]) == ("separate",)


def test_options_make_the_model_and_its_name() -> None:
    found = modes()
    options = {"max": 2, "diarizer": "few@0.64s", "buffer_time_s": 0.3}
    entry = found.entry(found.registry["voices"], "speakers", options)
    assert entry.name == "voices+speakers(few@0.64s, 2, 0.5 s)"
    model = entry.load(None)
    assert isinstance(model, Speakers)
    assert model.spec.sources == entry.sources == ("speaker_1", "speaker_2")
    assert model.hop == 6 * 1280
    assert model.options.wait == 50  # rounded up to the next quarter of a second
    assert model.diarizer.spec.speakers == 2


def test_diarize_needs_no_separator() -> None:
    found = modes()
    entry = found.entry(found.registry["voices"], "diarize", {"max": 3})
    assert entry.sources == ()
    assert entry.load(None).spec.sources == ()
    assert LOADS == []


def test_music_first() -> None:
    found = modes()
    entry = found.entry(found.registry["voices"], "speakers", {"first": "song", "max": 2})
    model = entry.load(None)
    assert isinstance(model, Chain)
    assert entry.name == model.spec.name == "song>voices+speakers(by-sign, 2, 0 s)"
    assert (model.spec.rate, model.spec.channels) == (entry.rate, entry.channels)


def test_parts_that_composites_share_are_loaded_once_and_go_with_the_last() -> None:
    found = modes()
    first = found.entry(found.registry["voices"], "speakers", {"max": 2}).load(None)
    second = found.entry(found.registry["voices"], "speakers", {"max": 3}).load(None)
    assert LOADS == ["voices"]
    del first, second
    found.entry(found.registry["voices"], "speakers", {"max": 2}).load(None)
    assert LOADS == ["voices", "voices"]


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("song", {}, "got mode 'speakers' with model 'song', models with that mode here: voices"),
        ("voices", {"diarizer": "other"}, "got diarizer 'other', this server has by-sign, few"),
        ("voices", {"first": "voices"}, "got first 'voices', models with vocals here: song"),
    ],
)
def test_what_is_not_there_is_refused_by_name(model: str, options: dict[str, str], said: str) -> None:
    found = modes()
    with pytest.raises(ValueError, match=said):
        found.entry(found.registry[model], "speakers", options)
