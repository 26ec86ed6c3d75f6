"""Who speaks, as the peer of `rivulet_client.testing` tells it: a script, and no ears."""

from __future__ import annotations

from typing import Any

Script = tuple[tuple[int, int, int], ...]  # speaker, first sample, the one after the last


class Turns:
    """Of one connection. What it says of the samples before `first` was lost with the connection before, ids too.

    A turn of fewer than `shortest` samples is told as tentative and then dropped.
    """

    def __init__(self, script: Script, shortest: int, first: int) -> None:
        heard = [(speaker, max(start, first), end) for speaker, start, end in script if end > first]
        self._script, self._shortest = sorted(heard, key=lambda turn: turn[1]), shortest
        self._said: dict[int, tuple[int, bool]] = {}  # by id: the end, and whether it is final
        self._active: list[int] = []

    def until(self, told: int) -> dict[str, Any] | None:
        """The `speakers` message for what has changed when it is known up to `told`; None for nothing."""
        turns, dropped = [], []
        for id, (speaker, start, end) in enumerate(self._script):
            if start >= told or self._said.get(id, (0, False))[1]:
                continue
            now = min(end, told), end < told
            if now[1] and end - start < self._shortest:
                dropped += [id] if id in self._said else []
                self._said[id] = now
            elif self._said.get(id) != now:
                self._said[id] = now
                turns.append({"id": id, "speaker": speaker, "start": start, "end": now[0], "final": now[1]})
        active = sorted({speaker for speaker, start, end in self._script if start < told <= end})
        before, self._active = self._active, active
        if not turns and not dropped and active == before:
            return None
        return {"type": "speakers", "told": told, "active": active, "turns": turns, "dropped": dropped}

    def end(self, told: int) -> dict[str, Any] | None:
        """The same when nothing more comes: what is open is final."""
        self._script = [(speaker, start, min(end, told)) for speaker, start, end in self._script if start < told]
        event = self.until(told + 1)
        return event and {**event, "told": told, "active": []}
