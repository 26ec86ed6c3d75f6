"""Writes tests/golden_wire.json by hand-rolled byte arithmetic that shares no code with any codec."""

import json
import struct
from pathlib import Path


def binary(start: int, stems: list[list[list[float]]], fmt: str) -> str:
    out = bytes([1, 1 if fmt == "f32le" else 0, len(stems), len(stems[0])])
    out += len(stems[0][0]).to_bytes(4, "little") + start.to_bytes(8, "little")
    for stem in stems:
        for frame in zip(*stem, strict=True):
            for value in frame:
                if fmt == "f32le":
                    out += struct.pack("<f", value)
                else:
                    out += max(-32768, min(32767, round(value * 32768))).to_bytes(2, "little", signed=True)
    return out.hex()


ONE = [[[0.0, 0.5, -0.5, 1.0, -1.0]]]
TWO = [[[0.25, -0.25, 2.0], [0.125, 0.0, -2.0]], [[-0.75, 0.5, 0.0], [1.0, -1.0, 0.0625]]]
vectors = {
    "binary": [
        {"start": start, "format": fmt, "stems": stems, "hex": binary(start, stems, fmt)}
        for start, stems in ((0, ONE), (123456, TWO), (2**40 + 7, TWO))
        for fmt in ("s16le", "f32le")
    ],
    "client": [
        {"type": "start", "model": "music", "rate": 44100, "channels": 2, "format": "s16le"},
        {"type": "start", "model": "speech", "rate": 48000, "channels": 1, "format": "f32le", "stems": ["speaker_1"]},
        {
            "type": "start", "model": "music", "rate": 48000, "channels": 2, "format": "s16le",
            "output": "mix", "gains": {"vocals": 0.0}, "mono": True, "latency_ms": 200.0,
        },
        {"type": "start", "model": "music", "rate": 44100, "channels": 2, "format": "f32le", "live": False},
        {
            "type": "start", "model": "speech", "rate": 16000, "channels": 1, "format": "s16le", "mode": "speakers",
            "output": "mix", "gains": {"speaker_1": 0.0},
            "speakers": {
                "max": 4, "diarizer": "voices", "exclude_overlaps": True, "min_duration_s": 0.25, "gap_threshold_s": 0.5,
                "buffer_time_s": 1.5, "onset": 0.625, "offset": 0.375,
            },
        },
        {"type": "start", "model": "speech", "rate": 48000, "channels": 1, "format": "f32le", "mode": "diarize"},
        {"type": "resume", "token": "eyJzIjoiYSJ9.c2ln-_", "received": 123456},
        {"type": "mark", "id": "a"},
        {"type": "gains", "gains": {"vocals": 0.5, "drums": 2.0}},
        {"type": "end"},
    ],
    "server": [
        {
            "type": "ready", "session": "s1", "model": "music", "stems": ["vocals", "drums", "bass", "other"],
            "rate": 44100, "channels": 2, "format": "s16le", "latency_samples": 2048, "latency_ms": 60.0,
            "resume": "eyJzIjoiYSJ9.c2ln-_", "resume_samples": 0, "replay_from": 0, "protocol": "stems.v1",
            "mode": "separate",
        },
        {
            "type": "ready", "session": "s1", "model": "speech", "stems": ["speaker_1", "speaker_2"],
            "rate": 48000, "channels": 1, "format": "f32le", "latency_samples": 1536, "latency_ms": 44.7,
            "resume": "eyJzIjoiYiJ9.c2ln-_", "resume_samples": 6000, "replay_from": 117500, "protocol": "stems.v1",
            "mode": "speakers", "diarizer": "voices",
        },
        {
            "type": "ready", "session": "s1", "model": "speech", "stems": [],
            "rate": 16000, "channels": 1, "format": "s16le", "latency_samples": 16680, "latency_ms": 1100.0,
            "resume": "eyJzIjoiYiJ9.c2ln-_", "resume_samples": 6000, "replay_from": 0, "protocol": "stems.v1",
            "mode": "diarize", "diarizer": "voices",
        },
        {"type": "mark", "id": "a", "sample": 4410},
        {
            "type": "stats", "heard": 44100, "told": 42052, "lag_ms": 5.5, "compute_p50_ms": 2.0,
            "compute_p95_ms": 3.0, "queue_p95_ms": 0.5, "resume": "eyJzIjoiYSJ9.c2ln-_",
        },
        {
            "type": "speakers", "told": 48000, "active": [0, 1], "dropped": [805],
            "turns": [
                {"id": 0, "speaker": 0, "start": 0, "end": 44160, "final": True},
                {"id": 1401, "speaker": 1, "start": 28000, "end": 48000, "final": False},
            ],
        },
        {"type": "speakers", "told": 52800, "active": [], "turns": [], "dropped": []},
        {"type": "draining", "deadline_ms": 30000},
        {"type": "error", "code": "bad_audio", "message": "got 3 bytes", "fatal": True},
        {"type": "error", "code": "capacity", "message": "full", "fatal": True, "retry_after_ms": 2000},
        {"type": "done", "samples": 44100},
    ],
}  # fmt: skip
Path(__file__).with_name("golden_wire.json").write_text(json.dumps(vectors, indent=1) + "\n")
