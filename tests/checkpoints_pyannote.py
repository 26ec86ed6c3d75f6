"""Random pyannote checkpoints and pipelines in pyannote's format, made without pyannote but for the diarization models."""

from __future__ import annotations

import importlib
import os
import pickle
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from models import pyannote_file, totatonet
from models.totatonet_network import Network

TASK = "pyannote.audio.core.task"
STAND_IN = {getattr(pyannote_file, name): TASK for name in ("Problem", "Resolution", "Specifications")}
TINY = {"n_repeats": 2, "bn_chan": 12, "hid_size": 6, "chunk_size": 20}
SEPARATION = """\
pipeline:
    name: pyannote.audio.pipelines.SpeechSeparation
    params: {segmentation: $model/segmentation, embedding: somebody/embedding, clustering: AgglomerativeClustering}
params: {segmentation: {min_duration_off: 0.0, threshold: 0.5}, separation: {leakage_removal: true}}
"""


def imported(*names: str) -> list[Any]:
    """Modules of pyannote and what it needs, telemetry off; the test is skipped where they cannot be had."""
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return [importlib.import_module(name) for name in names]
        except (ImportError, OSError) as error:  # torchaudio's compiled library beside a CPU torch
            pytest.skip(f"needs {', '.join(names)}: {error}")


class _Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes our stand-ins under pyannote's names."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if isinstance(obj, type) and obj in STAND_IN:
            self.write(pickle.GLOBAL + f"{STAND_IN[obj]}\n{obj.__name__}\n".encode())
            self.memoize(obj)
        else:
            super().save_global(obj, name)


def save(value: Any, path: Path) -> None:
    """As `torch.save`, with pyannote's names."""
    module = SimpleNamespace(Pickler=_Pickler, __name__="pickle", dump=pickle.dump, dumps=pickle.dumps)
    torch.save(value, path, pickle_module=module)


def specifications(duration: float) -> Any:
    """Of one task: who of three speaks."""
    told = pyannote_file.Specifications()
    told.__dict__ |= {"problem": pyannote_file.Problem.MULTI_LABEL_CLASSIFICATION, "duration": duration}
    told.__dict__ |= {"resolution": pyannote_file.Resolution.FRAME, "min_duration": None, "warm_up": (0.0, 0.0)}
    told.__dict__ |= {"classes": ["a", "b", "c"], "powerset_max_classes": None, "permutation_invariant": True}
    return told


def make_totatonet(
    folder: Path,
    duration: float = 0.5,
    dprnn: dict[str, Any] = TINY,
    wavlm: dict[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """A separation pipeline: `config.yaml`, `segmentation/pytorch_model.bin` and, with WavLM, `wavlm/config.json`."""
    (folder / "segmentation").mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(SEPARATION)
    below = None
    torch.manual_seed(seed)
    if wavlm is not None:
        from transformers import WavLMConfig, WavLMModel

        WavLMConfig(**wavlm).save_pretrained(folder / "wavlm")
        below = WavLMModel(WavLMConfig(**wavlm))
    found = {
        "hyper_parameters": {"dprnn": totatonet.DPRNN | dprnn, "sample_rate": 16000, "num_channels": 1},
        "pyannote.audio": {
            "versions": {"torch": torch.__version__, "pyannote.audio": "4.0.7"},
            "architecture": {"module": totatonet.KIND.rpartition(".")[0], "class": "ToTaToNet"},
            "specifications": (specifications(duration), specifications(duration)),
        },
        "pytorch-lightning_version": "2.6.6",
    }
    told = (below.config.hidden_size, 320) if below is not None else (0, 0)
    three = {"masker.first_out.1.weight": torch.empty(3 * (totatonet.DPRNN | dprnn)["bn_chan"])}
    network = Network(totatonet._config(folder, found, three, told), below)
    for name, value in network.named_parameters():
        if not name.startswith("wavlm."):
            _fill(name, value.data)
    save(found | {"state_dict": network.state_dict()}, folder / "segmentation" / "pytorch_model.bin")
    return folder


def _fill(name: str, value: torch.Tensor) -> None:
    """Unit gain, with gains and biases away from one and zero."""
    value.normal_()
    if "norm" in name or "bottleneck.0" in name:
        value.mul_(0.2).add_(float(name.endswith("gamma")))
    elif value.ndim == 1:
        value.mul_(0.2)
    else:
        gain = 3.0 if name.startswith(("linear", "classifier")) else 1.0  # so that probabilities differ
        value.mul_(gain / (value[0].numel() if not name.startswith("decoder") else len(value)) ** 0.5)


def tiny_totatonet(folder: Path) -> Path:
    """Windows of half a second, a dual-path network of five thousand parameters."""
    return make_totatonet(folder)


def make_diarization(folder: Path, layout: str = "community-1", clustering: str = "AgglomerativeClustering") -> Path:
    """A diarization pipeline with random weights, by pyannote's own classes: `config.yaml` and a folder for each part.

    layout: `community-1` names its parts `$model/...`; `3.1` by names of the hub, and has no PLDA.
    """
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.embedding import XVectorMFCC
    from pyannote.audio.models.segmentation import PyanNet

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    ears = PyanNet(lstm={"hidden_size": 16, "num_layers": 1}, linear={"hidden_size": 16, "num_layers": 1})
    ears.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=2.0,
        classes=["a", "b", "c"],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    ears.build()
    ears.classifier.weight.data.mul_(400)  # so that who speaks changes with what is heard
    voices = XVectorMFCC(mfcc={"melkwargs": {"n_mels": 40}}, dimension=256)
    voices.specifications = Specifications(Problem.REPRESENTATION, Resolution.CHUNK, duration=2.0)
    voices.build()
    _write(ears, folder / "segmentation")
    _write(voices, folder / "embedding")
    parts = {"segmentation": "$model/segmentation", "embedding": "$model/embedding", "plda": "$model/plda"}
    if layout == "3.1":
        parts = {"segmentation": "somebody/segmentation-3.0", "embedding": "somebody/voices"}
    else:
        _plda(folder / "plda")
    told = "".join(f"        {key}: {value}\n" for key, value in parts.items())
    params = (
        "{method: centroid, min_cluster_size: 1, threshold: 0.01}"
        if clustering == "AgglomerativeClustering"
        else "{threshold: 0.6, Fa: 0.07, Fb: 0.8}"
    )
    (folder / "config.yaml").write_text(
        "version: 3.1.0\npipeline:\n    name: pyannote.audio.pipelines.SpeakerDiarization\n    params:\n"
        f"        clustering: {clustering}\n        segmentation_step: 0.5\n        embedding_batch_size: 4\n{told}"
        f"params:\n    segmentation: {{min_duration_off: 0.0}}\n    clustering: {params}\n"
    )
    return folder


def _write(model: Any, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    found: dict[str, Any] = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    model.on_save_checkpoint(found)
    torch.save(found | {"pytorch-lightning_version": "2.6.6"}, folder / "pytorch_model.bin")


def _plda(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    transform = {"mean1": rng.standard_normal(256), "mean2": rng.standard_normal(128)}
    np.savez(folder / "xvec_transform.npz", lda=rng.standard_normal((256, 128)), **transform)
    within = np.eye(128) + 0.1 * rng.standard_normal((128, 128))
    np.savez(folder / "plda.npz", mu=rng.standard_normal(128), tr=within, psi=rng.uniform(0.5, 2, 128))
