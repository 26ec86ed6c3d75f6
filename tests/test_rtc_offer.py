"""Offers: what is negotiated of them, what is answered to the rest, and what is refused with its reason."""

from __future__ import annotations

import re

import pytest
from aiortc.sdp import SessionDescription
from hypothesis import given
from hypothesis import strategies as some

from server.webrtc.answer import answer, fmtp
from server.webrtc.offer import LARGEST, read
from server.webrtc.sections import split
from streaming.wire import ClientError

PRINT = ":".join(["AB"] * 32)
TRANSPORT = f"a=ice-ufrag:abcd\r\na=ice-pwd:{'p' * 24}\r\na=fingerprint:sha-256 {PRINT}\r\na=setup:actpass\r\n"
SOUND = (
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n{transport}a=mid:{mid}\r\n"
    "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=extmap:9 urn:example:unknown\r\n"
    "a={direction}\r\na=msid:- x\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\n"
    "a=fmtp:111 minptime=10;useinbandfec=1{fmtp}\r\na=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:0 PCMU/8000\r\n"
    "a=ssrc:12 cname:abc\r\na=ssrc:12 msid:- x\r\n"
)
VIDEO = (
    "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\n{transport}a=mid:{mid}\r\na=recvonly\r\na=rtcp-mux\r\n"
    "a=rtpmap:96 AV1/90000\r\n"
)
TALK = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n{transport}a=mid:{mid}\r\na=sctp-port:5000\r\n"
HEAD = (
    "v=0\r\no=- 46 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {mids}\r\na=extmap-allow-mixed\r\n"
    "a=msid-semantic: WMS\r\n"
)
HOST = "a=candidate:1 1 udp 2113937151 192.0.2.9 50000 typ host generation 0 network-cost 999\r\n"


def section(shape: str, mid: str, direction: str = "sendrecv", fmtp: str = "", transport: str = TRANSPORT) -> str:
    return shape.format(mid=mid, direction=direction, fmtp=fmtp, transport=transport)


def offered(*sections: str, mids: str = "0 1 2") -> str:
    return HEAD.format(mids=mids) + "".join(sections)


BROWSER = offered(
    section(VIDEO, "0"), section(SOUND, "1", transport=TRANSPORT + HOST), section(SOUND, "2", "recvonly", ";stereo=1"),
    section(TALK, "3"), mids="0 1 2 3",
)  # fmt: skip


def test_only_opus_and_the_data_channel_are_negotiated() -> None:
    offer = read(BROWSER)
    assert [one.mid for one in offer.audio] == ["1", "2"]
    assert (offer.data, offer.tag, offer.setup, offer.ufrag, len(offer.sections)) == (True, "1", "actpass", "abcd", 4)
    assert len(offer.candidates) == 1
    parsed = SessionDescription.parse(offer.sdp)
    assert [media.kind for media in parsed.media] == ["audio", "audio", "application"]
    assert [str(codec) for media in parsed.media[:2] for codec in media.rtp.codecs] == ["opus/48000/2"] * 2
    assert parsed.group[0].items == ["1", "2", "3"]


def test_nothing_of_the_peers_own_words_gets_through() -> None:
    assert not re.search("candidate|AV1|red|PCMU|unknown|transport-cc|fmtp|46", read(BROWSER).sdp)


def test_what_is_not_negotiated_is_answered_with_port_0_in_its_place() -> None:
    offer = read(BROWSER)
    ours = "1 1 udp 5 198.51.100.1 4000 typ host"
    told = answer(offer, offer.sdp, fmtp(2, 160_000), 20, [ours], ["vocals"])
    session, sections = split(told)
    assert [one.head.split()[:2] for one in sections] == [
        ["m=video", "0"],
        *[["m=audio", "9"]] * 2,
        ["m=application", "9"],
    ]
    assert "a=group:BUNDLE 1 2 3" in session
    assert [one.values("candidate") for one in sections] == [[], *[[ours]] * 3]
    assert all("c=IN IP4 198.51.100.1" in one.lines for one in sections[1:])
    assert sections[1].values("fmtp") == ["111 " + fmtp(2, 160_000)]
    assert sections[1].values("ptime") == ["20"]
    assert [one.values("msid") for one in sections[1:3]] == [["vocals vocals"], []]


@pytest.mark.parametrize(
    ("said", "stereo"), [("", None), (";stereo=1", True), (";sprop-stereo=1", True), (";stereo=0", False)]
)
def test_stereo_as_the_offer_says(said: str, stereo: bool | None) -> None:
    assert read(offered(section(SOUND, "0", fmtp=said), mids="0")).audio[0].stereo is stereo


def test_a_transport_may_be_said_once_for_all() -> None:
    text = offered(section(SOUND, "0", transport=""), mids="0").replace("a=extmap-allow-mixed\r\n", TRANSPORT)
    assert "a=ice-ufrag:abcd" in read(text).sdp


def test_one_m_line_needs_no_bundle_and_no_mid() -> None:
    text = offered(section(SOUND, "0"), mids="0").replace("a=group:BUNDLE 0\r\n", "").replace("a=mid:0\r\n", "")
    assert len(read(text).audio) == 1


REFUSED = {
    "expected SDP": ("v=0", "v=1"),
    "without ice-ufrag": ("a=ice-ufrag:abcd\r\n", ""),
    "ice-pwd": ("a=ice-pwd:" + "p" * 24, "a=ice-pwd:short"),
    "without a fingerprint": (f"sha-256 {PRINT}", "sha-1 AB:CD"),
    "setup": ("a=setup:actpass", "a=setup:holdconn"),
    "without rtcp-mux": ("a=rtcp-mux\r\n", ""),
    "PCMU/8000, expected opus/48000/2": ("a=rtpmap:111 opus/48000/2\r\n", ""),
    "the codecs": ("opus/48000/2", "opus/16000/1"),
    "not in one BUNDLE group": ("a=group:BUNDLE 0 1 2", "a=group:BUNDLE 0 1"),
    "the same mid": ("a=mid:1", "a=mid:0"),
    "a token": ("a=mid:1", "a=mid:one two"),
    "no audio": ("m=audio", "m=text"),
    "the m-line": ("m=audio 9", "m=audio nine"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refused_with_what_was_got_and_what_was_expected(reason: str) -> None:
    old, new = REFUSED[reason]
    text = offered(section(SOUND, "0"), section(SOUND, "1", "recvonly"), section(TALK, "2"))
    assert old in text
    with pytest.raises(ClientError, match=re.escape(reason)) as told:
        read(text.replace(old, new))
    assert told.value.code == "bad_message"


def test_an_offer_of_too_much_is_refused() -> None:
    with pytest.raises(ClientError, match="at most 64"):
        read(offered(*(section(SOUND, str(mid)) for mid in range(65)), mids=""))
    with pytest.raises(ClientError) as told:
        read(BROWSER + "a=x:" + "y" * LARGEST)
    assert told.value.code == "too_large"


LINES = BROWSER.split("\r\n")
NOISE = some.one_of(
    some.sampled_from(LINES), some.text(max_size=40), some.from_regex(r"a=[a-z-]{1,9}:\S{0,20}", fullmatch=True)
)


@given(some.lists(some.tuples(some.integers(0, len(LINES) - 1), some.none() | NOISE), max_size=6))
def test_whatever_comes_is_refused_or_becomes_an_offer_that_aiortc_reads(edits: list[tuple[int, str | None]]) -> None:
    lines = [*LINES]
    for index, text in edits:
        lines[index : index + 1] = [] if text is None else [text]
    try:
        offer = read("\r\n".join(lines))
    except ClientError:
        return
    parsed = SessionDescription.parse(offer.sdp)
    assert [media.kind for media in parsed.media].count("audio") == len(offer.audio)
    assert all(media.dtls and media.ice.password for media in parsed.media)
