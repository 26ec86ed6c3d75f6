"""A stand-in server for work on the page: `stems.v1` with band filters for stems, and no model.

    python clients/web/dev/peer.py [PORT]      # then `npm run dev`, or open http://127.0.0.1:PORT for the built page

`music` splits by pitch into four bands that sum to the input; `speech` into a low and a high voice, or, in the modes
`speakers` and `diarize`, into the people of a script (talk.py). It cuts time into hops like a real one and holds each back
by LATENCY, so that the page's buffers and figures have something to do. RIVULET_PAGE: another built page.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.staticfiles import StaticFiles
from scipy.signal import butter, sosfilt
from talk import PEOPLE, Talk

DIST = Path(os.environ.get("RIVULET_PAGE") or Path(__file__).parent.parent / "dist")
HOP_MS, LATENCY_MS, SPEAKERS_MS = 20, 60, 400
MODELS = {
    "music": {"sources": ["vocals", "drums", "bass", "other"], "channels": 2, "default_for": ["file"]},
    "speech": {"sources": ["speaker_1", "speaker_2"], "channels": 1, "default_for": ["microphone"]},
}
EDGES = {
    "music": {"bass": 200, "other": 500, "vocals": 4000, "drums": None},
    "speech": {"speaker_1": 220, "speaker_2": None},
}
STEMS = {"speakers": [f"speaker_{n + 1}" for n in range(PEOPLE)], "diarize": []}
app = FastAPI()


@app.middleware("http")
async def isolate(request: Request, proceed):
    response = await proceed(request)
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cross-Origin-Embedder-Policy"] = "require-corp"
    return response


@app.get("/v1/models")
def models() -> list[dict[str, object]]:
    more = {"rate": 48000, "licence": "none", "present": True, "latency_ms": {"min": LATENCY_MS, "default": LATENCY_MS}}
    modes = {"music": ["separate"], "speech": ["separate", "speakers", "diarize"]}
    return [
        {"name": name, **model, **more, "interchangeable": name == "speech", "modes": modes[name]}
        for name, model in MODELS.items()
    ]


@app.get("/v1/capacity")
def capacity() -> dict[str, object]:
    return {"sessions": 0, "files": 0, "free": dict.fromkeys(MODELS, 1), "utilisation": {"machine": 0.25}}


class Bands:
    """Causal low-pass filters with state; each band is what the next lower filter leaves: they sum to the input."""

    def __init__(self, model: str, rate: int, channels: int) -> None:
        self.edges = EDGES[model]
        self.order = MODELS[model]["sources"]
        self.filters = [butter(2, edge, fs=rate, output="sos") for edge in self.edges.values() if edge]
        self.states = [np.zeros((sos.shape[0], channels, 2)) for sos in self.filters]

    def __call__(self, pcm: np.ndarray) -> np.ndarray:
        """`[C, T]` to `[S, C, T]`."""
        bands, below = [], np.zeros_like(pcm)
        for at, sos in enumerate(self.filters):
            low, self.states[at] = sosfilt(sos, pcm, zi=self.states[at])
            bands.append(low - below)
            below = low
        named = dict(zip(self.edges, [*bands, pcm - below], strict=True))
        return np.stack([named[name] for name in self.order])


def pack(stems: np.ndarray, start: int, wide: bool) -> bytes:
    count, channels, frames = stems.shape
    samples = stems.transpose(0, 2, 1)
    body = samples.astype("<f4") if wide else np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
    return struct.pack("<BBBBIQ", 1, int(wide), count, channels, frames, start) + body.tobytes()


@app.websocket("/v1/stream")
async def stream(socket: WebSocket) -> None:
    await socket.accept(subprotocol="stems.v1")
    try:
        await serve(socket)
    except WebSocketDisconnect:
        pass


async def serve(socket: WebSocket) -> None:
    start = json.loads(await socket.receive_text())
    model, rate, wide = start["model"], start["rate"], start["format"] == "f32le"
    if model not in MODELS:
        error = {"type": "error", "code": "unknown_model", "message": f"no model {model!r}", "fatal": True}
        await socket.send_text(json.dumps(error))
        return await socket.close(4404)
    channels = min(start["channels"], int(str(MODELS[model]["channels"])))
    mode = start.get("mode", "separate")
    talk = Talk(rate) if mode != "separate" else None
    latency_ms = SPEAKERS_MS if talk else LATENCY_MS
    latency = rate * latency_ms // 1000
    ready = {
        "type": "ready",
        "protocol": "stems.v1",
        "session": "dev",
        "model": model,
        "stems": STEMS[mode] if talk else MODELS[model]["sources"],
        **({"mode": mode, "diarizer": "script"} if talk else {}),
    }
    ready |= {"rate": rate, "channels": channels, "format": start["format"], "latency_samples": latency}
    await socket.send_text(json.dumps(ready | {"latency_ms": latency_ms + 5.0}))
    bands, hop, told = Bands(model, rate, channels), rate * HOP_MS // 1000, 0
    held = np.zeros((channels, 0))

    async def tell(frames: int) -> None:
        nonlocal held, told
        if talk and (event := talk.event(told + held.shape[1])):
            await socket.send_text(json.dumps(event))
        pcm = held[:, :frames]
        if mode != "diarize":
            await socket.send_bytes(pack(talk.tracks(pcm, told) if talk else bands(pcm), told, wide))
        held, told = held[:, frames:], told + frames

    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if message.get("bytes") is not None:
            pcm = np.frombuffer(message["bytes"], "<f4" if wide else "<i2").reshape(-1, start["channels"]).T
            pcm = pcm / (1 if wide else 32768)
            held = np.concatenate([held, pcm if channels == start["channels"] else pcm.mean(0, keepdims=True)], axis=1)
            while held.shape[1] > latency:
                await tell(hop)
            continue
        text = json.loads(message["text"])
        if text["type"] == "mark":
            await socket.send_text(json.dumps({"type": "mark", "id": text["id"], "sample": told}))
        elif text["type"] == "end":
            while held.shape[1]:
                await tell(min(hop, held.shape[1]))
            await socket.send_text(json.dumps({"type": "done", "samples": told}))
            return await socket.close(1000)


if DIST.is_dir():
    app.mount("/", StaticFiles(directory=DIST, html=True))

if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, ws="websockets-sansio", ws_per_message_deflate=False
    )
