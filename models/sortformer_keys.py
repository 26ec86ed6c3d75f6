"""Tensors of a checkpoint under our names: a table for each kind of file, and a strict check."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from models.diarizer import Profile
from models.sortformer_network import STACK, Config

T = TypeVar("T")
Table = Mapping[str, tuple[str, ...]]  # our name to theirs, several where we hold them as one; {} is a layer's number


@dataclass(frozen=True)
class Found:
    """What a checkpoint holds: weights under our names in float32, and how it wants to be used."""

    config: Config
    weights: dict[str, Tensor]
    profiles: dict[str, Profile]
    licence: str = "unknown"


def parsed(path: Path, parse: Callable[[], T]) -> T:
    """What `parse` makes of a configuration; where it cannot, a ValueError that names the file."""
    try:
        return parse()
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: its configuration cannot be read ({error!r})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def fixed(told: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> None:
    """Refuse a value other than the one that is built here; a missing one is the default."""
    odd = {key: told[key] for key, value in wanted.items() if key in told and told[key] != value}
    if odd:
        expected = {key: wanted[key] for key in odd}
        raise ValueError(f"{what} has {odd}, expected {expected}: another network")


def profiles(base: Profile, modes: Mapping[str, tuple[int, int]] | None = None) -> dict[str, Profile]:
    """Those of NVIDIA's cards by their latency, with the memory that this network was made for, and the checkpoint's own.

    The long ones keep few recent frames: they hear a long chunk at once.
    """
    length = base.spkcache_len
    short = {"1.04s": (9, 4), "0.64s": (6, 2), "0.32s": (3, 1)}
    made = {
        **{name: (*sizes, base.fifo_len, base.spkcache_update_period) for name, sizes in short.items()},
        "10s": (124, 1, 124, 124),
        "30.4s": (340, 40, 40, 300),
        **{name: (*sizes, base.fifo_len, base.spkcache_update_period) for name, sizes in (modes or {}).items()},
    }
    return {name: Profile(*numbers, length) for name, numbers in made.items()}


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Our names, with the shape that theirs have together."""

    def linear(key: str, out: int, *inner: int) -> dict[str, tuple[int, ...]]:
        return {f"{key}.weight": (out, *inner), f"{key}.bias": (out,)}

    made = {"silence": (c.hidden,), "embed.weight": (c.hidden, STACK * c.front.bands)}
    made |= linear("norm_in", c.hidden) | linear("norm_out", c.hidden) | linear("narrow", c.head, c.hidden)
    made |= linear("finer", STACK * c.head, c.head, 3) | linear("dense", c.head, c.head)
    made |= linear("speakers", c.speakers, c.head)
    for n in range(c.layers):
        made |= linear(f"layers.{n}.norm1", c.hidden) | linear(f"layers.{n}.norm2", c.hidden)
        made |= {f"layers.{n}.qkv.weight": (3 * c.hidden, c.hidden)} | linear(f"layers.{n}.out", c.hidden, c.hidden)
        made |= linear(f"layers.{n}.up", c.inner, c.hidden) | linear(f"layers.{n}.down", c.hidden, c.inner)
    return made


def ours(path: Path, state: Mapping[str, Tensor], table: Table, c: Config) -> dict[str, Tensor]:
    """Their tensors under our names in float32: every one there, none left over, all shapes right, all values finite.

    Raises:
        ValueError: naming the keys, and both shapes where they differ.
    """
    named = {key: _theirs(key, table) for key in shapes(c)}
    wanted = {one for theirs in named.values() for one in theirs}
    if odd := sorted(wanted ^ state.keys()):
        missing = [key for key in odd if key in wanted]
        raise ValueError(f"{path}: {len(missing)} tensors missing, {len(odd) - len(missing)} unknown: {odd[:5]}")
    made = {}
    for key, shape in shapes(c).items():
        try:
            tensor = torch.cat([state[one] for one in named[key]]).float()
        except RuntimeError as error:
            raise ValueError(f"{path}: {named[key]} do not fit together ({error})") from None
        if key == "silence":
            tensor = tensor.flatten()
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{path}: {', '.join(named[key])}: got {tuple(tensor.shape)}, expected {shape}")
        if not tensor.isfinite().all():
            raise ValueError(f"{path}: {', '.join(named[key])}: has values that are not finite")
        # A convolution over three frames is a linear map of them laid side by side.
        made[key] = tensor.transpose(1, 2).flatten(1) if key == "finer.weight" else tensor
    return made


def _theirs(key: str, table: Table) -> tuple[str, ...]:
    """The names in a checkpoint of one tensor of ours."""
    number = re.search(r"\.(\d+)\.", key)
    plain = key if number is None else key.replace(number[0], ".{}.", 1)
    if plain in table:
        pattern, kind = plain, ""
    else:
        stem, _, kind = plain.rpartition(".")
        pattern = f"{stem}.*"
    return tuple(one.replace("{}", number[1] if number else "").replace("*", kind) for one in table[pattern])
