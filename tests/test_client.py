"""The Python client against golden bytes, and against an honest peer that can be told to misbehave."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rivulet_client
from hypothesis import given
from hypothesis import strategies as st
from rivulet_client import codec, handshake, patience
from rivulet_client.codec import Array, Start
from rivulet_client.tape import Tape
from rivulet_client.testing import Behaviour, Peer

pytestmark = pytest.mark.usefixtures("no_pauses")

GOLDEN = json.loads((Path(__file__).parent / "golden_wire.json").read_text())
LEVELS = {"vocals": 1.0, "drums": 0.5, "bass": 0.25, "other": 0.125}


def noise(samples: int, channels: int = 2, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (channels, samples)).astype(np.float32)


def whole(chunks: list[rivulet_client.Stems], name: str = "vocals") -> Array:
    return np.concatenate([chunk.stems[name] for chunk in chunks], axis=1)


# --- the codec ---


@pytest.mark.parametrize("vector", GOLDEN["binary"])
def test_golden_binary(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    expected = np.asarray(vector["stems"], np.float32)
    if vector["format"] == "s16le":
        expected = np.clip(expected, -1, 32767 / 32768)
    start, stems = codec.unpack(data)
    assert start == vector["start"]
    assert np.array_equal(stems, expected)
    assert codec.header(data) == (vector["format"], *expected.shape, start)


@pytest.mark.parametrize("message", GOLDEN["client"], ids=lambda message: message["type"])
def test_golden_client(message: dict[str, Any]) -> None:
    kind, body = message["type"], {name: value for name, value in message.items() if name != "type"}
    first = {"start": Start, "resume": codec.Resume}.get(kind)
    text = codec.encode_start(first(**body)) if first else codec.encode(kind, **body)
    assert json.loads(text) == message


@pytest.mark.parametrize("message", GOLDEN["server"], ids=lambda message: message["type"])
def test_golden_server(message: dict[str, Any]) -> None:
    got = codec.decode(json.dumps(message))
    assert got is not None
    assert type(got).__name__.lower() == message["type"]
    told = json.loads(json.dumps(asdict(got)))
    assert {**told, "type": message["type"], **message} == {**told, "type": message["type"]}


def test_a_server_that_cannot_resume_is_understood() -> None:
    new = {"resume", "resume_samples", "replay_from", "retry_after_ms"}
    older = [{name: value for name, value in message.items() if name not in new} for message in GOLDEN["server"]]
    for message in older:
        got = codec.decode(json.dumps(message))
        assert got is not None
        assert getattr(got, "resume", None) is getattr(got, "retry_after_ms", None) is None
        assert getattr(got, "resume_samples", 0) == getattr(got, "replay_from", 0) == 0


def test_unknown_types_and_fields_are_ignored() -> None:
    assert codec.decode('{"type": "weather", "sun": true}') is None
    assert codec.decode('{"type": "done", "samples": 3, "new": 1}') == rivulet_client.Done(3)


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"type": 3}', '{"type": "done"}', '{"type": "done", "samples": "3"}', "[" * 100_000,
             '{"type": "done", "samples": true}', '{"type": "error", "code": "a", "message": "b", "fatal": 1}'],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_bad_text(text: str) -> None:
    with pytest.raises(rivulet_client.ProtocolError):
        codec.decode(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[:10], "10 bytes"),
        (lambda data: data[:-1], "25 bytes, expected 26"),
        (lambda data: data + b"x", "27 bytes, expected 26"),
        (lambda data: b"\x02" + data[1:], "version 2"),
        (lambda data: data[:1] + b"\x02" + data[2:], "flags 0x2"),
    ],
)
def test_bad_binary(change: Any, said: str) -> None:
    with pytest.raises(rivulet_client.ProtocolError, match=said):
        codec.header(change(bytes.fromhex(GOLDEN["binary"][0]["hex"])))


shapes = st.tuples(st.integers(1, 5), st.integers(1, 2), st.integers(0, 40))


@given(shape=shapes, start=st.integers(0, 2**64 - 1), seed=st.integers(0, 99))
def test_stems_round_trip(shape: tuple[int, int, int], start: int, seed: int) -> None:
    stems = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    head = struct.pack("<BBBBIQ", 1, 1, shape[0], shape[1], shape[2], start)
    got_start, got = codec.unpack(head + b"".join(stem.T.tobytes() for stem in stems))
    assert got_start == start
    assert got.dtype == np.float32
    assert np.array_equal(got, stems)


@given(channels=st.integers(1, 2), frames=st.integers(0, 50), seed=st.integers(0, 99))
def test_pcm_round_trip(channels: int, frames: int, seed: int) -> None:
    pcm = noise(frames, channels, seed) * np.float32(1.5)
    floats = np.frombuffer(codec.pack(pcm, "f32le"), "<f4").reshape(-1, channels).T
    whole_numbers = np.frombuffer(codec.pack(pcm, "s16le"), "<i2").reshape(-1, channels).T
    assert np.array_equal(floats, pcm)
    assert np.abs(whole_numbers / 32768 - np.clip(pcm, -1, 32767 / 32768)).max(initial=0) <= 0.5 / 32768


def test_values_that_are_not_finite_are_silence_in_s16le() -> None:
    assert codec.pack(np.float32([[np.nan, np.inf, -np.inf, 2.0]]), "s16le") == b"\0\0\0\0\0\0\xff\x7f"


def test_planar() -> None:
    assert np.array_equal(codec.planar(np.int16([[-32768, 16384]]), 1), np.float32([[-1, 0.5]]))
    assert codec.planar(np.zeros(3), 1).dtype == np.float32
    with pytest.raises(ValueError, match=r"\(3,\), expected \(2, samples\)"):
        codec.planar(np.zeros(3), 2)
    with pytest.raises(ValueError, match="int64, expected floating"):
        codec.planar(np.zeros(3, np.int64), 1)


@pytest.mark.parametrize(
    ("url", "stream", "models"),
    [
        ("ws://a:1", "ws://a:1/v1/stream", "http://a:1/v1/models"),
        ("https://a/x/", "wss://a/x/v1/stream", "https://a/x/v1/models"),
        ("ws://a/v1/stream", "ws://a/v1/stream", "http://a/v1/models"),
    ],
)
def test_addresses(url: str, stream: str, models: str) -> None:
    assert handshake.stream_url(url) == stream
    assert handshake.models_url(url) == models
    with pytest.raises(ValueError, match="expected one like"):
        handshake.stream_url("localhost:8000")


def test_backoff_doubles_and_is_bounded() -> None:
    pauses = [delay for delay, _ in zip(patience.backoff(1.0, 4.0), range(6), strict=False)]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, (1, 2, 4, 4, 4, 4), strict=True))


# --- a session ---


async def test_events_of_a_session() -> None:
    pcm = noise(5000)
    async with Peer(Behaviour(hold=100, complain=True)) as peer:
        async with rivulet_client.connect(peer.url, format="f32le", token="key") as stream:
            assert stream.ready.stems == tuple(LEVELS)
            assert stream.ready.latency_samples == 541
            await stream.send(pcm[:, :1000])
            await stream.mark("here")
            await stream.send(pcm[:, 1000:])
            await stream.end()
            events = [event async for event in stream]
            with pytest.raises(RuntimeError, match="has ended"):
                await stream.send(pcm)
    assert peer.tokens == ["Bearer key"]
    assert isinstance(events[0], rivulet_client.Error)
    assert events[-1] == rivulet_client.Done(5000)
    (at,) = (index for index, event in enumerate(events) if isinstance(event, rivulet_client.Mark))
    assert events[at] == rivulet_client.Mark("here", 1000)
    before = [event for event in events[:at] if isinstance(event, rivulet_client.Stems)]
    assert before[-1].start + before[-1].frames >= 1000 > before[-1].start
    stems = [event for event in events if isinstance(event, rivulet_client.Stems)]
    for name, level in LEVELS.items():
        assert np.array_equal(whole(stems, name), pcm * np.float32(level))


async def test_mix_with_gains_in_mono_and_chosen_stems() -> None:
    pcm = noise(3000)
    async with Peer() as peer:
        wanted: Any = {"format": "f32le", "output": "mix", "gains": {"vocals": 0.0}, "mono": True, "latency_ms": 90.0}
        async with rivulet_client.connect(peer.url, **wanted) as stream:
            assert (stream.ready.stems, stream.ready.channels) == (("mix",), 1)
            await stream.gains({"drums": 0.0})
            await stream.send(pcm)
            await stream.end()
            mixed = [event async for event in stream if isinstance(event, rivulet_client.Stems)]
        chosen = await rivulet_client.separate_array(peer.url, pcm, 44_100, stems=["no_vocals", "bass"])
    assert np.allclose(whole(mixed, "mix"), 0.375 * pcm.mean(axis=0), atol=1e-6)
    assert list(chosen) == ["no_vocals", "bass"]
    assert np.allclose(chosen["no_vocals"], 0.875 * pcm, atol=1e-6)
    sent = {name: peer.starts[0][name] for name in wanted}
    assert sent == wanted


@pytest.mark.parametrize("samples", [0, 1, 440, 441, 442, 30_000])
@pytest.mark.parametrize("format", ["s16le", "f32le"])
async def test_separate_array_is_exact_in_length(samples: int, format: Any) -> None:
    pcm = noise(samples)
    async with Peer(Behaviour(hold=333)) as peer:
        stems = await rivulet_client.separate_array(peer.url, pcm, 44_100, format=format)
    assert set(stems) == (set(LEVELS) if samples else set())
    for name, audio in stems.items():
        assert audio.shape == pcm.shape
        assert np.abs(audio - pcm * LEVELS[name]).max() <= (1.01 / 32768 if format == "s16le" else 0)


async def test_separate_array_sync() -> None:
    mono = noise(2000, 1)[0]
    async with Peer(Behaviour(stems=("low",))) as peer:
        stems = await asyncio.to_thread(rivulet_client.separate_array_sync, peer.url, mono, 16_000, model="speech")
    assert stems["low"].shape == (1, 2000)
    expected = {"type": "start", "model": "speech", "rate": 16000, "channels": 1, "format": "f32le", "live": False}
    assert peer.starts[0] == expected


# --- both ways at once ---

MINUTES = 130  # s of audio; sending so much before reading stops for ever


def long_noise() -> Iterator[Array]:
    second = noise(44_100)
    return (second for _ in range(MINUTES))


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_long_recording_goes_through(asynchronous: bool) -> None:
    async def each() -> AsyncIterator[Array]:
        for chunk in long_noise():
            yield chunk

    async with Peer(Behaviour(tick=8820, hold=20_000)) as peer, asyncio.timeout(60):
        told = 0
        source = each() if asynchronous else long_noise()
        async with aclosing(rivulet_client.separate(peer.url, source)) as chunks:
            async for chunk in chunks:
                assert chunk.start == told
                told += chunk.frames
    assert told == MINUTES * 44_100


async def test_the_peer_is_honest_a_client_that_does_not_read_stops() -> None:
    async with Peer(Behaviour(tick=8820)) as peer, rivulet_client.connect(peer.url) as stream:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                for chunk in long_noise():
                    await stream.send(chunk)
        assert stream.sent < MINUTES * 44_100


async def test_how_far_a_sender_runs_ahead_is_bounded() -> None:
    taken = 0

    async def source() -> AsyncIterator[Array]:
        nonlocal taken
        for _ in range(400):
            taken += 441
            yield noise(441)

    async with Peer(Behaviour(hold=4000)) as peer:
        async with aclosing(rivulet_client.separate(peer.url, source(), ahead=0.1)) as chunks:
            async for chunk in chunks:
                told = chunk.start + chunk.frames
                assert taken - told <= 4441 + 4410 + 2 * 441
    assert taken == told


async def test_leaving_early_stops_everything() -> None:
    async with Peer() as peer:
        async with aclosing(rivulet_client.separate(peer.url, long_noise())) as chunks:
            async for _ in chunks:
                break
    assert {task.get_name() for task in asyncio.all_tasks()} == {asyncio.current_task().get_name()}  # type: ignore[union-attr]


@pytest.mark.parametrize("wrong", ["raises", "shape"])
async def test_what_the_source_raises_comes_out(wrong: str) -> None:
    def source() -> Iterator[Array]:
        yield noise(44_100)
        if wrong == "shape":
            yield noise(100, channels=1)
        raise ValueError("the microphone fell, expected")

    async with Peer() as peer, asyncio.timeout(60):
        with pytest.raises(ValueError, match="expected"):
            async for _ in rivulet_client.separate(peer.url, source()):
                pass


async def test_tape() -> None:
    tape = Tape(room=4)
    await tape.put(noise(3))
    await tape.put(noise(3))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(tape.put(noise(1)), 0.01)
    got = await tape.take(2)
    assert got is not None
    assert got.shape == (2, 1)
    await tape.forget(4)
    await tape.put(noise(1))
    await tape.end()
    rest = await tape.take(4)
    assert rest is not None
    assert rest.shape == (2, 2)
    assert await tape.take(7) is None


# --- when it goes wrong ---


async def drain(url: str, seconds: int = 3, **options: Any) -> list[rivulet_client.Stems]:
    source = [noise(44_100, seed=second) for second in range(seconds)]
    async with asyncio.timeout(60):
        return [stems async for stems in rivulet_client.separate(url, source, format="f32le", **options)]


async def test_refused() -> None:
    async with Peer(Behaviour(refuse=("unknown_model", 4404))) as peer:
        with pytest.raises(rivulet_client.Refused, match="no: unknown_model") as caught:
            await drain(peer.url)
    assert (caught.value.code, caught.value.close_code) == ("unknown_model", 4404)
    assert len(peer.starts) == 1


async def test_full_then_free() -> None:
    async with Peer(Behaviour(refuse=("capacity", 1013), refusals=2)) as peer:
        assert whole(await drain(peer.url, retries=2)).shape == (2, 3 * 44_100)
    assert len(peer.starts) == 3


@pytest.mark.parametrize("code", [("capacity", 1013), ("too_many", 4429), ("draining", 1012)])
async def test_no_sooner_than_the_server_says(code: tuple[str, int]) -> None:
    clock = asyncio.get_running_loop().time
    async with Peer(Behaviour(refuse=code, refusals=2, retry_after_ms=150)) as peer:
        began = clock()
        async with rivulet_client.connect(peer.url, retries=2):
            assert clock() - began >= 0.3
    assert len(peer.starts) == 3


async def test_a_refusal_carries_when_to_try_again() -> None:
    async with Peer(Behaviour(refuse=("too_many", 4429), retry_after_ms=9000)) as peer:
        with pytest.raises(rivulet_client.Refused) as caught:
            await drain(peer.url, retries=0)
    assert (caught.value.retry_after_ms, caught.value.close_code) == (9000, 4429)


async def test_full_for_too_long() -> None:
    async with Peer(Behaviour(refuse=("capacity", 1013))) as peer:
        with pytest.raises(rivulet_client.Refused, match="capacity"):
            await drain(peer.url, retries=1)
    assert len(peer.starts) == 2


async def test_nobody_there() -> None:
    async with Peer() as peer:
        url = peer.url
    with pytest.raises(rivulet_client.Unreachable):
        await drain(url, retries=2)


async def test_another_path_is_refused() -> None:
    async with Peer() as peer:
        with pytest.raises(rivulet_client.Refused, match="HTTP 404"):
            await drain(peer.url + "/elsewhere")


async def test_connection_lost_says_where_the_timeline_stood() -> None:
    async with Peer(Behaviour(drop_after=500_000, resume=False)) as peer:
        with pytest.raises(rivulet_client.ConnectionLost, match="gives nothing to resume with") as caught:
            await drain(peer.url)
    assert caught.value.sent > caught.value.received > 0
    assert caught.value.received % 441 == 0
    assert f"{caught.value.received} had come back" in caught.value.message


async def test_reconnect_makes_the_timeline_whole() -> None:
    async with Peer(Behaviour(drop_after=500_000, drops=2, hold=1000, resume=False)) as peer:
        chunks = await drain(peer.url, reconnect=True, ahead=0.5)
    assert len(peer.starts) == 3
    assert np.array_equal(whole(chunks), np.concatenate([noise(44_100, seed=second) for second in range(3)], axis=1))
    ends = [chunk.start + chunk.frames for chunk in chunks]
    assert [chunk.start for chunk in chunks] == [0, *ends[:-1]]


async def test_reconnect_gives_up_without_progress() -> None:
    async with Peer(Behaviour(drop_after=0, resume=False)) as peer:
        with pytest.raises(rivulet_client.ConnectionLost):
            await drain(peer.url, reconnect=True)
    assert len(peer.starts) == 1


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (Behaviour(gap=7), "from sample 448, expected 441"),
        (Behaviour(gap=-441), "from sample 0, expected 441"),
        (Behaviour(miscount=-1), "done with 132299 samples"),
    ],
)
async def test_a_broken_timeline_is_an_error(behaviour: Behaviour, said: str) -> None:
    async with Peer(behaviour) as peer:
        with pytest.raises(rivulet_client.ProtocolError, match=said):
            await drain(peer.url)


@pytest.mark.parametrize(("code", "close"), [("internal", 1011), ("timeout", 4408)])
async def test_a_fatal_error_in_mid_stream(code: str, close: int) -> None:
    async with Peer(Behaviour(fatal=(code, close))) as peer:
        with pytest.raises(rivulet_client.SessionError) as caught:
            await drain(peer.url)
    assert (caught.value.code, caught.value.close_code) == (code, close)


async def test_an_error_that_is_not_fatal_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with Peer(Behaviour(complain=True)) as peer:
        assert whole(await drain(peer.url)).shape == (2, 3 * 44_100)
    assert "not_finite" in caplog.text


async def test_sending_after_the_end_of_the_connection_tells_the_code() -> None:
    async with Peer(Behaviour(fatal=("timeout", 4408))) as peer, rivulet_client.connect(peer.url) as stream:
        with pytest.raises(rivulet_client.SessionError) as caught:
            async with asyncio.timeout(60):
                while True:
                    await stream.send(noise(441))
                    await asyncio.sleep(0.01)
    assert caught.value.code == "timeout"
