"""SpeechBrain's `hyperparams.yaml` as plain data. HyperPyYAML builds objects from it and calls functions; here nothing is run.

`!new:path.Class {arguments}`, `!name:` and `!apply:` become a `Node` with the name and the arguments, `!ref <key>` becomes a
`Ref`, looked up when somebody asks; every other tag is refused when somebody asks for what it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

LARGEST = 1_000_000  # bytes; published ones have a few thousand
DEEPEST = 20  # references that lead to references


@dataclass(frozen=True)
class Node:
    """What `!new:name` and the like would have made: the tag's kind, its name and the arguments given by name."""

    kind: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ref:
    """`!ref text`."""

    text: str


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """With a table of its own, so that the tags below are not known to others."""


def _plain(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


def _tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Node:
    kind, _, name = suffix.partition(":")
    content = _plain(loader, node)
    return Node(kind, name, content if isinstance(content, dict) else {"": content} if content else {})


_Loader.add_constructor("!ref", lambda loader, node: Ref(str(_plain(loader, node))))
_Loader.add_multi_constructor("!", _tagged)


@dataclass(frozen=True)
class Sheet:
    """A file's content; `path` is for what goes wrong."""

    path: Path
    content: Mapping[str, Any]

    def get(self, key: str) -> Any:
        """What stands at the top under this key, with references followed.

        Raises:
            ValueError: no such key, or as `value`.
        """
        if key not in self.content:
            raise ValueError(f"{self.path}: has no {key!r}")
        return self.value(self.content[key])

    def value(self, item: Any, depth: int = 0) -> Any:
        """Follow references: `<key>` or `<key[inner]>` and no more.

        Raises:
            ValueError: a reference to nothing, in a circle, or with arithmetic, naming it.
        """
        if not isinstance(item, Ref):
            return item
        found = re.fullmatch(r"<(\w+)((?:\[\w+\])*)>", item.text.strip())
        if found is None or depth > DEEPEST:
            why = "which leads round in a circle" if found else "expected <key>: sums and texts are not worked out"
            raise ValueError(f"{self.path}: got !ref {item.text}, {why}")
        where: Any = self.content
        for key in (found[1], *re.findall(r"\[(\w+)\]", found[2])):
            where = where.arguments if isinstance(where, Node) else where
            if not isinstance(where, Mapping) or key not in where:
                raise ValueError(f"{self.path}: got !ref {item.text}, which is not there")
            where = self.value(where[key], depth + 1)
        return where


def read(path: Path) -> Sheet:
    """A file, nothing of it run.

    Raises:
        FileNotFoundError: none there. ValueError: not YAML, or not a mapping.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: got {path.stat().st_size} bytes, expected at most {LARGEST}")
    try:
        content = yaml.load(path.read_text("utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ValueError(f"{path}: not YAML that can be read ({str(error).splitlines()[0]})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: got {type(content).__name__}, expected a mapping")
    return Sheet(path, content)
