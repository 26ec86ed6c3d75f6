"""A real server on loopback, and a bare client that speaks the protocol without any of the clients' code."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import uvicorn
import websockets
from websockets.asyncio.client import ClientConnection

from models import registry, toys
from models.separator import Separator
from server.app import create
from server.buffers import Protocol
from server.config import Settings
from server.websocket import listen
from streaming.framing import Array


def entry(separator: Separator) -> registry.Entry:
    spec = separator.spec
    return registry.Entry(spec.name, spec.sources, spec.rate, spec.channels, spec.licence, lambda _: separator)


def toy_registry(*more: Separator) -> dict[str, registry.Entry]:
    return {model.spec.name: entry(model) for model in (*toys.all_toys().values(), *more)}


@contextmanager
def running(models: Mapping[str, registry.Entry] | None = None, **settings: Any) -> Iterator[str]:
    """A server with these models in a thread; yields `127.0.0.1:port`."""
    settings = {"preload": (), **settings}
    application = create(Settings(**settings), models)
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        application, ws=Protocol, ws_per_message_deflate=False, log_level="warning", lifespan="on",
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    try:
        while not server.started and thread.is_alive():
            threading.Event().wait(0.01)
        yield host
    finally:
        server.should_exit = True
        thread.join(20)


@contextmanager
def process(*options: str, **environment: str) -> Iterator[tuple[str, psutil.Process]]:
    """`rivulet serve` as a user starts it, ready, in a process of its own; `host:port` and the process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "server", "serve", "--port", str(port), "--log-level", "warning", *options]
    started = psutil.Popen(command, cwd=Path(__file__).parent.parent, env={**os.environ, **environment})
    try:
        for _ in range(600):
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                assert started.is_running()
            time.sleep(0.2)
        else:
            raise AssertionError("the server is not ready after two minutes")
        yield f"127.0.0.1:{port}", started
    finally:
        if started.is_running():
            started.terminate()
        started.wait(40)


def connect(host: str, **more: Any) -> Any:
    return websockets.connect(f"ws://{host}/v1/stream", compression=None, max_size=1 << 26, **more)


def start(model: str, rate: int = 16_000, channels: int = 1, format: str = "f32le", **more: Any) -> str:
    return json.dumps({"type": "start", "model": model, "rate": rate, "channels": channels, "format": format, **more})


def unpack(data: bytes) -> tuple[int, Array]:
    """Start index and stems `[S, C, T]` of one binary message, read by the text of docs/protocol.md."""
    version, flags, stems, channels, frames, first = struct.unpack("<BBBBIQ", data[:16])
    assert version == 1
    values = np.frombuffer(data[16:], "<f4" if flags & 1 else "<i2").astype(np.float32)
    values = values if flags & 1 else values / 32768
    return first, values.reshape(stems, frames, channels).transpose(0, 2, 1)


async def read_all(socket: ClientConnection, told: int = 0) -> tuple[Array | None, list[dict[str, Any]]]:
    """Everything until the close: the stems in one piece, and the texts."""
    parts: list[Array] = []
    texts: list[dict[str, Any]] = []
    try:
        async for message in socket:
            if isinstance(message, str):
                texts.append(json.loads(message))
                continue
            first, stems = unpack(message)
            assert first == told
            told += stems.shape[2]
            parts.append(stems)
    except websockets.ConnectionClosedError:
        pass  # the code is on the socket
    return (np.concatenate(parts, axis=2) if parts else None), texts


async def converse(
    host: str, first: str, messages: list[str | bytes]
) -> tuple[Array | None, list[dict[str, Any]], int]:
    """Say all this while reading; the stems, the texts and the close code."""
    async with connect(host) as socket:
        reading = asyncio.create_task(read_all(socket))
        try:
            for message in (first, *messages):
                await socket.send(message)
        except websockets.ConnectionClosed:
            pass  # refused half-way; what was said about it has been read
        stems, texts = await reading
        return stems, texts, socket.close_code or 0
