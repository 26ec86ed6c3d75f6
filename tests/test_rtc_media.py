"""Sound out and in again: paced, encoded once, over real peer connections whose network loses packets."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpReceiver
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket
from rtc_pairs import Fate, Weather, connected, perfect
from test_rtc_opus import clicks, db, encoded, lag, voice

from server.webrtc.clock import RATE, Pacer
from server.webrtc.jitter import Piece
from server.webrtc.opus import MUSIC, SPEECH, Coding, Decoder
from server.webrtc.receive import HUSH, Incoming, Received, Repair
from server.webrtc.send import MIX, Outgoing
from server.webrtc.tap import tap
from server.webrtc.track import MOST_WAITING, PacketTrack
from streaming.framing import Array

MS = 48


# The pace, without a clock


def departures(chunks: list[tuple[int, int]], frame: int = 960) -> list[tuple[int, int]]:
    """When each packet leaves, `(position, when)`, of chunks `(samples, when)`: the loop of `Outgoing`, on no clock."""
    pacer, said, left, out, now = Pacer(), 0, 0, [], 0
    for samples, when in [*chunks, (0, 10**12)]:
        while left + frame <= said:
            due = max(left + pacer.delay(now), now)
            if due >= when:
                break
            now = due
            out.append((left, now))
            left += frame
        now = max(now, min(when, 10**11))
        if samples:
            first = said // frame * frame
            said += samples
            if said >= first + frame:
                pacer.ready(first, now)
    return out


def test_chunks_leave_evenly_and_at_once() -> None:
    """Half a second at a time, as a windowed model tells it: the first packet waits for nothing, the others 20 ms each."""
    chunks = [(24_000, 100 + 24_000 * (k + 1)) for k in range(20)]
    times = departures(chunks)
    assert times[0] == (0, 24_100)
    assert {after - before for (_, before), (_, after) in pairwise(times)} == {960}


def test_a_late_chunk_is_waited_out_once_and_caught_up_with() -> None:
    late = [(960, 960 * (k + 1) + (48_000 if 100 <= k < 150 else 0)) for k in range(600)]
    late = [(samples, max(when, late[149][1]) if k >= 100 else when) for k, (samples, when) in enumerate(late)]
    times = departures(late)
    assert [position for position, _ in times] == [960 * k for k in range(600)]
    delay = [when - position for position, when in times]
    assert delay[99] == 960
    assert max(delay) > 48_000
    tens = [after - before for (_, before), (_, after) in zip(times[150:], times[160:], strict=False)]
    assert min(tens) >= 10 * 960 / 1.55
    assert delay[-1] <= 960 + 5 * MS


@pytest.mark.parametrize("drift", [-500e-6, 500e-6])
def test_the_pace_follows_a_drifting_sender_for_ten_minutes(drift: float) -> None:
    chunks = [(960, round(960 * (k + 1) * (1 + drift))) for k in range(30_000)]
    delay = [when - round(position * (1 + drift)) for position, when in departures(chunks)]
    assert len(delay) == 30_000
    assert min(delay) >= 960
    assert max(delay) <= 960 + 5 * MS


def test_a_jittering_model_is_not_passed_on() -> None:
    random = np.random.default_rng(3)
    chunks = [(960, 960 * (k + 1) + int(random.integers(0, 10 * MS))) for k in range(1000)]
    times = departures(chunks)
    delay = np.array([when - position for position, when in times])
    gaps = np.diff([when for _, when in times[100:]])
    assert delay.max() <= 960 + 10 * MS
    assert np.percentile(np.abs(gaps - 960), 80) < 1 * MS


# Encoding, tracks


async def played(track: MediaStreamTrack, packets: int) -> list[Any]:
    return [await track.recv() for _ in range(packets)]


async def listening(*tracks: MediaStreamTrack) -> list[asyncio.Task[list[Any]]]:
    """Tasks that take all packets until the end."""

    async def all_of(track: MediaStreamTrack) -> list[Any]:
        packets: list[Any] = []
        try:
            while True:
                packets.append(await track.recv())
        except MediaStreamError:
            return packets

    tasks = [asyncio.create_task(all_of(track)) for track in tracks]
    await asyncio.sleep(0)
    return tasks


def decoded(packets: list[Any], channels: int) -> Array:
    decoder = Decoder(channels)
    return np.concatenate([decoder.decode(bytes(packet)) for packet in packets], axis=1)


@pytest.mark.parametrize("coding", [MUSIC, Coding("audio", 160_000, 480)], ids=["20 ms", "10 ms"])
async def test_tracks_hold_the_sound_at_its_sample(coding: Coding) -> None:
    """Ragged chunks from sample 777 on: packets follow one another by their length, all tracks alike, and hold the sound."""
    stems = np.stack([clicks(2, 0.5), clicks(2, 0.5)[:, ::-1], np.zeros((2, RATE // 2), np.float32)])
    outgoing, random = Outgoing(("a", "b", "silent"), 2, coding), np.random.default_rng(0)
    tasks = await listening(*(outgoing.listen(name) for name in ("a", "b", "silent")))
    at = 0
    while at < stems.shape[2]:
        step = int(random.integers(1, 3000))
        outgoing.write(777 + at, stems[:, :, at : at + step])
        at += min(step, stems.shape[2] - at)
    await outgoing.finish()
    outgoing.close()
    tracks = [await task for task in tasks]
    whole = -(-stems.shape[2] // coding.frame)
    for packets, stem in zip(tracks, stems, strict=True):
        assert [packet.pts for packet in packets] == [777 + k * coding.frame for k in range(whole)]
        heard = decoded(packets, 2)
        assert heard.shape[1] == whole * coding.frame
        if stem.any():
            assert lag(stem, heard) == 0
            assert db(stem, heard) > 10
        else:
            assert np.abs(heard).max() < 1e-9
            assert max(len(bytes(packet)) for packet in packets) < 10


async def test_other_rates_are_converted() -> None:
    sound = clicks(1, 0.5)
    third = np.ascontiguousarray(sound[:, ::3])
    outgoing = Outgoing(("a",), 1, SPEECH, rate=16_000)
    (task,) = await listening(outgoing.listen("a"))
    for at in range(0, third.shape[1], 320):
        outgoing.write(1600 + at, third[None, :, at : at + 320])
    await outgoing.finish()
    outgoing.close()
    packets = await task
    assert packets[0].pts == 4800
    assert sum(packet.duration for packet in packets) == 24_000
    assert lag(np.repeat(third, 3, axis=1), decoded(packets, 1)) in range(-8, 9)


async def test_the_mix_is_the_sum_and_follows_its_gains() -> None:
    stems = np.stack([clicks(1, 0.6), 0.5 * clicks(1, 0.6)[:, ::-1]])
    outgoing = Outgoing(("a", "b"), 1, MUSIC)
    (task,) = await listening(outgoing.listen(MIX))
    outgoing.write(0, stems[:, :, :14_400])
    while outgoing.sent.sample < 9600:
        await asyncio.sleep(0.01)
    outgoing.gains({"a": 0.0})
    outgoing.write(14_400, stems[:, :, 14_400:])
    await outgoing.finish()
    outgoing.close()
    heard = decoded(await task, 1)
    assert db(stems[:, :, 2400:9600].sum(axis=0), heard[:, 2400:9600]) > 10
    assert db(stems[1, :, 16_800:], heard[:, 16_800 : stems.shape[2]]) > 10
    with pytest.raises(ValueError, match="gain for 'c'"):
        outgoing.gains({"c": 1.0})


async def test_listeners_of_one_output_share_its_packets_and_come_and_go() -> None:
    sound = clicks(2, 0.8)
    outgoing = Outgoing(("a",), 2)
    early, unread = outgoing.listen("a"), outgoing.listen("a")
    first = (await listening(early))[0]
    outgoing.write(0, sound[None, :, :24_000])
    while outgoing.sent.sample < 9600:
        await asyncio.sleep(0.01)
    late = outgoing.listen("a")
    second = (await listening(late))[0]
    while outgoing.sent.sample < 14_400:
        await asyncio.sleep(0.01)
    early.stop()
    outgoing.write(24_000, sound[None, :, 24_000:])
    await outgoing.finish()
    outgoing.close()
    ours, theirs = await first, await second
    assert {id(packet) for packet in ours} & {id(packet) for packet in theirs}
    assert ours[-1].pts < theirs[-1].pts == 37_440
    assert [packet.pts for packet in theirs] == list(range(theirs[0].pts, 38_400, 960))
    assert theirs[0].pts >= 9600
    # Its encoder was running already, so only what it never heard is missing.
    heard = decoded(theirs, 2)
    assert db(sound[:, theirs[0].pts + 960 :], heard[:, 960:]) > 10
    assert unread._packets == type(unread._packets)()  # nobody read it: nothing was kept for it


async def test_an_output_that_nobody_hears_costs_nothing_and_begins_clean() -> None:
    sound = clicks(1, 0.6)
    outgoing = Outgoing(("a", "b"), 1)
    outgoing.write(0, np.stack([sound, sound])[:, :, :14_400])
    while outgoing.sent.sample < 4800:
        await asyncio.sleep(0.01)
    assert not outgoing._encoders._encoders
    (task,) = await listening(outgoing.listen("b"))
    outgoing.write(14_400, np.stack([sound, sound])[:, :, 14_400:])
    await outgoing.finish()
    outgoing.close()
    packets = await task
    heard, begin = decoded(packets, 1), packets[0].pts
    # Primed with the sound before: right from its first packet on but for the overlap with one that was never sent.
    assert db(sound[:, begin + 240 :], heard[:, 240:]) > 10


def test_who_does_not_read_loses_the_oldest() -> None:
    track = PacketTrack(lambda track: None)
    for number in range(MOST_WAITING + 7):
        track.put(number)  # type: ignore[arg-type]
    assert track.dropped == 7
    assert track._packets[0] == 7


async def test_what_does_not_follow_is_refused() -> None:
    outgoing = Outgoing(("a",), 1)
    outgoing.write(480, np.zeros((1, 1, 480), np.float32))
    with pytest.raises(ValueError, match="got samples from 900, expected 960"):
        outgoing.write(900, np.zeros((1, 1, 480), np.float32))
    with pytest.raises(ValueError, match=r"got \(1, 2\) outputs and channels, expected \(1, 1\)"):
        outgoing.write(960, np.zeros((1, 2, 480), np.float32))
    with pytest.raises(ValueError, match="got output 'b', this session has a, mix"):
        outgoing.listen("b")
    outgoing.close()
    outgoing.close()
    await asyncio.sleep(0)


async def test_a_session_without_a_sample_ends() -> None:
    outgoing = Outgoing(("a",), 1)
    track = outgoing.listen("a")
    await outgoing.finish()
    outgoing.close()
    with pytest.raises(MediaStreamError):
        await track.recv()


async def test_a_session_that_is_faster_than_the_clock_does_not_fill_the_memory() -> None:
    outgoing = Outgoing(("a",), 1)
    for second in range(40):
        outgoing.write(second * RATE, np.zeros((1, 1, RATE), np.float32))
    assert outgoing._frames.held <= 30 * 50
    assert outgoing._frames.end == 40 * RATE
    outgoing.close()


# Gaps


def test_invented_sound_fades_into_silence() -> None:
    repair, packets = Repair(1), encoded_voice()
    for k in range(20):
        repair.pcm(Piece(k * 960, 960, packets[k]))
    long = repair.pcm(Piece(20 * 960, 48_000))
    assert long.shape == (1, 48_000)
    assert np.abs(long[:, :960]).max() > 0.01
    assert not long[:, HUSH:].any()
    assert np.abs(np.diff(long[:, HUSH - 480 :])).max() < 0.01
    after = repair.pcm(Piece(20 * 960 + 48_000, 960, packets[10]))
    assert np.abs(after).max() > 0.01
    assert repair.concealed == 48_000


def test_broken_packets_become_concealment() -> None:
    repair, packets = Repair(1), encoded_voice()
    repair.pcm(Piece(0, 960, packets[5]))
    broken = packets[6][:1] + b"\xff" * 3
    assert repair.pcm(Piece(960, 960, bytes([packets[6][0] | 3]) + b"\x3f")).shape == (1, 960)
    assert repair.broken == 1
    assert repair.pcm(Piece(1920, 960, broken)).shape == (1, 960)


def encoded_voice() -> list[bytes]:
    return encoded(voice(1.0), SPEECH)


# Over real peer connections


async def over(fate: Fate, stems: Array, coding: Coding) -> tuple[list[Array], list[Received], int]:
    """The stems as one peer plays them in their time and the other hears them; what became of the packets; and how many were
    sent. `[S, C, T]`"""
    names, channels = [str(k) for k in range(len(stems))], stems.shape[1]
    outgoing, incoming, heard = Outgoing(names, channels, coding), [], [[] for _ in names]

    async def take(k: int) -> None:
        while (pcm := await incoming[k].pcm()) is not None:
            heard[k].append(pcm)

    def took(receiver: RTCRtpReceiver) -> None:
        receivers.append(receiver)
        incoming.append(Incoming(receiver, channels))

    tracks, receivers = [outgoing.listen(name) for name in names], list[RTCRtpReceiver]()
    async with connected(tracks, took, fate) as network:
        assert not [one for one in threading.enumerate() if one.name == "audio-decoder"]
        tasks = [asyncio.create_task(take(k)) for k in range(len(names))]
        outgoing.write(0, stems)
        await outgoing.finish()
        await asyncio.sleep(0.1)
        for one in incoming:
            one.end()
        await asyncio.gather(*tasks)
        received, count = [one.received for one in incoming], network.count
        for one, counts in zip(receivers, received, strict=True):
            told = [stats for stats in (await one.getStats()).values() if stats.type == "inbound-rtp"]
            assert [stats.packetsReceived for stats in told] == [counts.packets]  # what RTCP reports to the sender
    outgoing.close()
    return [np.concatenate(parts, axis=1) for parts in heard], received, count


async def test_over_a_clean_network_every_sample_arrives_at_its_place() -> None:
    stems = np.stack([clicks(2, 2.0), clicks(2, 2.0)[::-1, ::-1]])
    heard, received, count = await over(perfect, stems, MUSIC)
    assert count == 200
    for stem, sound, counts in zip(stems, heard, received, strict=True):
        assert (counts.packets, counts.lost, counts.discarded, counts.recovered) == (100, 0, 0, 0)
        assert lag(stem, sound[:, :96_000]) == 0
        assert db(stem, sound[:, :96_000]) > 10


@pytest.mark.parametrize(
    ("weather", "coding"),
    [(Weather(loss=0.05, jitter=0.05), MUSIC), (Weather(loss=0.05, jitter=0.05, double=0.1, seed=5), SPEECH)],
    ids=["music", "speech, and doubles"],
)
async def test_through_loss_and_jitter_samples_out_are_samples_in(weather: Weather, coding: Coding) -> None:
    sound = voice(3.0) if coding is SPEECH else clicks(2, 3.0)
    # A network that is good in the last packets, so that the end is known.
    heard, (received,), count = await over(lambda n: weather(n) if 5 < n < 140 else [0.0], sound[None], coding)
    assert count == 150
    assert received.lost > 0
    assert heard[0].shape[1] >= 3 * RATE
    # Silence by the clock after the last packet is all that may be there beyond.
    assert heard[0].shape[1] % 960 == 0
    assert heard[0].shape[1] < 3.5 * RATE
    assert abs(lag(sound, heard[0][:, : 3 * RATE])) <= 6
    assert db(sound, heard[0][:, : 3 * RATE]) > 3
    if coding is SPEECH:
        assert received.recovered > 0


class Bare:
    """As much of a receiver as is tapped."""

    def __init__(self) -> None:
        self._RTCRtpReceiver__jitter_buffer: Any = None
        self._RTCRtpReceiver__decoder_thread = None

    def _RTCRtpReceiver__stop_decoder(self) -> None: ...

    async def receive(self, parameters: Any) -> None: ...

    def come(self, number: int, payload: bytes) -> None:
        packet = RtpPacket(sequence_number=number, timestamp=960 * number, payload=payload)
        self._RTCRtpReceiver__jitter_buffer.add(packet)


async def test_what_waits_in_the_socket_while_the_loop_is_held_up_is_not_given_up() -> None:
    """The whole server stands still for half a second; then its loop reads a packet a turn, as it reads sockets."""
    receiver, packets, loop = Bare(), encoded_voice(), asyncio.get_running_loop()
    incoming = Incoming(receiver, 1)  # type: ignore[arg-type]
    heard = []

    async def take() -> None:
        while (pcm := await incoming.pcm()) is not None:
            heard.append(pcm)

    def read(number: int) -> None:
        receiver.come(number, packets[number])
        if number < 29:
            loop.call_soon(read, number + 1)
        else:
            incoming.end()

    for number in range(5):
        receiver.come(number, packets[number])
    task = asyncio.create_task(take())
    await asyncio.sleep(0)
    time.sleep(0.5)  # noqa: ASYNC251
    loop.call_soon(read, 5)
    await task
    assert incoming.received.concealed == 0
    assert sum(pcm.shape[1] for pcm in heard) == 30 * 960


# aiortc's private parts


async def test_an_aiortc_without_the_tapped_parts_is_refused() -> None:
    class Other:
        """A receiver of another make."""

    with pytest.raises(RuntimeError, match=r"no _RTCRtpReceiver__jitter_buffer, .* Install aiortc 1.16"):
        tap(Other(), lambda packet: None, lambda: None)  # type: ignore[arg-type]


async def test_this_aiortc_has_the_tapped_parts() -> None:
    peer = RTCPeerConnection()
    receiver = peer.addTransceiver("audio").receiver
    tap(receiver, lambda packet: None, lambda: None)
    await peer.close()


@pytest.mark.parametrize("how", ["close", "bye"])
async def test_the_end_of_the_connection_is_the_end_of_the_sound(how: str) -> None:
    outgoing, incoming = Outgoing(("a",), 1), []
    async with connected([outgoing.listen("a")], lambda receiver: incoming.append(Incoming(receiver, 1))) as network:
        outgoing.write(0, clicks(1, 0.2)[None])
        assert await incoming[0].pcm() is not None
        if how == "bye":
            await network.peer.getSenders()[0].stop()
            async with asyncio.timeout(60):
                while await incoming[0].pcm() is not None:
                    pass
    async with asyncio.timeout(60):
        while await incoming[0].pcm() is not None:
            pass
    outgoing.close()
