"""pyannote's diarization pipelines from folders: against pyannote's own loader, and what is refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints_pyannote import imported, make_diarization

from models import pyannote_pipeline
from models.pyannote_pipeline import Segment
from streaming.framing import Array


@pytest.fixture(scope="module", autouse=True)
def pyannote() -> Any:
    return imported("pyannote.audio")[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_diarization(tmp_path_factory.mktemp("pipeline"))


def sound(rate: int = 16000, seconds: int = 4) -> Array:
    """Bursts of noise at three levels."""
    rng = np.random.default_rng(0)
    level = np.repeat(rng.choice([0, 0.02, 0.3], 10 * seconds), rate // 10)
    return (level * rng.standard_normal(rate * seconds)).astype(np.float32)


@pytest.mark.parametrize("clustering", ["AgglomerativeClustering", "VBxClustering"])
def test_segments_are_pyannotes(pyannote: Any, tmp_path: Path, clustering: str) -> None:
    folder = make_diarization(tmp_path / "m", clustering=clustering)
    pcm = sound()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = pyannote.Pipeline.from_pretrained(folder)(
            {"waveform": torch.from_numpy(pcm)[None], "sample_rate": 16000}
        )
    pipeline = pyannote_pipeline.load(folder)
    for exclusive, want in ((False, told.speaker_diarization), (True, told.exclusive_speaker_diarization)):
        got = pyannote_pipeline.apply(pipeline, pcm, 16000, exclusive)
        rows = [(turn.start * 16000, turn.end * 16000, label) for turn, _, label in want.itertracks(yield_label=True)]
        assert [(s.start, s.end) for s in got] == sorted((round(a), min(round(b), len(pcm))) for a, b, _ in rows)
        assert len(got) > 3
        speakers, labels = [s.speaker for s in got], [label for _, _, label in sorted(rows)]
        assert len(set(zip(speakers, labels, strict=True))) == len(set(labels)) == len(set(speakers))
        assert list(dict.fromkeys(speakers)) == sorted(set(speakers))
        for a, b in pairwise(got):
            assert (a.start, a.end) <= (b.start, b.end)
            assert not exclusive or a.end <= b.start
    assert all(0 <= s.start < s.end <= len(pcm) for s in got)


def test_diarize_loads_and_applies_and_counts_samples_of_its_own_rate(folder: Path) -> None:
    pcm = sound(8000)
    half = pyannote_pipeline.diarize(folder, pcm, 8000)
    assert half == pyannote_pipeline.diarize(folder / "config.yaml", pcm, 8000)
    assert {type(value) for s in half for value in (s.speaker, s.start, s.end)} == {int}
    assert max(s.end for s in half) <= len(pcm)
    whole = pyannote_pipeline.diarize(folder, np.repeat(pcm, 2), 16000)
    assert max(s.end for s in whole) > len(pcm)


def test_the_number_of_speakers_may_be_told(folder: Path) -> None:
    one = pyannote_pipeline.diarize(folder, sound(), 16000, speakers=1)
    assert {s.speaker for s in one} == {0}


def test_nothing_and_almost_nothing(folder: Path) -> None:
    assert pyannote_pipeline.diarize(folder, np.zeros(0, np.float32), 16000) == []
    assert all(s.end <= 100 for s in pyannote_pipeline.diarize(folder, sound()[:100], 16000))
    for pcm in (np.zeros((1, 100), np.float32), np.full(100, np.nan, np.float32)):
        with pytest.raises(ValueError, match="all finite"):
            pyannote_pipeline.diarize(folder, pcm, 16000)


def test_the_layout_of_3_1_takes_its_parts_from_the_hubs_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name, and without a PLDA, which nobody asks there."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    old = make_diarization(tmp_path / "old", layout="3.1")
    with pytest.raises(FileNotFoundError, match=r"hf download somebody/segmentation-3\.0"):
        pyannote_pipeline.load(old)
    for name, part in (("segmentation-3.0", "segmentation"), ("voices", "embedding")):
        place = tmp_path / "hub" / f"models--somebody--{name}"
        (place / "snapshots").mkdir(parents=True)
        (old / part).rename(place / "snapshots" / "0123abcd")
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text("0123abcd")
    pcm = sound()
    assert pyannote_pipeline.diarize(old, pcm, 16000) == pyannote_pipeline.diarize(folder, pcm, 16000)


def test_telemetry_is_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyannote.audio.telemetry.metrics import is_metrics_enabled

    monkeypatch.setenv("PYANNOTE_METRICS_ENABLED", "1")
    pyannote_pipeline.load(folder)
    assert not is_metrics_enabled()


@pytest.mark.slow
def test_telemetry_is_off_before_pyannote_is_imported(folder: Path) -> None:
    """In a process of its own; nothing connects anywhere either."""
    code = (
        "import socket, sys, warnings; warnings.simplefilter('ignore')\n"
        "def refuse(*_): raise SystemExit('connects')\n"
        "socket.socket.connect = refuse\n"
        "from models import pyannote_pipeline\n"
        f"pipeline = pyannote_pipeline.load({str(folder)!r})\n"
        "import numpy as np, os\n"
        "pyannote_pipeline.apply(pipeline, np.ones(16000, np.float32), 16000)\n"
        "from pyannote.audio.telemetry.metrics import is_metrics_enabled\n"
        "print(is_metrics_enabled(), pipeline._segmentation.model.training)"
    )
    clean = {key: value for key, value in os.environ.items() if key != "PYANNOTE_METRICS_ENABLED"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_without_pyannote_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyannote.audio.pipelines", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'rivulet[pyannote]'")):
        pyannote_pipeline.load(folder)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("pyannote.audio.pipelines.SpeakerDiarization", "os.system", "got the pipeline 'os.system'"),
        ("$model/embedding", "/tmp/model", "expected $model/<folder> or a hub name"),
        ("$model/embedding", "$model/../model", "expected a folder inside"),
        ("segmentation_step: 0.5", "segmentation_step: fast", "segmentation_step: 'fast'"),
        ("segmentation_step: 0.5", "device: cuda", "device: 'cuda'"),
        ("clustering: Agglo", "clustering: Best", "got 'BestmerativeClustering' as clustering"),
        ("min_duration_off: 0.0", "max_duration_off: 0.0", "its params cannot be used"),
        ("clustering: AgglomerativeClustering", "clustering: VBxClustering\n        plda: null", "without plda"),
    ],
)
def test_what_is_not_known_is_refused_by_name(folder: Path, tmp_path: Path, old: str, new: str, why: str) -> None:
    for part in ("segmentation", "embedding", "plda"):
        (tmp_path / part).symlink_to(folder / part)
    text = (folder / "config.yaml").read_text()
    if "without" in why:
        text = text.replace("        plda: $model/plda\n", "")
    assert old in text
    (tmp_path / "config.yaml").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=re.escape(why)):
        pyannote_pipeline.load(tmp_path)


def test_parts_that_mean_harm_are_refused_before_pyannote_sees_them(folder: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"

    class Harm:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {made}",)

    for part in ("segmentation", "embedding", "plda"):
        (tmp_path / part).mkdir()
        for file in (folder / part).iterdir():
            (tmp_path / part / file.name).symlink_to(file)
    (tmp_path / "config.yaml").symlink_to(folder / "config.yaml")
    path = tmp_path / "embedding" / "pytorch_model.bin"
    found = torch.load(path, weights_only=False)
    path.unlink()
    torch.save(found | {"more": Harm()}, path)
    with pytest.raises(ValueError, match="nothing of it was run"):
        pyannote_pipeline.load(tmp_path)
    found["pyannote.audio"]["architecture"] = {"module": "subprocess", "class": "Popen"}
    torch.save(found, path)
    with pytest.raises(ValueError, match=r"class subprocess\.Popen, expected one of pyannote"):
        pyannote_pipeline.load(tmp_path)
    path.unlink()
    path.symlink_to(folder / "embedding" / "pytorch_model.bin")
    plda = tmp_path / "plda" / "plda.npz"
    plda.unlink()
    np.savez(plda, mu=np.array([Harm()], dtype=object))
    with pytest.raises(ValueError, match="not arrays of numbers"):
        pyannote_pipeline.load(tmp_path)
    plda.unlink()
    with pytest.raises(FileNotFoundError, match=r"plda\.npz"):
        pyannote_pipeline.load(tmp_path)
    assert not made.exists()


def test_segments_are_values() -> None:
    assert Segment(0, 1, 2) == Segment(0, 1, 2)
    assert len({Segment(0, 1, 2), Segment(0, 1, 2)}) == 1
