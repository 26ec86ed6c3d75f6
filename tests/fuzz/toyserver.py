"""`rivulet serve` exactly as its command line starts it, but with the toy models: `python tests/fuzz/toyserver.py --port N`."""

from __future__ import annotations

import sys

from models import toys
from models.registry import Entry


def entries(*_: object) -> dict[str, Entry]:
    """In place of `models.registry.build`."""
    specs = [(toy, toy.spec) for toy in toys.all_toys().values()]
    return {
        spec.name: Entry(spec.name, spec.sources, spec.rate, spec.channels, spec.licence, lambda _, toy=toy: toy)
        for toy, spec in specs
    }


if __name__ == "__main__":
    import server.app
    from server import cli

    server.app.build = entries
    cli.app(["serve", "--preload", "toy-split", "--log-level", "warning", *sys.argv[1:]])
