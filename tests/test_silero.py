"""Voice activity: the package's own module is the oracle, fed as it wants to be; then what it cannot do."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from zoo import audio

from models import silero, voices_file
from models.silero import Silero
from streaming.framing import Array

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def vad() -> silero.Vad:
    return silero.load()


def package() -> Any:
    """Its file, without its import, which asks for torchaudio."""
    found = find_spec("silero_vad")
    if found is None or not found.submodule_search_locations:
        pytest.skip("silero-vad is not installed")
    return torch.jit.load(Path(found.submodule_search_locations[0]) / "data" / "silero_vad.jit")


def sounds(rows: int, seconds: float) -> Array:
    """Something between speech and noise: probabilities must move."""
    return np.concatenate([audio(1, int(seconds * 16000), seed) * (3 if seed % 2 else 0.3) for seed in range(rows)])


def test_equals_the_package() -> None:
    theirs, ours = package(), voices_file.load(Silero(), "silero")
    pcm = torch.from_numpy(sounds(4, 512 * 60 / 16000))
    with torch.no_grad():
        wanted = torch.cat([theirs(step, 16000) for step in pcm.split(512, 1)], 1)
        found, _ = ours(pcm, ours.start(4))
    assert float(wanted.max() - wanted.min()) > 0.05
    assert float((found - wanted).abs().max()) < 1e-5


def test_any_packets_and_any_company_give_the_same(vad: silero.Vad) -> None:
    rng, pcm = np.random.default_rng(0), sounds(3, 1.7)
    alone = [vad.run([row], [vad.start()])[0][0] for row in pcm]
    states, at = [vad.start() for _ in pcm], [0] * len(pcm)
    told: list[list[Array]] = [[] for _ in pcm]
    while any(a < pcm.shape[1] for a in at):
        pieces = [row[a : a + int(rng.integers(0, 2000))] for row, a in zip(pcm, at, strict=True)]
        probs, states = vad.run(pieces, states)
        for n, piece in enumerate(pieces):
            told[n].append(probs[n])
            at[n] += len(piece)
    for row, parts in zip(alone, told, strict=True):
        assert len(row) == pcm.shape[1] // 512
        np.testing.assert_allclose(np.concatenate(parts), row, atol=1e-5)


def test_a_state_is_a_value(vad: silero.Vad) -> None:
    pcm = sounds(1, 1.0)[0]
    _, (state,) = vad.run([pcm[:9000]], [vad.start()])
    once, twice = (vad.run([pcm[9000:]], [state])[0][0] for _ in range(2))
    np.testing.assert_array_equal(once, twice)
    assert sum(part.untyped_storage().nbytes() for part in state.state) == 4 * (
        64 + 128 + 128
    )  # no view keeps more alive


def test_half_a_step_is_refused() -> None:
    network = voices_file.load(Silero(), "silero")
    with pytest.raises(ValueError, match="got 511 samples"):
        network(torch.zeros(1, 511), network.start())


@pytest.mark.parametrize("level", [0.0, 1.0, 1e-42])
def test_silence_constant_and_denormals_are_no_speech(vad: silero.Vad, level: float) -> None:
    (probs,), _ = vad.run([np.full(16000, level, np.float32)], [vad.start()])
    assert np.isfinite(probs).all()
    assert probs[2:].max() < 0.5


def test_weights_that_are_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"silero\.npz"):
        voices_file.load(Silero(), "silero", tmp_path)
    voices_file.save(torch.nn.Linear(2, 3), "silero", {"licence": "MIT", "source": "here"}, tmp_path)
    with pytest.raises(ValueError, match="are not those of Silero"):
        voices_file.load(Silero(), "silero", tmp_path)
