"""The lines of SDP (RFC 8866), as m-lines with what stands below them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from streaming.wire import ClientError

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
DIRECTIONS: dict[str, Direction] = {name: name for name in ("sendrecv", "sendonly", "recvonly", "inactive")}
MOST_LINES = 64  # m-lines of an offer
MEDIA = re.compile(r"m=(\S+) (\d{1,5})(?:/\d+)? (\S+) (.+)")


@dataclass(frozen=True)
class Section:
    """An m-line and what stands below it, as it came. `kept`: whether it is negotiated, or answered with port 0."""

    kind: str
    head: str
    lines: tuple[str, ...]
    kept: bool

    def values(self, name: str) -> list[str]:
        return values(self.lines, name)

    @property
    def mid(self) -> str:
        return next(iter(self.values("mid")), "")

    @property
    def direction(self) -> Direction:
        """The offerer's; RFC 8866, section 6.7: sendrecv where it is not said."""
        return next((DIRECTIONS[line[2:]] for line in self.lines if line[2:] in DIRECTIONS), "sendrecv")

    @property
    def sends(self) -> bool:
        return self.direction in ("sendrecv", "sendonly")

    @property
    def takes(self) -> bool:
        return self.direction in ("sendrecv", "recvonly")

    @property
    def opus(self) -> int | None:
        """The payload type of opus/48000/2, in this order of preference: the m-line's."""
        types = {int(pt) for pt in self.head.split()[3:] if pt.isdecimal()}
        for line in self.values("rtpmap"):
            number, _, codec = line.partition(" ")
            if codec.strip().lower() == "opus/48000/2" and number.isdecimal() and int(number) in types:
                return int(number)
        return None

    @property
    def stereo(self) -> bool | None:
        """What the offerer's fmtp says of stereo, either way (RFC 7587, section 6.1); None when it says nothing."""
        said = [line.partition(" ")[2] for line in self.values("fmtp") if line.split(" ")[0] == str(self.opus)]
        given = dict(re.findall(r"(stereo|sprop-stereo)=(\d)", ";".join(said)))
        return any(value == "1" for value in given.values()) if given else None


def split(text: str) -> tuple[list[str], list[Section]]:
    """The lines before the first m-line, and the sections.

    Raises:
        ClientError: `bad_message`.
    """
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line]
    if not lines or lines[0] != "v=0":
        raise bad(f"got an offer that begins with {text[:20]!r}, expected SDP: v=0")
    starts = [index for index, line in enumerate(lines) if line.startswith("m=")]
    if len(starts) > MOST_LINES:
        raise bad(f"got an offer of {len(starts)} m-lines, expected at most {MOST_LINES}")
    ends = [*starts[1:], len(lines)]
    return lines[: starts[0] if starts else None], [
        _section(lines[begin], tuple(lines[begin + 1 : end])) for begin, end in zip(starts, ends, strict=True)
    ]


def bad(message: str) -> ClientError:
    return ClientError("bad_message", message)


def _section(head: str, lines: tuple[str, ...]) -> Section:
    if not (found := MEDIA.fullmatch(head)):
        raise bad(f"got the m-line {head[:60]!r}, expected m=<media> <port> <proto> <formats>")
    kind, port, proto, formats = found.groups()
    offered = int(port) > 0 or "a=bundle-only" in lines
    sound = kind == "audio" and proto == "UDP/TLS/RTP/SAVPF"
    talk = kind == "application" and proto in ("UDP/DTLS/SCTP", "TCP/DTLS/SCTP") and formats == "webrtc-datachannel"
    return Section(kind, head, lines, offered and (sound or talk))


def values(lines: Sequence[str], name: str) -> list[str]:
    start = f"a={name}:"
    return [line.removeprefix(start).strip() for line in lines if line.startswith(start)]
