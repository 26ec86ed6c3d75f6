"""RTTM and JSON both ways, and the error rate against pyannote.metrics."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.refine import refine
from streaming import der, rttm
from streaming.rttm import Segment

RATE = 16_000
MS = RATE // 1000


def turn(start: int, end: int, speaker: str) -> Segment:
    """In ms."""
    return Segment(start * MS, end * MS, speaker)


segments = st.lists(
    st.builds(
        lambda start, length, speaker: turn(start, start + length, speaker),
        st.integers(0, 90), st.integers(1, 60), st.sampled_from("abc"),
    ),
    max_size=8,
)  # fmt: skip


# --- files


def test_a_line_is_as_nist_has_it() -> None:
    text = rttm.write([turn(12_345, 13_000, "Ada Lovelace"), turn(70, 1_000, "b")], RATE, "a call")
    assert text == (
        "SPEAKER a_call 1 0.070 0.930 <NA> <NA> b <NA> <NA>\n"
        "SPEAKER a_call 1 12.345 0.655 <NA> <NA> Ada_Lovelace <NA> <NA>\n"
    )


@given(segments)
def test_what_was_written_is_read(some: list[Segment]) -> None:
    expected = {"x": sorted(some)} if some else {}
    assert rttm.read(rttm.write(some, RATE, "x"), RATE) == expected
    assert rttm.parse(rttm.write_json(some, RATE, "x"), RATE) == {"x": sorted(some)}


def test_turns_of_a_session_are_read_as_they_are_kept() -> None:
    kept = [{"id": 9, "speaker": 1, "start": 0.5, "end": 1.25, "final": True}, {"speaker": "Ada", "start": 2, "end": 3}]
    expected = {"recording": [turn(500, 1250, "speaker_2"), turn(2000, 3000, "Ada")]}
    assert rttm.parse(json.dumps(kept), RATE) == expected


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_times_are_to_the_millisecond_at_any_rate(rate: int) -> None:
    some = [Segment(rate * n // 7, rate * n // 7 + 1 + rate * n // 3, "a") for n in range(20)]
    (again,) = rttm.read(rttm.write(some, rate, "x"), rate).values()
    for before, after in zip(sorted(some), again, strict=True):
        assert abs(before.start - after.start) <= rate / 2000 + 1
        assert abs(before.end - after.end) <= rate / 2000 + 1


def test_other_lines_and_other_recordings() -> None:
    text = """;; by hand
    SPKR-INFO x 1 <NA> <NA> <NA> unknown a <NA>

    SPEAKER y 1 1.5 .25 <NA> <NA> a
    SPEAKER x 1 2 1e-1 <NA> <NA> b <NA> <NA>
    SPEAKER x 1 0 1 <NA> <NA> a <NA> <NA>
    """
    assert rttm.read(text, 100) == {"y": [Segment(150, 175, "a")], "x": [Segment(0, 100, "a"), Segment(200, 210, "b")]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SPEAKER x 1 0 1 <NA>", "line 1: got 6 fields, expected SPEAKER and at least 7 more"),
        ("\nSPEAKER x 1 soon 1 <NA> <NA> a", "line 2: got time 'soon', expected seconds"),
        ("SPEAKER x 1 0 -1 <NA> <NA> a", "line 1: got time '-1'"),
        ("SPEAKER x 1 nan 1 <NA> <NA> a", "line 1: got time 'nan'"),
        ("SPEAKER x 1 0 1e300 <NA> <NA> a", "line 1: got time '1e300'"),
        ("{", "Expecting property name"),
        ("{}", "got JSON without turns"),
        ('{"turns": [3]}', "got JSON without turns"),
        ('{"turns": [{"speaker": "a", "start": 1, "end": 0.5}]}', "turn 1: got its start 1 after its end 0.5"),
        ('{"turns": [{"speaker": "a", "start": [], "end": 0.5}]}', "turn 1: got time '\\[\\]'"),
    ],
)
def test_what_is_not_a_time_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rttm.parse(text, RATE)


LEAVES = st.none() | st.booleans() | st.floats() | st.integers() | st.text()


@settings(max_examples=60)
@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_json_is_turns_or_refused(value: Any) -> None:
    for text in (value, {"turns": value}, {"turns": [{"speaker": "a", "start": 0, "end": value}]}):
        try:
            rttm.read_json(json.dumps(text), RATE)
        except ValueError:
            pass


# --- scores


def theirs(reference: list[Segment], hypothesis: list[Segment]) -> dict[str, float]:
    """What pyannote.metrics says, in seconds; of a speaker who overlaps herself it counts both, so she is joined first."""
    core = pytest.importorskip("pyannote.core")
    metrics = pytest.importorskip("pyannote.metrics.diarization")
    sides = []
    for side in (reference, hypothesis):
        annotation = core.Annotation(uri="x")
        for number, one in enumerate(side):
            annotation[core.Segment(one.start / RATE, one.end / RATE), number] = one.speaker
        sides.append(annotation.support())
    found: dict[str, float] = metrics.DiarizationErrorRate(collar=0.0)(*sides, detailed=True, uem=None)
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=80, deadline=None)
@given(segments, segments)
def test_errors_are_those_of_pyannote_metrics(reference: list[Segment], hypothesis: list[Segment]) -> None:
    got, expected = der.score(reference, hypothesis), theirs(reference, hypothesis)
    for ours, name in (("total", "total"), ("missed", "missed detection"), ("false_alarm", "false alarm")):
        assert getattr(got, ours) / RATE == pytest.approx(expected[name], abs=1e-4)
    assert got.confusion / RATE == pytest.approx(expected["confusion"], abs=1e-4)
    if got.total:
        assert got.rate == pytest.approx(expected["diarization error rate"], abs=1e-3)


def test_names_are_matched_one_to_one_for_the_longest_agreement() -> None:
    reference = [turn(0, 100, "a"), turn(100, 150, "b")]
    hypothesis = [turn(0, 60, "x"), turn(60, 130, "y"), turn(130, 150, "z")]
    # x and y both speak with a; giving a to y would leave x with nobody: 60 + 30 beats 40 + 20.
    errors = der.score(reference, hypothesis)
    assert errors.names == {"x": "a", "y": "b"}
    assert (errors.total, errors.missed, errors.false_alarm, errors.confusion) == (150 * MS, 0, 0, 60 * MS)


def test_missed_and_false_alarm_in_overlap() -> None:
    reference = [turn(0, 100, "a"), turn(50, 100, "b")]
    assert der.score(reference, [turn(0, 120, "x")]) == der.Errors(150 * MS, 50 * MS, 20 * MS, 0, {"x": "a"})


def test_of_silence() -> None:
    assert der.score([], []).rate == 0
    assert der.score([], [turn(0, 1, "x")]).rate == float("inf")
    assert der.score([turn(0, 1, "x")], []).rate == 1


# --- the second opinion


def test_a_second_opinion_keeps_the_numbers_of_the_session() -> None:
    live = [turn(0, 1000, "speaker_2"), turn(1000, 2000, "speaker_1"), turn(2100, 2200, "speaker_2")]
    offline = [
        turn(0, 40, "speaker_3"),
        turn(40, 990, "speaker_1"),
        turn(1010, 2300, "speaker_2"),
        turn(1500, 1600, "x"),
    ]
    assert refine(live, offline) == [
        turn(0, 40, "speaker_3"),
        turn(40, 990, "speaker_2"),
        turn(1010, 2300, "speaker_1"),
        turn(1500, 1600, "speaker_4"),
    ]


def test_a_second_opinion_of_a_silent_session_counts_from_one() -> None:
    assert [one.speaker for one in refine([], [turn(5, 9, "b"), turn(0, 4, "a")])] == ["speaker_1", "speaker_2"]
    assert refine([turn(0, 5, "speaker_1")], []) == []
