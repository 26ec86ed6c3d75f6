"""A second opinion on a whole recording: a diarization pipeline of pyannote.audio, from a folder on this machine.

Offline only: it clusters the voices of the whole file. Nothing is fetched, nothing is reported to anybody, and nothing of the
folder is run: of its configuration only known settings are taken, and its checkpoints hold only tensors and numbers
(`models.pyannote_file`). pyannote's own loader would import any class that a folder names.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models import hub, pyannote_file
from streaming.framing import Array

NAMES = (
    "pyannote.audio.pipelines.SpeakerDiarization",
    "pyannote.audio.pipelines.speaker_diarization.SpeakerDiarization",
)
MODELS = "pyannote.audio.models."
CLUSTERINGS = ("AgglomerativeClustering", "VBxClustering", "KMeansClustering")
SETTINGS: Mapping[str, tuple[type, ...]] = {  # of a pipeline, beside its parts
    "segmentation_step": (int, float),
    "segmentation_batch_size": (int,),
    "embedding_batch_size": (int,),
    "embedding_exclude_overlap": (bool,),
}
IGNORED = ("legacy", "der_variant", "token", "use_auth_token", "cache_dir")
PLDA = ("xvec_transform.npz", "plda.npz")


@dataclass(frozen=True)
class Segment:
    """Speaker `speaker`, numbered by first appearance, speaks in samples `start .. end - 1` of the recording."""

    speaker: int
    start: int
    end: int


def diarize(
    path_or_folder: str | Path, pcm: Array, rate: int, exclusive: bool = False, speakers: int | None = None
) -> list[Segment]:
    """Who spoke when in a whole recording, by start.

    Args:
        path_or_folder: a pipeline's folder, its `config.yaml`, or a hub name that this machine's cache has.
        pcm: `[T]` mono, at `rate` Hz; pyannote converts it to 16 kHz.
        exclusive: at most one speaker at a time, as fits a transcript.
        speakers: how many there are, where that is known.

    Raises:
        ImportError: pyannote.audio is not installed. FileNotFoundError, ValueError: see `load`; or a `pcm` that is not sound.
    """
    if pcm.ndim != 1 or not np.isfinite(pcm).all():
        raise ValueError(f"got pcm of shape {pcm.shape}, expected [T], all finite")
    return apply(load(path_or_folder), pcm, rate, exclusive, speakers) if len(pcm) else []


def load(path_or_folder: str | Path) -> Any:
    """pyannote's `SpeakerDiarization`, ready to run: community-1's layout (`$model/...`) or 3.1's (hub names).

    Raises:
        ImportError: pyannote.audio is not installed.
        FileNotFoundError: a part is not on this machine, saying which and how to get it.
        ValueError: another pipeline, a setting that is not known, or a checkpoint with more than tensors in it.
    """
    path = hub.folder(path_or_folder)
    folder = path.parent if path.name == pyannote_file.CONFIG else path
    told = pyannote_file.config(folder)
    params = _params(folder, told["pipeline"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = _pipeline(folder)
        if params["plda"] is None:
            params["plda"] = _no_plda(folder, params["clustering"])
        pipeline = kind(**params)
        try:
            pipeline.instantiate(told.get("params") or pipeline.default_parameters())
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{folder}: its params cannot be used ({error})") from None
    return pipeline


def apply(pipeline: Any, pcm: Array, rate: int, exclusive: bool = False, speakers: int | None = None) -> list[Segment]:
    """A loaded pipeline on one recording; as `diarize`."""
    import torch

    heard = {"waveform": torch.from_numpy(np.array(pcm[None], np.float32)), "sample_rate": rate}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        told = pipeline(heard, num_speakers=speakers)
    annotation = told.exclusive_speaker_diarization if exclusive else told.speaker_diarization
    found = [
        (min(max(round(turn.start * rate), 0), len(pcm)), min(max(round(turn.end * rate), 0), len(pcm)), str(label))
        for turn, _, label in annotation.itertracks(yield_label=True)
    ]
    found = sorted(part for part in found if part[0] < part[1])
    order = list(dict.fromkeys(label for _, _, label in found))
    return [Segment(order.index(label), start, end) for start, end, label in found]


def _pipeline(folder: Path) -> Any:
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"  # asked at every call: it reports each model and file to its makers
    try:
        from pyannote.audio.pipelines import SpeakerDiarization
    except (ImportError, OSError) as error:  # OSError: torchaudio built for another torch
        raise ImportError(
            f"{folder}: a pipeline of pyannote needs pyannote.audio: pip install 'rivulet[pyannote]' ({error})"
        ) from None
    return SpeakerDiarization


def _params(folder: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    """What the pipeline is made of, all of it on this machine and read once."""
    where = folder / pyannote_file.CONFIG
    if told.get("name") not in NAMES:
        raise ValueError(f"{where}: got the pipeline {told.get('name')!r}, expected {NAMES[0]}")
    params = {key: value for key, value in told["params"].items() if key not in IGNORED}
    parts = {key: _model(folder, params.pop(key, None), key) for key in ("segmentation", "embedding")}
    plda, clustering = params.pop("plda", None), params.pop("clustering", "VBxClustering")
    if clustering not in CLUSTERINGS:
        raise ValueError(f"{where}: got {clustering!r} as clustering, expected one of {', '.join(CLUSTERINGS)}")
    for key, value in params.items():
        if type(value) not in SETTINGS.get(key, ()):
            raise ValueError(f"{where}: got {key}: {value!r}, which is not known here")
    return {**params, **parts, "clustering": clustering, "plda": _plda(folder, plda)}


def _model(folder: Path, value: Any, what: str) -> dict[str, str]:
    """A checkpoint that was looked through; as a mapping, for pyannote tells kinds of models by words in a text."""
    place = pyannote_file.part(folder, value, what)
    kind = pyannote_file.architecture(pyannote_file.checkpoint(place))
    if not kind.startswith(MODELS):
        raise ValueError(f"{place}: got a model of class {kind}, expected one of {MODELS}")
    return {"checkpoint": str(place / pyannote_file.MODEL if place.is_dir() else place)}


def _plda(folder: Path, value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    place = pyannote_file.part(folder, value, "plda")
    for name in PLDA:
        if not (place / name).is_file():
            raise FileNotFoundError(f"{place / name}: no such file")
        try:
            with np.load(place / name, allow_pickle=False) as arrays:
                [arrays[key] for key in arrays.files]
        except (ValueError, OSError) as error:
            raise ValueError(f"{place / name}: not arrays of numbers ({error})") from None
    return {"checkpoint": str(place)}


def _no_plda(folder: Path, clustering: str) -> Any:
    """Pipelines of before pyannote.audio 4 have none, and since 4 every pipeline must; only VBx asks it anything."""
    if clustering == "VBxClustering":
        raise ValueError(f"{folder}: got VBxClustering without plda")
    from pyannote.audio.core.plda import PLDA as Plda

    return Plda.__new__(Plda)
