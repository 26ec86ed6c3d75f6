"""pyannote's folders: `config.yaml` of a pipeline, and `pytorch_model.bin` of each of its models. Read without running them.

pyannote itself unpickles checkpoints freely and imports whatever class a configuration names. Here a checkpoint may ask for
nothing but tensors, numbers and the few classes below, which stand in for pyannote's of the same name, so that it need not
be installed; and a file that passed may then be given to pyannote, for it holds nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, cast

import yaml

from models import hub, weights

MODEL = "pytorch_model.bin"
CONFIG = "config.yaml"


class Problem(Enum):
    """What a model is asked, with pyannote's numbers."""

    BINARY_CLASSIFICATION = 0
    MONO_LABEL_CLASSIFICATION = 1
    MULTI_LABEL_CLASSIFICATION = 2
    REPRESENTATION = 3
    REGRESSION = 4


class Resolution(Enum):
    FRAME = 1
    CHUNK = 2


class Specifications:
    """What a model was trained for; a checkpoint sets the attributes: `problem`, `duration` (s), `classes` and more."""

    problem: Problem
    duration: float


class Introspection:
    """In checkpoints of before pyannote.audio 3; not used."""


def config(folder: Path) -> dict[str, Any]:
    """The configuration of a pipeline, plain data.

    Raises:
        FileNotFoundError: none there. ValueError: not that of a pipeline.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected the folder of a pyannote pipeline")
    try:
        told = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not YAML that can be read ({str(error).splitlines()[0]})") from None
    pipeline = told.get("pipeline") if isinstance(told, dict) else None
    if not isinstance(pipeline, dict) or not isinstance(pipeline.get("params"), dict):
        raise ValueError(f"{path}: expected pipeline: name and params")
    return cast(dict[str, Any], told)


def part(folder: Path, value: Any, what: str) -> Path:
    """Where a part of a pipeline is: `$model/inner` of its folder, or a hub name that this machine's cache has.

    Raises:
        FileNotFoundError: not here; nothing is fetched. ValueError: neither.
    """
    if isinstance(value, Mapping):  # as {checkpoint, subfolder}
        inner = str(value.get("subfolder") or "")
        return _inside(part(folder, value.get("checkpoint"), what), inner, what) if inner else folder
    name = str(value)
    if name.startswith("$model/"):
        return _inside(folder, name.removeprefix("$model/").split("@")[0], what)
    if hub.is_name(name.split("@")[0]):
        return hub.folder(name.split("@")[0])
    raise ValueError(f"{folder / CONFIG}: got {value!r} for {what}, expected $model/<folder> or a hub name")


def _inside(folder: Path, inner: str, what: str) -> Path:
    if Path(inner).is_absolute() or ".." in Path(inner).parts:
        raise ValueError(f"{folder / CONFIG}: got {inner!r} for {what}, expected a folder inside")
    return folder / inner


def checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds; `path` is the file or its folder.

    Raises:
        FileNotFoundError: none there. ValueError: not pyannote's, damaged, or it asks for more than is allowed, named.
    """
    import torch

    path = path / MODEL if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    module = "pyannote.audio.core"
    stand_in: list[Any] = [(kind, f"{module}.task.{kind.__name__}") for kind in (Problem, Resolution, Specifications)]
    stand_in += [(Introspection, f"{module}.model.Introspection"), torch.torch_version.TorchVersion]
    found = weights.unpickle(path, stand_in)
    if not isinstance(found, dict) or not {"state_dict", "pyannote.audio"} <= found.keys():
        raise ValueError(f"{path}: expected state_dict and pyannote.audio in it")
    return found


def architecture(found: Mapping[str, Any]) -> str:
    """`module.Class` of a checkpoint."""
    told = found["pyannote.audio"].get("architecture", {})
    return f"{told.get('module')}.{told.get('class')}"
