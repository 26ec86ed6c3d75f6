"""SepFormer and RE-SepFormer against SpeechBrain's own, and against folders that mean harm."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints_sepformer import LOBES, REAL, REAL_LIGHT, TINY, make_folder, make_yaml

from models import hub, registry, sepformer, sepformer_yaml
from streaming.framing import Array

TOLERANCE = 1e-5  # on stems whose peak is about one to five
LIGHT = TINY | {"use_norm": True, "use_skip": True}


pytestmark = pytest.mark.usefixtures("one_thread")


def speechbrain(folder: Path, pcm: Array) -> Array:
    """SpeechBrain's own separation of each row by itself: `[B, 1, W] -> [B, S, 1, W]`."""
    if importlib.util.find_spec("speechbrain") is None:
        pytest.skip("SpeechBrain is the oracle")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from speechbrain.inference.separation import SepformerSeparation

        found = SepformerSeparation.from_hparams(source=str(folder), savedir=str(folder), run_opts={"device": "cpu"})
    with torch.no_grad():
        told = [found.separate_batch(torch.from_numpy(row)).reshape(pcm.shape[2], -1) for row in pcm]
    return torch.stack(told).permute(0, 2, 1)[:, :, None].numpy()


def sound(rows: int, samples: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    level = 0.05 + 0.3 * np.abs(np.sin(np.arange(samples) / 900 + rng.uniform(0, 6, (rows, 1, 1))))
    return (level * rng.standard_normal((rows, 1, samples))).astype(np.float32)


MODELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "odd chunk": {"K": 25},
    "3 speakers, 16 kHz, no skip": {"num_spks": 3, "rate": 16000, "skip_around_intra": False},
    "gln, linear, norm after, gelu": {
        "norm": "gln",
        "linear_layer_after_inter_intra": True,
        "block": TINY | {"norm_before": False, "activation": "gelu"},
    },
    "cln, no positions, biased decoder": {
        "norm": "cln",
        "bias": True,
        "block": TINY | {"use_positional_encoding": False},
    },
    "1 source, filters unlike width, odd kernel": {"num_spks": 1, "filters": 20, "kernel": 15},
    "light": {"light": True},
    "light, 3 speakers, 16 kHz, 3 blocks, cln": {
        "light": True,
        "num_spk": 3,
        "rate": 16000,
        "layer": 3,
        "block": LIGHT | {"norm_type": "cln"},
    },
    "light, bare transformers, sigmoid": {
        "light": True,
        "nonlinear": "sigmoid",
        "block": LIGHT | {"use_norm": False, "use_skip": False, "norm_before": False, "use_positional_encoding": False},
    },
}


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS.keys())
def test_windows_equal_speechbrains(tmp_path: Path, options: dict[str, Any]) -> None:
    """For windows on offer and others; rows of a batch are each as SpeechBrain's batch of one."""
    folder = make_folder(tmp_path / "m", **options)
    model = sepformer.load(folder)
    for samples in (model.spec.windows[0], 4321, 24 * 8, 40):
        pcm = sound(2, samples)
        told, _ = model.run(pcm, [None, None])
        want = speechbrain(folder, pcm)
        assert told.shape == want.shape == (2, len(model.spec.sources), 1, samples)
        assert np.abs(want).max() < 20
        assert samples < 4000 or np.abs(want).max() > 0.2
        np.testing.assert_allclose(told, want, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("options", "millions"),
    [
        ({"block": REAL, "K": 250, "num_spks": 3}, 25.7),
        ({"block": REAL_LIGHT, "segment_size": 150, "light": True}, 8.0),
    ],
    ids=["sepformer", "resepformer"],
)
def test_the_published_sizes_equal_speechbrains(tmp_path: Path, options: dict[str, Any], millions: float) -> None:
    folder = make_folder(tmp_path / "m", **options)
    model = sepformer.load(folder)
    assert round(sum(value.numel() for value in model.network.parameters()) / 1e6, 1) == millions
    pcm = sound(1, 2800)
    told, _ = model.run(pcm, [None])
    np.testing.assert_allclose(told, speechbrain(folder, pcm), rtol=0, atol=TOLERANCE)


def test_speechbrain_is_not_needed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m")
    code = (
        "import sys; sys.modules['speechbrain'] = sys.modules['hyperpyyaml'] = None; import numpy as np; "
        "from models import registry; from pathlib import Path; "
        f"model = registry.from_path('m', Path({str(folder)!r})).load(None); "
        "print(model.run(np.ones((1, 1, 800), np.float32), [None])[0].shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 2, 1, 800)"


def test_the_registry_describes_without_the_tensors(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "mine", num_spks=3, rate=16000)
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Card\nlicense: other\n")
    for part in ("encoder", "masknet", "decoder"):
        (folder / f"{part}.ckpt").rename(folder / f"{part}.away")
    entry = registry.from_path("mine", folder)
    assert (entry.sources, entry.rate, entry.channels) == (("speaker_1", "speaker_2", "speaker_3"), 16000, 1)
    assert (entry.licence, entry.interchangeable) == ("apache-2.0", True)
    with pytest.raises(FileNotFoundError, match=r"encoder\.ckpt"):
        entry.load(None)


@pytest.mark.parametrize("options", [{}, {"K": 25}, {"light": True}, {"kernel": 15}, {"rate": 16000}])
def test_windows_fill_their_chunks(tmp_path: Path, options: dict[str, Any]) -> None:
    """Each on offer computes one frame of padding; a frame more would make another chunk."""
    model = sepformer.load(make_folder(tmp_path / "m", **options))
    config, spec = model.network.c, model.spec
    assert [round(window / spec.rate, 1) for window in spec.windows] == [1.0, 1.5, 2.0, 3.0, 4.0]
    framing = spec.framing
    assert framing.window in spec.windows
    assert framing.support > framing.hop
    for window in spec.windows[:2]:
        chunks = [_chunks(model, config.frames(window + more)) for more in (-1, 0, config.stride)]
        assert chunks[0] == chunks[1] < chunks[2]


def _chunks(model: sepformer.SepformerSeparator, frames: int) -> int:
    """Chunks that the first transformer hears."""
    heard: list[int] = []
    net: Any = model.network.masknet
    first = net.seg_model[0] if model.network.c.light else net.dual_mdl[0].intra_mdl
    hook = first.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0].shape[0]))
    samples = (frames - 1) * model.network.c.stride + model.network.c.kernel
    model.run(np.zeros((1, 1, samples), np.float32), [None])
    hook.remove()
    return heard[0]


def test_the_positions_kept_are_enough_for_a_minute_and_a_longer_window_is_refused(tmp_path: Path) -> None:
    for name, options in {"plain": {"K": 100}, "light": {"light": True}}.items():
        model = sepformer.load(make_folder(tmp_path / name, rate=1000, **options))
        longest = model.network.c.longest
        assert 60_000 <= longest < 62_000
        assert model.spec.size < 4 * 100_000
        assert np.isfinite(model.run(sound(1, longest), [None])[0]).all()
        with pytest.raises(ValueError, match=rf"{longest + 1} samples, .* takes 16 to {longest}"):
            model.run(sound(1, longest + 1), [None])
    with pytest.raises(ValueError, match="15 samples"):
        model.run(sound(1, 15), [None])
    with pytest.raises(ValueError, match="2 states"):
        model.run(sound(1, 800), [None, None])


def test_files_are_named_by_the_pretrainer(tmp_path: Path) -> None:
    text = (
        make_yaml().replace("        masknet: !ref", "        network: !ref")
        + "    paths:\n        encoder: first.bin\n"
    )
    folder = make_folder(tmp_path / "m", text=text)
    plain = sepformer.load(make_folder(tmp_path / "plain"))
    (folder / "masknet.ckpt").rename(folder / "network.ckpt")
    (folder / "encoder.ckpt").rename(folder / "first.bin")
    pcm = sound(1, 4000)
    assert np.array_equal(sepformer.load(folder).run(pcm, [None])[0], plain.run(pcm, [None])[0])
    for outside in ("../first.bin", "/etc/passwd", "https://host/first.bin"):
        (folder / "hyperparams.yaml").write_text(text.replace("first.bin", outside))
        with pytest.raises(ValueError, match="expected a file of the same folder"):
            sepformer.load(folder)


def test_a_yaml_that_means_harm_is_only_data(tmp_path: Path) -> None:
    """Calls and unknown classes beside the model are ignored, and refused by name inside it. Nothing is run either way."""
    made = tmp_path / "made"
    harm = (
        f"__harm: !apply:pathlib.Path.touch [!new:pathlib.Path ['{made}']]\nseed: !apply:os.system ['touch {made}']\n"
    )
    folder = make_folder(tmp_path / "m", text=harm + make_yaml())
    assert len(sepformer.load(folder).spec.sources) == 2
    for old, new, named in (
        (f"!new:{LOBES}dual_path.Encoder", "!new:os.system", "!new:os.system as encoder"),
        (f"!new:{LOBES}dual_path.Encoder", f"!name:{LOBES}dual_path.Encoder", "!name:"),
        (f"!new:{LOBES}dual_path.SBTransformerBlock", f"!new:{LOBES}dual_path.SBRNNBlock", "SBRNNBlock as transformer"),
        ("!ref <num_spks>", "!apply:os.getpid", "got speakers Node"),
        ("K: 24", "K: !!python/object/apply:os.getpid []", "not YAML"),
    ):
        (folder / "hyperparams.yaml").write_text(make_yaml().replace(old, new))
        with pytest.raises(ValueError, match=re.escape(named)):
            sepformer.load(folder)
    assert not made.exists()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("K: 24", "K: 0", "got chunk 0, expected a whole number from 1 to 2500"),
        ("K: 24", "K: 24.0", r"got chunk 24\.0"),
        ("K: 24", "K: yes", "got chunk True"),
        ("num_layers: 2", "num_layers: 100000", "got blocks 100000"),
        ("norm: ln", "norm: bn", "norm 'bn'"),
        ("norm: ln", "norms: ln", "has no argument norms"),
        ("norm: ln", "use_global_pos_enc: true", "'use_global_pos_enc': True}, which is not built"),
        ("nhead: 4", "nhead: 5", "5 heads of width 16"),
        ("    d_model: 16\n", "", "needs d_model"),
        ("stride: 8", "stride: 4", "expected .* to go together"),
        ("num_spks: 2", "num_spks: 3", "tensors|got .* expected"),
        ("num_spks: !ref <num_spks>", "num_spks: 3", "num_spks 2, and 3 masks"),
        ("sample_rate: 8000", "sample_rate: fast", "got rate 'fast'"),
        ("sample_rate: 8000\n", "", "has no 'sample_rate'"),
        ("!ref <Within>", "!ref <Without>", "!ref <Without>, which is not there"),
        ("!ref <num_spks>", "!ref <num_spks> * 2", "sums and texts"),
        ("num_spks: 2\n", "num_spks: !ref <other>\nother: !ref <num_spks>\n", "in a circle"),
        ("modules:", "parts:", "has no 'modules'"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(tmp_path: Path, old: str, new: str, why: str) -> None:
    folder = make_folder(tmp_path / "m")
    text = make_yaml()
    assert old in text
    (folder / "hyperparams.yaml").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=why):
        sepformer.load(folder)


def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m")
    state = torch.load(folder / "masknet.ckpt")
    key = "dual_mdl.0.intra_mdl.mdl.layers.0.self_att.att.in_proj_weight"
    spoiled = {
        f"1 tensors missing, 0 unknown: masknet.{key}": {name: state[name] for name in state if name != key},
        "0 tensors missing, 1 unknown: masknet.more": state | {"more": torch.ones(1)},
        f"masknet.{key}: got (48, 15), expected (48, 16)": state | {key: torch.ones(48, 15)},
        f"masknet.{key}: has values that are not finite": state | {key: torch.full((48, 16), torch.nan)},
        "expected a state dict": [torch.ones(1)],
        "it asks for models.hub.folder": {"conv1d.weight": hub.folder},
    }
    for why, value in spoiled.items():
        torch.save(value, folder / "masknet.ckpt")
        with pytest.raises(ValueError, match=re.escape(why)):
            sepformer.load(folder)
    (folder / "masknet.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="refused, nothing of it was run"):
        sepformer.load(folder)


def test_names_of_the_hub_are_looked_up_in_the_cache_and_never_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="hf download somebody/sepformer"):
        sepformer.load("somebody/sepformer")
    with pytest.raises(FileNotFoundError, match="not a hub name"):
        sepformer.load(tmp_path / "none")
    cached = tmp_path / "models--somebody--sepformer"
    make_folder(cached / "snapshots" / "0123abcd")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123abcd")
    model = registry.find({}, "somebody/sepformer").load(None)
    assert model.spec.name == "sepformer"
    assert registry.build({"mine": Path("somebody/sepformer")})["mine"].load(None).spec.name == "mine"


def test_the_safe_reader_gives_plain_data(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "a: 1\nb: {c: !ref <a>}\nd: !ref <b[c]>\ne: !new:x.Y\n  z: !ref <d>\nf: !ref <e[z]>\ng: !tuple (1, 2)\n"
    )
    sheet = sepformer_yaml.read(path)
    assert sheet.get("f") == 1
    assert sheet.get("e") == sepformer_yaml.Node("new", "x.Y", {"z": sepformer_yaml.Ref("<d>")})
    assert sheet.get("g") == sepformer_yaml.Node("tuple", "", {"": "(1, 2)"})
    for content, why in (("[1]", "got list"), ("a: [", "not YAML"), ("a: 1\n" * 300_000, "bytes, expected at most")):
        path.write_text(content)
        with pytest.raises(ValueError, match=why):
            sepformer_yaml.read(path)
