"""Separators that tell who speaks: in the stitching, as the diarizer of a session, and as both at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serving
import streams
import test_stitched
import zoo
from checkpoints_pyannote import make_totatonet, tiny_totatonet
from test_stitched import Bands, bands, leak, timbre, tones
from test_totatonet import pyannote, theirs  # noqa: F401  # a fixture

from models import diarizers, registry, totatonet
from models.diarizer import FRAME
from models.hearing import Hearing, Padded, heard
from models.hearing_diarizer import HearingDiarizer
from models.modes import Modes
from models.speakers import Speakers
from models.stitched import Stitched
from streaming.framing import Array, Framing

RATE = 16000
LEAK = 0.8


class Timbre:
    width = 32

    @staticmethod
    def apart(pcm: Sequence[Array]) -> Array:
        return timbre(pcm)


@dataclass
class Leaky(Bands):
    """Each output has much of the other, too: nobody is ever alone by level. `hears` what is its own."""

    frame: int = 128
    windows: int = 0

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
        return self.both(pcm)[0], list(states)

    def both(self, pcm: Array) -> tuple[Array, Array]:
        self.windows += 1
        own, _ = super().run(pcm, [None] * len(pcm))
        frames = pcm.shape[2] // self.frame
        level = np.square(own[:, :, 0, : frames * self.frame]).reshape(*own.shape[:2], frames, self.frame).mean(3)
        spoken = np.where(level > 1e-3, 0.9, 0.1).astype(np.float32).transpose(0, 2, 1)
        return own + np.float32(LEAK) * own[:, ::-1], spoken


def leaky(order: str = "chance", hop: int = 7680) -> Leaky:
    framing = Framing(window=40960, hop=hop, context=40960 - hop - 4080, lookahead=3280)
    return Leaky(replace(bands(framing=framing).spec, name="leaky"), order)


class Deaf:
    """The same without ears."""

    def __init__(self, inner: Leaky) -> None:
        self.inner, self.spec = inner, inner.spec

    def start(self) -> None:
        return None

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
        return self.inner.run(pcm, states)


def talk(overlap: float = 0.0) -> Array:
    """`[2, T]`: turns of three seconds, each person's second after a silence."""
    low, high = [(0.5, 3.5), (8.0, 11.0)], [(3.5 - overlap, 6.5), (11.0 - overlap, 14.0), (15.5, 17.0)]
    return tones(18, RATE, low, high)


# --- what a window tells ---


def test_the_samples_have_the_networks_own_probabilities(tmp_path: Path) -> None:
    model = totatonet.load(tiny_totatonet(tmp_path / "m"))
    assert isinstance(model, Hearing)
    pcm = np.stack([zoo.audio(1, 8000, seed) for seed in range(2)])
    stems, _, spoken = heard(model, pcm, [None, None])
    want, activity = model.both(pcm)
    assert spoken is not None
    np.testing.assert_array_equal(stems, want)
    np.testing.assert_array_equal(spoken[:, :, 64 : 62 * 128 : 128], activity.transpose(0, 2, 1))
    np.testing.assert_array_equal(spoken[:, :, 62 * 128 :], activity[:, -1:].transpose(0, 2, 1).repeat(64, 2))
    deaf = bands()
    assert not isinstance(deaf, Hearing)
    assert heard(deaf, pcm, [None, None])[2] is None


def test_what_is_told_is_pyannotes_activity_of_the_window(pyannote: Any, tmp_path: Path) -> None:  # noqa: F811
    """A stream as long as one window: what it makes final last, before the cross-fade, is that window's alone."""
    folder = make_totatonet(tmp_path / "m", duration=1.0)
    model = totatonet.load(folder)
    diarizer = HearingDiarizer(model)
    framing = diarizer.windows.framing
    pcm = zoo.audio(1, framing.hop * (16000 // framing.hop))
    window = np.pad(pcm, ((0, 0), (16000 - pcm.shape[1], 0)))
    _, want = theirs(pyannote, folder, window[None])
    (probs,), (state,) = diarizer.run([pcm[0]], [diarizer.start()])
    order = state.inner.align.order
    known = np.repeat(want[0], 128, 0)  # by samples of the window
    for frame in (len(probs) - 1, len(probs) - 2):
        end = framing.window - pcm.shape[1] + FRAME * frame + FRAME // 2
        mean = known[end - FRAME : end].mean(0)
        assert np.ptp(mean) > 1e-3
        given = np.append(mean, 0)[list(order)]  # the silent output is nobody's
        np.testing.assert_allclose(probs[frame], given, atol=1e-5)


def test_silent_outputs_are_added(tmp_path: Path) -> None:
    inner = totatonet.load(tiny_totatonet(tmp_path / "m"))
    padded = Padded(inner, 5)
    pcm = zoo.audio(1, 8000)[None]
    stems, spoken = padded.both(pcm)
    assert (stems.shape, spoken.shape) == ((1, 5, 1, 8000), (1, 62, 5))
    np.testing.assert_array_equal(stems[:, :3], inner.both(pcm)[0])
    assert not stems[:, 3:].any()
    assert not spoken[..., 3:].any()
    assert len(Padded(inner, 2).spec.sources) == 3


# --- stitching ---


@pytest.mark.parametrize(("law", "more"), test_stitched.LAWS, ids=lambda part: getattr(part, "__name__", str(part)))
@pytest.mark.parametrize("name", ["stitched", "speakers"])
def test_it_keeps_the_laws(name: str, law: Any, more: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    inner = leaky("fixed", 3840)

    def made(_: str) -> Any:
        ears = HearingDiarizer(inner, Timbre())
        both = Speakers(ears.windows, ears, memory=3 * RATE)
        return Stitched(inner, timbre) if name == "stitched" else both

    monkeypatch.setattr(zoo, "load", made)
    law(name, *more)


def test_the_order_rests_on_who_speaks_and_not_on_levels() -> None:
    """By level nobody is ever alone, so no voice is learned; by activity voices come back to their tracks after a silence."""
    rows = tones(20, RATE, [(0, 3), (13, 17)], [(3, 6), (17, 20)])
    inner = leaky("louder")
    want = rows + np.float32(LEAK) * rows[::-1]
    by_ear = streams.stems(streams.run(Stitched(inner, timbre), [rows.sum(0)[None]]))[:, 0]
    by_level = streams.stems(streams.run(Stitched(Deaf(inner), timbre), [rows.sum(0)[None]]))[:, 0]

    def wrong(tracks: Array) -> float:
        return min(float(np.square(tracks[list(o)] - want).sum() / np.square(rows).sum()) for o in ((0, 1), (1, 0)))

    assert wrong(by_ear) < 0.02
    assert wrong(by_level) > 0.03  # all of the last turns; the outputs differ by little


def test_activity_is_told_with_the_sound_it_is_of() -> None:
    rows, stitched = talk(), Stitched(leaky("louder"), timbre)
    hop, late, state = stitched.framing.hop, stitched.spec.framing.delay, stitched.start()
    spoken, tracks = [], []
    for at in range(0, rows.shape[1] // hop * hop, hop):
        told, (state,) = stitched.run(rows.sum(0)[None, None, at : at + hop], [state])
        assert state.spoken is not None
        assert state.spoken.shape == (2, hop)
        spoken.append(state.spoken)
        tracks.append(told[0, :, 0])
    active = np.concatenate(spoken, 1)[:, late:] > 0.5
    truth = np.abs(rows[:, : active.shape[1]]) > 0
    assert max((active == truth).mean(), (active[::-1] == truth).mean()) > 0.98


# --- the diarizer ---


def errors(probs: Array, rows: Array) -> float:
    """The share of frames of speech in which somebody else is told, by the best naming."""
    truth = np.abs(rows[:, : len(probs) * FRAME]).reshape(2, -1, FRAME).max(2).T > 0
    told = probs > 0.5
    wrong = min(float((told[:, [a, b]] != truth).sum()) for a in range(4) for b in range(4) if a != b)
    return wrong / float(truth.sum())


def told(ears: HearingDiarizer, pcm: Array, sizes: Sequence[int]) -> tuple[Array, Array]:
    """All probabilities and all that was separated, packet by packet; each frame when the profile says."""
    profile = next(iter(ears.spec.profiles.values()))
    state, probs, sound, at = ears.start(), [], [], 0
    for part in streams.chop(pcm[None], sizes):
        (row,), (state,) = ears.run([part[0]], [state])
        probs.append(row)
        sound.append(state.sources)
        at += part.shape[1]
        assert at - FRAME * sum(map(len, probs)) <= profile.latency
    probs.append(ears.finish(state))
    return np.concatenate(probs), np.concatenate(sound, 1)


def test_who_speaks_is_told_by_its_ears_and_voices() -> None:
    rows = talk(overlap=0.5)
    ears = HearingDiarizer(leaky("chance"), Timbre())
    probs, _ = told(ears, rows.sum(0), [rows.shape[1]])
    assert probs.shape == (rows.shape[1] // FRAME, 4)
    assert errors(probs, rows) < 0.05
    assert (probs > 0.5).sum(1).max() == 2


def test_packets_neighbours_and_repetition_change_nothing() -> None:
    rows = talk(overlap=0.5)[:, : 8 * RATE]
    pcm, ears = rows.sum(0), HearingDiarizer(leaky("chance"), Timbre())
    whole, sound = told(ears, pcm, [len(pcm)])
    parts, more = told(ears, pcm, [777, 1, 0, 20_000])
    np.testing.assert_array_equal(parts, whole)
    np.testing.assert_array_equal(more, sound)
    other = zoo.audio(1, 30_000)[0]
    start = ears.start()
    (alone,), _ = ears.run([pcm], [start])
    (_, beside), _ = ears.run([other, pcm], [ears.start(), start])
    np.testing.assert_allclose(beside, alone, atol=1e-6)
    (nothing,), (same,) = ears.run([pcm[:0]], [start])
    assert nothing.shape == (0, 4)
    assert same.heard == 0


def test_a_state_is_as_large_as_is_said() -> None:
    ears = HearingDiarizer(leaky(), Timbre())
    pcm = np.tile(talk(), (1, 5)).sum(0)
    _, (state,) = ears.run([pcm], [ears.start()])
    pieces = state.inner.align.pieces
    assert pieces is not None
    arrays = [
        state.waiting,
        state.spoken,
        state.inner.audio,
        state.inner.open,
        state.inner.align.tail,
        state.inner.spoken,
    ]
    held = sum(part.nbytes for part in arrays if part is not None) + sum(part.nbytes for part in vars(pieces).values())
    assert held <= ears.state_bytes()


def test_what_cannot_hear_is_refused() -> None:
    with pytest.raises(ValueError, match="got bands at 16000 Hz, expected a separator that tells who speaks"):
        HearingDiarizer(bands())
    ears = HearingDiarizer(leaky())
    with pytest.raises(ValueError, match="got profile '9s', leaky has"):
        ears.start("9s")
    with pytest.raises(ValueError, match="2 arrays of pcm, expected one for each of 1"):
        ears.run([np.zeros(1, np.float32)] * 2, [ears.start()])
    with pytest.raises(ValueError, match=r"expected \[T\] float32"):
        ears.run([np.zeros(1)], [ears.start()])


# --- speakers ---


def test_one_run_of_the_model_separates_and_tells_who_speaks() -> None:
    rows = talk(overlap=1.0)
    inner = leaky("chance")
    ears = HearingDiarizer(inner, Timbre(), people=2)
    model = Speakers(ears.windows, ears)
    out = streams.stems(streams.run(model, [rows.sum(0)[None]]))[:, 0]
    windows = -(-(rows.shape[1] + model.spec.framing.delay) // model.hop)
    assert inner.windows <= windows + 1
    assert model.spec.size == ears.spec.size
    people = [int(np.abs(out[:, at * RATE : (at + 1) * RATE]).sum(1).argmax()) for at in (1, 5)]
    assert sorted(people) == [0, 1]
    alone = slice(round(8.5 * RATE), round(9.5 * RATE))
    np.testing.assert_allclose(out[people[0], alone], rows[0, alone], atol=1e-6)  # the microphone itself
    both = slice(round(10.2 * RATE), round(10.8 * RATE))
    want = rows + np.float32(LEAK) * rows[::-1]
    assert np.abs(out[people, both] - want[:, both]).max() < 0.01 * np.abs(want[:, both]).max()
    together = (rows != 0).all(0)
    assert leak(out[people], np.where(together, want, rows)) < 0.01


def test_a_models_name_is_that_of_its_ears() -> None:
    entry = replace(serving.entry(leaky()), name="meeting", interchangeable=True, hears=True, load=lambda _: leaky())
    deaf = replace(entry, name="deaf", hears=False, load=lambda _: bands())
    modes = Modes({"meeting": entry, "deaf": deaf}, {"other": lambda: HearingDiarizer(leaky())}, Timbre)  # type: ignore[arg-type]
    model = modes.entry(entry, "speakers", {"diarizer": "meeting", "max": 3}).load(None)
    assert isinstance(model, Speakers)
    assert model.own is model.diarizer
    assert model.spec.sources == ("speaker_1", "speaker_2", "speaker_3")
    told_only = modes.entry(entry, "diarize", {"diarizer": "meeting"}).load(None)
    assert isinstance(told_only, Speakers)
    assert told_only.diarizer is model.diarizer
    assert told_only.spec.sources == ()
    assert modes.entry(entry, "speakers", {}).load(None).own is None  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="got diarizer 'meeting', this server has other"):
        modes.entry(deaf, "speakers", {"diarizer": "meeting"})
    with pytest.raises(ValueError, match="got diarizer 'nobody', this server has other, meeting"):
        modes.entry(entry, "speakers", {"diarizer": "nobody"})


def test_the_operator_names_a_pipelines_folder(tmp_path: Path) -> None:
    folder = tiny_totatonet(tmp_path / "m")
    assert registry.from_path("meeting", folder).hears
    found = diarizers.build({"meeting": folder})["meeting"]()
    assert isinstance(found, HearingDiarizer)
    assert (found.spec.name, found.spec.speakers) == ("meeting", 4)
    assert diarizers.find(str(folder)).spec.version == found.spec.version
