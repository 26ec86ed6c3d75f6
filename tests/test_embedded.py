"""The separators that ship: they load, they stream, they add up, and they separate what they never heard."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.bsrnn_file import save  # noqa: E402
from models.bsrnn_separator import BandSplitSeparator, load  # noqa: E402
from models.training.data import song_excerpt  # noqa: E402
from models.training.evaluate import apart  # noqa: E402
from models.training.evaluate_music import song_figures  # noqa: E402

EMBEDDED = Path(__file__).parent.parent / "models" / "embedded"
DATA = Path(__file__).parent.parent.parent / "shared" / "data"
NAMES = ("speech", "music")


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> BandSplitSeparator:
    return load(EMBEDDED / request.param)


def noise(model: BandSplitSeparator, rows: int, hops: int, seed: int = 0) -> np.ndarray:
    shape = (rows, model.spec.channels, hops * model.spec.framing.hop)
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


def hop_by_hop(model: BandSplitSeparator, pcm: np.ndarray) -> np.ndarray:
    hop, states = model.spec.framing.hop, [model.start() for _ in pcm]
    stems = []
    for start in range(0, pcm.shape[2], hop):
        out, states = model.run(pcm[:, :, start : start + hop], states)
        stems.append(out)
    return np.concatenate(stems, axis=-1)


def test_spec(model: BandSplitSeparator) -> None:
    spec, framing = model.spec, model.spec.framing
    assert framing.window == framing.hop
    assert framing.delay == model.network.config.stft - framing.hop
    expected = {
        "speech": (16000, 1, ("speaker_1", "speaker_2"), True),
        "music": (44100, 2, ("vocals", "drums", "bass", "other"), False),
    }
    assert (spec.rate, spec.channels, spec.sources, spec.interchangeable) == expected[spec.name]
    assert framing.latency / spec.rate <= 0.05
    assert sum(p.numel() for p in model.network.parameters()) <= {"speech": 5_000_000, "music": 6_000_000}[spec.name]


def test_streaming_is_the_whole(model: BandSplitSeparator) -> None:
    pcm = noise(model, 2, 24)
    whole, _ = model.run(pcm, [model.start(), model.start()])
    assert whole.shape == (2, len(model.spec.sources), *pcm.shape[1:])
    np.testing.assert_allclose(hop_by_hop(model, pcm), whole, atol=1e-4)


def test_the_segment_face_is_the_stream_without_its_delay(model: BandSplitSeparator) -> None:
    pcm, delay = noise(model, 1, 20), model.spec.framing.delay
    with torch.inference_mode():
        segment = model.network(torch.from_numpy(pcm)).numpy()
    np.testing.assert_allclose(hop_by_hop(model, pcm)[..., delay:], segment[..., :-delay], atol=1e-4)


def test_a_stream_of_full_scale_noise_is_the_whole(model: BandSplitSeparator) -> None:
    assert apart(model, 1.0) < 1e-4


def test_rows_are_independent_and_states_are_values(model: BandSplitSeparator) -> None:
    pcm, start = noise(model, 3, 5), model.start()
    together, states = model.run(pcm, [start] * 3)
    for row in range(3):
        alone, (state,) = model.run(pcm[row : row + 1], [start])
        np.testing.assert_allclose(together[row], alone[0], atol=1e-5)
        for one, other in zip(states[row], state, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert all(float(part.abs().sum()) == 0 for part in start)
    once, _ = model.run(pcm, states)
    again, _ = model.run(pcm, states)
    np.testing.assert_array_equal(once, again)


def test_silence_stays_silent_and_loudness_finite(model: BandSplitSeparator) -> None:
    rng, shape = np.random.default_rng(1), noise(model, 1, 8).shape
    loud, _ = model.run(noise(model, 1, 8), [model.start()])
    state = [model.run(noise(model, 1, 8), [model.start()])[1][0]]
    silent, _ = model.run(np.zeros(shape, np.float32), state)
    assert np.abs(loud).max() > 0
    assert not silent[..., 2 * model.spec.framing.hop :].any()
    for pcm in (np.ones(shape), np.full(shape, 1e-40), rng.choice((-1.0, 1.0), shape), np.full(shape, -1e-38)):
        stems, after = model.run(pcm.astype(np.float32), [model.start()])
        assert np.isfinite(stems).all()
        assert all(bool(torch.isfinite(part).all()) for part in after[0])


def test_music_stems_add_up_to_the_delayed_mixture() -> None:
    model = load(EMBEDDED / "music")
    pcm, delay = noise(model, 1, 20), model.spec.framing.delay
    stems = hop_by_hop(model, pcm)
    np.testing.assert_allclose(stems.sum(1)[..., delay:], pcm[..., :-delay], atol=1e-5)


def test_wrong_shapes_and_files_are_named(model: BandSplitSeparator, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected"):
        model.run(np.zeros((1, model.spec.channels, model.spec.framing.hop + 1), np.float32), [model.start()])
    with pytest.raises(FileNotFoundError, match="expected a folder"):
        load(tmp_path)
    save(model.network, tmp_path)
    again = load(tmp_path)
    assert again.network.config == model.network.config


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = load(EMBEDDED / "speech")
    path = save(model.network, tmp_path)
    metadata = {"format": "rivulet-bsrnn-1", "config": json.dumps(vars(model.network.config))}
    tensors = load_file(path)
    tensors["split.bias"] = tensors["split.bias"][:1].clone()
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ValueError, match=r"split\.bias: got \(1, \d+\), expected \(\d+, \d+\)"):
        load(tmp_path)
    save_file(tensors, path, metadata={"format": "else"})
    with pytest.raises(ValueError, match="got format 'else'"):
        load(tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the recordings are not in {DATA}")
@pytest.mark.parametrize("song", ["Caesium", "Sodium"])
def test_held_out_songs_are_better_separated_than_mixed(song: str) -> None:
    """The card's figures: each whole song, in the seconds in which at least two stems sound, stem by stem."""
    model = load(EMBEDDED / "music")
    target = song_excerpt(DATA, song, 0.0, 360.0, model.spec.rate)  # longer than either
    rows = song_figures(model, song, {stem: pcm for stem, pcm in target.items() if pcm.any()})
    assert len(rows) >= 3
    assert min(row["sdr_gain"] for row in rows) > 0, rows
    assert min(row["si_sdr_gain"] for row in rows) > 0, rows


HQ = EMBEDDED / "music-hq"


@pytest.mark.skipif(not HQ.is_dir(), reason="music-hq is not in this tree")
def test_music_hq_is_the_same_for_demucs_itself() -> None:
    from demucs.apply import apply_model
    from demucs.pretrained import get_model

    from models import registry

    entry = registry.build()["music-hq"]
    model, theirs = entry.load(None), get_model("music-hq", repo=HQ)
    assert entry.licence == model.spec.licence == "CC-BY-4.0"
    assert set(model.spec.sources) == {"vocals", "drums", "bass", "other"}
    assert sum(path.stat().st_size for path in HQ.glob("*.th")) <= 11_000_000
    width = model.spec.windows[-1]
    pcm = np.random.default_rng(3).normal(0, 0.1, (1, 2, width)).astype(np.float32)
    ours, _ = model.run(pcm, [None])
    expected = apply_model(theirs, torch.from_numpy(pcm), shifts=0, split=False).numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-4)
