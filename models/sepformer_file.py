"""SepFormer and RE-SepFormer in SpeechBrain's folders: `hyperparams.yaml`, and a file of tensors for each of three modules.

Neither SpeechBrain nor HyperPyYAML is needed, and nothing of the folder is run: the yaml is plain data
(`models.sepformer_yaml`), only the classes of
`models.sepformer_config` are known by name, and files of tensors are read by `weights_only`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models import hub, weights
from models.sepformer_config import MODULES, config
from models.sepformer_network import Config, Network, theirs
from models.sepformer_yaml import Node, Sheet
from models.sepformer_yaml import read as read_yaml


@dataclass(frozen=True)
class Found:
    """What a folder holds: tensors under our names in float32."""

    config: Config
    weights: dict[str, Tensor]
    licence: str = "unknown"


def read(source: str | Path) -> Found:
    """A model by the path of its folder, or by name where the hub's cache on this machine has it.

    Raises:
        FileNotFoundError: something is not there, saying what was expected and how to get it.
        ValueError: another architecture, or tensors that do not fit, naming them. Nothing of the folder was run.
    """
    folder, sheet = _sheet(source)
    sizes = config(sheet)
    state: dict[str, Tensor] = {}
    for module in MODULES:
        state |= {f"{module}.{key}": value for key, value in _tensors(folder / _file(sheet, module)).items()}
    return Found(sizes, _ours(folder, state, sizes), hub.licence(folder))


def describe(source: str | Path) -> tuple[Config, str]:
    """Sizes and licence without reading a tensor. Raises as `read`."""
    folder, sheet = _sheet(source)
    return config(sheet), hub.licence(folder)


def _sheet(source: str | Path) -> tuple[Path, Sheet]:
    folder = hub.folder(source)
    return folder, read_yaml(folder / "hyperparams.yaml")


def _file(sheet: Sheet, module: str) -> str:
    """The file of a module: as the pretrainer loads it, under its key there or its path, else `<module>.ckpt`."""
    pretrainer = sheet.value(sheet.content.get("pretrainer", Node("", "")))
    arguments = pretrainer.arguments if isinstance(pretrainer, Node) else {}
    loadables, paths = (sheet.value(arguments.get(key, {})) for key in ("loadables", "paths"))
    wanted = sheet.value(sheet.get("modules")[module])
    keys = [key for key, ref in loadables.items() if sheet.value(ref) is wanted] or [module]
    path = str(sheet.value(paths.get(keys[0], f"{keys[0]}.ckpt"))) if isinstance(paths, Mapping) else f"{keys[0]}.ckpt"
    if Path(path).name != path:
        raise ValueError(f"{sheet.path}: got {path} for {module}, expected a file of the same folder")
    return path


def _tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    state = weights.unpickle(path, ())
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: expected a state dict, nothing but tensors by name")
    return dict(state)


def _ours(folder: Path, state: dict[str, Tensor], c: Config) -> dict[str, Tensor]:
    """Tensors under our names: every one there, none left over, all shapes right, all values finite."""
    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in Network(c).state_dict().items()}
    missing = sorted({theirs(name) for name in wanted} - state.keys())
    unknown = sorted(state.keys() - {theirs(name) for name in wanted})
    if missing or unknown:
        raise ValueError(
            f"{folder}: {len(missing)} tensors missing, {len(unknown)} unknown: {', '.join((missing + unknown)[:5])}"
        )
    made = {}
    for name, shape in wanted.items():
        value = state[theirs(name)]
        if name.endswith("pos_enc.pe") and value.ndim == 3:
            value = value[:, : shape[1]].clone()
        if tuple(value.shape) != shape:
            raise ValueError(f"{folder}: {theirs(name)}: got {tuple(value.shape)}, expected {shape}")
        if not value.is_floating_point() or not value.isfinite().all():
            raise ValueError(f"{folder}: {theirs(name)}: has values that are not finite numbers")
        made[name] = value.float()
    return made
