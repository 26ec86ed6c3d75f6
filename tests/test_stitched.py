"""A windowed separator made continuous: the laws of every model, and that a voice stays where it is."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import streams
import test_laws
import zoo

from models.diarizer import FRAME
from models.separator import Spec
from models.stitched import VOICE, Stitched, voice
from models.stitched_trials import Afresh, Once, Oracle, Ordered, Reference, best_tracks, window_of
from streaming.align_cues import Rules
from streaming.framing import Array, Framing

EDGE = 1500  # Hz


@dataclass
class Bands:
    """Separates what is below `EDGE` from what is above, window by window: always so, the louder first, or by chance."""

    spec: Spec
    order: str

    def start(self) -> None:
        return None

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
        spectrum = np.fft.rfft(pcm, axis=2)
        low = np.fft.rfftfreq(pcm.shape[2], 1 / self.spec.rate) < EDGE
        stems = np.stack([np.fft.irfft(spectrum * keep, pcm.shape[2], axis=2) for keep in (low, ~low)], 1)
        for row, window in zip(stems, pcm, strict=True):
            louder = self.order == "louder" and np.square(row[1]).sum() > np.square(row[0]).sum()
            if louder or (self.order == "chance" and zlib.crc32(window.tobytes()) % 2):
                row[:] = row[::-1].copy()
        return np.ascontiguousarray(stems, np.float32), list(states)


def bands(rate: int = 16000, framing: Framing | None = None, order: str = "chance") -> Bands:
    framing = framing or Framing(window=12000, hop=4000, context=2400, lookahead=1600)
    return Bands(Spec("bands", rate, 1, ("a", "b"), framing, windows=(framing.window,), interchangeable=True), order)


def timbre(sounds: Sequence[Array]) -> Array:
    """An encoder: the spectrum in 32 bands without its mean, of unit length, `[B, T] -> [B, 32]`."""
    pcm = np.stack(sounds)
    spectrum = np.abs(np.fft.rfft(pcm, axis=1))[:, : 32 * (pcm.shape[1] // 64)].reshape(len(pcm), 32, -1).mean(2)
    shape = np.log(spectrum + 1e-5)
    shape = shape - shape.mean(1, keepdims=True)
    return np.asarray(shape / (np.linalg.norm(shape, axis=1, keepdims=True) + 1e-9), np.float32)


def tones(seconds: float, rate: int, low: Sequence[tuple[float, float]], high: Sequence[tuple[float, float]]) -> Array:
    """`[2, T]`: noise below and above `EDGE`, each sounding in these spans of seconds."""
    noise = np.random.default_rng(4).standard_normal(int(seconds * rate))
    spectrum = np.fft.rfft(noise)
    hertz = np.fft.rfftfreq(len(noise), 1 / rate)
    rows = np.stack([np.fft.irfft(spectrum * band, len(noise)) for band in (hertz < 0.9 * EDGE, hertz > 1.1 * EDGE)])
    for row, spans in zip(rows, (low, high), strict=True):
        on = np.zeros(len(noise), bool)
        for start, end in spans:
            on[int(start * rate) : int(end * rate)] = True
        row *= 0.1 * on / row.std()
    return np.asarray(rows, np.float32)


def active(rows: Array, rate: int) -> Array:
    frame = rate // 100
    return (np.square(rows[:, : rows.shape[1] // frame * frame].reshape(len(rows), -1, frame)).mean(2) > 1e-5).T.astype(
        np.float32
    )


def kinds() -> dict[str, Stitched]:
    known = Reference(np.eye(2, dtype=np.float32)[np.arange(400) // 50 % 2], 0.0, 0)
    wide = Framing(window=6000, hop=1000, context=0, lookahead=0)
    return {
        "plain": Stitched(bands(order="fixed")),
        "three cues": Stitched(bands(order="fixed"), timbre, known),
        "8 kHz, three cues": Stitched(bands(8000, order="fixed"), timbre, known),
        "many windows meet": Stitched(bands(order="fixed", framing=wide)),
    }


LAWS = [
    (test_laws.test_law_1_any_chunking_gives_the_same_samples, ()),
    (test_laws.test_law_2_samples_out_equal_samples_in, ()),
    (test_laws.test_law_3_heard_minus_told_stays_below_the_declared_latency, (None,)),
    (test_laws.test_law_3_heard_minus_told_stays_below_the_declared_latency, (48_000,)),
    (test_laws.test_law_4_streaming_equals_the_whole_file_oracle, ()),
    (test_laws.test_law_4_a_stateful_model_is_the_same_at_any_multiple_of_its_hop, ()),
    (test_laws.test_a_stream_that_was_cut_off_goes_on_as_if_it_had_not_been, (None,)),
    (test_laws.test_law_5_a_row_does_not_depend_on_its_neighbours, ()),
    (test_laws.test_law_5_a_state_is_a_value, ()),
    *((test_laws.test_finite_input_gives_finite_output, (kind,)) for kind in ("silence", "dc", "denormal", "loudest")),
]


@pytest.mark.parametrize("name", list(kinds()))
@pytest.mark.parametrize(("law", "more"), LAWS, ids=lambda part: getattr(part, "__name__", str(part)))
def test_it_keeps_the_laws(name: str, law: Any, more: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "load", lambda _: kinds()[name])
    law(name, *more)


def test_it_is_the_pipeline_with_the_same_framing() -> None:
    """Where the order is not in question: what cut and join make of the windows, on a grid shifted by the delay."""
    inner = bands(order="fixed")
    stitched = Stitched(inner)
    assert stitched.spec.framing.latency == inner.spec.framing.latency
    pcm = zoo.audio(1, 40_000)
    delay = stitched.spec.framing.delay
    shifted = np.pad(pcm, ((0, 0), (delay, 0)))
    expected = streams.stems(streams.run(inner, [shifted]))[..., delay:]
    np.testing.assert_allclose(streams.stems(streams.run(stitched, [pcm])), expected, atol=2e-5)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_voice_stays_on_its_track(rate: int) -> None:
    rows = tones(8, rate, [(0, 8)], [(0, 8)])
    raw = streams.stems(streams.run(bands(rate), [rows.sum(0)[None]]))[:, 0]
    told = streams.stems(streams.run(Stitched(bands(rate)), [rows.sum(0)[None]]))[:, 0]
    assert leak(raw, rows) > 0.1
    assert leak(told, rows) < 1e-3


def leak(tracks: Array, rows: Array) -> float:
    """The share of energy that is on the wrong track."""
    errors = [np.square(tracks[list(order)] - rows).sum() for order in ((0, 1), (1, 0))]
    return float(min(errors) / np.square(rows).sum())


@pytest.mark.parametrize("silence", [3.0, 7.0])
@pytest.mark.parametrize("cue", ["encoder", "diarizer"])
def test_a_voice_comes_back_to_its_track_after_a_silence(cue: str, silence: float) -> None:
    """The louder output comes first: so whoever speaks first after a silence comes where the last one spoke."""
    back = 6 + silence
    rows = tones(back + 7, 16000, [(0, 3), (back, back + 4)], [(3, 6), (back + 4, back + 7)])
    inner = bands(framing=Framing(window=40000, hop=10000, context=5000, lookahead=5000), order="louder")
    encoder, diarizer = (timbre, None) if cue == "encoder" else (None, Reference(active(rows, 16000), 0.0, 0))
    told = streams.stems(streams.run(Stitched(inner, encoder, diarizer), [rows.sum(0)[None]]))[:, 0]
    overlap_only = streams.stems(streams.run(Stitched(inner), [rows.sum(0)[None]]))[:, 0]
    assert leak(overlap_only, rows) > 0.8
    assert leak(told, rows) < 0.3  # the first moments after the silence are a guess


def test_margin_and_swaps_are_told() -> None:
    rows = tones(6, 16000, [(0, 6)], [(0, 6)])
    stitched = Stitched(bands())
    state = stitched.start()
    hop = stitched.spec.framing.hop
    swaps, margins = [], []
    for index in range(rows.shape[1] // hop):
        _, (state,) = stitched.run(rows.sum(0)[None, None, index * hop : (index + 1) * hop], [state])
        swaps.append(state.align.swaps)
        margins.append(state.align.margin)
    assert swaps == sorted(swaps)
    assert swaps[-1] > 2
    assert min(margins[3:]) > 0.5


def test_what_cannot_be_stitched_is_refused() -> None:
    spec = bands().spec
    for wrong in (
        replace(spec, interchangeable=False),
        replace(spec, sources=("a",)),
        replace(spec, channels=2),
        replace(spec, framing=Framing(100, 100)),
        replace(spec, framing=Framing(200, 100, delay=3)),
        replace(spec, rate=11025),
    ):
        with pytest.raises(ValueError, match=r"got .*bands"):
            Stitched(Bands(wrong, "fixed"))
    with pytest.raises(ValueError, match="multiple of 4000"):
        Stitched(bands()).run(np.zeros((1, 1, 4001), np.float32), [Stitched(bands()).start()])


def test_a_short_voice_is_said_over_and_over() -> None:
    source = np.arange(16000, dtype=np.float32)
    alone = np.zeros(100, bool)
    alone[10:40] = True
    heard = voice(source, alone, 160)
    assert heard.shape == (VOICE,)
    np.testing.assert_array_equal(heard[:4800], source[1600:6400])
    np.testing.assert_array_equal(heard[4800:9600], heard[:4800])


# --- what stitching is tried on ---


def test_a_model_run_afresh_has_no_memory() -> None:
    model = zoo.load("speech")
    afresh = Afresh.of(model, 24000, 12000)
    assert afresh.start() is None
    pcm = zoo.audio(1, afresh.spec.framing.window)[None]
    first, _ = afresh.run(pcm, [None])
    second, _ = afresh.run(pcm, [None])
    np.testing.assert_array_equal(first, second)
    whole = streams.stems(streams.run(model, [pcm[0]]))
    lookahead = afresh.spec.framing.lookahead
    np.testing.assert_allclose(first[0][..., :-lookahead], whole[..., :-lookahead], atol=1e-5)


def test_the_oracle_and_the_best_order() -> None:
    rows = tones(6, 16000, [(0, 4)], [(2, 6)])
    framing = Framing(16000, 8000)
    spec = Spec("oracle", 16000, 1, ("a", "b"), framing, windows=(16000,), interchangeable=True)
    oracle = Once(Oracle(rows, (15, 15), 0, spec))
    tracks = best_tracks(oracle, rows.sum(0), rows)
    assert sorted(tracks) == [0, 1]
    best = Stitched(Ordered(oracle, rows, tracks, spec), rules=Rules(overlap=0, voice=0, activity=0))
    told = streams.stems(streams.run(best, [rows.sum(0)[None]]))[:, 0]
    assert leak(told, rows) == pytest.approx(10**-1.5, rel=0.3)
    np.testing.assert_array_equal(window_of(rows, framing, 0)[:, 8000:], rows[:, :8000])
    np.testing.assert_array_equal(window_of(rows, framing, 2), rows[:, 8000:24000])


def test_the_reference_diarizer_is_late_and_wrong_as_asked() -> None:
    truth = np.eye(2, dtype=np.float32)[np.arange(3000) // 200 % 2]
    right, wrong = Reference(truth, 0.0, 1), Reference(truth, 0.3, 1)
    told, (state,) = right.run([np.zeros(FRAME * 500, np.float32)], [right.start()])
    assert len(told[0]) == 500 - 104
    assert len(right.finish(state)) == 104
    np.testing.assert_array_equal(told[0] > 0.5, truth[: len(told[0])] > 0.5)
    share = ((wrong.probs > 0.5) != (truth > 0.5)).any(1).mean()
    assert 0.1 < share < 0.4
