"""What came back in one session, held to the protocol: a timeline without gap or repeat, and a count that is right."""

from __future__ import annotations

from rivulet_client.codec import Done, Draining, Error, Mark, Ready, Stats, Stems, decode, unpack
from rivulet_client.errors import ProtocolError
from rivulet_client.joint import Joint
from rivulet_client.journal import Journal
from rivulet_client.turns import Speakers

Event = Stems | Speakers | Mark | Stats | Draining | Error | Done


class Account:
    """Of one session, however many connections it takes.

    `received`: samples whose stems have come over the wire, or, in a session without stems, that the server has dealt with.
    """

    def __init__(self, ready: Ready, journal: Journal) -> None:
        self.ready, self.received, self.token = ready, 0, ready.resume
        self._journal, self._joint = journal, Joint()

    def take(self, data: str | bytes) -> list[Event]:
        """A message as events; none for a type that this client does not know.

        Raises:
            ProtocolError: a gap in the timeline, a wrong count, bytes that are no message.
        """
        events: list[Event] = self._told(data) if isinstance(data, str) else [self._stems(data)]
        self._journal.forget(self.received - self.ready.resume_samples if self.token else self._journal.sent)
        return events

    def resumed(self, ready: Ready) -> None:
        """The session goes on with this `ready`.

        Raises:
            ProtocolError: it is another session, or asks for audio that the protocol lets a client forget.
        """
        before, now = ((one.session, one.stems, one.rate, one.channels, one.format) for one in (self.ready, ready))
        if before != now:
            raise ProtocolError(f"got {now} after a resumption, expected {before}")
        if not max(0, self.received - self.ready.resume_samples) <= ready.replay_from <= self.received:
            least = max(0, self.received - self.ready.resume_samples)
            raise ProtocolError(f"got a replay from sample {ready.replay_from}, expected {least} to {self.received}")
        self.ready, self.token = ready, ready.resume
        self._joint.broken()

    def _told(self, text: str) -> list[Event]:
        message = decode(text)
        if isinstance(message, Ready):
            raise ProtocolError("got a second ready")
        if isinstance(message, Stats) and message.resume:
            self.token = message.resume
        if isinstance(message, Mark):
            self._journal.came_back(message.id)
        if isinstance(message, Stats | Done) and not self.ready.stems:
            told = message.told if isinstance(message, Stats) else message.samples
            self.received = min(max(self.received, told), self._journal.up)
        if isinstance(message, Speakers):
            message = self._joint.take(message)
        if isinstance(message, Done):
            self._close(message.samples)
            last = self._joint.end()
            return [message] if last is None else [last, message]
        return [] if message is None else [message]

    def _close(self, samples: int) -> None:
        sent, ended = self._journal.sent, self._journal.ended
        if not ended or not samples == sent == self.received:
            counts = f"{sent} samples sent and {self.received} received"
            raise ProtocolError(f"got done with {samples} samples, with {counts}, ended: {ended}")

    def _stems(self, data: bytes) -> Stems:
        start, samples = unpack(data)
        count, channels, frames = samples.shape
        if (count, channels) != (len(self.ready.stems), self.ready.channels):
            expected = f"{len(self.ready.stems)} of {self.ready.channels}"
            raise ProtocolError(f"got {count} stems of {channels} channels, expected {expected}")
        if start != self.received:
            raise ProtocolError(f"got stems from sample {start}, expected {self.received}: the timeline is broken")
        if start + frames > self._journal.up:
            raise ProtocolError(f"got stems up to sample {start + frames}, but only {self._journal.up} were sent")
        self.received += frames
        return Stems(start, dict(zip(self.ready.stems, samples, strict=True)), frames)
