"""A network that can grow: the same function in a larger one, bit for bit but for rounding, and room to go on.

New blocks add nothing to the residual path yet. New units of a recurrence, and new numbers that a band gives to the full-band
layer, are not heard by what was there before; they hear everything, so that the first gradient already uses them.
"""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor, nn

from models.bsrnn import BandSplitRNN, Block
from models.bsrnn_config import Config
from models.recurrence import Memory

MAY_GROW = ("blocks", "hidden", "narrow", "bottleneck")


def grown(old: BandSplitRNN, config: Config) -> BandSplitRNN:
    """The function of `old` in a network of this configuration.

    Raises:
        ValueError: the configurations differ in more than `MAY_GROW`, or something would shrink, naming what.
    """
    fields, had = asdict(config), asdict(old.config)
    differ = [key for key in fields if fields[key] != had[key] and key not in ("name", "licence", *MAY_GROW)]
    differ += [key for key in MAY_GROW if fields[key] < had[key]]
    if differ:
        told = ", ".join(f"{key} {had[key]} (expected {fields[key]})" for key in differ)
        raise ValueError(f"got weights of a network with other {told}")
    network = BandSplitRNN(config)
    with torch.no_grad():
        network.split.load_state_dict(old.split.state_dict())
        network.head.load_state_dict(old.head.state_dict())
        for known, block in zip(old.blocks, network.blocks, strict=False):
            assert isinstance(known, Block)
            assert isinstance(block, Block)
            _block(known, block, old.config, config)
        for block in network.blocks[old.config.blocks :]:
            assert isinstance(block, Block)
            for layer in (block.time.out, block.wide):
                layer.weight.zero_()
                layer.bias.zero_()
    return network


def _block(old: Block, new: Block, had: Config, has: Config) -> None:
    """What the bands give lies band by band, so that old numbers have new places."""
    features, middle = torch.arange(had.features), torch.arange(had.bottleneck)
    given = (torch.arange(has.count)[:, None] * has.narrow + torch.arange(had.narrow)).flatten()
    new.norm_time.load_state_dict(old.norm_time.state_dict())
    new.norm_full.load_state_dict(old.norm_full.state_dict())
    _memory(old.time, new.time, features)
    _linear(old.narrow, new.narrow, torch.arange(had.narrow), features)
    _linear(old.down, new.down, middle, given)
    _memory(old.full, new.full, middle)
    _linear(old.up, new.up, given, middle)
    _linear(old.wide, new.wide, features, torch.arange(had.narrow))


def _memory(old: Memory, new: Memory, outside: Tensor) -> None:
    """Gates are three maps in one, each of all units."""
    units, now = old.out.in_features, new.out.in_features
    gates = torch.cat([part * now + torch.arange(units) for part in range(3)])
    _linear(old.gates, new.gates, gates, outside)
    _linear(old.out, new.out, outside, torch.arange(units))


def _linear(old: nn.Linear, new: nn.Linear, rows: Tensor, columns: Tensor) -> None:
    """Old outputs stand at `rows` and hear old inputs, at `columns`, alone."""
    new.weight[rows] = 0
    new.weight[rows[:, None], columns] = old.weight
    new.bias[rows] = old.bias
