"""How much of the server a key may have: sessions at a time, and audio over the last hour. Of one process."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from server.auth import Identity
from streaming.wire import ClientError

HOUR, SLOT = 3600.0, 60.0  # s; audio is counted by the minute in which it came
SMALLEST = 1e-3  # s of audio: less is rounding, of sums of packets
RETRY_MS = 5000  # after which a session may have ended


class Quotas:
    """What is in use, by the name of the key. Its tokens count with it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._inside: Counter[tuple[str, str]] = Counter()
        self._audio: dict[str, Hour] = {}

    @contextmanager
    def session(self, identity: Identity) -> Iterator[None]:
        """A session is open while this is.

        Raises:
            ClientError: `too_many`, when one more would be above `max_sessions`, or the hour's audio is used up.
        """
        self._check_audio(identity, left=SMALLEST)
        key, token = (identity.name, ""), (identity.name, identity.token)
        self._check(key, identity.max_sessions, "key")
        self._check(token, identity.token_sessions, "token")
        counted = {key, token}
        self._inside.update(counted)
        try:
            yield
        finally:
            self._inside -= Counter(counted)  # drops what is at 0

    def charge(self, identity: Identity, seconds: float) -> None:
        """So much audio has come.

        Raises:
            ClientError: `too_many`, when that is more than `audio_minutes_per_hour`.
        """
        if identity.audio_minutes_per_hour is None:
            return
        self._audio.setdefault(identity.name, Hour()).add(self._clock(), seconds)
        self._check_audio(identity, left=-SMALLEST)

    def _check(self, who: tuple[str, str], most: int | None, what: str) -> None:
        if most is not None and self._inside[who] >= most:
            message = f"this {what} has {self._inside[who]} sessions open, at most {most} are allowed"
            raise ClientError("too_many", message, retry_after_ms=RETRY_MS)

    def _check_audio(self, identity: Identity, left: float) -> None:
        """`left`: seconds that must be left of the hour's."""
        most, hour = identity.audio_minutes_per_hour, self._audio.get(identity.name)
        if most is None or hour is None or hour.total(now := self._clock()) + left <= 60 * most:
            return
        message = f"got {hour.total(now) / 60:.1f} minutes of audio in the last hour, this key may send {most:g}"
        raise ClientError("too_many", message, retry_after_ms=math.ceil(1000 * hour.until(now, 60 * most - SMALLEST)))


class Hour:
    """Seconds of audio in the last hour, to the minute."""

    def __init__(self) -> None:
        self._slots: deque[tuple[float, float]] = deque()  # (when the minute is an hour ago, seconds), oldest first
        self._total = 0.0

    def add(self, now: float, seconds: float) -> None:
        self.total(now)
        gone = (now // SLOT + 1) * SLOT + HOUR
        before = self._slots.pop()[1] if self._slots and self._slots[-1][0] == gone else 0.0
        self._slots.append((gone, before + seconds))
        self._total += seconds

    def total(self, now: float) -> float:
        while self._slots and self._slots[0][0] <= now:
            self._total -= self._slots.popleft()[1]
        return self._total if self._slots else 0.0

    def until(self, now: float, most: float) -> float:
        """Seconds until the total is below `most`, if nothing more comes."""
        left = self.total(now)
        for gone, seconds in self._slots:
            left -= seconds
            if left < most:
                return gone - now
        return 0.0
