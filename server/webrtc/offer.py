"""SDP offers of strangers: read, checked, and said again in the few words that aiortc is given.

What a peer wrote never reaches aiortc: of the lines that this server needs (RFC 8829, RFC 8843) a new offer is made. So bad
SDP is refused here, with its reason, and all else that an offer may hold (video, other codecs, candidates, extensions) is as if
it had not been there. Candidates are taken out, to be judged (`ice.usable`) and added one by one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from server.webrtc.sections import Section, bad, split, values
from streaming.wire import ClientError

LARGEST = 1 << 17  # bytes; a browser's offer of 32 tracks is about 60 kB
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,64}")
UFRAG, PASSWORD = re.compile(r"[A-Za-z0-9+/=_-]{4,256}"), re.compile(r"[A-Za-z0-9+/=_-]{22,256}")
DIGEST = re.compile(r"(?i)(sha-256|sha-384|sha-512) ((?:[0-9a-f]{2}:){31,63}[0-9a-f]{2})")
EXTENSIONS = ("urn:ietf:params:rtp-hdrext:sdes:mid", "urn:ietf:params:rtp-hdrext:ssrc-audio-level")
OFFERED = "a BUNDLE of audio m-lines with opus/48000/2, ICE and DTLS"


@dataclass(frozen=True)
class Offer:
    """`sdp` is for aiortc. `audio`, `data`: the sections that it holds, in order; `sections` all that came. `tag`: the mid whose
    transport all share. `setup`: the offerer's DTLS role (RFC 8842); `ufrag` names its ICE session."""

    sdp: str
    sections: tuple[Section, ...]
    audio: tuple[Section, ...]
    data: bool
    tag: str
    setup: str
    ufrag: str
    candidates: tuple[str, ...] = field(default=())


def read(text: str) -> Offer:
    """The offer that this text is.

    Raises:
        ClientError: `bad_message`, saying what was got and what was expected.
    """
    if len(text) > LARGEST:
        raise ClientError("too_large", f"got an offer of {len(text)} characters, expected at most {LARGEST}")
    session, sections = split(text)
    kept = [section for section in sections if section.kept]
    audio = tuple(section for section in kept if section.kind == "audio")
    if not audio:
        raise bad(f"got an offer with {len(sections)} m-lines and no audio, expected {OFFERED}")
    for section in kept:
        _check(section)
    if len({section.mid for section in kept}) < len(kept):
        raise bad("got an offer in which two m-lines have the same mid")
    tagged = _tagged(session, kept)
    ufrag, setup, transport = _transport(session, tagged)
    bundle = [tagged, *(section for section in kept if section is not tagged)]
    head = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0"]
    head += ["a=ice-lite"] if "a=ice-lite" in session else []
    head += ["a=group:BUNDLE " + " ".join(section.mid for section in bundle)] if tagged.mid else []
    lines = [*head, *(line for section in kept for line in (*_said_again(section), *transport))]
    data = len(audio) < len(kept)
    sdp = "\r\n".join(lines) + "\r\n"
    return Offer(sdp, tuple(sections), audio, data, tagged.mid, setup, ufrag, tuple(tagged.values("candidate")))


def _check(section: Section) -> None:
    if section.mid and not TOKEN.fullmatch(section.mid):
        raise bad(f"got the mid {section.mid[:40]!r}, expected a token")
    if section.kind != "audio":
        return
    if section.opus is None:
        codecs = ", ".join(line.partition(" ")[2] for line in section.values("rtpmap")) or "none"
        raise bad(f"got audio with the codecs {codecs[:200]}, expected opus/48000/2")
    if "a=rtcp-mux" not in section.lines:
        raise bad(f"got audio (mid {section.mid}) without rtcp-mux, expected it")


def _tagged(session: Sequence[str], kept: Sequence[Section]) -> Section:
    """Whose transport all m-lines share (RFC 8843): the first one of the BUNDLE group that is negotiated."""
    groups = [value.split()[1:] for value in values(session, "group") if value.split()[:1] == ["BUNDLE"]]
    if not groups and len(kept) == 1:
        return kept[0]
    mids = {section.mid: section for section in kept}
    bundle = next((group for group in groups if set(mids) <= set(group)), None)
    if bundle is None or "" in mids:
        raise bad(
            f"got {len(kept)} m-lines that are not in one BUNDLE group, expected bundlePolicy max-bundle or balanced"
        )
    return next(mids[mid] for mid in bundle if mid in mids)


def _transport(session: Sequence[str], tagged: Section) -> tuple[str, str, list[str]]:
    """ICE's name, the DTLS role, and all of ICE and DTLS as lines: of the tagged m-line, or of the whole offer."""

    def one(name: str, shape: re.Pattern[str]) -> str:
        given = (tagged.values(name) or values(session, name))[:1]
        if not given or not shape.fullmatch(given[0]):
            raise bad(f"got {name} {given[0][:40]!r} in the offer" if given else f"got an offer without {name}")
        return given[0]

    prints = [
        value for value in tagged.values("fingerprint") or values(session, "fingerprint") if DIGEST.fullmatch(value)
    ]
    if not prints:
        raise bad("got an offer without a fingerprint of sha-256, sha-384 or sha-512")
    ufrag, setup = one("ice-ufrag", UFRAG), one("setup", re.compile("actpass|active|passive"))
    lines = [f"a=ice-ufrag:{ufrag}", f"a=ice-pwd:{one('ice-pwd', PASSWORD)}", f"a=setup:{setup}"]
    return ufrag, setup, [*lines, *(f"a=fingerprint:{value}" for value in prints[:4])]


def _said_again(section: Section) -> list[str]:
    """This section, in our words, without its transport."""
    mid = [f"a=mid:{section.mid}"] if section.mid else []
    if section.kind == "application":
        port = next((value for value in section.values("sctp-port") if value.isdecimal() and len(value) < 6), "5000")
        most = next(
            (value for value in section.values("max-message-size") if value.isdecimal() and len(value) < 10), "65536"
        )
        return [
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", *mid,
            f"a=sctp-port:{port}", f"a=max-message-size:{most}",
        ]  # fmt: skip
    extensions = [value.split()[:2] for value in section.values("extmap") if len(value.split()) >= 2]
    known = [(number, uri) for number, uri in extensions if uri in EXTENSIONS and re.fullmatch(r"\d{1,3}", number)]
    sources = dict.fromkeys(match[1] for line in section.values("ssrc") if (match := re.match(r"(\d{1,10})\b", line)))
    return [
        f"m=audio 9 UDP/TLS/RTP/SAVPF {section.opus}", "c=IN IP4 0.0.0.0", "a=rtcp:9 IN IP4 0.0.0.0", *mid,
        *(f"a=extmap:{int(number)} {uri}" for number, uri in known if 0 < int(number) < 15),
        f"a={section.direction}", "a=rtcp-mux", f"a=rtpmap:{section.opus} opus/48000/2",
        *(f"a=ssrc:{source} cname:peer" for source in list(sources)[:1] if int(source) < 1 << 32),
    ]  # fmt: skip
