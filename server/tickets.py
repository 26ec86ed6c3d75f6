"""What a client keeps so that a session can go on after its connection is lost: signed, and all that a server must know.

No server keeps anything of a lost session. The ticket carries what was asked for, how the stream was cut and what was
promised; the audio that the model needs to remember comes again from the client.
"""

from __future__ import annotations

import time
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any

from server.signing import Signer
from streaming import wire
from streaming.framing import Framing
from streaming.identity import Spoken
from streaming.wire import ClientError

KIND = "resume"


@dataclass(frozen=True)
class Ticket:
    """One session, and whose it is. `told` samples had been told when this was `written` (s of the wall clock)."""

    session: str
    owner: str
    told: int
    start: wire.Start
    framing: Framing
    seconds: float
    written: float = 0.0
    spoken: tuple[Spoken, ...] = ()


class Tickets:
    """Writes tickets and reads them back."""

    def __init__(self, signer: Signer, life_s: float) -> None:
        self._signer, self._life_s = signer, life_s

    def write(self, ticket: Ticket) -> str:
        start = {key: value for key, value in asdict(ticket.start).items() if value is not None}
        payload = {
            "session": ticket.session, "owner": ticket.owner, "told": ticket.told, "start": start,
            "framing": astuple(ticket.framing), "seconds": ticket.seconds, "written": (now := time.time()),
            "spoken": ticket.spoken,
        }  # fmt: skip
        return self._signer.sign(KIND, payload, now, self._life_s)

    def read(self, resume: wire.Resume, owner: str) -> Ticket:
        """Raises ClientError: `resume`, for what was not written here, or not for this owner, or too long ago."""
        try:
            payload = self._signer.verify(KIND, resume.token, time.time())
            ticket = _ticket(payload)
        except (ValueError, KeyError, TypeError) as error:
            raise ClientError("resume", f"the resume token is of no use ({error}): start again") from None
        if ticket.owner != owner:
            raise ClientError("resume", "the resume token belongs to another key: start again")
        return ticket


def _ticket(payload: dict[str, Any]) -> Ticket:
    start = wire.Start(**payload["start"])
    start = replace(start, stems=tuple(start.stems) if start.stems else None)
    framing, rest = Framing(*payload["framing"]), (payload["seconds"], payload["written"])
    spoken = tuple((int(who), int(begin), int(end)) for who, begin, end in payload["spoken"])
    return Ticket(payload["session"], payload["owner"], payload["told"], start, framing, *rest, spoken)
