"""A sound card without the card: PulseAudio with two null sinks. What is played into `mouth` is the microphone, in stereo.

Firefox keeps an AudioContext suspended where there is no output device, and WebKitGTK has no other way to the sound either.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PULSE = shutil.which("pulseaudio") and shutil.which("paplay")
SETUP = """load-module module-native-protocol-unix socket={socket} auth-anonymous=1
load-module module-null-sink sink_name=ears rate=48000 channels=2
load-module module-null-sink sink_name=mouth rate=48000 channels=2
set-default-sink ears
load-module module-remap-source source_name=microphone master=mouth.monitor
set-default-source microphone
"""


@contextmanager
def sound_card(wav: Path | None = None) -> Iterator[dict[str, str]]:
    """The environment for a program that shall use it. `wav` is said into the microphone, once: make it long."""
    with tempfile.TemporaryDirectory(prefix="ears") as name:
        folder = Path(name)  # a short one: the path of a socket has at most 107 bytes
        socket, setup = folder / "native", folder / "setup.pa"
        setup.write_text(SETUP.format(socket=socket))
        environment = {**os.environ, "HOME": name, "XDG_RUNTIME_DIR": name, "PULSE_SERVER": f"unix:{socket}"}
        command = ["pulseaudio", "-n", "-F", str(setup), "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        running = [_quietly(command, environment)]
        try:
            while not socket.exists():
                assert running[0].poll() is None, "PulseAudio does not start"
                time.sleep(0.05)
            if wav is not None:
                running.append(_quietly(["paplay", "--device=mouth", "--latency-msec=500", str(wav)], environment))
            yield {"PULSE_SERVER": f"unix:{socket}"}
        finally:
            for process in reversed(running):
                process.terminate()
                process.wait(20)


def _quietly(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
