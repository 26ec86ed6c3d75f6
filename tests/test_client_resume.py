"""The Python client over connections that break: what comes out is what would have come out without."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
import rivulet_client
from hypothesis import given, settings
from hypothesis import strategies as st
from rivulet_client import redial
from rivulet_client.codec import Array
from rivulet_client.testing import Behaviour, Peer

pytestmark = pytest.mark.usefixtures("no_pauses")

RATE = 8000
TOY: dict[str, Any] = {"rate": RATE, "channels": 1, "format": "f32le"}
ALL = Behaviour(stems=("low", "high"), tick=80, hold=200)


def noise(samples: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (1, samples)).astype(np.float32)


async def read(stream: rivulet_client.Stream) -> tuple[Array, list[rivulet_client.Event]]:
    """The stem `low` in one piece, its timeline contiguous, and the other events."""
    parts, others = [np.zeros((1, 0), np.float32)], []
    async for event in stream:
        if isinstance(event, rivulet_client.Stems):
            assert event.start == sum(part.shape[1] for part in parts)
            assert np.array_equal(event.stems["high"], event.stems["low"] * np.float32(0.5))
            parts.append(event.stems["low"])
        elif not isinstance(event, rivulet_client.Stats):
            others.append(event)
    return np.concatenate(parts, axis=1), others


async def converse(url: str, pcm: Array, packet: int, marks: dict[int, str], **more: Any) -> tuple[Any, Any, int]:
    """All of `pcm` in packets, with marks before some of them, while reading."""
    async with rivulet_client.connect(url, **TOY, **more) as stream:

        async def talk() -> None:
            for number, at in enumerate(range(0, pcm.shape[1], packet)):
                if number in marks:
                    await stream.mark(marks[number])
                await stream.send(pcm[:, at : at + packet])
            await stream.end()

        talking = asyncio.create_task(talk())
        try:
            heard, others = await read(stream)
        finally:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
        return heard, others, stream.resumes


# --- whatever happens to the connections


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 60), max_size=6),
    samples=st.integers(0, 6000),
    packet=st.integers(40, 1500),
    memory=st.sampled_from([0, 1, 333, 100_000]),
    code=st.sampled_from([None, 1000, 1001, 1011, 1012]),
    hold=st.sampled_from([0, 200, 2500]),
    marked=st.sets(st.integers(0, 10), max_size=3),
)
def test_random_breaks_change_nothing(
    cuts: list[int], samples: int, packet: int, memory: int, code: int | None, hold: int, marked: set[int]
) -> None:
    pcm = noise(samples)
    behaviour = Behaviour(("low", "high"), tick=80, hold=hold, cuts=tuple(cuts), cut_code=code, memory=memory)
    count = -(-samples // packet)
    marks = {number: f"m{number}" for number in marked if number < count}

    async def run() -> None:
        async with Peer(behaviour, RATE) as peer, asyncio.timeout(60):
            heard, others, resumes = await converse(peer.url, pcm, packet, marks, retries=10)
            assert np.array_equal(heard, pcm)
            done = rivulet_client.Done(samples)
            assert others == [*(rivulet_client.Mark(id, n * packet) for n, id in sorted(marks.items())), done]
            assert {start["type"] for start in peer.starts} == {"start"}
            assert resumes <= len(peer.resumes) <= len(cuts)
            for resume in peer.resumes:
                assert 0 <= resume["received"] <= samples

    asyncio.run(run())


@pytest.mark.parametrize("cut", range(1, 40, 3))
async def test_a_break_at_every_point_of_a_short_session(cut: int) -> None:
    pcm = noise(2400)
    async with Peer(Behaviour(("low", "high"), tick=80, hold=200, cuts=(cut,), memory=500), RATE) as peer:
        async with asyncio.timeout(60):
            heard, others, resumes = await converse(peer.url, pcm, 160, {3: "a"}, retries=1)
    assert np.array_equal(heard, pcm)
    assert others == [rivulet_client.Mark("a", 480), rivulet_client.Done(2400)]
    assert resumes == len(peer.resumes)
    assert len(peer.starts) + len(peer.resumes) == 2


async def test_what_goes_up_again_is_what_the_server_needs_and_no_more() -> None:
    pcm = noise(40_000)
    async with Peer(Behaviour(("low", "high"), tick=80, cuts=(400,), memory=700), RATE) as peer:
        heard, _, resumes = await converse(peer.url, pcm, 160, {})
        (resume,) = peer.resumes
    assert (resumes, len(peer.starts)) == (1, 1)
    assert resume["received"] > 8000  # so what was kept had been trimmed meanwhile
    assert np.array_equal(heard, pcm)


async def test_the_timeline_stays_whole_in_separate() -> None:
    pcm = noise(3 * RATE)
    async with Peer(Behaviour(("low", "high"), cuts=(50, 30, 200), memory=1000), RATE) as peer:
        source = [pcm[:, at : at + 500] for at in range(0, 3 * RATE, 500)]
        chunks = [chunk async for chunk in rivulet_client.separate(peer.url, source, retries=5, **TOY)]
    assert np.array_equal(np.concatenate([chunk.stems["low"] for chunk in chunks], axis=1), pcm)
    assert len(peer.starts) == 1


# --- what is said again


async def test_newest_gains_go_up_first() -> None:
    pcm = noise(4000)
    async with Peer(ALL, RATE) as peer:
        wanted: Any = {**TOY, "output": "mix", "gains": {"low": 0.25}}
        async with rivulet_client.connect(peer.url, **wanted) as stream:
            await stream.gains({"low": 0.0})
            await stream.gains({"high": 2.0})
            await stream.send(pcm[:, :2000])
            first = await anext(stream)
            await cut_off(peer)
            talking = asyncio.create_task(finish(stream, pcm[:, 2000:]))
            rest = [event async for event in stream if isinstance(event, rivulet_client.Stems)]
            await talking
            assert stream.resumes == 1
    assert isinstance(first, rivulet_client.Stems)
    got = np.concatenate([event.stems["mix"] for event in (first, *rest)], axis=1)
    assert np.array_equal(got, pcm)  # 0 x low, 2 x high, which is half the input


async def finish(stream: rivulet_client.Stream, pcm: Array) -> None:
    await stream.send(pcm)
    await stream.end()


async def cut_off(peer: Peer) -> None:
    """Every connection that the peer has, without a word."""
    assert peer._server is not None
    for socket in list(peer._server.connections):
        socket.transport.abort()
    await asyncio.sleep(0.05)


async def test_a_session_whose_sender_has_ended_comes_to_its_end() -> None:
    pcm = noise(4000)
    async with Peer(Behaviour(("low", "high"), tick=80, slow_s=0.01), RATE) as peer:
        async with rivulet_client.connect(peer.url, **TOY) as stream:
            await finish(stream, pcm)
            reading = asyncio.create_task(read(stream))
            await asyncio.sleep(0.1)
            await cut_off(peer)
            heard, others = await reading
            assert stream.resumes == 1
    assert np.array_equal(heard, pcm)
    assert others == [rivulet_client.Done(4000)]


async def test_one_task_that_sends_and_reads_in_turn_goes_on_too() -> None:
    """Nobody waits for the iterator to look for a new connection."""
    pcm = noise(4000)
    async with Peer(Behaviour(("low", "high"), tick=400, memory=100), RATE) as peer, asyncio.timeout(60):
        async with rivulet_client.connect(peer.url, **TOY) as stream:
            for at in range(0, 4000, 400):
                if at in (800, 2000):
                    await cut_off(peer)
                await stream.send(pcm[:, at : at + 400])
                event = await anext(stream)
                assert isinstance(event, rivulet_client.Stems)
                assert np.array_equal(event.stems["low"], pcm[:, at : at + 400])
            assert stream.resumes == 2


async def test_a_sender_goes_on_although_nobody_reads() -> None:
    """What the lost connection had brought is kept, however much it is, and a new one is not waited for."""
    pcm = noise(16_000)
    async with Peer(Behaviour(("low", "high"), tick=80), RATE) as peer, asyncio.timeout(60):
        async with rivulet_client.connect(peer.url, **TOY) as stream:
            await stream.send(pcm[:, :8000])
            await asyncio.sleep(0.1)
            await cut_off(peer)
            await stream.send(pcm[:, 8000:8080])
            await stream.send(pcm[:, 8080:])
            assert stream.resumes == 1
            await stream.end()
            heard, _ = await read(stream)
    assert np.array_equal(heard, pcm)


async def test_send_waits_while_there_is_no_connection() -> None:
    async with Peer(ALL, RATE) as peer:
        url = peer.url
        async with rivulet_client.connect(url, **TOY) as stream:
            await stream.send(noise(800))
            await peer.__aexit__(None, None, None)
            sending = asyncio.create_task(finish(stream, noise(800)))
            reading = asyncio.create_task(read(stream))
            done, _ = await asyncio.wait([sending], timeout=0.3)
            assert not done
            async with Peer(ALL, RATE, port=int(url.rpartition(":")[2])):
                await asyncio.wait_for(sending, 60)
                heard, _ = await asyncio.wait_for(reading, 60)
                assert heard.shape[1] == 1600
                assert stream.resumes == 1


async def test_what_is_kept_is_bounded() -> None:
    pcm = noise(60_000)
    async with Peer(Behaviour(("low", "high"), tick=80, memory=1000), RATE) as peer:
        async with rivulet_client.connect(peer.url, **TOY) as stream:
            talking = asyncio.create_task(finish(stream, pcm))
            most = 0
            async for _ in stream:
                journal = stream._line.journal
                kept = sum(entry.frames for entry in (*journal.past, *journal.ahead))
                most = max(most, kept - (stream.sent - stream._line.account.received))
            await talking
    assert 0 < most <= 1000 + RATE // 10


# --- tokens


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_token_function_is_called_at_every_connection(asynchronous: bool) -> None:
    given = iter(["one", "two", "three"])

    async def later() -> str:
        await asyncio.sleep(0)
        return next(given)

    token: Callable[[], str | Awaitable[str]] = later if asynchronous else lambda: next(given)
    async with Peer(Behaviour(("low", "high"), cuts=(20, 20)), RATE) as peer:
        heard, _, resumes = await converse(peer.url, noise(6000), 100, {}, token=token)
    assert (heard.shape[1], resumes) == (6000, 2)
    assert peer.tokens == ["Bearer one", "Bearer two", "Bearer three"]


async def test_a_token_function_that_fails_for_a_while_is_asked_again() -> None:
    answers = iter(["one", OSError("no network"), OSError("no network"), "two"])

    def token() -> str:
        if isinstance(answer := next(answers), OSError):
            raise answer
        return answer

    async with Peer(Behaviour(("low", "high"), cuts=(20,)), RATE) as peer:
        heard, _, resumes = await converse(peer.url, noise(6000), 100, {}, token=token)
    assert (heard.shape[1], resumes) == (6000, 1)
    assert peer.tokens == ["Bearer one", "Bearer two"]


async def test_a_token_function_that_always_fails_is_told() -> None:
    def token() -> str:
        raise ValueError("no key on this machine")

    async with Peer(ALL, RATE) as peer:
        with pytest.raises(rivulet_client.Unreachable, match="no key on this machine") as caught:
            await converse(peer.url, noise(100), 100, {}, token=token, retries=1)
    assert isinstance(caught.value.__cause__, ValueError)
    assert peer.tokens == []


# --- when it does not work


async def test_a_refused_resumption_is_a_lost_connection() -> None:
    refusing = Behaviour(("low", "high"), cuts=(20,), refuse_resumes=(("resume", 4426),))
    async with Peer(refusing, RATE) as peer:
        with pytest.raises(rivulet_client.ConnectionLost, match=r"could not be resumed \(resume: no: resume") as caught:
            await converse(peer.url, noise(6000), 100, {})
    assert caught.value.sent > caught.value.received
    assert len(peer.resumes) == 1


@pytest.mark.parametrize("code", [("capacity", 1013), ("draining", 1012), ("too_many", 4429), ("internal", 1011)])
async def test_what_may_pass_is_waited_for(code: tuple[str, int]) -> None:
    pcm = noise(6000)
    behaviour = Behaviour(("low", "high"), cuts=(20,), refuse_resumes=(code,) * 3, retry_after_ms=50)
    async with Peer(behaviour, RATE) as peer:
        clock = asyncio.get_running_loop().time
        began = clock()
        heard, _, resumes = await converse(peer.url, pcm, 100, {})
        assert clock() - began >= 0.15
    assert np.array_equal(heard, pcm)
    assert (resumes, len(peer.resumes)) == (1, 4)


async def test_nobody_comes_back_in_time() -> None:
    async with Peer(ALL, RATE) as peer:
        async with rivulet_client.connect(peer.url, resume_s=0.3, **TOY) as stream:
            await stream.send(noise(800))
            await peer.__aexit__(None, None, None)
            sending = asyncio.create_task(finish(stream, noise(800)))
            with pytest.raises(
                rivulet_client.ConnectionLost, match=r"no server went on with the session within 0\.3 s"
            ):
                await read(stream)
            with pytest.raises(rivulet_client.ConnectionLost):
                await sending
            with pytest.raises(rivulet_client.ConnectionLost):
                await anext(stream)


async def test_zero_seconds_are_no_resumption() -> None:
    async with Peer(Behaviour(("low", "high"), cuts=(20,)), RATE) as peer:
        with pytest.raises(rivulet_client.ConnectionLost, match="was not asked for"):
            await converse(peer.url, noise(6000), 100, {}, resume_s=0.0)
    assert peer.resumes == []


async def test_a_server_that_drops_every_connection_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redial, "backoff", lambda **_: iter([0.04] * 100))
    async with Peer(Behaviour(("low", "high"), drop_after=0), RATE) as peer, asyncio.timeout(60):
        with pytest.raises(rivulet_client.ConnectionLost, match=r"within 0\.2 s"):
            await converse(peer.url, noise(6000), 100, {}, resume_s=0.2)
    assert 1 < len(peer.resumes) <= 6  # not without a pause


async def test_separate_begins_again_only_when_resuming_fails() -> None:
    pcm = noise(RATE)
    behaviour = Behaviour(("low", "high"), cuts=(40, 40), refuse_resumes=(("resume", 4426),))
    async with Peer(behaviour, RATE) as peer:
        source = [pcm[:, at : at + 100] for at in range(0, RATE, 100)]
        chunks = [chunk async for chunk in rivulet_client.separate(peer.url, source, reconnect=True, **TOY)]
    assert np.array_equal(np.concatenate([chunk.stems["low"] for chunk in chunks], axis=1), pcm)
    assert (len(peer.starts), len(peer.resumes)) == (2, 1)


async def test_a_fatal_error_ends_the_session_without_a_try() -> None:
    async with Peer(Behaviour(("low", "high"), fatal=("internal", 1011)), RATE) as peer:
        with pytest.raises(rivulet_client.SessionError, match="internal"):
            await converse(peer.url, noise(6000), 100, {})
    assert peer.resumes == []


async def test_leaving_while_there_is_no_connection_leaves_nothing_behind() -> None:
    async with Peer(ALL, RATE) as peer:
        async with rivulet_client.connect(peer.url, **TOY) as stream:
            await stream.send(noise(800))
            await peer.__aexit__(None, None, None)
            reading = asyncio.create_task(read(stream))
            await asyncio.sleep(0.05)
        with pytest.raises(rivulet_client.ConnectionLost, match="the stream was closed"):
            await reading
    assert {task.get_name() for task in asyncio.all_tasks()} == {asyncio.current_task().get_name()}  # type: ignore[union-attr]
