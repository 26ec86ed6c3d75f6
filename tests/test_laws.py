"""The laws of time, held against every model by enumeration (tests/zoo.py)."""

from __future__ import annotations

import numpy as np
import pytest
import streams
import zoo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import whole

from models import toys
from models.separator import Separator
from streaming import binary, cut
from streaming.entry import entry, kept
from streaming.framing import Framing
from streaming.plan import Plan

every_model = pytest.mark.parametrize("name", zoo.names())


def seconds(separator: Separator) -> int:
    """Enough samples for several hops, little enough for a slow model."""
    framing = separator.spec.framing
    return 2 * framing.window + framing.hop // 3 + framing.delay


@every_model
def test_law_1_any_chunking_gives_the_same_samples(name: str) -> None:
    separator = zoo.load(name)
    pcm = zoo.audio(separator.spec.channels, seconds(separator))
    expected = streams.stems(streams.run(separator, [pcm]))
    hop = separator.spec.framing.hop
    for sizes in ([hop], [1, hop - 1, hop + 1, 3, 0, 2 * hop, 7], [max(hop // 3, 1)]):
        got = streams.stems(streams.run(separator, streams.chop(pcm, sizes)))
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("name", [*toys.all_toys(), "made-convtasnet"])
def test_law_1_one_sample_at_a_time(name: str) -> None:
    separator = zoo.load(name)
    pcm = zoo.audio(separator.spec.channels, seconds(separator))
    got = streams.stems(streams.run(separator, streams.chop(pcm, [1])))
    np.testing.assert_allclose(got, streams.stems(streams.run(separator, [pcm])), atol=1e-5)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(toys.all_toys())), st.lists(st.integers(0, 700), min_size=1, max_size=12))
def test_law_1_ragged(name: str, sizes: list[int]) -> None:
    separator = zoo.load(name)
    pcm = zoo.audio(separator.spec.channels, sum(sizes))
    got = streams.run(separator, streams.chop(pcm, [*sizes, 1]))
    if not sum(sizes):
        assert got == []
        return
    expected = whole(separator, separator.spec.framing, pcm)
    np.testing.assert_allclose(streams.stems(got), expected, atol=1e-5)


@every_model
def test_law_2_samples_out_equal_samples_in(name: str) -> None:
    separator = zoo.load(name)
    hop = separator.spec.framing.hop
    assert streams.run(separator, [zoo.audio(separator.spec.channels, 0)]) == []
    for length in {1, hop - 1, hop, hop + 1} - {0}:
        got = streams.stems(streams.run(separator, [zoo.audio(separator.spec.channels, length)]))
        assert got.shape == (len(separator.spec.sources), separator.spec.channels, length)


@every_model
@pytest.mark.parametrize("rate", [None, 48_000, 8_000])
def test_law_3_heard_minus_told_stays_below_the_declared_latency(name: str, rate: int | None) -> None:
    """At every moment but the flush; and the bound is tight: a latency of a hop less would be a lie."""
    separator = zoo.load(name)
    spec = separator.spec
    plan = Plan(rate or spec.rate, spec.channels, spec.rate, spec.framing)
    parts = streams.chop(
        zoo.audio(spec.channels, seconds(separator) * plan.rate // spec.rate), [spec.framing.hop // 4 or 1]
    )
    told_by = {
        heard: chunk.start + chunk.stems.shape[-1] for chunk, heard in streams.run_watched(separator, parts, rate)
    }
    heard = told = worst = 0
    for part in parts[:-1]:
        heard += part.shape[1]
        told = told_by.get(heard, told)
        worst = max(worst, heard - told)
    assert worst < plan.latency
    assert worst >= (plan.latency - 1) - spec.framing.hop * plan.rate / spec.rate


@every_model
def test_law_4_streaming_equals_the_whole_file_oracle(name: str) -> None:
    separator = zoo.load(name)
    pcm = zoo.audio(separator.spec.channels, seconds(separator), seed=1)
    got = streams.stems(streams.run(separator, streams.chop(pcm, [517])))
    np.testing.assert_allclose(got, whole(separator, separator.spec.framing, pcm), atol=1e-5)


@every_model
def test_law_4_a_stateful_model_is_the_same_at_any_multiple_of_its_hop(name: str) -> None:
    separator = zoo.load(name)
    spec = separator.spec
    if separator.start() is None:
        pytest.skip("stateless")
    pcm = zoo.audio(spec.channels, seconds(separator), seed=2)
    larger = Framing(3 * spec.framing.hop, 3 * spec.framing.hop, delay=spec.framing.delay)
    got = streams.stems(streams.run(separator, [pcm], framing=larger))
    np.testing.assert_allclose(got, streams.stems(streams.run(separator, [pcm])), atol=1e-5)


@every_model
@pytest.mark.parametrize("rate", [None, 48_000])
def test_a_stream_that_was_cut_off_goes_on_as_if_it_had_not_been(name: str, rate: int | None) -> None:
    """A stateless model gives the very samples; one with state is rebuilt from the past that it says it needs."""
    if name in ("made-speakers", "made-chain"):
        pytest.skip(
            "whose voice is on which source is learned anew; people keep their numbers: test_speakers_session.py"
        )
    separator = zoo.load(name)
    spec = separator.spec
    plan = Plan(rate or spec.rate, spec.channels, spec.rate, spec.framing)
    memory = kept(plan, spec.memory)
    pcm = zoo.audio(spec.channels, 2 * memory + seconds(separator) * plan.rate // spec.rate, seed=5)
    expected = streams.stems(streams.run(separator, streams.chop(pcm, [4000]), rate))
    for told in (0, 1, memory // 2, memory + 12_345 % memory, pcm.shape[1] - 1, pcm.shape[1]):
        at = entry(plan, told, spec.memory)
        assert at.told - memory <= at.replay <= at.told
        chunks = streams.run(separator, streams.chop(pcm[:, at.replay :], [777]), rate, at=at)
        if told == pcm.shape[1]:
            assert chunks == []
            continue
        got = streams.stems(chunks, told)
        error = got - expected[..., told:]
        assert got.shape == expected[..., told:].shape
        if spec.memory == 0:
            np.testing.assert_allclose(error, 0, atol=1e-6)
        else:
            close = {"speech": 0.15, "music": 0.03}.get(name, 1e-4)  # a recurrence never forgets all
            assert np.sqrt(np.mean(error**2)) < close * np.sqrt(np.mean(expected**2)), told


@every_model
def test_law_5_a_row_does_not_depend_on_its_neighbours(name: str) -> None:
    """Each row at another place of its stream; what must not matter is NaN."""
    separator = zoo.load(name)
    spec = separator.spec
    windows = [zoo.audio(spec.channels, spec.framing.window, seed)[None] for seed in range(3)]
    states = []
    for row in range(3):
        state = separator.start()
        for _ in range(row):
            _, (state,) = separator.run(windows[row], [state])
        states.append(state)
    alone = [separator.run(windows[row], [states[row]]) for row in range(3)]
    together, after = separator.run(np.concatenate(windows), states)
    for row in range(3):
        np.testing.assert_allclose(together[row], alone[row][0][0], atol=1e-5)
    poisoned = np.concatenate(windows)
    poisoned[0] = np.nan
    survivors, later = separator.run(poisoned, states)
    np.testing.assert_allclose(survivors[1:], together[1:], atol=1e-5)
    for row in (1, 2):
        expected, _ = separator.run(windows[0], [after[row]])
        got, _ = separator.run(windows[0], [later[row]])
        np.testing.assert_allclose(got, expected, atol=1e-5)


@every_model
def test_law_5_a_state_is_a_value(name: str) -> None:
    """The same state twice gives the same answer twice: a cancelled or repeated call does not matter."""
    separator = zoo.load(name)
    spec = separator.spec
    window = zoo.audio(spec.channels, spec.framing.window)[None]
    kept = window.copy()
    _, (state,) = separator.run(window, [separator.start()])
    first, _ = separator.run(window, [state])
    separator.run(window * 0 + 1, [state])
    second, _ = separator.run(window, [state])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(window, kept)


@every_model
@pytest.mark.parametrize("kind", ["silence", "dc", "full", "denormal", "loudest"])
def test_finite_input_gives_finite_output(name: str, kind: str) -> None:
    separator = zoo.load(name)
    spec = separator.spec
    square = np.sign(np.sin(np.arange(2 * spec.framing.window) / 20))
    level = {
        "silence": 0.0 * square,
        "dc": 0 * square + 1,
        "full": square,
        "denormal": 1e-40 * square,
        "loudest": binary.LOUDEST * square,
    }[kind]
    got = streams.stems(streams.run(separator, [np.repeat(level[None], spec.channels, 0).astype(np.float32)]))
    assert np.isfinite(got).all()
    # Windowed Demucs normalises each window by its own level and has biases: it makes a little of nothing.
    if kind == "silence" and name not in zoo.MADE:
        assert np.abs(got).max() < 1e-4


def test_law_6_a_second_flush_is_empty() -> None:
    framing = Framing(window=8, hop=4, context=2, lookahead=1)
    state, windows = cut.push(framing, cut.CutState(1), zoo.audio(1, 10))
    assert sum(window.length for window in windows + cut.finish(framing, state)) == 10
    assert cut.finish(framing, cut.CutState(1)) == []
