"""The sample conversation that the pyannote.audio package carries: 30 s of two people on the telephone, 16 kHz."""

from __future__ import annotations

import asyncio
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import serving
import soundfile
import streams

from models import registry
from streaming.framing import Array


@pytest.fixture(scope="module")
def conversation() -> Array:
    found = find_spec("pyannote")
    places = (
        [Path(place) / "audio" / "sample" / "sample.wav" for place in found.submodule_search_locations or ()]
        if found
        else []
    )
    for place in places:
        if place.is_file():
            pcm, rate = soundfile.read(place, dtype="float32")
            assert rate == 16_000
            return np.ascontiguousarray(pcm[None])
    pytest.skip("pyannote.audio, which carries the recording, is not installed")


def db(value: float) -> float:
    return 10 * float(np.log10(max(value, 1e-12)))


async def test_a_real_conversation_streams_into_two_tracks(conversation: Array) -> None:
    """In 16-bit packets of 20 ms through the server: as long as it was, nothing lost, and equal to the model alone."""
    entry = registry.from_path("speech", registry.EMBEDDED / "speech")
    with serving.running({"speech": entry}) as host:
        async with serving.connect(host) as peer:
            await peer.send(serving.start("speech", format="s16le"))
            reading = asyncio.create_task(serving.read_all(peer))
            for part in streams.chop(conversation, [320]):
                await peer.send(np.rint(part.T * 32768).clip(-32768, 32767).astype("<i2").tobytes())
            await peer.send(json.dumps({"type": "end"}))
            tracks, texts = await reading
    assert texts[-1] == {"type": "done", "samples": conversation.shape[1]}
    assert tracks is not None
    assert tracks.shape == (2, *conversation.shape)
    alone = streams.stems(streams.run(entry.load(None), [conversation]))
    np.testing.assert_allclose(tracks, alone, atol=2e-4)  # 16 bits both ways
    # Between them the tracks hold the conversation. Which of them a lone voice comes on is the model's affair: two people
    # who take turns may share one, since outputs are told apart by overlap and not by who speaks.
    level = float(np.mean(conversation**2))
    left = float(np.mean((tracks.sum(axis=0) - conversation) ** 2)) / level
    print(
        f"tracks {[round(db(float(np.mean(track**2)) / level), 1) for track in tracks]} dB, sum off by {db(left):.1f} dB"
    )
    assert left < 0.1
