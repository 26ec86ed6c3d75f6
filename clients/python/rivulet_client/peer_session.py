"""One connection of the peer of `rivulet_client.testing`: the protocol, told by hand."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rivulet_client.peer_turns import Turns
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

if TYPE_CHECKING:
    from rivulet_client.testing import Peer

Samples = NDArray[np.float32]


def write_token(session: str, start: dict[str, Any]) -> str:
    """All that a peer must know to go on. A server signs it; this one trusts whoever tests."""
    return base64.urlsafe_b64encode(json.dumps([session, start]).encode()).decode().rstrip("=")


def read_token(token: str) -> tuple[str, dict[str, Any]]:
    session, start = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    return session, start


async def fail(socket: ServerConnection, code: str, close_code: int, retry_after_ms: int | None = None) -> None:
    body = {"type": "error", "code": code, "message": f"no: {code}", "fatal": True}
    await socket.send(json.dumps(body if retry_after_ms is None else body | {"retry_after_ms": retry_after_ms}))
    await socket.close(close_code)


class Cut(Exception):
    """The connection was cut, as it was told to be."""


class Session:
    """From the first message, `start` or what a `resume` token says, to the end of the connection.

    `told`: where on the timeline it begins to tell; `replay`: where it begins to hear. `cut`: after how many messages,
    both ways together, the connection is cut.
    """

    def __init__(
        self, peer: Peer, socket: ServerConnection, name: str, start: dict[str, Any], told: int, cut: int | None
    ) -> None:
        self.socket, self.start, self.behaviour, self.name = socket, start, peer.behaviour, name
        self.droppable = len(peer.starts) + len(peer.resumes) <= peer.behaviour.drops
        self.floats = start["format"] == "f32le"
        self.mix = start.get("output") == "mix"
        self.mode = start.get("mode", "separate")
        self.stems = ["mix"] if self.mix else start.get("stems") or list(self.behaviour.stems)
        self.stems = [] if self.mode == "diarize" else self.stems
        self.gains: dict[str, float] = {**dict.fromkeys(self.behaviour.stems, 1.0), **start.get("gains", {})}
        self.channels = 1 if start.get("mono") else start["channels"]
        self.told, self.heard = told, max(0, told - self.behaviour.memory)
        self.replay, self.out, self.jump, self.messages, self.cut = self.heard, 0, 0, 0, cut
        self.turns = Turns(self.behaviour.turns, self.behaviour.shortest, self.heard)
        self.before = peer.audio.setdefault(name, bytearray())  # what earlier connections of this session brought
        self.audio = np.zeros((start["channels"], 0), np.float32)  # from `told` on
        self.marks: deque[tuple[int, str]] = deque()
        self.queue: asyncio.Queue[tuple[float, str | bytes] | None] = asyncio.Queue(maxsize=64)

    def token(self) -> dict[str, str]:
        gains = {"gains": self.gains} if self.mix else {}
        return {"resume": write_token(self.name, {**self.start, **gains})} if self.behaviour.resume else {}

    async def run(self) -> None:
        latency = self.behaviour.hold + self.behaviour.tick
        rate = self.start["rate"]
        promise = self.behaviour.promise_ms
        declared = 1000 * (latency / rate + self.behaviour.delay_s) if promise is None else promise
        sizes = {"latency_samples": latency, "latency_ms": declared, "rate": rate, "channels": self.channels}
        names = {
            "session": self.name,
            "model": self.start["model"],
            "stems": self.stems,
            "format": self.start["format"],
            "mode": self.mode,
        }
        again = {**self.token(), "resume_samples": self.behaviour.memory, "replay_from": self.replay}
        await self.count()
        await self.socket.send(json.dumps({"type": "ready", "protocol": "stems.v1", **names, **sizes, **again}))
        reader = asyncio.create_task(self.read())
        try:
            await self.pump()
        finally:
            reader.cancel()
            (error,) = await asyncio.gather(reader, return_exceptions=True)
        if isinstance(error, Exception) and not isinstance(error, ConnectionClosed):
            raise error

    async def count(self) -> None:
        """One message more, either way. Raises Cut."""
        self.messages += 1
        if self.cut is None or self.messages <= self.cut:
            return
        if self.behaviour.cut_code is None:
            self.socket.transport.abort()
        else:
            await self.socket.close(self.behaviour.cut_code)
        raise Cut

    async def read(self) -> None:
        try:
            await self.listen()
        except Exception:
            await self.queue.put(None)
            raise
        await self.queue.put(None)  # not in a `finally`: cancelled, nobody takes from the queue any more

    async def listen(self) -> None:
        if self.behaviour.complain:
            body = {"type": "error", "code": "not_finite", "message": "got nan at sample 0", "fatal": False}
            await self.say(body)
        async for message in self.socket:
            await self.count()
            if isinstance(message, bytes):
                if not self.hear(message):
                    return await fail(self.socket, "bad_audio", 4422)
                await self.tell(self.behaviour.hold + self.behaviour.tick)
            elif (body := json.loads(message))["type"] == "mark":
                self.marks.append((self.heard, body["id"]))
                await self.come_by()
            elif body["type"] == "gains":
                self.gains.update(body["gains"])
            else:
                await self.tell(1)
                await self.who(self.turns.end(self.told))
                await self.say({"type": "done", "samples": self.heard + self.behaviour.miscount})
                return

    def hear(self, data: bytes) -> bool:
        """Takes PCM. False if it is not what an earlier connection had brought for the same samples."""
        frame = self.start["channels"] * (4 if self.floats else 2)
        at = self.heard * frame
        known = bytes(self.before[at : at + len(data)])
        self.before += data[len(known) :]
        flat = np.frombuffer(data, "<f4" if self.floats else "<i2").reshape(-1, self.start["channels"]).T
        audio = flat.astype(np.float32) if self.floats else flat.astype(np.float32) / 32768
        late = max(0, self.told + self.audio.shape[1] - self.heard)  # replayed: only heard
        self.audio = np.concatenate((self.audio, audio[:, late:]), axis=1)
        self.heard += audio.shape[1]
        return data.startswith(known)

    async def tell(self, least: int) -> None:
        """Everything of which at least `least` samples are there, tick by tick."""
        at = 0
        while self.heard - self.told >= least:
            audio = self.audio[:, at : at + min(self.behaviour.tick, self.heard - self.told)]
            at += audio.shape[1]
            if self.behaviour.slow_s:
                await asyncio.sleep(self.behaviour.slow_s)
            await self.who(self.turns.until(self.told + audio.shape[1]))
            if self.stems:
                await self.put(self.stem_bytes(audio))
            self.told += audio.shape[1]
            self.jump = self.behaviour.gap
            await self.between(self.told - audio.shape[1])
        self.audio = self.audio[:, at:]

    async def who(self, event: dict[str, Any] | None) -> None:
        if event is not None and self.mode != "separate":
            await self.say(event)

    async def between(self, before: int) -> None:
        await self.come_by()
        rate = self.start["rate"]
        if self.told // rate > before // rate:
            compute = {"compute_p50_ms": 2.0, "compute_p95_ms": 3.0, "queue_p95_ms": 0.5, "lag_ms": 5.0}
            await self.say({"type": "stats", "heard": self.heard, "told": self.told, **compute, **self.token()})

    async def come_by(self) -> None:
        while self.marks and self.marks[0][0] <= self.told:
            sample, id = self.marks.popleft()
            await self.say({"type": "mark", "id": id, "sample": sample})

    def stem_bytes(self, audio: Samples) -> bytes:
        if self.start.get("mono"):
            audio = audio.mean(axis=0, keepdims=True, dtype=np.float32)
        levels = {name: 2.0**-k for k, name in enumerate(self.behaviour.stems)}
        others = {f"no_{name}": sum(levels.values()) - level for name, level in levels.items()}
        levels = {**levels, **others, "mix": sum(self.gains[name] * level for name, level in levels.items())}
        parts = [audio.T * np.float32(levels[name]) for name in self.stems]
        head = struct.pack("<BBBB", 1, int(self.floats), len(parts), self.channels)
        head += struct.pack("<IQ", audio.shape[1], self.told + self.jump)
        if self.floats:
            return head + b"".join(part.astype("<f4").tobytes() for part in parts)
        return head + b"".join(np.clip(np.rint(part * 32768), -32768, 32767).astype("<i2").tobytes() for part in parts)

    async def say(self, body: dict[str, Any]) -> None:
        await self.put(json.dumps(body))

    async def put(self, message: str | bytes) -> None:
        await self.queue.put((asyncio.get_running_loop().time() + self.behaviour.delay_s, message))

    async def pump(self) -> None:
        while (item := await self.queue.get()) is not None:
            due, message = item
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            await self.count()
            if isinstance(message, bytes) and await self.interrupted(len(message)):
                return
            await self.socket.send(message)
        await self.socket.close(1000)

    async def interrupted(self, size: int) -> bool:
        """Whether the session ends here, before a message of `size` bytes."""
        before, self.out = self.out, self.out + size
        if self.droppable and self.behaviour.drop_after is not None and self.out > self.behaviour.drop_after:
            self.socket.transport.abort()
            return True
        if self.behaviour.fatal and before:
            await fail(self.socket, *self.behaviour.fatal)
            return True
        return False
