"""The figures on the cards: measures against a hand's calculation, streams against the whole, tables of tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from checkpoints_demucs import tiny_repo  # noqa: E402

from models import registry, toys  # noqa: E402
from models.bsrnn import BandSplitRNN  # noqa: E402
from models.bsrnn_config import Config  # noqa: E402
from models.bsrnn_file import save  # noqa: E402
from models.bsrnn_separator import BandSplitSeparator, load  # noqa: E402
from models.training.data import STEMS, store_track  # noqa: E402
from models.training.evaluate import (  # noqa: E402
    apart,
    evaluate,
    facts,
    line,
    live,
    main,
    sdr,
    si_sdr,
    speed,
    state_bytes,
    streamed,
)
from models.training.evaluate_music import busy_seconds, song_figures, summary  # noqa: E402

RATE = 44100
TINY = Config(
    name="tiny",
    rate=RATE,
    channels=2,
    sources=("vocals", "drums", "bass", "other"),
    stft=512,
    groups=((4, 8, 1), (32, 8, 4)),
    features=12,
    hidden=12,
    narrow=4,
    bottleneck=12,
    blocks=1,
    additive=True,
)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of stems with random weights, as exported."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    save(BandSplitRNN(TINY), path, half=True)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of two songs, of which "one" is held out, and of a piece of an unseen kind."""
    path = tmp_path_factory.mktemp("cache")
    for number, (kind, song) in enumerate((("song", "one"), ("song", "two"), ("held-score", "bach"))):
        for row, stem in enumerate(STEMS[: 4 - number]):
            store_track(path / "tracks", song, stem, kind, noise(2, 3 * RATE, seed=10 * number + row))
    (path / "tracks" / "songs.done").touch()
    return path


def test_sdr_counts_the_level_and_si_sdr_does_not() -> None:
    target, other = noise(2, 1000), noise(2, 1000, seed=1)
    other -= (other * target).sum() / np.square(target).sum() * target
    other *= np.sqrt(np.square(target).sum() / np.square(other).sum()) / 10
    assert sdr(target + other, target) == pytest.approx(20, abs=1e-3)
    assert si_sdr(0.5 * (target + other), target) == pytest.approx(20, abs=1e-3)
    assert sdr(0.5 * target, target) == pytest.approx(10 * np.log10(4), abs=1e-3)
    assert sdr(np.zeros_like(target), target) == pytest.approx(0, abs=1e-6)


def test_only_seconds_with_two_stems_count() -> None:
    stems = np.zeros((4, 2, 4 * RATE + 100), np.float32)
    stems[0] = 0.1
    stems[1, :, RATE : 2 * RATE] = 0.1
    stems[2, :, 2 * RATE : 3 * RATE] = 1e-4  # 80 dB down
    busy = busy_seconds(stems, RATE)
    assert busy.shape == (4 * RATE + 100,)
    assert np.flatnonzero(busy).tolist() == list(range(RATE, 2 * RATE))


@pytest.mark.parametrize("length", [100, RATE, 2 * RATE + 777])
def test_a_stateful_model_is_streamed_to_what_it_makes_of_the_whole(folder: Path, length: int) -> None:
    model = load(folder)
    pcm = noise(2, length)
    with torch.inference_mode():
        whole = model.network(torch.from_numpy(pcm[None]))[0].numpy()
    found = streamed(model, pcm)
    assert found.shape == (4, 2, length)
    np.testing.assert_allclose(found, whole, atol=1e-5)
    np.testing.assert_allclose(found.sum(0), pcm, atol=1e-5)
    assert apart(model, 0.5) < 1e-5


def test_a_difference_between_stream_and_whole_would_be_seen(folder: Path) -> None:
    class Forgetful(BandSplitSeparator):
        def run(self, pcm, states):  # type: ignore[no-untyped-def]
            out, _ = super().run(pcm, states)
            return out, [self.start() for _ in states]

    assert apart(Forgetful(load(folder).network), 0.5) > 1e-3


def test_a_windowed_model_is_streamed_sample_beside_sample_in_live_windows() -> None:
    for model in toys.all_toys().values():
        pcm = noise(model.spec.channels, 5 * model.spec.rate // 2)
        assert streamed(model, pcm).shape == (len(model.spec.sources), *pcm.shape)
        assert live(model).delay == model.spec.framing.delay
        assert (live(model) == model.spec.framing) or not model.spec.windows


def test_facts_are_those_of_the_file_and_of_a_session(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    found = facts(model, folder)
    assert found["parameters"] == sum(p.numel() for p in model.network.parameters())
    assert found["checkpoint_bytes"] == (folder / "model.safetensors").stat().st_size
    bands = 16
    assert found["state_bytes"] == 4 * (2 * 256 + bands * 12 + 12 + 4 * 2 * 256)
    assert found["latency_samples"] == 512
    assert float(found["stream_minus_whole"]) < 1e-4

    windowed = registry.from_path("tiny", tiny_repo(tmp_path)).load(None)
    framing = windowed.spec.framing
    assert state_bytes(windowed) == 4 * (framing.window * 2 + framing.fade * (4 * 2 + 1))
    found = facts(windowed, tmp_path)
    assert found["parameters"] > 100_000
    assert found["checkpoint_bytes"] == next(tmp_path.glob("*.th")).stat().st_size
    assert "stream_minus_whole" not in found


def test_speed_is_told_by_processor_time_and_by_the_median_run(folder: Path) -> None:
    before = torch.get_num_threads()
    found = speed(load(folder), 0.1)
    torch.set_num_threads(before)
    assert found["threads"] == 1
    assert found["rtf_processor_time"] > 0
    assert found["rtf_median_run"] > 0


def test_a_perfect_model_gains_what_the_mixture_lacked_and_stems_that_are_absent_have_no_row() -> None:
    found = {"drums": noise(2, 2 * RATE), "bass": 2 * noise(2, 2 * RATE, seed=1)}

    class Oracle:
        """Knows the stems of its one song."""

        def __init__(self, model: BandSplitSeparator) -> None:
            self.spec, self.start, self.told = model.spec, lambda: 0, 0

        def run(self, pcm, states):  # type: ignore[no-untyped-def]
            (at,) = states
            rows = np.zeros((1, 4, *pcm.shape[1:]), np.float32)
            for stem, source in found.items():
                late = np.pad(source, ((0, 0), (self.spec.framing.delay, RATE)))
                rows[0, self.spec.sources.index(stem)] = late[:, at : at + pcm.shape[-1]]
            peak = np.abs(found["drums"] + found["bass"]).max()
            return rows * np.float32(0.5 / peak), [at + pcm.shape[-1]]

    torch.manual_seed(0)
    rows = song_figures(Oracle(BandSplitSeparator(BandSplitRNN(TINY))), "made", found)  # type: ignore[arg-type]
    assert [(row["stem"], row["seconds"]) for row in rows] == [("drums", 2), ("bass", 2)]
    assert rows[0]["sdr_mixture"] == pytest.approx(-6, abs=0.2)
    assert min(row["sdr"] for row in rows) > 60
    told = summary("made", rows)
    assert told["sdr_gain_min"] == min(row["sdr_gain"] for row in rows)
    assert told["sdr_gain_mean"] == pytest.approx(np.mean([row["sdr_gain"] for row in rows]))


def test_the_command_prints_the_table_and_writes_it(
    folder: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, before = tmp_path / "figures.json", torch.get_num_threads()
    main([str(folder), "--data", str(tmp_path), "--cache", str(cache), "--json", str(out)])
    torch.set_num_threads(before)
    told = json.loads(out.read_text())
    songs = [(row["song"], row["stem"]) for row in told["figures"]]
    assert songs == [
        *(("one", stem) for stem in STEMS),
        ("all songs", "all"),
        *(("bach", stem) for stem in STEMS[:2]),
        ("all unseen kinds", "all"),
    ]
    assert set(told) == {"figures", "speed", "facts"}
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(songs) + 2
    assert printed[0] == line(told["figures"][0])


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a folder with"):
        evaluate(tmp_path, tmp_path, tmp_path)
    with pytest.raises(SystemExit, match="error: got"):
        main([str(tmp_path)])
