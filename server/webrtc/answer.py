"""Answers to offers."""

from __future__ import annotations

from collections.abc import Sequence

from server.webrtc.offer import TOKEN, Offer
from server.webrtc.sections import split


def fmtp(channels: int, bitrate: int, wide: bool = True) -> str:
    """What we say of Opus (RFC 7587, section 6.1): what we send, and what we would have sent to us, at most `bitrate` bit/s.

    Not `wide`: nobody here hears more than 8 kHz of it, so all bits are to go there.
    """
    stereo = int(channels == 2)
    said = f"minptime=10;useinbandfec=1;stereo={stereo};sprop-stereo={stereo};maxaveragebitrate={bitrate}"
    return said if wide else said + ";maxplaybackrate=16000"


def answer(
    offer: Offer, sdp: str, opus: str, ptime_ms: int, candidates: Sequence[str], names: Sequence[str] = ()
) -> str:
    """aiortc's answer as the peer is to have it: every m-line that it offered, those that are not negotiated with port 0, `opus`
    as its parameters, and `names` as what browsers call the id of a track's stream. Our candidates stand in every m-line, as
    ICE's name does: of a BUNDLE the first one's are enough (RFC 8843), but aiortc as a client reads the last one's only."""
    met = candidates[0].split()[4] if candidates else "0.0.0.0"
    called = dict(zip((section.mid for section in offer.audio), names, strict=False))
    session, ours = split(sdp)
    by_mid = {section.mid: section for section in ours}
    lines = [line for line in session if not line.startswith("a=group")]
    mids = [section.mid for section in offer.sections if section.kept]
    if offer.tag:
        lines.append("a=group:BUNDLE " + " ".join([offer.tag, *(mid for mid in mids if mid != offer.tag)]))
    lines.append("a=ice-options:trickle ice2")
    for section in offer.sections:
        if not section.kept:
            kind, _, *rest = section.head[2:].split(" ")
            lines += [" ".join((f"m={kind}", "0", *rest)), "c=IN IP4 0.0.0.0"]
            lines += [f"a=mid:{section.mid}"] * bool(section.mid) + ["a=inactive"]
            continue
        mine = by_mid[section.mid]
        dropped = ("c=", "a=candidate", "a=end-of-candidates", "a=ice-options", "a=fmtp", "a=ptime")
        lines += [mine.head, f"c=IN IP{6 if ':' in met else 4} {met}"]
        lines += [line for line in mine.lines if not line.startswith(dropped)]
        if TOKEN.fullmatch(name := called.get(section.mid, "")):
            lines = [line for line in lines if not (line.startswith("a=msid:") and line in mine.lines)]
            lines.append(f"a=msid:{name} {name}")
        if section.kind == "audio":
            lines += [f"a=fmtp:{mine.opus} {opus}", f"a=ptime:{ptime_ms}"]
        lines += [*(f"a=candidate:{one}" for one in candidates), "a=end-of-candidates"]
    return "\r\n".join(lines) + "\r\n"
