"""The text messages of `stems.v1` and their JSON. docs/protocol.md is the same in prose; golden vectors hold both.

Each is a JSON object with a `type`; sound is `streaming.binary`, and what a field may be `streaming.fields`. What a peer got
wrong is a `ClientError`, with a code that stays the same and a message that names what was got and what was expected.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from streaming.fields import FIELDS
from streaming.turns import Turn

PROTOCOL = "stems.v1"
CLOSE_CODES = {
    "bad_message": 4400,  # not JSON, no such type, a field that is missing, unknown or of a wrong value
    "unauthorized": 4401,  # no key or token, or a wrong or expired one
    "forbidden": 4403,  # a page of an origin that is not on the list, or more than the key may have
    "unknown_model": 4404,
    "timeout": 4408,  # idle too long, or reading too slowly
    "order": 4409,  # a message that does not belong here: audio before start, start twice
    "replaced": 4410,  # the session goes on over another connection
    "too_large": 4413,
    "bad_audio": 4422,  # bytes that are not a whole number of frames
    "latency": 4425,  # asked for a latency that this machine cannot keep
    "resume": 4426,  # the resume token is not ours, too old, or does not fit: only a new start helps
    "too_many": 4429,  # more connections or sessions than the limits of the address or key allow: later
    "model_unavailable": 4503,  # the weights are not here and could not be fetched
    "draining": 1012,
    "capacity": 1013,
    "internal": 1011,
}


class ClientError(Exception):
    """The peer's fault, or a limit it ran into; sent to it as `error` and, when fatal, followed by a close."""

    def __init__(self, code: str, message: str, fatal: bool = True, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.fatal, self.retry_after_ms = code, message, fatal, retry_after_ms


@dataclass(frozen=True)
class Start:
    model: str
    rate: int
    channels: int
    format: str
    stems: tuple[str, ...] | None = None
    output: str = "stems"
    gains: Mapping[str, float] = field(default_factory=dict)
    mono: bool = False
    latency_ms: float | None = None
    live: bool = True
    mode: str = "separate"
    speakers: Mapping[str, Any] = field(default_factory=dict)  # of fields.SPEAKERS, those that were given


@dataclass(frozen=True)
class Resume:
    """In place of `start`: go on with a session whose connection was lost. `received`: samples whose stems have come."""

    token: str
    received: int


@dataclass(frozen=True)
class Mark:
    id: str
    sample: int | None = None


@dataclass(frozen=True)
class Gains:
    gains: Mapping[str, float]


@dataclass(frozen=True)
class End:
    pass


@dataclass(frozen=True)
class Ready:
    session: str
    model: str
    stems: tuple[str, ...]
    rate: int
    channels: int
    format: str
    latency_samples: int
    latency_ms: float
    resume: str | None = None
    resume_samples: int = 0
    replay_from: int = 0
    protocol: str = PROTOCOL
    mode: str = "separate"
    diarizer: str | None = None


@dataclass(frozen=True)
class Stats:
    heard: int
    told: int
    lag_ms: float
    compute_p50_ms: float
    compute_p95_ms: float
    queue_p95_ms: float
    resume: str | None = None


@dataclass(frozen=True)
class Speakers:
    """What has changed of who speaks, in samples. `told`: up to where it is known; `active`: the slots of those who speak
    there; `turns`: those that are new or changed; `dropped`: ids of turns that were told and are none."""

    told: int
    active: tuple[int, ...]
    turns: tuple[Turn, ...]
    dropped: tuple[int, ...]


@dataclass(frozen=True)
class Draining:
    deadline_ms: int


@dataclass(frozen=True)
class Error:
    code: str
    message: str
    fatal: bool
    retry_after_ms: int | None = None


@dataclass(frozen=True)
class Done:
    samples: int


FromClient = Start | Resume | Mark | Gains | End
FromServer = Ready | Mark | Stats | Speakers | Draining | Error | Done
_CLIENT: dict[str, type[FromClient]] = {"start": Start, "resume": Resume, "mark": Mark, "gains": Gains, "end": End}


def complaint(error: ClientError) -> Error:
    """As the peer is told."""
    return Error(error.code, error.message, error.fatal, error.retry_after_ms)


def encode(message: FromClient | FromServer) -> str:
    """A message as JSON text; fields that are None are left out."""
    body = {key: value for key, value in asdict(message).items() if value is not None}
    return json.dumps({"type": type(message).__name__.lower(), **body})


def decode(text: str) -> FromClient:
    """A client's JSON text as a message.

    Raises:
        ClientError: `bad_message`, saying what was got and what was expected.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise _bad(f"got text that is not JSON: {text[:40]!r}") from None
    if not isinstance(body, dict) or not isinstance(body.get("type"), str) or body["type"] not in _CLIENT:
        got = body.get("type") if isinstance(body, dict) else body
        raise _bad(f"got message type {str(got)[:40]!r}, expected one of {', '.join(_CLIENT)}")
    kind = _CLIENT[body.pop("type")]
    known = {item.name for item in fields(kind)} - ({"sample"} if kind is Mark else set())
    if unknown := set(body) - known:
        raise _bad(
            f"got unknown field {min(unknown)!r} in {kind.__name__.lower()}, known are {', '.join(sorted(known))}"
        )
    try:
        values = {name: FIELDS[name](name, value) for name, value in body.items() if value is not None}
    except ValueError as error:
        raise _bad(str(error)) from None
    try:
        message = kind(**values)
    except TypeError:
        required = [item.name for item in fields(kind) if item.default is item.default_factory is MISSING]
        missing = [name for name in required if name not in values]
        raise _bad(f"{kind.__name__.lower()} lacks {', '.join(missing)}") from None
    if isinstance(message, Start):
        _agree(message)
    return message


def _agree(start: Start) -> None:
    """Fields that are right one by one and not together."""
    if start.speakers and start.mode == "separate":
        raise _bad("got speakers, but mode is separate: start with mode: speakers or diarize")
    given = {"stems": start.stems is not None, "output: mix": start.output == "mix", "gains": bool(start.gains)}
    if start.mode == "diarize" and any(given.values()):
        what = next(name for name, there in given.items() if there)
        raise _bad(f"got {what}, but mode diarize gives no audio back: leave it out, or use mode: speakers")


def _bad(message: str) -> ClientError:
    return ClientError("bad_message", message)
