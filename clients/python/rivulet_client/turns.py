"""Who spoke when: the values of the `speakers` message, and its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from rivulet_client.errors import ProtocolError

Mode = Literal["separate", "speakers", "diarize"]


class SpeakerOptions(TypedDict, total=False):
    """What may be asked of who speaks; docs/protocol.md has the ranges and the defaults."""

    max: int
    diarizer: str
    exclude_overlaps: bool
    min_duration_s: float
    gap_threshold_s: float
    buffer_time_s: float
    onset: float
    offset: float


@dataclass(frozen=True)
class Turn:
    """One person speaking in the samples `[start, end)`. `speaker`: 0 for the first person to have spoken.

    Until it is `final` it may grow, or turn out too short and be dropped; then it changes no more.
    """

    id: int
    speaker: int
    start: int
    end: int
    final: bool


@dataclass(frozen=True)
class Speakers:
    """What has changed about who speaks. `told`: the sample up to which it is known. `active`: who speaks there.

    `turns`: those that are new or have changed. `dropped`: ids of turns that were none.
    """

    told: int
    active: tuple[int, ...]
    turns: tuple[Turn, ...]
    dropped: tuple[int, ...]


def read(body: Mapping[str, Any]) -> Speakers:
    """The fields of the message.

    Raises:
        ProtocolError: one is missing, or is not what it should be.
    """
    turns = body.get("turns")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise ProtocolError(f"got turns {str(turns)[:40]!r}, expected a list of objects")
    told = _whole("told", body.get("told"))
    return Speakers(told, _all("active", body), tuple(_turn(turn) for turn in turns), _all("dropped", body))


def _turn(body: Mapping[str, Any]) -> Turn:
    id, speaker, start, end = (
        _whole(f"{name} of a turn", body.get(name)) for name in ("id", "speaker", "start", "end")
    )
    if start > end or not isinstance(final := body.get("final"), bool):
        raise ProtocolError(f"got the turn {str(dict(body))[:80]}, expected its start before its end, and final or not")
    return Turn(id, speaker, start, end, final)


def _all(name: str, body: Mapping[str, Any]) -> tuple[int, ...]:
    values = body.get(name)
    if not isinstance(values, list):
        raise ProtocolError(f"got {name} {str(values)[:40]!r}, expected a list of whole numbers")
    return tuple(_whole(name, value) for value in values)


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ProtocolError(f"got {name} {str(value)[:40]!r}, expected a whole number")
    return value
