"""Settings: environment variables `RIVULET_*`, overridden by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """How this server runs.

    Attributes:
        models: further models by name, `RIVULET_MODELS='{"mine": "/models/mine"}'`: a Demucs repository folder, a
            Demucs `.th`, an Asteroid checkpoint, or a folder with `model.safetensors`.
        preload: models loaded before the server says that it is ready.
        max_sessions: more are refused with `capacity`.
        idle_timeout_s: a session from which nothing comes for so long is closed.
        send_timeout_s: a client that does not read for so long is closed.
        drain_s: at SIGTERM, how long those inside have to finish.
        page: the built web page.
    """

    model_config = SettingsConfigDict(env_prefix="RIVULET_", extra="forbid")

    host: str = "127.0.0.1"
    port: int = 8000
    models: dict[str, Path] = {}
    preload: tuple[str, ...] = ("music", "speech")
    max_sessions: int = 64
    admission: Literal["measured", "count"] = "measured"
    idle_timeout_s: float = 60.0
    send_timeout_s: float = 10.0
    drain_s: float = 30.0
    max_ahead_s: float = 10.0
    max_messages_per_s: float = 2000.0
    max_session_s: float = 0
    max_file_sessions: int = 8
    resume_s: float = 120.0
    memory_mb: int = 0
    secret: str = ""
    page: Path = Path(__file__).parent.parent / "clients" / "web" / "dist"
