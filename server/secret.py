"""The secret that signs tokens, where none was set: kept on this machine, so that a restart knows its own tokens."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from pathlib import Path

from models import weights
from server.config import Settings

log = logging.getLogger(__name__)
LENGTH = 32  # bytes


def secret(settings: Settings) -> bytes:
    """The secret that was set, or the one in the cache, made at first use; or, where nothing can be kept, a random one."""
    if settings.secret:
        return settings.secret.encode()
    path = weights.cache("secret")
    try:
        return _read(path) if path.exists() else _make(path)
    except OSError as error:
        log.warning(
            "no secret is kept (%s): a restart, or another replica, will not know the tokens of this process. "
            "Set RIVULET_SECRET",
            error,
        )
        return secrets.token_bytes(LENGTH)


def _read(path: Path) -> bytes:
    status = path.stat()
    if os.name == "posix" and (status.st_mode & 0o077 or status.st_uid != os.getuid()):
        raise PermissionError(f"got {path} of mode {status.st_mode & 0o777:o}, expected 600 and our own")
    if len(data := path.read_bytes()) < LENGTH:
        raise OSError(f"got {path} of {len(data)} bytes, expected {LENGTH}")
    return data


def _make(path: Path) -> bytes:
    """Whole or not at all, and the first of several processes wins. `mkstemp` makes files of mode 600."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=".secret-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(LENGTH))
        os.link(scratch, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(scratch)
    return _read(path)
