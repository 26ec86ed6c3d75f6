"""Peers come and go: connected and hung up in every way, and nothing of them stays."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import httpx
import numpy as np
import psutil
import pytest
import serving
from rtc import Client, Sound, tone

SDP = {"Content-Type": "application/sdp"}
POOL = 6  # threads that asyncio's executor makes as they are needed, and keeps
AT_ONCE = 4


@dataclass(frozen=True)
class Held:
    """What a process holds: descriptors, threads, tasks, peers, and memory in bytes."""

    descriptors: int
    threads: int
    tasks: int
    peers: int
    memory: int


async def held(host: str, process: psutil.Process) -> Held:
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"http://{host}/metrics")).text
    tasks = float(re.search(r"^rivulet_tasks (\S+)", text, re.M)[1])  # type: ignore[index]
    peers = sum(float(value) for value in re.findall(r"^rivulet_rtc_peers\S* (\S+)", text, re.M))
    memory = process.memory_full_info().uss  # its own; what it shares or maps comes and goes with the machine's memory
    return Held(process.num_fds(), process.num_threads(), int(tasks), int(peers), memory)


async def settled(host: str, process: psutil.Process) -> Held:
    """When all peers are gone, and the watch has counted once more."""
    async with asyncio.timeout(90):
        while (await held(host, process)).peers:
            await asyncio.sleep(0.2)
    await asyncio.sleep(1.5)
    return await held(host, process)


async def cycle(host: str, turn: int) -> None:
    """By turns: hung up by the client, by DELETE, with a listener beside, by `end`, and by DELETE before it is connected; each
    fiftieth goes without a word, and is forgotten after a while."""
    sound = Sound(tone([440], 0.1))
    async with Client(host, sound, 2) as client:
        body = {"sdp": await client.offer(), "type": "offer", "start": {"model": "speech"}}
        response = await client.http.post("/v1/rtc", json=body)
        assert response.status_code == 201, response.text
        if turn % 5 == 4:
            if turn % 50 != 49:
                await client.http.delete(response.headers["location"])
            return
        client.answer = response.json()
        await client.take(client.answer["sdp"])
        await client.text("ready")
        sound.go.set()
        if turn % 5 == 1:
            await client.http.delete(response.headers["location"])
        elif turn % 5 == 2:
            async with Client(host, None, 1, data=False) as ear:
                path = f"/whep/{client.answer['session']}"
                answer = await ear.http.post(path, content=await ear.offer(), headers=SDP)
                assert answer.status_code == 201, answer.text
                await ear.take(answer.text)
        elif turn % 5 == 3:
            await sound.out.wait()
            client.say("end")
            await client.text("done")


async def cycles(host: str, number: int) -> None:
    door = asyncio.Semaphore(AT_ONCE)

    async def one(turn: int) -> None:
        async with door:
            await cycle(host, turn)

    async with asyncio.TaskGroup() as group:
        for turn in range(number):
            group.create_task(one(turn))


def settings() -> dict[str, str]:
    return {"RIVULET_RTC_CONNECT_S": "15", "RIVULET_PRELOAD": '["speech"]', "RIVULET_CONNECTS_PER_MINUTE": "0"}


def check(before: Held, after: Held) -> None:
    assert (after.tasks, after.peers) == (before.tasks, 0)
    assert after.threads <= before.threads + POOL
    assert after.descriptors <= before.descriptors + 2  # connections of HTTP, which are kept for a few seconds


async def test_nothing_of_thirty_peers_stays() -> None:
    with serving.process(**settings()) as (host, process):
        await cycles(host, 5)
        before = await settled(host, process)
        await cycles(host, 30)
        after = await settled(host, process)
    check(before, after)


@pytest.mark.slow
async def test_nothing_of_a_thousand_peers_stays() -> None:
    """Memory: the slope of the last 500 of 1000 cycles; before them, pools and caches fill."""
    memory, done = [], 0
    with serving.process(**settings()) as (host, process):
        await cycles(host, 50)
        before = await settled(host, process)
        for _ in range(20):
            await cycles(host, 50)
            done += 50
            after = await settled(host, process)
            memory.append((done, after.memory))
            print(done, after)
    check(before, after)
    late = [(at, size) for at, size in memory if at > 500]
    slope = float(np.polyfit(*zip(*late, strict=True), 1)[0])
    print(f"{slope:.0f} bytes a cycle")
    assert slope < 20_000
