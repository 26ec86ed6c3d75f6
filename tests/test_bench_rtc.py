"""The benchmarks of WebRTC: what they compute, on sound and timelines whose answer is known."""

import asyncio

import numpy as np
import pytest

from clients.bench import ear, rtc, sound
from clients.bench.peer import FRAME, RATE, Peer, Track, encoded


def test_a_known_delay_is_found_in_every_window() -> None:
    said = sound.synthetic(9, RATE, 2).mean(0)
    late = round(0.1534 * RATE)
    heard = np.concatenate((np.zeros(late, np.float32), 0.4 * said))[: len(said)]
    heard += np.random.default_rng(0).normal(0, 0.003, len(heard)).astype(np.float32)
    found, unclear = ear.delays(said, heard)
    assert len(found) > 3 * unclear
    assert np.abs(np.asarray(found) - 1000 * late / RATE).max() < 0.05


def test_a_delay_that_changes_is_followed() -> None:
    said = sound.synthetic(14, RATE, 2).mean(0)
    heard = np.zeros_like(said)
    heard[4800:] = said[:-4800]
    heard[7 * RATE :] = said[7 * RATE - 9600 : -9600]
    found, _ = ear.delays(said, heard)
    assert abs(found[0] - 100) < 0.05
    assert abs(found[-1] - 200) < 0.05


def test_silence_and_other_sound_have_no_delay() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.1, (2, 8 * RATE)).astype(np.float32)
    assert ear.delays(np.zeros(8 * RATE, np.float32), noise[0])[0] == []
    found, unclear = ear.delays(noise[0], noise[1])
    assert found == []
    assert unclear > 10


def test_opus_packets_are_those_of_whole_frames() -> None:
    packets = encoded(sound.synthetic(0.5, RATE, 2)[:, :-1])
    assert len(packets) == 24
    assert all(packet[0] >> 3 in range(12, 32) for packet in packets)  # RFC 6716, table 2: hybrid or CELT


def test_a_track_knows_its_places_over_a_wrap_and_in_any_order() -> None:
    track = Track()

    class Packet:
        def __init__(self, timestamp: int) -> None:
            self.timestamp, self.payload = timestamp & 0xFFFFFFFF, b"12"

    for at, offset in enumerate((0, 2 * FRAME, FRAME, -FRAME)):
        track.take(Packet((1 << 32) - FRAME + offset), float(at))  # type: ignore[arg-type]
    assert [sample for sample, _ in track.arrivals] == [0, 2 * FRAME, FRAME, -FRAME]
    assert track.bytes == 8


def test_latency_is_from_the_packet_that_holds_the_sample() -> None:
    track = Track("vocals", 0, [(0, 0.1), (480, 0.11), (960, 0.2), (4 * 960, 9.0)])
    assert rtc.latencies(track, [0.02, 0.04, 0.06, 0.08], 0.0) == pytest.approx([0.08, 0.09, 0.16])
    assert rtc.latencies(track, [0.02, 0.04, 0.06, 0.08], 0.02) == pytest.approx([0.16])


async def test_samples_that_are_missing_are_told() -> None:
    peer = Peer([b""], 1)
    try:
        peer.tracks = [Track("vocals", 0, [(0, 1.0), (FRAME, 1.0)])]
        peer.feed.sent = [0.0] * 10
        assert rtc.figures(peer, 10 * FRAME, 0.0)["failure"] == "9600 samples told, 1920 came as vocals"
        assert rtc.figures(peer, None, 0.0)["failure"] == "9600 samples in, done says None"
        peer.tracks[0].arrivals += [(at * FRAME, 1.0) for at in range(2, 10)]
        assert rtc.figures(peer, 10 * FRAME, 0.0)["failure"] is None
    finally:
        await asyncio.wait_for(peer.close(), 60)
