"""Peers that are not ours, each in a process of its own: FFmpeg's WHIP muxer (inside PyAV), and libwebrtc for Node."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NODE = Path(__file__).parent / "rtc_node"


async def ffmpeg(folder: Path, url: str, hertz: float, seconds: float, **options: str) -> int:
    """Sends a tone by FFmpeg with a certificate of its own; its exit status."""
    key, cert = folder / "ffmpeg.key", folder / "ffmpeg.crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-subj", "/CN=ffmpeg"]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    given = {"cert_file": str(cert), "key_file": str(key), **options}
    code = [sys.executable, __file__, url, str(hertz), str(seconds), json.dumps(given)]
    process = await asyncio.create_subprocess_exec(*code)
    return await asyncio.wait_for(process.wait(), 60)


def node(cache: Path) -> Path:
    """The script for Node, beside its packages; skips where they cannot be had."""
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("npm and node are not here")
    folder = cache / "rtc_node"
    folder.mkdir(exist_ok=True)
    for file in ("package.json", "package-lock.json", "peer.mjs"):
        shutil.copy(NODE / file, folder)
    if not (folder / "node_modules").exists():
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True, timeout=180
        )
        if done.returncode:
            shutil.rmtree(folder / "node_modules", ignore_errors=True)
            pytest.skip(f"npm cannot install libwebrtc here: {done.stderr[-200:]}")
    return folder / "peer.mjs"


async def libwebrtc(script: Path, role: str, url: str, **options: Any) -> dict[str, Any]:
    """What `peer.mjs` says at its end."""
    process = await asyncio.create_subprocess_exec(
        "node", str(script), role, url, json.dumps(options), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, error = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, error.decode()
    result: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
    return result


def chromium() -> str | None:
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def _send(url: str, hertz: float, seconds: float, options: dict[str, str]) -> None:
    """The live tone, 48 kHz stereo."""
    import time

    import av

    rate, frame = 48_000, 960
    with av.open(url, "w", format="whip", options=options) as out:
        stream = out.add_stream("libopus", rate=rate)
        stream.codec_context.layout = "stereo"
        began = time.monotonic()
        for at in range(0, round(seconds * rate), frame):
            mono = np.sin(2 * np.pi * hertz * np.arange(at, at + frame) / rate) * 0.2 * 32768
            part = av.AudioFrame.from_ndarray(np.repeat(mono.astype("<i2"), 2).reshape(1, -1), "s16", "stereo")
            part.rate, part.pts = rate, at
            out.mux(stream.encode(part))
            time.sleep(max(0.0, began + at / rate - time.monotonic()))
        out.mux(stream.encode(None))


if __name__ == "__main__":
    _send(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), json.loads(sys.argv[4]))
