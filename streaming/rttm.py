"""Who spoke when, as files: NIST's Rich Transcription Time Marked format (RT-09 evaluation plan, appendix A), and JSON.

    SPEAKER <recording> <channel> <begin, s> <duration, s> <NA> <NA> <speaker> <NA> <NA>

Inside, time is in samples of a rate that the caller names; in the files it is in seconds, to the millisecond.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

FIELDS = 8  # of which a line has at least so many: some tools leave out the last ones
LONGEST = 10**7  # s, of a time that is believed


@dataclass(frozen=True, order=True)
class Segment:
    """One person speaking in the samples `[start, end)`."""

    start: int
    end: int
    speaker: str


Recordings = Mapping[str, list[Segment]]


def speaker(slot: int) -> str:
    """The name of a diarizer's output, as those of the tracks."""
    return f"speaker_{slot + 1}"


def write(segments: Iterable[Segment], rate: int, recording: str) -> str:
    """As RTTM, by start. Names lose their spaces, which separate the fields."""
    lines = []
    for one in sorted(segments):
        begin, end = (_ms(sample, rate) for sample in (one.start, one.end))
        times = f"{_seconds(begin)} {_seconds(end - begin)}"
        lines.append(f"SPEAKER {_word(recording)} 1 {times} <NA> <NA> {_word(one.speaker)} <NA> <NA>\n")
    return "".join(lines)


def read(text: str, rate: int) -> dict[str, list[Segment]]:
    """The segments of each recording, by start, in samples of `rate` Hz; lines of other types are passed over.

    Raises:
        ValueError: a SPEAKER line that is none, with its number.
    """
    found: dict[str, list[Segment]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0] != "SPEAKER":
            continue
        if len(words) < FIELDS:
            raise ValueError(f"line {number}: got {len(words)} fields, expected SPEAKER and at least {FIELDS - 1} more")
        begin, length = (_time(word, f"line {number}") for word in words[3:5])
        segment = Segment(_sample(begin, rate), _sample(begin + length, rate), words[7])
        found.setdefault(words[1], []).append(segment)
    return {name: sorted(segments) for name, segments in found.items()}


def write_json(segments: Iterable[Segment], rate: int, recording: str) -> str:
    """The same as JSON: `{recording, speakers, turns: [{speaker, start, end}]}`, times in s."""
    ordered = sorted(segments)
    turns = [
        {"speaker": one.speaker, "start": _ms(one.start, rate) / 1000, "end": _ms(one.end, rate) / 1000}
        for one in ordered
    ]
    speakers = list(dict.fromkeys(one.speaker for one in ordered))
    return json.dumps({"recording": recording, "speakers": speakers, "turns": turns}, indent=1) + "\n"


def read_json(text: str, rate: int) -> dict[str, list[Segment]]:
    """What `write_json` wrote, or just the list of turns; speakers may be numbers of slots, as in a session's events.

    Raises:
        ValueError: anything else.
    """
    try:
        body = json.loads(text, parse_float=Decimal)  # as they stand
        body = {"turns": body} if isinstance(body, list) else body
        segments = [_turn(turn, rate, number) for number, turn in enumerate(body["turns"], 1)]
        return {str(body.get("recording", "recording")): sorted(segments)}
    except (KeyError, TypeError, AttributeError):
        raise ValueError("got JSON without turns, expected {recording, turns: [{speaker, start, end}]}") from None


def parse(text: str, rate: int) -> dict[str, list[Segment]]:
    """Either of the two.

    Raises:
        ValueError: neither.
    """
    return read_json(text, rate) if text.lstrip().startswith(("{", "[")) else read(text, rate)


def _turn(turn: Mapping[str, Any], rate: int, number: int) -> Segment:
    start, end = (_time(turn[name], f"turn {number}") for name in ("start", "end"))
    if start > end:
        raise ValueError(f"turn {number}: got its start {start} after its end {end}")
    name = turn["speaker"]
    return Segment(_sample(start, rate), _sample(end, rate), speaker(name) if isinstance(name, int) else str(name))


def _time(word: Any, where: str) -> Decimal:
    try:
        seconds = Decimal(str(word))
    except InvalidOperation:
        seconds = Decimal(-1)
    if seconds.is_nan() or not 0 <= seconds <= LONGEST:
        raise ValueError(f"{where}: got time {str(word)[:40]!r}, expected seconds from 0 to {LONGEST}")
    return seconds


def _sample(seconds: Decimal, rate: int) -> int:
    return round(seconds * rate)


def _ms(sample: int, rate: int) -> int:
    """The nearest; the half goes up."""
    return (2000 * sample + rate) // (2 * rate)


def _seconds(ms: int) -> str:
    return f"{ms // 1000}.{ms % 1000:03}"


def _word(text: str) -> str:
    return re.sub(r"\s+", "_", text.strip()) or "_"
