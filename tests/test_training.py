"""The training recipe on material made here: losses against an oracle, mixtures that add up, learning, resuming."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")

from models.bsrnn import BandSplitRNN, Config, Interpolate, save  # noqa: E402
from models.bsrnn_separator import load  # noqa: E402
from models.training.average import average  # noqa: E402
from models.training.data import STEMS, music_bank, speech_bank  # noqa: E402
from models.training.loop import Plan, Run, learning_rate, train  # noqa: E402
from models.training.losses import FLOOR, permutation_invariant, si_sdr, stems_loss  # noqa: E402
from models.training.mixing import MusicMixer, SpeechMixer, resampled  # noqa: E402

TINY = Config(
    name="tiny",
    rate=16000,
    channels=1,
    sources=("speaker_1", "speaker_2"),
    stft=128,
    groups=((4, 8, 1), (11, 3, 1)),
    features=12,
    hidden=12,
    narrow=4,
    bottleneck=12,
    blocks=1,
    interchangeable=True,
)


@pytest.fixture(scope="module")
def speakers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four "speakers", each a pulse train through its own resonance, as <speaker>/<n>.wav."""
    folder = tmp_path_factory.mktemp("speakers")
    for who in range(4):
        (folder / f"speaker{who}").mkdir()
        t = np.arange(2 * 16000) / 16000
        tone = np.sin(2 * np.pi * (300 * 2**who) * t) * (1 + 0.5 * np.sin(2 * np.pi * 3 * t))
        soundfile.write(folder / f"speaker{who}" / "0.wav", 0.3 * tone, 16000)
    return folder


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three songs of noise, as <song>/<stem>.wav."""
    folder, rng = tmp_path_factory.mktemp("songs"), np.random.default_rng(0)
    for song in ("one", "two", "three"):
        (folder / song).mkdir()
        for stem in STEMS:
            soundfile.write(folder / song / f"{stem}.wav", rng.normal(0, 0.1, (44100, 2)), 44100)
    return folder


def mixer_of(speakers: Path, cache: Path) -> SpeechMixer:
    bank = speech_bank(speakers, cache)
    assert {clip.group for clip in bank.validation}.isdisjoint(clip.group for clip in bank.train)
    return SpeechMixer(bank, bank.train, seconds=0.5)


def test_si_sdr_is_the_ratio_of_the_projection_to_the_rest() -> None:
    rng = np.random.default_rng(1)
    target, other = rng.normal(size=1000), rng.normal(size=1000)
    other -= (other @ target) / (target @ target) * target
    other *= np.linalg.norm(target) / np.linalg.norm(other) / 10
    found = si_sdr(torch.tensor(0.3 * (target + other))[None], torch.tensor(target)[None])
    assert float(found) == pytest.approx(20.0, abs=1e-6)


def floored(estimate: np.ndarray, target: np.ndarray, mixture: np.ndarray) -> float:
    """The loss of one source, written by hand."""
    own, whole = (target**2).sum(), (mixture**2).sum()
    reference = own if own > 1e-4 * whole else whole
    return float(10 * np.log10((((estimate - target) ** 2).sum() + FLOOR * reference) / reference))


@pytest.mark.parametrize("silent", [False, True])
def test_permutation_invariant_loss_is_the_minimum_over_orders(silent: bool) -> None:
    rng = np.random.default_rng(2)
    target = rng.normal(size=(5, 3, 1, 200))
    if silent:
        target[:, 1] = 0
    estimate, mixture = target[:, [2, 0, 1]] + rng.normal(size=target.shape) * 0.5, target.sum(1)
    loss, order = permutation_invariant(*(torch.tensor(part) for part in (estimate, target, mixture)))
    for row in range(5):
        costs = {
            way: np.mean([floored(estimate[row, o], target[row, s], mixture[row]) for s, o in enumerate(way)])
            for way in permutations(range(3))
        }
        assert float(loss[row]) == pytest.approx(min(costs.values()), abs=1e-5)
        assert tuple(order[row].tolist()) == min(costs, key=lambda way: costs[way])


def test_stems_loss_keeps_the_order() -> None:
    rng = np.random.default_rng(3)
    target, estimate = rng.normal(size=(2, 4, 2, 100)), rng.normal(size=(2, 4, 2, 100))
    found = stems_loss(torch.tensor(estimate), torch.tensor(target), torch.tensor(target.sum(1)))
    for row in range(2):
        costs = [floored(estimate[row, s], target[row, s], target[row].sum(0)) for s in range(4)]
        assert float(found[row]) == pytest.approx(np.mean(costs), abs=1e-5)


def test_the_recurrence_has_the_gradient_of_its_definition() -> None:
    torch.manual_seed(0)
    v, z, start = (
        torch.rand(*shape, dtype=torch.float64, requires_grad=True) for shape in ((6, 2, 3), (6, 2, 3), (2, 3))
    )
    assert torch.autograd.gradcheck(Interpolate.apply, (v, z, start))


def test_resampling_keeps_a_tone() -> None:
    t = np.arange(5000)
    found = resampled(np.sin(0.1 * t).astype(np.float32), 1.1, 4000)
    np.testing.assert_allclose(found, np.sin(0.1 * (1.1 * np.arange(4000) + 1)), atol=2e-4)


def test_music_mixtures_are_the_sum_of_their_stems(songs: Path, tmp_path: Path) -> None:
    tracks, held = music_bank(songs, tmp_path)
    assert {t.song for t in held}
    assert {t.song for t in held}.isdisjoint(t.song for t in tracks)
    mixer = MusicMixer(tracks, seconds=0.5, coherent=0.5)
    mixture, stems = mixer.batch(np.random.default_rng(4), 4)
    assert mixture.shape == (4, 2, 22050)
    np.testing.assert_allclose(mixture, stems.sum(1), atol=1e-6)
    again, _ = mixer.batch(np.random.default_rng(4), 4)
    np.testing.assert_array_equal(mixture, again)


def test_missing_data_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected"):
        speech_bank(tmp_path, tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="expected"):
        music_bank(tmp_path, tmp_path / "cache")


def test_the_schedule_ends_with_the_clock() -> None:
    plan = Plan(minutes=1, warmup=10, rate=1.0)
    assert learning_rate(plan, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(plan, 100, 30.0) == pytest.approx(0.5)
    assert learning_rate(plan, 100, 60.0) == learning_rate(plan, 100, 90.0) == pytest.approx(0.0)


def test_a_few_steps_make_the_loss_fall_and_export(speakers: Path, tmp_path: Path) -> None:
    mixer = mixer_of(speakers, tmp_path / "cache")
    run = Run(TINY, Plan(minutes=60, batch=4, rate=1e-2, warmup=5), tmp_path / "run")
    before = np.mean([run.train_step(mixer)["loss"] for _ in range(5)])
    for _ in range(60):
        run.train_step(mixer)
    after = np.mean([run.train_step(mixer)["loss"] for _ in range(5)])
    assert after < before - 1.0
    fixed = [mixer.batch(np.random.default_rng(5), 2)]
    train(run, mixer, fixed, tmp_path / "export", tell=lambda line: None, steps=run.step + 1)
    weights = load(tmp_path / "export").network.state_dict()
    for key, value in run.average.state_dict().items():
        assert torch.allclose(weights[key], value, atol=2e-3), key
    assert (tmp_path / "run" / "log.jsonl").read_text().count("\n") == 2


def test_resuming_goes_on_as_if_never_stopped(speakers: Path, tmp_path: Path) -> None:
    mixer, plan = mixer_of(speakers, tmp_path / "cache"), Plan(minutes=1e9, batch=2)
    whole = Run(TINY, plan, tmp_path / "a")
    first = Run(TINY, plan, tmp_path / "b")
    for _ in range(3):
        whole.train_step(mixer)
        first.train_step(mixer)
    first.save()
    second = Run(TINY, plan, tmp_path / "b")
    second.resume()
    assert (second.step, second.elapsed) == (3, first.elapsed)
    assert same(second.network, first.network)
    assert same(second.average, first.average)
    for _ in range(2):
        whole.train_step(mixer)
        second.train_step(mixer)
    assert same(second.network, whole.network)


def same(one: BandSplitRNN, other: BandSplitRNN) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_resuming_from_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        Run(TINY, Plan(minutes=1), tmp_path).resume()


def test_the_average_of_two_models_is_their_mean_and_loads(tmp_path: Path) -> None:
    one, two = (Run(TINY, Plan(minutes=1, seed=seed), tmp_path / str(seed)).network for seed in (1, 2))
    for name, network in (("a", one), ("b", two)):
        save(network, tmp_path / name)
    average([tmp_path / "a", tmp_path / "b"], tmp_path / "mean")
    mean = load(tmp_path / "mean").network.state_dict()
    for key, value in one.state_dict().items():
        assert torch.allclose(mean[key], (value + two.state_dict()[key]) / 2, atol=2e-3), key  # halves on disk
