"""What breaks between a client and the server, and what each of them sees of it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
import serving
import websockets
import zoo
from faults import END, RATE, Cable, bystander, go_on, packets, pour, raw, say, split, until
from fuzz import frames
from fuzz.target import Target, started
from serving import connect, start

from streaming import wire

TIMED_OUT = 'rivulet_closes_total{code="4408",reason="timeout"}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A process of its own, as the command line starts it, with the toys; impatient with who does not read or speak."""
    folder = tmp_path_factory.mktemp("server")
    with started(folder, RIVULET_SEND_TIMEOUT_S="1", RIVULET_IDLE_TIMEOUT_S="2", RIVULET_MAX_AHEAD_S="5") as server:
        yield server
        assert not server.complaints()


@pytest.fixture
def host(server: Target) -> str:
    return f"127.0.0.1:{server.port}"


async def test_who_does_not_read_is_closed_and_the_code_says_so_once_it_reads(server: Target, host: str) -> None:
    before = server.figure(TIMED_OUT)
    async with raw(host) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        pouring = asyncio.create_task(pour(writer))
        await bystander(host)
        await until(lambda: server.figure(TIMED_OUT) == before + 1 and not server.sessions())
        pouring.cancel()
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        assert await close_code(reader) == wire.CLOSE_CODES["timeout"]


async def test_who_never_reads_again_holds_no_connection_for_ever(server: Target, host: str) -> None:
    await until(lambda: not server.connections())  # whoever was here before has gone
    async with raw(host) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        pouring = asyncio.create_task(pour(writer))
        try:
            await until(lambda: server.connections() == 1)
            await until(lambda: not server.connections(), seconds=30)
        finally:
            pouring.cancel()


async def test_a_cut_cable_is_noticed_at_both_ends_and_the_session_goes_on_over_another(
    server: Target, host: str
) -> None:
    before, pcm, cable = server.figure(TIMED_OUT), zoo.audio(1, 2 * RATE), Cable(host)
    async with cable.plugged() as address:
        async with connect(address, ping_interval=0.5, ping_timeout=1, close_timeout=1) as peer:
            await peer.send(start("toy-split"))
            ready = json.loads(await peer.recv())
            for packet in packets(pcm, 0, RATE):
                await peer.send(packet)
            stems = np.zeros((2, 1, 0), np.float32)
            while stems.shape[2] < 8000:
                stems = np.concatenate((stems, serving.unpack(bytes(await peer.recv()))[1]), axis=2)
            cable.cut()
            await bystander(host)
            with pytest.raises(websockets.ConnectionClosedError):
                while True:
                    if isinstance(message := await peer.recv(), bytes):
                        stems = np.concatenate((stems, serving.unpack(message)[1]), axis=2)
            assert peer.close_code in (1006, 1011)
        await until(lambda: server.figure(TIMED_OUT) == before + 1 and not server.sessions())
    rest = await go_on(host, ready["resume"], stems.shape[2], pcm)
    np.testing.assert_allclose(np.concatenate((stems, rest), axis=2), split(pcm), atol=1e-6)


async def test_who_is_gone_before_it_is_answered_is_nobodys_failure(server: Target, host: str) -> None:
    """A model is measured when it is first asked for: time enough to leave."""
    for model in ("toy-delay", "toy-leaky", "toy-ramp", "toy-wide"):
        async with raw(host) as (_, writer):
            await say(writer, start(model))
        await bystander(host, pace_s=0)
    await until(lambda: not server.sessions())
    assert not server.complaints()


NO_FRAMES = {
    "garbage": (b"\xf7" * 100, 1002),
    "not masked": (b"\x81\x02{}", 1002),
    "a length of 2**62": (b"\x82\xff\x40" + bytes(11), 1009),
    "not UTF-8": (b"\x81\x81" + b"\0" * 4 + b"\xff", 1007),
}


@pytest.mark.parametrize(("data", "code"), NO_FRAMES.values(), ids=NO_FRAMES)
async def test_bytes_that_are_no_frames_end_one_connection_only(host: str, data: bytes, code: int) -> None:
    async with raw(host) as (reader, writer):
        await say(writer, start("toy-split"))
        await say(writer, bytes(6400))
        writer.write(data)
        assert await close_code(reader) == code
    await bystander(host, pace_s=0)


@pytest.mark.parametrize(
    ("size", "code"), [(1 << 20, 1000), ((1 << 20) + 4, 4413), (1 << 21, 4413), ((1 << 21) + 4, 1009)]
)
async def test_the_largest_messages(host: str, size: int, code: int) -> None:
    """1 MiB is taken, 2 MiB refused in words, and more by the socket."""
    async with raw(host) as (reader, writer):
        await say(writer, start("toy-split", rate=192_000, live=False))
        reading = asyncio.create_task(close_code(reader))
        with suppress(ConnectionError):
            await say(writer, bytes(size))
            await say(writer, END)
        # TCP may take back what a server said that closes while the client still sends.
        assert await reading in ((code, None) if code == 1009 else (code,))


async def close_code(reader: asyncio.StreamReader) -> int | None:
    """Of the close frame that comes, whatever comes before; None if none does."""
    async for opcode, data in frames.received(reader):
        if opcode == frames.CLOSE:
            return int.from_bytes(data[:2], "big")
    return None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate": 7999}, "got rate 7999, expected a whole number from 8000 to 192000"),
        ({"rate": 1_000_000}, "got rate 1000000"),
        ({"format": "s24le"}, "got format 's24le', expected one of s16le, f32le"),
        ({"channels": 3}, "got channels 3, expected a whole number from 1 to 2"),
        ({"latency_ms": 10**400}, "got latency_ms 1000"),
    ],
)
async def test_a_start_that_does_not_fit_is_told_why(host: str, change: dict[str, object], said: str) -> None:
    _, (error,), code = await serving.converse(host, start("toy-split", **change), [])  # type: ignore[arg-type]
    assert (error["code"], code) == ("bad_message", wire.CLOSE_CODES["bad_message"])
    assert said in error["message"]


async def test_who_pings_and_does_not_read_fills_no_memory(server: Target, host: str) -> None:
    """Each ping is answered, and the answers wait here. 64 MiB of them; a connection that is cut is as good as one not read."""
    before = server.rss()
    pings = b"".join(frames.Sent(frames.PING, bytes(125)).bytes(random.Random(0)) for _ in range(1000))
    async with raw(host) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(20):
                for _ in range((64 << 20) // len(pings)):
                    writer.write(pings)
                    await writer.drain()
        assert server.rss() - before < 24


async def test_who_vanishes_after_a_minute_at_once_gives_its_seat_back(server: Target, host: str) -> None:
    """Ahead of the clock, it is not read; that it left must be seen all the same."""
    async with connect(host) as peer:
        await peer.send(start("toy-split", rate=8000, format="s16le"))
        await peer.send(bytes(960_000))
        await peer.send(bytes(2))
        told = 0
        while told < 478_000:
            if isinstance(message := await peer.recv(), bytes):
                told += serving.unpack(message)[1].shape[2]
        assert server.sessions() == 1
        peer.transport.abort()
    await until(lambda: not server.sessions(), seconds=15)
