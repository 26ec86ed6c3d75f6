"""A server at one end of the link, with models that need no weights: `python serve.py ADDRESS`; prints its port."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import uvicorn
from serving import entry

from models.separator import Spec
from models.toys import Split
from server.app import create
from server.buffers import Protocol
from server.config import Settings
from server.websocket import listen
from streaming.framing import Framing


def models() -> dict[str, Split]:
    """A quarter and the rest: by a frame model of 10 ms, a windowed one that tells half a second at once, and one for speech."""
    quick = Spec("quick", 48_000, 2, ("low", "high"), Framing(480, 480), licence="Apache-2.0")
    slow = replace(quick, name="slow", framing=Framing(48_000, 24_000))
    speech = replace(quick, name="speech", rate=16_000, channels=1, framing=Framing(160, 160))
    return {spec.name: replace(Split(), spec=spec) for spec in (quick, slow, speech)}


if __name__ == "__main__":
    app = create(
        Settings(preload=(), admission="count", hosts=(sys.argv[1],)),
        {name: entry(model) for name, model in models().items()},
    )
    listener = listen(sys.argv[1], 0)
    print(listener.getsockname()[1], flush=True)
    os.dup2(2, 1)  # nobody reads what is logged
    config = uvicorn.Config(app, ws=Protocol, ws_per_message_deflate=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])
