"""Who speaks, as a session tells it: from frames of the model to messages on the session's own timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, cast

import numpy as np

from models.diarizer import Diarizer
from models.separator import Separator
from models.speakers import Activity
from streaming import identity, turns, wire
from streaming.entry import Entry
from streaming.framing import Array
from streaming.identity import Spoken
from streaming.turns import Turn
from streaming.wire import ClientError

PER_S = 100  # frames of probabilities
GAP_S, SHORTEST_S = 0.2, 0.1  # where nothing is asked for; measured: docs/diarization.md


class Telling(Separator, Protocol):
    """A separator that also tells who speaks (`models.speakers`)."""

    diarizer: Diarizer

    def activity(self, state: Any) -> Activity: ...


def options(asked: Mapping[str, Any]) -> turns.Options:
    """As `start.speakers` asks. Of onset and offset, the one that is not given follows the other.

    Raises:
        ValueError: values that do not go together.
    """
    usual = turns.Options()
    onset = asked.get("onset", max(usual.onset, asked.get("offset", 0.0)))
    return turns.Options(
        onset=onset,
        offset=asked.get("offset", min(usual.offset, onset)),
        gap=round(asked.get("gap_threshold_s", GAP_S) * PER_S),
        min_duration=round(asked.get("min_duration_s", SHORTEST_S) * PER_S),
        exclude_overlaps=asked.get("exclude_overlaps", False),
    )


class TurnsOut:
    """Of one session at `rate` Hz, which begins at `at`: what was told before then is not told again.

    `spoken` is what had been told then, so that people keep their numbers (`streaming.identity`).
    """

    def __init__(
        self, separator: Telling, asked: Mapping[str, Any], rate: int, at: Entry, spoken: Sequence[Spoken] = ()
    ) -> None:
        self.diarizer = separator.diarizer.spec.name
        self._separator, self._rate, self._model_rate = separator, rate, separator.spec.rate
        self._options, self._before = options(asked), at.told
        people = separator.activity(separator.start()).probs.shape[1]
        first = at.first * PER_S // self._model_rate
        self._state = turns.start(self._options, min(people, asked.get("max", people)), first)
        self._active: tuple[int, ...] = ()
        self._spoken = list(spoken)
        self._first, self._memory = first, -(-separator.spec.memory * PER_S // self._model_rate)
        self._replayed = [np.zeros((0, people), bool)]
        self._order: tuple[int, ...] | None = None if at.told else tuple(range(people))
        self._open: dict[int, Turn] = {}

    def spoken(self) -> tuple[Spoken, ...]:
        """Who spoke when lately, for the next one."""
        recent = [*self._spoken, *((turn.speaker, turn.start, turn.end) for turn in self._open.values())]
        return identity.kept(recent, self._state.frames - self._memory)

    def tracks(self, stems: Array) -> Array:
        """`[N, C, T]` of the model in the session's order of people."""
        order = self._known()
        if not len(stems) or order == tuple(range(len(order))):
            return stems
        out = np.empty_like(stems)
        out[list(order)] = stems
        return out

    def _known(self) -> tuple[int, ...]:
        """The session's number of each of the model's people; settled when it is first needed."""
        if self._order is None:
            self._order = identity.order(self._spoken, self._first, np.concatenate(self._replayed))
            self._replayed = []
        return self._order

    def hear(self, state: Any, heard: int) -> wire.Speakers | None:
        """What the run that gave this state has changed, when `heard` samples of the session exist; None for nothing.

        A model is given silence beyond the end, and tells of it: that is left out.
        """
        probs = self._separator.activity(state).probs
        exist = -(-heard * PER_S // self._rate)
        probs = probs[: max(exist - self._state.frames, 0)]
        if self._order is None:
            self._replayed.append(probs > self._options.onset)
        self._state, events = turns.push(self._options, self._state, probs)
        told = self._sample(events.told, heard)
        changed = events.turns or events.dropped or events.active != self._active
        if not changed or (told <= self._before and self._before):
            return None
        self._active = events.active
        return self._message(events, told, heard)

    def finish(self, heard: int) -> wire.Speakers | None:
        """The last turns, when nothing more comes."""
        self._state, events = turns.finish(self._options, self._state)
        changed = events.turns or events.dropped or self._active
        return self._message(events, heard, heard) if changed else None

    def _message(self, events: turns.Events, told: int, heard: int) -> wire.Speakers:
        changed = tuple(self._named(turn) for turn in events.turns)
        dropped = tuple(self._id(one) for one in events.dropped)
        self._remember(changed, dropped)
        at_samples = (
            replace(turn, start=self._sample(turn.start, heard), end=self._sample(turn.end, heard)) for turn in changed
        )
        active = tuple(sorted(self._known()[one] for one in events.active))
        return wire.Speakers(told, active, tuple(at_samples), dropped)

    def _named(self, turn: Turn) -> Turn:
        return replace(turn, id=self._id(turn.id), speaker=self._known()[turn.speaker])

    def _id(self, id: int) -> int:
        """An id tells whose the turn is (`streaming.turns`)."""
        return id - id % turns.MOST + self._known()[id % turns.MOST]

    def _remember(self, changed: Sequence[Turn], dropped: Sequence[int]) -> None:
        self._open |= {turn.id: turn for turn in changed}
        for id in (*dropped, *(turn.id for turn in changed if turn.final)):
            turn = self._open.pop(id, None)
            if turn is not None and id not in dropped:
                self._spoken.append((turn.speaker, turn.start, turn.end))
        self._spoken = list(identity.kept(self._spoken, self._state.frames - self._memory))

    def _sample(self, frame: int, heard: int) -> int:
        return min(frame * self._rate // PER_S, heard)


def turns_out(separator: Separator, start: wire.Start, at: Entry, spoken: Sequence[Spoken] = ()) -> TurnsOut | None:
    """What the session's mode asks for; None where stems are all.

    Raises:
        ClientError: a model that does not tell who speaks.
    """
    if start.mode == "separate":
        return None
    if not hasattr(separator, "activity"):
        raise ClientError("bad_message", f"got mode {start.mode}, but {start.model} does not tell who speaks")
    try:
        return TurnsOut(cast(Telling, separator), start.speakers, start.rate, at, spoken)
    except ValueError as error:
        raise ClientError("bad_message", str(error)) from None
