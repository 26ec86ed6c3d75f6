"""Demucs against Demucs: the same weights through its own `apply_model`, and what a stream needs besides."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints_demucs import STEMS, TINY, tiny_hdemucs, tiny_repo, write_random, write_yaml
from demucs.apply import apply_model
from demucs.htdemucs import HTDemucs
from demucs.pretrained import get_model

from models import demucs_repo, htdemucs, weights
from models.htdemucs import DemucsSeparator, load
from streaming.framing import Array

SEGMENT = 70_560  # samples: 1.6 s at 44.1 kHz


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def repos(tmp_path_factory) -> Path:
    """`one`, `ft` (a bag, one-hot), `mixed` (a bag with real weights) and `hybrid`, each a repository of its own."""
    root = tmp_path_factory.mktemp("repos")
    tiny_repo(root / "one")
    tiny_repo(root / "ft", bag=True)
    tiny_repo(root / "mixed", bag=True)
    write_yaml(root / "mixed", "tiny", 3, [[1.0, 0.3, 0.0, 0.7], [0.0, 0.5, 0.0, 1.1], [2.0, 0.0, 0.9, 0.2]])
    tiny_hdemucs(root / "hybrid")
    return root


def noise(*shape: int, seed: int = 0) -> Array:
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def run(model: DemucsSeparator, pcm: Array) -> Array:
    before = pcm.copy()
    stems, states = model.run(pcm, [None] * len(pcm))
    assert np.array_equal(pcm, before, equal_nan=True)
    assert states == [None] * len(pcm)
    assert stems.shape == (len(pcm), len(model.spec.sources), *pcm.shape[1:])
    assert stems.dtype == np.float32
    assert stems.flags.c_contiguous
    assert not np.shares_memory(stems, pcm)
    return stems


def reference(folder: Path, pcm: Array) -> dict[str, Array]:
    """What Demucs itself makes of these windows."""
    model = get_model(next(folder.glob("*.yaml")).stem, repo=folder)
    stems = apply_model(model, torch.from_numpy(pcm), shifts=0, split=False).numpy()
    assert stems.std() > 0.02  # or the comparison says nothing
    return {source: stems[:, index] for index, source in enumerate(model.sources)}


def forwards(model: DemucsSeparator, pcm: Array) -> int:
    counts: list[int] = []
    hooks = [part.register_forward_hook(lambda *_: counts.append(1)) for part in model.models]
    run(model, pcm)
    for hook in hooks:
        hook.remove()
    return len(counts)


@pytest.mark.parametrize("kind", ["one", "ft", "mixed", "hybrid"])
def test_equals_demucs(repos, kind):
    pcm = noise(2, 2, SEGMENT)
    want = reference(repos / kind, pcm)
    model = load(repos / kind)
    assert model.spec.sources == STEMS
    for index, source in enumerate(STEMS):
        assert np.abs(run(model, pcm)[:, index] - want[source]).max() < 1e-5


@pytest.mark.parametrize(
    "sources", [("vocals",), ("no_vocals",), ("bass", "no_bass"), ("other", "drums"), ("no_drums",)]
)
@pytest.mark.parametrize("kind", ["one", "ft", "mixed", "hybrid"])
def test_some_stems_are_the_same_stems(repos, kind, sources):
    pcm = noise(1, 2, SEGMENT)
    whole, some = load(repos / kind), load(repos / kind, sources)
    assert some.spec.sources == sources
    stems = dict(zip(STEMS, run(whole, pcm)[0], strict=True))
    want = [pcm[0] - stems[s[3:]] if s.startswith("no_") else stems[s] for s in sources]
    assert np.array_equal(run(some, pcm)[0], np.stack(want))


@pytest.mark.parametrize(
    ("kind", "sources", "count"),
    [
        ("one", ("vocals",), 1),
        ("ft", None, 4),
        ("ft", ("vocals",), 1),
        ("ft", ("no_vocals", "vocals"), 1),
        ("ft", ("drums", "no_vocals"), 2),
        ("mixed", None, 3),
        ("mixed", ("bass",), 2),
        ("mixed", ("other",), 1),
    ],
)
def test_only_needed_sub_models_are_loaded_and_run(repos, kind, sources, count):
    model = load(repos / kind, sources)
    assert len(model.models) == count
    assert forwards(model, noise(1, 2, 44_032)) == count


@pytest.mark.parametrize("kind", ["one", "hybrid"])
def test_batch_rows_are_alone(repos, kind):
    model = load(repos / kind)
    pcm = noise(4, 2, 44_032)
    pcm[1] *= 10
    pcm[2, 0, 5] = np.nan
    together = run(model, pcm)
    for row in (0, 1, 3):
        alone = run(model, pcm[row : row + 1])[0]
        assert np.isfinite(alone).all()
        assert np.abs(together[row] - alone).max() < 1e-5 * max(1, np.abs(alone).max())
    assert np.isnan(together[2]).all()


@pytest.mark.parametrize("width", [4096, 44_032, 44_100, 50_001, 66_560, SEGMENT - 1])
def test_a_shorter_window_is_the_model_of_that_segment(repos, width, tmp_path):
    """The oracle: Demucs' own forward of a model whose training segment is this window, with the same weights."""
    write_random(tmp_path, "tiny0", sources=[*STEMS], **(TINY | {"segment": Fraction(width, 44_100)}))
    write_yaml(tmp_path, "tiny", 1)
    pcm = noise(1, 2, width)
    want = reference(tmp_path, pcm)
    assert np.abs(run(load(repos / "one"), pcm)[0] - np.concatenate([want[s] for s in STEMS])).max() < 1e-5


@pytest.mark.parametrize("kind", ["one", "hybrid"])
def test_every_window_on_offer_is_finite_and_costs_by_its_length(repos, kind):
    model = load(repos / kind)
    frames: list[int] = []
    model.models[0].encoder[0].register_forward_hook(lambda _, inputs, __: frames.append(inputs[0].shape[-1]))
    for width in (*model.spec.windows, 50_001):
        for pcm in (noise(1, 2, width), np.zeros((1, 2, width), np.float32), np.full((1, 2, width), 1.0, np.float32)):
            assert np.isfinite(run(model, pcm)).all()
        assert np.isfinite(run(model, np.full((1, 2, width), 1e-40, np.float32))).all()
    assert frames == [-(-width // 1024) for width in (*model.spec.windows, 50_001) for _ in range(4)]


@pytest.mark.parametrize("kind", ["one", "hybrid"])
def test_each_window_is_normalised_alone(repos, kind):
    """Doubling a window doubles its stems (to the 1e-5 that guards the division), whatever came before it."""
    model, pcm = load(repos / kind), noise(1, 2, 44_032)
    once = run(model, pcm)
    assert np.abs(run(model, 2 * pcm) / 2 - once).max() < 2e-3 * np.abs(once).max()
    assert np.array_equal(run(model, pcm), once)


def test_windows_that_do_not_fit_are_refused(repos):
    model = load(repos / "one")
    with pytest.raises(ValueError, match=r"got a window of 70561 samples, one takes 4096 to 70560 \(its training segm"):
        run(model, noise(1, 2, SEGMENT + 1))
    with pytest.raises(ValueError, match="got a window of 4095"):
        run(model, noise(1, 2, 4095))
    for pcm, states in ((noise(1, 1, 44_032), [None]), (noise(2, 2, 44_032), [None]), (noise(0, 2, 44_032), [])):
        with pytest.raises(ValueError, match=r"expected \[B, 2, W\]"):
            model.run(pcm, states)


def test_spec(repos):
    spec = load(repos / "one", name="mine").spec
    assert (spec.name, spec.rate, spec.channels, spec.threads, spec.interchangeable) == ("mine", 44_100, 2, 0, False)
    assert spec.windows == (44_032, 66_560, SEGMENT)
    framing = spec.framing
    assert framing.window == SEGMENT
    assert (framing.hop, framing.fade, framing.lookahead) == (17 * 1024, SEGMENT // 64, SEGMENT // 8)
    assert load(repos / "one").start() is None


def test_published_windows():
    windows = htdemucs._windows(343_980, 44_100, 1024)
    assert windows == (44_032, 66_560, 88_064, 110_592, 132_096, 172_032, 220_160, 343_980)
    assert htdemucs._windows(44 * 44_100, 44_100, 1024) == (*windows[:-1], 344_064, 441_344)
    framing = htdemucs._default(343_980, 44_100, 1024)
    assert (framing.hop, framing.fade, framing.lookahead) == (83 * 1024, 2205, 22_050)
    assert framing.latency == 109_247  # 2.48 s


def test_training_aids_are_off(tmp_path):
    model = load(tiny_repo(tmp_path, t_sin_random_shift=1000, t_dropout=0.5))
    pcm = noise(1, 2, 44_032)
    assert all(np.array_equal(run(model, pcm), run(model, pcm)) for _ in range(3))


def test_six_stems(tmp_path):
    model = load(tiny_repo(tmp_path, stems=6), ("piano", "no_guitar"))
    assert run(model, noise(1, 2, 44_032)).shape == (1, 2, 2, 44_032)


def test_a_source_that_is_called_no_something(tmp_path):
    write_random(tmp_path, "pair", sources=["vocals", "no_vocals"], **TINY)
    pcm = noise(1, 2, 44_032)
    stems = run(load(tmp_path), pcm)[0]
    assert np.array_equal(run(load(tmp_path, ("no_vocals",)), pcm)[0, 0], stems[1])
    assert not np.allclose(pcm[0] - stems[0], stems[1])


@pytest.mark.parametrize(
    ("sources", "text"),
    [
        (("voice",), "got source 'voice', this model has drums, bass, other, vocals, and no_<source>"),
        (("no_voice",), "got source 'no_voice'"),
        (("no_no_vocals",), "got source 'no_no_vocals'"),
        (("vocals", "vocals"), "each once"),
        ((), "at least one"),
    ],
)
def test_unknown_sources(repos, sources, text):
    with pytest.raises(ValueError, match=text):
        load(repos / "ft", sources)


def test_paths(repos, tmp_path):
    assert load(repos / "ft" / "tiny.yaml").spec.name == "tiny"
    assert load(next((repos / "one").glob("*.th"))).spec.name == "tiny0"
    with pytest.raises(ValueError, match="neither a path nor one of htdemucs, htdemucs_ft"):
        load("htdemux")
    with pytest.raises(ValueError, match=r"no \.yaml and no \.th"):
        load(tmp_path)
    write_random(tmp_path, "a", sources=[*STEMS], **TINY)
    assert load(tmp_path).spec.windows
    write_random(tmp_path, "b", sources=[*STEMS], **TINY)
    with pytest.raises(ValueError, match=r"got a-.*\.th, b-.*\.th; expected one model"):
        load(tmp_path)
    (tmp_path / "c.pt").touch()
    with pytest.raises(ValueError, match=r"expected a \.th or \.yaml"):
        load(tmp_path / "c.pt")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("models: [tiny0]\nweights: [[1, 1, 1]]", "expected 1 rows of 4 numbers"),
        ("models: [tiny0]\nweights: [[1, 1, 1, .nan]]", "expected 1 rows of 4 numbers"),
        ("models: [tiny0]\nweights: [[1, 1, 1, 0]]", "the weights of vocals add up to nothing"),
        ("models: [tiny0]\nweights: [[1, 1, 1, x]]", "expected a row of numbers for each of 1 models"),
        ("models: [tiny0]\nsegment: -1", "got segment -1"),
        ("models: [other]", r"one \.th file beside it for each model, got other: \[\]"),
        ("models: ['../one/tiny0']", "one .th file beside it"),
        ("models: tiny0", "expected a list of signatures"),
        ("[1, 2]", "expected a list of signatures"),
        ("models: [tiny0]\nabout: {samplerate: much}", "expected sources, samplerate"),
        ("models: [tiny0]\nabout: {sources: [1, 2, 3, 4]}", "expected sources, samplerate"),
        ("models: [tiny0]\nabout: [a]", "expected sources, samplerate"),
        ("models: [tiny0]\nabout: {sources: [a, b, c, d]}", r"got \(\('drums'.*expected \(\('a', 'b'"),
        ("models: [tiny0]\nabout: {samplerate: 48000}", r"got .*44100.*expected .*48000"),
        ("models: !!python/object/apply:os.mkdir [made]", "not plain YAML"),
    ],
)
def test_wrong_yaml(tmp_path, text, error):
    tiny_repo(tmp_path)
    (tmp_path / "tiny.yaml").write_text(text)
    with pytest.raises(ValueError, match=error):
        load(tmp_path)


def test_an_empty_column_is_no_matter_where_it_is_not_asked(tmp_path):
    tiny_repo(tmp_path)
    write_yaml(tmp_path, "tiny", 1, [[1, 1, 1, 0]])
    assert load(tmp_path, ("drums",)).spec.sources == ("drums",)


@pytest.mark.parametrize(("segment", "most"), [(1, 44_100), (44, SEGMENT)])
def test_a_bag_shortens_the_segment_of_a_transformer_only(tmp_path, segment, most):
    write_yaml(tiny_repo(tmp_path / "one"), "tiny", 1, extra=f"segment: {segment}")
    assert load(tmp_path / "one").lengths[1] == most
    write_yaml(tiny_hdemucs(tmp_path / "hybrid"), "tiny_hybrid", 1, extra=f"segment: {segment}")
    assert load(tmp_path / "hybrid").lengths[1] == segment * 44_100


def test_sub_models_that_do_not_match(tmp_path):
    tiny_repo(tmp_path)
    write_random(tmp_path, "tiny1", sources=["a", "b", "c", "d"], **TINY)
    write_yaml(tmp_path, "tiny", 2)
    with pytest.raises(ValueError, match=r"tiny1-.*: got \(\('a', 'b'"):
        load(tmp_path)


def test_checksum(repos, tmp_path):
    whole = next((repos / "one").glob("*.th"))
    damaged = tmp_path / whole.name
    data = bytearray(whole.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(weights.WeightsError, match=f"expected {whole.stem[-8:]}"):
        load(damaged)


class Evil:
    """Runs a command when unpickled by pickle's own rules."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["whole", "klass", "kwargs", "training_args"])
def test_a_malicious_pickle_is_refused_and_not_run(repos, tmp_path, place):
    made, path = tmp_path / "made", tmp_path / "evil.th"
    with torch.serialization.safe_globals([HTDemucs, Fraction]):
        package = torch.load(next((repos / "one").glob("*.th")), weights_only=True)
    evil = Evil(made)
    torch.save(evil if place == "whole" else package | {place: evil}, path)
    before = set(torch.serialization.get_safe_globals())
    with pytest.raises(ValueError, match=r"evil\.th: refused, nothing of it was run.*it asks for \w+\.mkdir"):
        load(path)
    assert not made.exists()
    assert set(torch.serialization.get_safe_globals()) == before
    path.write_bytes(pickle.dumps(evil))
    with pytest.raises(ValueError, match="refused, nothing of it was run"):
        load(path)
    assert not made.exists()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"klass": Fraction}, "got a <class 'fractions.Fraction'>, expected HTDemucs or HDemucs"),
        ({"state": {"__quantized": True}}, "quantised"),
        ({"state": {}}, "do not fit"),
        ({"kwargs": {}}, "do not fit"),
        ({"kwargs": {"sources": ["a"], "nfft": -4}}, "do not fit"),
        ({"state": [1]}, "expected a dict with"),
    ],
)
def test_checkpoints_that_are_something_else(repos, tmp_path, change, error):
    path = tmp_path / "x.th"
    with torch.serialization.safe_globals([HTDemucs, Fraction]):
        package = torch.load(next((repos / "one").glob("*.th")), weights_only=True)
    torch.save(package | change, path)
    with pytest.raises(ValueError, match=error):
        load(path)
    for other in ([1, 2], {"a": 1}):
        torch.save(other, path)
        with pytest.raises(ValueError, match="expected a dict with"):
            load(path)
    path.write_bytes(b"nothing like it")
    with pytest.raises(ValueError, match="damaged or of another format"):
        load(path)


def test_weights_that_are_not_finite(repos, tmp_path):
    with torch.serialization.safe_globals([HTDemucs, Fraction]):
        package = torch.load(next((repos / "one").glob("*.th")), weights_only=True)
    package["state"]["freq_emb.embedding.weight"][0, 0] = torch.inf
    torch.save(package, tmp_path / "x.th")
    with pytest.raises(ValueError, match="not finite: freq_emb"):
        load(tmp_path / "x.th")


def test_metrics_in_numpy_are_read(repos, tmp_path):
    with torch.serialization.safe_globals([HTDemucs, Fraction]):
        package = torch.load(next((repos / "one").glob("*.th")), weights_only=True)
    metrics = {"nsdr": np.float64(9.0), "epoch": np.int64(3), "best": np.bool_(True)}
    torch.save(package | {"metrics": metrics}, tmp_path / "x.th")
    assert load(tmp_path / "x.th").spec.sources == STEMS


@pytest.fixture
def published(tmp_path, monkeypatch) -> dict[str, Path]:
    """The published bag as a tiny one; where each file lies, and where the cache wants it."""
    monkeypatch.setenv("RIVULET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    files = sorted(tiny_repo(tmp_path / "far", bag=True).glob("*.th"))
    listed = tuple((file.name, weights.sha256(file)) for file in files)
    real = htdemucs.PUBLISHED["htdemucs_ft"]
    monkeypatch.setitem(htdemucs.PUBLISHED, "htdemucs_ft", htdemucs.Published(STEMS, listed, real.weights))
    return {file.name: file for file in files}


def test_published_by_name(published, monkeypatch):
    fetched: list[tuple[str, str]] = []

    def fetch(url, dest, digest, progress):
        fetched.append((url, digest))
        dest.parent.mkdir(parents=True, exist_ok=True)
        dest.write_bytes(published[dest.name].read_bytes())
        return dest

    monkeypatch.setattr(weights, "fetch", fetch)
    with pytest.raises(
        weights.WeightsError, match=r"htdemucs_ft is not on this machine: no tiny0-.*, tiny3-.* in .*fet"
    ):
        load("htdemucs_ft")
    vocals = list(published)[3]
    assert [path.name for path in htdemucs.fetch("htdemucs_ft", sources=("no_vocals",))] == [vocals]
    assert fetched == [(htdemucs.ROOT + vocals, weights.sha256(published[vocals]))]
    model = load("htdemucs_ft", ("vocals", "no_vocals"))
    assert len(model.models) == 1
    assert "research only" in model.spec.licence
    with pytest.raises(weights.WeightsError, match="no tiny0"):
        load("htdemucs_ft", ("drums",))
    assert not next(entry for entry in htdemucs.catalogue() if entry.name == "htdemucs_ft").present
    htdemucs.fetch("htdemucs_ft")
    assert len(fetched) == 4
    assert next(entry for entry in htdemucs.catalogue() if entry.name == "htdemucs_ft").present
    want = reference(next(iter(published.values())).parent, noise(1, 2, SEGMENT))
    assert np.abs(run(load("htdemucs_ft"), noise(1, 2, SEGMENT))[:, 3] - want["vocals"]).max() < 1e-5
    with pytest.raises(ValueError, match="got model 'x', expected one of htdemucs"):
        htdemucs.fetch("x")


def test_a_damaged_published_file_is_refused(published):
    name = list(published)[3]
    dest = weights.cache("demucs", name)
    dest.parent.mkdir(parents=True)
    dest.write_bytes(b"cut short")
    with pytest.raises(weights.WeightsError, match="Delete the file and fetch it again"):
        load("htdemucs_ft", ("vocals",))


def test_catalogue_names_files_by_their_checksum_and_needs_no_torch():
    for entry in htdemucs.catalogue():
        model = htdemucs.PUBLISHED[entry.name]
        assert all(digest.startswith(Path(file).stem.split("-")[1]) for file, digest in model.files)
        assert all(len(row) == len(model.sources) for row in model.weights or ())
        assert len(model.weights or model.files) == len(model.files) == len(entry.files)
    code = "import sys; from models import htdemucs; htdemucs.catalogue(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(htdemucs.__file__).parents[1]).returncode == 0


def test_describe(repos):
    listing = htdemucs.describe(repos / "ft", "mine")
    assert (listing.name, listing.sources, listing.rate, listing.channels) == ("mine", STEMS, 44_100, 2)
    assert (len(listing.files), listing.present, listing.selective) == (4, True, True)
    assert not htdemucs.describe(repos / "one").selective


def test_what_a_yaml_tells_of_itself_is_listed_without_reading_the_weights(tmp_path):
    yaml = demucs_repo.publish(HTDemucs([*STEMS], **TINY), tmp_path, "mine", "CC-BY-4.0", steps="7")
    assert load(tmp_path).spec.licence == "CC-BY-4.0"
    assert "steps: '7'" in yaml.read_text()
    (checkpoint,) = tmp_path.glob("*.th")
    checkpoint.write_bytes(b"no longer a checkpoint")
    listing = htdemucs.describe(tmp_path)
    assert (listing.sources, listing.rate, listing.channels, listing.licence) == (STEMS, 44_100, 2, "CC-BY-4.0")
    with pytest.raises(weights.WeightsError, match="got SHA-256"):
        load(tmp_path)


@pytest.mark.parametrize(("name", "count"), [("htdemucs", 41_984_456), ("htdemucs_6s", 27_414_996)])
def test_random_architectures_are_the_published_ones(name, count):
    with torch.device("meta"):
        model = HTDemucs(**demucs_repo.ARCHITECTURES[name])
    assert sum(part.numel() for part in model.parameters()) == count
    assert int(model.segment * model.samplerate) == 343_980


def test_random_repositories(tmp_path, monkeypatch):
    for name in ("htdemucs", "htdemucs_6s"):
        architecture = demucs_repo.ARCHITECTURES[name]
        monkeypatch.setitem(demucs_repo.ARCHITECTURES, name, TINY | {"sources": architecture["sources"]})
    assert len(load(demucs_repo.random_repo(tmp_path / "ft", "htdemucs_ft"), ("vocals",)).models) == 1
    assert len(load(demucs_repo.random_repo(tmp_path / "six", "htdemucs_6s")).spec.sources) == 6
