"""What a client has said in one session, for as long as it may have to say it again. No sockets, no tasks.

A server keeps nothing of a lost session: whoever goes on needs the last audio once more, from up to `resume_samples`
before the first sample that has not come back (docs/protocol.md). So the journal holds the timeline from there on, as the
bytes that went over the wire, in two parts: `past` is what this connection was given, `ahead` is what it will be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from rivulet_client.codec import encode
from rivulet_client.errors import ProtocolError


@dataclass(frozen=True)
class Entry:
    """One message. `number`: in the order of saying. `at`: its place on the timeline. `frames`: samples, 0 for text."""

    number: int
    kind: Literal["pcm", "mark", "gains", "end"]
    at: int
    data: str | bytes
    frames: int = 0

    @property
    def end(self) -> int:
        return self.at + self.frames

    def since(self, sample: int) -> Entry:
        """The PCM from `sample` on, if that is later than all of it."""
        late = max(0, sample - self.at)
        return replace(
            self, at=self.at + late, data=self.data[late * (len(self.data) // self.frames) :], frames=self.frames - late
        )


class Journal:
    """Of one session. `sent`: samples said so far; `up`: how far this connection has been given them."""

    def __init__(self) -> None:
        self.sent = self.up = 0
        self.ended = False
        self.past: deque[Entry] = deque()
        self.ahead: deque[Entry] = deque()
        self._marks: dict[int, tuple[Entry, str]] = {}  # by number: those that have not come back
        self._gains: dict[str, float] = {}
        self._count = 0

    def audio(self, data: bytes, frames: int) -> Entry:
        self.sent += frames
        return self._say("pcm", data, self.sent - frames, frames)

    def mark(self, id: str) -> Entry:
        entry = self._say("mark", encode("mark", id=id), self.sent)
        self._marks[entry.number] = entry, id
        return entry

    def gains(self, gains: Mapping[str, float]) -> Entry:
        self._gains |= gains
        return self._say("gains", encode("gains", gains=dict(gains)), self.sent)

    def end(self) -> Entry:
        self.ended = True
        return self._say("end", encode("end"), self.sent)

    def _say(self, kind: Literal["pcm", "mark", "gains", "end"], data: str | bytes, at: int, frames: int = 0) -> Entry:
        self._count += 1
        self.ahead.append(Entry(self._count, kind, at, data, frames))
        return self.ahead[-1]

    def given(self, entry: Entry) -> bool:
        """Whether this entry, and all before it, has been given to this connection."""
        return not self.ahead or self.ahead[0].number > entry.number

    def next(self) -> Entry | None:
        """What this connection is given next; `took` says that it was."""
        if not self.ahead:
            return None
        self.up = max(self.up, self.ahead[0].end)
        return self.ahead[0]

    def took(self) -> None:
        self.past.append(self.ahead.popleft())

    def came_back(self, id: str) -> None:
        """The oldest mark of this name is done with."""
        number = next((number for number, (_, name) in self._marks.items() if name == id), None)
        self._marks.pop(number or 0, None)

    def forget(self, sample: int) -> None:
        """Nothing before `sample` will be needed again."""
        while self.past and self.past[0].end <= sample and self.past[0].kind != "end":
            self.past.popleft()

    def rewind(self, sample: int) -> list[tuple[str, int]]:
        """A new connection, which is given everything from `sample` on; the newest gains first, if they were changed.

        Returns:
            The marks before `sample`, with their places: all audio before them has come back, their answer was lost.

        Raises:
            ProtocolError: `sample` is not held any more.
        """
        entries = [*self.past, *self.ahead]
        audio = [entry.since(sample) for entry in entries if entry.kind == "pcm" and entry.end > sample]
        if (held := audio[0].at if audio else self.sent) != sample:
            raise ProtocolError(f"got a replay from sample {sample}, but the audio is kept from {held} on")
        gains = [Entry(0, "gains", sample, encode("gains", gains=self._gains))] if self._gains else []
        marks = [entry for entry, _ in self._marks.values() if entry.at >= sample]
        end = [entry for entry in entries if entry.kind == "end"]
        self.past.clear()
        self.ahead = deque([*gains, *sorted([*audio, *marks, *end], key=lambda entry: entry.number)])
        self.up = sample
        return [self._passed(number) for number in list(self._marks) if self._marks[number][0].at < sample]

    def _passed(self, number: int) -> tuple[str, int]:
        entry, id = self._marks.pop(number)
        return id, entry.at
