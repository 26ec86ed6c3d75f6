"""The server's codec against the golden vectors, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming import binary, wire
from streaming.fields import SPEAKERS
from streaming.join import Chunk
from streaming.turns import Turn

GOLDEN: dict[str, Any] = json.loads(Path(__file__).with_name("golden_wire.json").read_text())
KINDS = {
    "ready": wire.Ready, "mark": wire.Mark, "stats": wire.Stats, "draining": wire.Draining, "error": wire.Error,
    "done": wire.Done, "speakers": wire.Speakers,
}  # fmt: skip
START = {"type": "start", "model": "music", "rate": 44100, "channels": 2, "format": "s16le"}


@pytest.mark.parametrize("vector", GOLDEN["binary"], ids=lambda vector: f"{vector['format']}-{vector['start']}")
def test_golden_binary(vector: dict[str, Any]) -> None:
    chunk = Chunk(vector["start"], np.array(vector["stems"], np.float32))
    assert binary.pack(chunk, vector["format"]).hex() == vector["hex"]


@pytest.mark.parametrize("vector", GOLDEN["client"], ids=lambda vector: vector["type"])
def test_golden_client_messages(vector: dict[str, Any]) -> None:
    message = wire.decode(json.dumps(vector))
    again = json.loads(wire.encode(message))
    assert {key: again[key] for key in vector} == vector


@pytest.mark.parametrize("vector", GOLDEN["server"], ids=lambda vector: vector["type"])
def test_golden_server_messages(vector: dict[str, Any]) -> None:
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in vector.items() if key != "type"}
    if vector["type"] == "speakers":
        fields["turns"] = tuple(Turn(**turn) for turn in vector["turns"])
    assert json.loads(wire.encode(KINDS[vector["type"]](**fields))) == vector


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate": 7999}, "got rate 7999, expected a whole number from 8000 to 192000"),
        ({"rate": 44100.0}, "got rate 44100.0"),
        ({"rate": True}, "got rate True"),
        ({"channels": 3}, "got channels 3, expected a whole number from 1 to 2"),
        ({"format": "s24le"}, "got format 's24le', expected one of s16le, f32le"),
        ({"stems": []}, "expected a list of 1 to 32 different names"),
        ({"stems": ["a", "a"]}, "different names"),
        ({"gains": {"vocals": "loud"}}, "got gain of vocals loud, expected a number"),
        ({"latency_ms": float("nan")}, "expected a number"),
        ({"latency": 5}, "got unknown field 'latency' in start, known are channels"),
        ({"model": None}, "start lacks model"),
        ({"type": "begin"}, "got message type 'begin', expected one of start, resume, mark, gains, end"),
        ({"mono": 1}, "expected true or false"),
        ({"output": "karaoke"}, "expected one of stems, mix"),
        ({"mode": "tracks"}, "got mode 'tracks', expected one of separate, speakers, diarize"),
        ({"speakers": {"max": 2}}, "got speakers, but mode is separate: start with mode: speakers or diarize"),
        ({"mode": "diarize", "output": "mix"}, "got output: mix, but mode diarize gives no audio back"),
        ({"mode": "diarize", "gains": {"speaker_1": 1}}, "got gains, but mode diarize gives no audio back"),
        ({"mode": "diarize", "stems": ["speaker_1"]}, "got stems, but mode diarize gives no audio back"),
        ({"mode": "speakers", "speakers": 4}, "got speakers 4, expected an object of options"),
        ({"mode": "speakers", "speakers": {"min": 1}}, "got unknown option 'min' in speakers, known are buffer_time_s"),
        ({"mode": "speakers", "speakers": {"max": 9}}, "got speakers.max 9, expected a whole number from 1 to 8"),
        ({"mode": "speakers", "speakers": {"max": 2.0}}, "got speakers.max 2.0"),
        ({"mode": "speakers", "speakers": {"diarizer": ""}}, "got speakers.diarizer '', expected a text"),
        ({"mode": "speakers", "speakers": {"exclude_overlaps": 1}}, "got speakers.exclude_overlaps 1, expected true"),
        (
            {"mode": "speakers", "speakers": {"min_duration_s": -1}},
            "got speakers.min_duration_s -1 s, expected 0 to 10 s",
        ),
        (
            {"mode": "speakers", "speakers": {"buffer_time_s": 11}},
            "got speakers.buffer_time_s 11 s, expected 0 to 10 s",
        ),
        (
            {"mode": "speakers", "speakers": {"gap_threshold_s": "1"}},
            "got speakers.gap_threshold_s 1, expected a number",
        ),
        ({"mode": "speakers", "speakers": {"onset": 1}}, "got speakers.onset 1, expected 0.01 to 0.99"),
        (
            {"mode": "speakers", "speakers": {"onset": 0.4, "offset": 0.5}},
            "got speakers.offset 0.5 above speakers.onset 0.4, expected not above",
        ),
    ],
)
def test_a_bad_start_is_told_what_was_got_and_what_expected(change: dict[str, Any], said: str) -> None:
    with pytest.raises(wire.ClientError) as error:
        wire.decode(json.dumps({**START, **change}))
    assert said in error.value.message
    assert error.value.code == "bad_message"


def test_options_that_are_null_are_not_given() -> None:
    start = wire.decode(json.dumps({**START, "mode": "speakers", "speakers": {"max": None, "onset": 0.6}}))
    assert isinstance(start, wire.Start)
    assert (start.mode, start.speakers) == ("speakers", {"onset": 0.6})


@given(st.text())
def test_any_text_is_a_message_or_a_client_error(text: str) -> None:
    try:
        wire.decode(text)
    except wire.ClientError as error:
        assert error.code == "bad_message"


LEAVES = st.none() | st.booleans() | st.floats() | st.integers() | st.text()


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_json_in_any_field_is_a_message_or_a_client_error(value: Any) -> None:
    names = (
        "type",
        "model",
        "rate",
        "channels",
        "format",
        "stems",
        "output",
        "gains",
        "mono",
        "latency_ms",
        "id",
        "mode",
    )
    changes = [*({name: value} for name in names), {"mode": "speakers", "speakers": value}]
    for change in [*changes, *({"mode": "diarize", "speakers": {name: value}} for name in SPEAKERS)]:
        try:
            wire.decode(json.dumps({**START, **change}))
        except wire.ClientError as error:
            assert error.code == "bad_message"


def test_pcm_both_ways() -> None:
    data = np.array([[0, 1], [16384, -16384], [32767, -32768]], "<i2").tobytes()
    got = binary.pcm(data, "s16le", 2)
    np.testing.assert_array_equal(got, np.array([[0, 0.5, 32767 / 32768], [1 / 32768, -0.5, -1]], np.float32))
    assert binary.pack(Chunk(0, got[None]), "s16le")[16:] == data


def test_pcm_that_is_not_whole_frames_is_refused() -> None:
    with pytest.raises(wire.ClientError, match="got 7 bytes, expected a multiple of 4"):
        binary.pcm(bytes(7), "s16le", 2)


def test_a_message_that_is_too_large_is_refused() -> None:
    with pytest.raises(wire.ClientError) as error:
        binary.pcm(bytes(binary.MAX_MESSAGE + 4), "s16le", 2)
    assert error.value.code == "too_large"


def test_what_is_not_finite_is_silenced_and_said_where() -> None:
    pcm = np.ones((2, 8), np.float32)
    pcm[1, 3], pcm[0, 5], pcm[0, 6] = np.nan, np.inf, -3e38
    clean, error = binary.finite(pcm, position=100)
    assert error is not None
    assert not error.fatal
    assert "got nan at sample 103, channel 1 (3 such values in this message)" in error.message
    assert np.isfinite(clean).all()
    assert clean.sum() == 13
    assert binary.finite(clean, 0)[1] is None


def test_loud_stems_clip_and_do_not_wrap() -> None:
    chunk = Chunk(0, np.array([[[1.5, -1.5, 1.0]]], np.float32))
    assert np.frombuffer(binary.pack(chunk, "s16le")[16:], "<i2").tolist() == [32767, -32768, 32767]
