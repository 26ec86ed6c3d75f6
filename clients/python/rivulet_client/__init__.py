"""Streaming client of a Rivulet separation server: `connect`, `separate`, `separate_array`, and what they raise."""

from rivulet_client.account import Event
from rivulet_client.codec import Done, Draining, Error, Mark, Ready, Stats, Stems
from rivulet_client.credentials import Token
from rivulet_client.errors import ConnectionLost, ProtocolError, Refused, RivuletError, SessionError, Unreachable
from rivulet_client.separate import separate, separate_array, separate_array_sync
from rivulet_client.stream import Options, Stream, Wanted, connect
from rivulet_client.timeline import Timeline
from rivulet_client.turns import Mode, SpeakerOptions, Speakers, Turn

__all__ = [
    "ConnectionLost",
    "Done",
    "Draining",
    "Error",
    "Event",
    "Mark",
    "Mode",
    "Options",
    "ProtocolError",
    "Ready",
    "Refused",
    "RivuletError",
    "SessionError",
    "SpeakerOptions",
    "Speakers",
    "Stats",
    "Stems",
    "Stream",
    "Timeline",
    "Token",
    "Turn",
    "Unreachable",
    "Wanted",
    "connect",
    "separate",
    "separate_array",
    "separate_array_sync",
]
