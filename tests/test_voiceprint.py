"""The speaker encoder: an oracle of scipy and numpy alone, and the package's own weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from zoo import audio

from models import voiceprint, voices_file
from models.rehearsal import TALK
from models.voiceprint import Encoder, Mel, Voiceprint, levelled
from streaming.framing import Array

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def encoder() -> Voiceprint:
    return voiceprint.load()


def oracle_mel(pcm: Array, frames: int) -> NDArray[np.float64]:
    """librosa's definition from its documentation: power of a centred 400-point transform, triangles on Slaney's scale."""

    def hertz(mel: float) -> float:
        return 200 * mel / 3 if mel < 15 else 1000 * float(np.exp(np.log(6.4) / 27 * (mel - 15)))

    edges = [hertz(m) for m in np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), 42)]
    padded = np.pad(pcm.astype(np.float64), 200)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    out = np.zeros((frames, 40))
    for n in range(frames):
        power = np.abs(np.fft.rfft(padded[160 * n : 160 * n + 400] * window)) ** 2
        for band in range(40):
            low, middle, high = edges[band : band + 3]
            for k, value in enumerate(power):
                f = 40.0 * k
                weight = min((f - low) / (middle - low), (high - f) / (high - middle))
                out[n, band] += value * max(0.0, weight) * 2 / (high - low)
    return out


def oracle_lstm(weights: dict[str, NDArray[np.float64]], mels: NDArray[np.float64]) -> NDArray[np.float64]:
    """S. Hochreiter's cell as torch orders its gates: input, forget, candidate, output."""

    def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(-x))

    inputs = list(mels)
    for layer in range(3):
        w, u = weights[f"lstm.weight_ih_l{layer}"], weights[f"lstm.weight_hh_l{layer}"]
        bias = weights[f"lstm.bias_ih_l{layer}"] + weights[f"lstm.bias_hh_l{layer}"]
        hidden, cell, outputs = np.zeros(256), np.zeros(256), []
        for x in inputs:
            i, f, g, o = np.split(w @ x + u @ hidden + bias, 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(cell)
            outputs.append(hidden)
        inputs = outputs
    told = np.maximum(weights["linear.weight"] @ inputs[-1] + weights["linear.bias"], 0)
    return told / np.linalg.norm(told)


def test_mel_frames_are_the_published_ones() -> None:
    pcm = audio(1, 3200, seed=1)[0]
    padded = torch.from_numpy(np.pad(pcm, 200))[None]
    ours = Mel()(padded)[0, :, :40].numpy()
    theirs = oracle_mel(pcm, len(ours))
    assert np.abs(ours - theirs).max() < 1e-5 * theirs.max()
    some = Mel()(padded[:, 5 * 160 : 5 * 160 + 400 + 160])[0, :, :40].numpy()  # frames may be made piece by piece
    np.testing.assert_allclose(some, ours[5:7], rtol=1e-4, atol=1e-9)


def test_embedding_is_the_published_one(encoder: Voiceprint) -> None:
    pcm = audio(1, 160 * 40, seed=2)[0]
    mels = oracle_mel(pcm, 40)
    square = np.mean(
        [np.square(np.pad(pcm, 200)[160 * n : 160 * n + 400].astype(np.float64)).mean() for n in range(40)]
    )
    weights = {key: value.double().numpy() for key, value in encoder.encoder.state_dict().items()}
    wanted = oracle_lstm(weights, mels * 1e-3 / square)
    found = encoder.embed([pcm])[0]
    assert np.abs(found - wanted).max() < 1e-4


def test_weights_are_those_of_the_package(encoder: Voiceprint) -> None:
    found = find_spec("resemblyzer")
    if found is None or not found.submodule_search_locations:
        pytest.skip("resemblyzer is not installed")
    path = Path(found.submodule_search_locations[0]) / "pretrained.pt"
    theirs = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    for key, value in encoder.encoder.state_dict().items():
        torch.testing.assert_close(value, theirs[key], rtol=2e-3, atol=1e-6)  # half precision on disk
    exact = Encoder().eval()
    exact.load_state_dict({key: theirs[key] for key in exact.state_dict()})
    pcm = [audio(1, 25600, seed)[0] for seed in range(4)]
    assert np.einsum("nd,nd->n", encoder.embed(pcm), Voiceprint(exact, encoder.centre).embed(pcm)).min() > 0.9999


def test_shorter_windows_come_for_nothing(encoder: Voiceprint) -> None:
    mels = torch.from_numpy(np.abs(np.random.default_rng(0).normal(0, 0.1, (3, 160, 40))).astype(np.float32))
    with torch.inference_mode():
        several = encoder.encoder.after(mels, (160, 120, 80))
        for n, length in enumerate((160, 120, 80)):
            torch.testing.assert_close(several[:, n], encoder.encoder(mels[:, :length]), atol=1e-6, rtol=1e-5)


def test_level_does_not_matter(encoder: Voiceprint) -> None:
    pcm = audio(1, 25600, seed=5)[0]
    quiet, loud = encoder.embed([pcm * np.float32(0.05), pcm])
    assert quiet @ loud > 0.9999
    frames = torch.rand(2, 160, 41)
    torch.testing.assert_close(levelled(frames), levelled(frames * 7), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("length", [0, 1, 159, 400, 12_800, 25_600, 25_760, 60_000])
def test_sounds_of_any_length_together_as_alone(encoder: Voiceprint, length: int) -> None:
    pcm = audio(1, 70_000, seed=3)[0]
    together = encoder.embed([pcm, pcm[:length], pcm[:30_000]])
    assert together.shape == (3, 256)
    assert np.isfinite(together).all()
    np.testing.assert_allclose(together[1], encoder.embed([pcm[:length]])[0], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_nothing_is_embedded_as_nothing(encoder: Voiceprint) -> None:
    assert encoder.embed([]).shape == (0, encoder.width)


def test_weights_say_whose_they_are() -> None:
    for name, licence in (("encoder", "Apache-2.0"), ("silero", "MIT"), ("listener", "CC-BY-4.0")):
        with np.load(voices_file.FOLDER / f"{name}.npz", allow_pickle=False) as file:
            assert str(file["licence"]) == licence
            assert str(file["source"])


def test_about_the_common_mean_voices_are_further_apart(encoder: Voiceprint) -> None:
    """Two people of three seconds each, in halves: cosines of the same person and of the two."""
    pcm, _ = soundfile.read(TALK, dtype="float32")
    halves = np.split(pcm[: len(pcm) // 4 * 4], 4)

    def gap(embed: Callable[[Sequence[Array]], Array]) -> float:
        rows = embed(halves)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        near = rows @ rows.T
        return float((near[0, 1] + near[2, 3]) / 2 - near[:2, 2:].mean())

    assert gap(encoder.apart) > 1.5 * gap(encoder.embed) > 0.15
    assert encoder.apart([]).shape == (0, 256)
