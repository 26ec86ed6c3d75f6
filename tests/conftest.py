"""Where the tests find recordings, and what they all share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from server.engine import Engine

# Small models on a busy machine: a second thread that waits for its turn costs more than it brings.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Whoever else uses the machine must not decide which test is let in; those of the door ask for it (`admission="measured"`).
os.environ.setdefault("RIVULET_ADMISSION", "count")
os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

DATA = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real recordings; tests that need it skip where it is absent."""
    if not DATA.is_dir():
        pytest.skip("the recordings (../shared/data) are not here")
    return DATA


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread, where small models are faster: `pytestmark = pytest.mark.usefixtures("one_thread")` in a file."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def no_pauses() -> Iterator[None]:
    """The Python client tries again at once: to be asked for as `one_thread` is."""
    from rivulet_client import handshake, redial

    with pytest.MonkeyPatch.context() as patch:
        for module in (handshake, redial):
            patch.setattr(module, "backoff", lambda **_: iter([0.001] * 10_000))
        yield


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Closed in the end."""
    from server.engine import Engine

    made = Engine()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def nothing_lazy() -> Iterator[None]:
    """SpeechBrain leaves modules that import what is not here when somebody looks at them; Hypothesis looks at all."""
    yield
    if "speechbrain" in sys.modules:
        for name, module in list(sys.modules.items()):
            if type(module).__module__ == "speechbrain.utils.importutils":
                del sys.modules[name]
