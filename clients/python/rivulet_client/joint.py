"""Turns over connections that break: one person's turn keeps its id, and nothing is told twice.

Whoever goes on with a session knows nothing of the turns that were told before. It hears the last seconds again, counts its
turns from its own beginning and may tell some of them once more. So a turn that was open when the connection broke goes on
with the first of the same speaker that touches it, or is final as it stood when there is none; what lies before the break is
left out; everything else gets an id that was not used yet.
"""

from __future__ import annotations

from dataclasses import replace

from rivulet_client.turns import Speakers, Turn


class Joint:
    """Of one session. Memory: the turns that are not final, and a number for each that is."""

    def __init__(self) -> None:
        self._told = 0
        self._active: tuple[int, ...] = ()
        self._cut: int | None = None  # how far was told when the last connection broke; None: none has
        self._used: set[int] = set()  # ids
        self._ids: dict[int, int] = {}  # the server's to ours, over this connection
        self._open: dict[int, Turn] = {}  # by our id: not final
        self._orphans: set[int] = set()  # open since before the break
        self._ends: dict[int, int] = {}  # by speaker: the end of what was told

    def broken(self) -> None:
        """The next event comes from somebody who goes on with the session."""
        self._cut, self._ids, self._orphans = self._told, {}, set(self._open)

    def take(self, event: Speakers) -> Speakers | None:
        """The event with ids of ours and without what was told before; None when nothing is left of it."""
        turns = [ours for turn in event.turns if (ours := self._turn(turn)) is not None]
        dropped = [id for theirs in event.dropped if (id := self._ids.pop(theirs, None)) is not None]
        short = [id for id in dropped if id not in self._orphans]  # of an orphan, only the rest was heard
        turns += self._settle([id for id in dropped if id in self._orphans])
        if self._cut is not None and event.told >= self._cut:
            turns += self._settle(self._orphans - set(self._ids.values()))
        for id in short:
            self._open.pop(id, None)
        if event.told < self._told and not (turns or short):
            return None
        if event.told >= self._told:
            self._told, self._active = event.told, event.active
        return Speakers(self._told, self._active, tuple(turns), tuple(short))

    def end(self) -> Speakers | None:
        """Nothing more comes: what is open is final as it stands."""
        turns = self._settle(set(self._open))
        return Speakers(self._told, (), tuple(turns), ()) if turns else None

    def _settle(self, ids: set[int] | list[int]) -> list[Turn]:
        self._orphans -= set(ids)
        return [replace(self._open.pop(id), final=True) for id in sorted(ids)]

    def _turn(self, theirs: Turn) -> Turn | None:
        """A turn as it is told; None for one that was told before."""
        id = self._ids.get(theirs.id)
        if id is None and (id := self._meet(theirs)) is None:
            return None
        self._ids[theirs.id] = id
        ours = replace(theirs, id=id)
        if self._cut is not None:
            ours = self._grown(ours, self._open.get(id))
        if ours == self._open.get(id):
            return None
        self._ends[ours.speaker] = max(ours.end, self._ends.get(ours.speaker, 0))
        if ours.final:
            self._ids.pop(theirs.id, None)
            self._open.pop(id, None)
            self._orphans.discard(id)
        else:
            self._open[id] = ours
        return ours

    def _meet(self, turn: Turn) -> int | None:
        """The id of ours for a turn that is new over this connection; None: it lies before the break."""
        if self._cut is not None:
            for id in self._orphans - set(self._ids.values()):
                before = self._open[id]
                if before.speaker == turn.speaker and turn.start <= before.end and before.start <= turn.end:
                    return id
            if turn.end <= max(self._cut, self._ends.get(turn.speaker, 0)):
                return None
        id = turn.id if self._cut is None or turn.id not in self._used else max(self._used) + 1
        self._used.add(id)
        return id

    def _grown(self, turn: Turn, before: Turn | None) -> Turn:
        """Never shorter than it was, and never over what was told before."""
        if before is not None:
            return replace(turn, start=before.start, end=max(turn.end, before.end))
        return replace(turn, start=max(turn.start, self._ends.get(turn.speaker, 0)))
