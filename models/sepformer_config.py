"""SpeechBrain's description of a SepFormer or RE-SepFormer, in the words of its classes, to sizes of ours; checked strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from models.sepformer_network import Config
from models.sepformer_transformer import Stack
from models.sepformer_yaml import Node, Sheet

LOBES = "speechbrain.lobes.models."
MODULES = ("encoder", "masknet", "decoder")
MINUTE = 60  # s: rows of sinusoids that are kept

# Arguments with SpeechBrain's defaults; `...` has none. Those in FIXED only with the value that is built here.
ENCODER = {"kernel_size": 2, "out_channels": 64, "in_channels": 1}
DECODER = {"in_channels": ..., "out_channels": ..., "kernel_size": ..., "stride": 1, "bias": True}
BLOCK = {
    "num_layers": ...,
    "d_model": ...,
    "nhead": ...,
    "d_ffn": 2048,
    "input_shape": None,
    "kdim": None,
    "vdim": None,
    "dropout": 0.1,
    "activation": "relu",
    "use_positional_encoding": False,
    "norm_before": False,
    "attention_type": "regularMHA",
}
BLOCK_LIGHT = BLOCK | {"causal": False, "use_norm": True, "use_skip": True, "norm_type": "gln"}
DUAL = {
    "in_channels": ...,
    "out_channels": ...,
    "intra_model": ...,
    "inter_model": ...,
    "num_layers": 1,
    "norm": "ln",
    "K": 200,
    "num_spks": 2,
    "skip_around_intra": True,
    "linear_layer_after_inter_intra": True,
    "use_global_pos_enc": False,
    "max_length": 20000,
}
LIGHT = {
    "input_dim": ...,
    "causal": True,  # of recurrent blocks, like `unit`
    "num_spk": 2,
    "nonlinear": "relu",
    "layer": 3,
    "unit": 512,
    "segment_size": 20,
    "dropout": 0.0,
    "mem_type": "hc",
    "seg_model": ...,
    "mem_model": ...,
}
KNOWN: Mapping[str, Mapping[str, Any]] = {
    "dual_path.Encoder": ENCODER,
    "dual_path.Decoder": DECODER,
    "dual_path.SBTransformerBlock": BLOCK,
    "resepformer.SBTransformerBlock_wnormandskip": BLOCK_LIGHT,
    "dual_path.Dual_Path_Model": DUAL,
    "resepformer.ResourceEfficientSeparator": LIGHT,
}
FIXED = {"kdim": None, "vdim": None, "attention_type": "regularMHA", "use_global_pos_enc": False, "mem_type": "av"}
ROWS = {"dual_path.SBTransformerBlock": 2500, "resepformer.SBTransformerBlock_wnormandskip": 100_000}
LARGEST = {"layers": 64, "width": 4096, "heads": 64, "inner": 16_384, "filters": 4096, "kernel": 4096, "rate": 192_000}
LARGEST |= {"speakers": 16, "chunk": 2500, "blocks": 16}


def config(sheet: Sheet) -> Config:
    """The network of a sheet.

    Raises:
        ValueError: another architecture, arguments that are not built here, or sizes that do not fit, naming them.
    """
    modules = sheet.get("modules")
    if not isinstance(modules, Mapping) or not set(MODULES) <= modules.keys():
        raise ValueError(f"{sheet.path}: expected modules: encoder, masknet and decoder")
    kinds, parts = zip(*(_arguments(sheet, sheet.value(modules[name]), name) for name in MODULES), strict=True)
    if (kinds[0], kinds[2]) != ("dual_path.Encoder", "dual_path.Decoder"):
        raise ValueError(f"{sheet.path}: got {kinds[0]} and {kinds[2]} as encoder and decoder")
    encoder, net, decoder = parts
    if kinds[1] == "dual_path.Dual_Path_Model":
        made = _dual(sheet, net, encoder["kernel_size"])
    elif kinds[1] == "resepformer.ResourceEfficientSeparator":
        made = _light(sheet, net, encoder["kernel_size"])
    else:
        raise ValueError(f"{sheet.path}: got {kinds[1]} as masknet")
    made = replace(made, bias=decoder["bias"])
    _check(sheet, made)
    told = (encoder["in_channels"], encoder["out_channels"], *(decoder[key] for key in DECODER if key != "bias"))
    wanted = (1, made.filters, made.filters, 1, made.kernel, made.stride)
    if told != wanted:
        raise ValueError(f"{sheet.path}: encoder and decoder have sizes {told}, expected {wanted} to go together")
    if "num_spks" in sheet.content and sheet.get("num_spks") != made.speakers:
        raise ValueError(
            f"{sheet.path}: got num_spks {sheet.get('num_spks')}, and {made.speakers} masks in the network"
        )
    return _trimmed(sheet, made)


def _trimmed(sheet: Sheet, c: Config) -> Config:
    """With as many rows of sinusoids as a minute of audio needs: RE-SepFormer's files have 51 MB of them, three times."""
    if 0 < c.within.positions < c.chunk:
        raise ValueError(
            f"{sheet.path}: got chunks of {c.chunk} frames, the table of positions has {c.within.positions}"
        )
    chunks = -(-MINUTE * c.rate // (c.stride * (c.chunk if c.light else c.chunk // 2))) + 2
    within = replace(c.within, positions=min(c.within.positions, c.chunk))
    return replace(c, within=within, across=replace(c.across, positions=min(c.across.positions, chunks)))


def _dual(sheet: Sheet, net: Mapping[str, Any], kernel: int) -> Config:
    return Config(
        light=False,
        rate=sheet.get("sample_rate"),
        speakers=net["num_spks"],
        kernel=kernel,
        filters=net["in_channels"],
        width=net["out_channels"],
        chunk=net["K"],
        blocks=net["num_layers"],
        within=_stack(sheet, net["intra_model"], "dual_path.SBTransformerBlock"),
        across=_stack(sheet, net["inter_model"], "dual_path.SBTransformerBlock"),
        norm=net["norm"],
        linear=net["linear_layer_after_inter_intra"],
        skip=net["skip_around_intra"],
    )


def _light(sheet: Sheet, net: Mapping[str, Any], kernel: int) -> Config:
    block = "resepformer.SBTransformerBlock_wnormandskip"
    return Config(
        light=True,
        rate=sheet.get("sample_rate"),
        speakers=net["num_spk"],
        kernel=kernel,
        filters=net["input_dim"],
        width=net["input_dim"],
        chunk=net["segment_size"],
        blocks=net["layer"],
        within=_stack(sheet, net["seg_model"], block),
        across=_stack(sheet, net["mem_model"], block),
        mask=net["nonlinear"],
    )


def _stack(sheet: Sheet, node: Any, kind: str) -> Stack:
    got, told = _arguments(sheet, node, "transformer")
    if got != kind:
        raise ValueError(f"{sheet.path}: got {got} inside the mask net, expected {kind}")
    if told.get("causal"):
        raise ValueError(f"{sheet.path}: got causal attention, which is not built here")
    return Stack(
        layers=told["num_layers"],
        width=told["d_model"],
        heads=told["nhead"],
        inner=told["d_ffn"],
        activation=told["activation"],
        positions=ROWS[kind] if told["use_positional_encoding"] else 0,
        first=told["norm_before"],
        norm=told["norm_type"] if told.get("use_norm") else None,
        skip=bool(told.get("use_skip")),
    )


def _arguments(sheet: Sheet, node: Any, what: str) -> tuple[str, dict[str, Any]]:
    """The class of a node, without the common front of its name, and its arguments with the defaults filled in."""
    kind = node.name.removeprefix(LOBES) if isinstance(node, Node) and node.kind == "new" else ""
    if kind not in KNOWN or not node.name.startswith(LOBES):
        got = f"!{node.kind}:{node.name}" if isinstance(node, Node) else repr(node)
        raise ValueError(f"{sheet.path}: got {got} as {what}, expected one of !new:{LOBES}... {', '.join(KNOWN)}")
    known = KNOWN[kind]
    told = {**known, **{key: sheet.value(value) for key, value in node.arguments.items()}}
    if unknown := sorted(map(str, told.keys() - known.keys())):
        raise ValueError(f"{sheet.path}: {kind} has no argument {', '.join(unknown)}")
    if missing := [key for key, value in told.items() if value is ...]:
        raise ValueError(f"{sheet.path}: {kind} needs {', '.join(missing)}")
    if odd := {key: told[key] for key, value in FIXED.items() if key in told and told[key] != value}:
        raise ValueError(f"{sheet.path}: {kind} has {odd}, which is not built here")
    return kind, told


def _check(sheet: Sheet, c: Config) -> None:
    """Numbers that are numbers and that fit one another, before anything is made of that size."""
    for part in (c, c.within, c.across):
        for name, most in LARGEST.items():
            value = getattr(part, name, 1)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"{sheet.path}: got {name} {value!r}, expected a whole number from 1 to {most}")
    for stack in (c.within, c.across):
        if stack.width != c.width or stack.width % stack.heads or (stack.positions and stack.width % 2):
            raise ValueError(
                f"{sheet.path}: got {stack.heads} heads of width {stack.width}, the mask net has {c.width}"
            )
        if stack.activation not in ("relu", "gelu") or stack.norm not in ("gln", "cln", "ln", None):
            raise ValueError(f"{sheet.path}: got activation {stack.activation!r} and norm {stack.norm!r}")
    if c.norm not in ("ln", "gln", "cln") or c.mask not in ("relu", "sigmoid", "tanh"):
        raise ValueError(f"{sheet.path}: got norm {c.norm!r} and nonlinear {c.mask!r}")
    if c.kernel < 2 or c.chunk < 2:
        raise ValueError(
            f"{sheet.path}: got a kernel of {c.kernel} samples and chunks of {c.chunk}, expected 2 or more"
        )
    flags = (c.linear, c.skip, c.bias, c.within.first, c.across.first)
    if not all(isinstance(flag, bool) for flag in flags):
        raise ValueError(f"{sheet.path}: got {flags}, expected true or false")
