"""Logs: one form for all of them, who it was about, and no secret in any."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import serving
import structlog
import websockets

from server import log
from server.auth import Gate, digest, new_key
from server.config import Settings
from server.signing import Signer

ROOT = Path(__file__).parent.parent
KEY = new_key()
SETTINGS = Settings(keys=[{"name": "a", "sha256": digest(KEY)}])  # type: ignore[list-item]
SIGNER = Signer(b"a secret of the tests")
GATE = Gate(SETTINGS, SIGNER)
TOKEN = GATE.mint(GATE.identify(f"Bearer {KEY}", (), None, "localhost", "127.0.0.1"), 60)[0]
TICKET = SIGNER.sign("resume", {"session": "0123456789abcdef", "owner": "a"}, time.time(), 60)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    before = root.handlers[:], root.level, uvicorn.handlers[:], uvicorn.propagate
    yield
    root.handlers[:], root.level, uvicorn.handlers[:], uvicorn.propagate = before
    logging.captureWarnings(False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_ours_and_everybodys_come_out_the_same() -> None:
    log.configure("json", "info", stream := io.StringIO())
    structlog.get_logger("server.session").info("session", samples=3)
    logging.getLogger("uvicorn.error").warning("got %d of %s", 3, "them", extra={"color_message": "no"})
    logging.getLogger("models.weights").debug("not this")
    ours, theirs = lines(stream)
    assert ours.pop("timestamp").endswith("Z")
    assert theirs.pop("timestamp").endswith("Z")
    assert ours == {"event": "session", "samples": 3, "logger": "server.session", "level": "info"}
    assert theirs == {"event": "got 3 of them", "logger": "uvicorn.error", "level": "warning"}


def test_a_level_is_a_level_for_all() -> None:
    log.configure("json", "error", stream := io.StringIO())
    structlog.get_logger("server").info("no")
    logging.getLogger("uvicorn").warning("no")
    logging.getLogger("uvicorn").error("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]


async def test_what_is_logged_in_a_session_says_whose_it_is() -> None:
    log.configure("json", "info", stream := io.StringIO())

    async def inner(word: str) -> None:
        await asyncio.sleep(0)
        logging.getLogger("models").info(word)

    async def session(name: str) -> None:
        with log.bind_session(name, "speech", "studio"):
            await asyncio.gather(asyncio.create_task(inner(name)), inner(name))

    await asyncio.gather(session("s1"), session("s2"))
    logging.getLogger("server").info("outside")
    *inside, outside = lines(stream)
    assert sorted(line["event"] for line in inside) == ["s1", "s1", "s2", "s2"]
    assert all(
        (line["session"], line["model"], line["identity"]) == (line["event"], "speech", "studio") for line in inside
    )
    assert "session" not in outside


def test_a_traceback_is_a_field_and_has_no_local_variables() -> None:
    def fail() -> None:
        hidden = "a local variable"
        raise ArithmeticError(f"failed with {len(hidden)}")

    for format in ("json", "console"):
        log.configure(format, "info", stream := io.StringIO())  # type: ignore[arg-type]
        try:
            fail()
        except ArithmeticError:
            structlog.get_logger("server").exception("failed")
            logging.getLogger("uvicorn.error").exception("failed")
        assert stream.getvalue().count("ArithmeticError: failed with 16") == 2
        assert stream.getvalue().count('hidden = "a local variable"'.replace('"', "")) == 0
        if format == "json":
            assert all("Traceback" in line["exception"] for line in lines(stream))


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize("secret", [KEY, TOKEN, TICKET], ids=["key", "token", "ticket"])
def test_no_secret_comes_out_wherever_it_stands(format: Any, secret: str) -> None:
    log.configure(format, "debug", stream := io.StringIO())
    ours, theirs = structlog.get_logger("server"), logging.getLogger("websockets.server")
    ours.info(f"got {secret}!")
    ours.info("field", token=secret, Authorization=f"Bearer {secret}", other=secret, url=f"/?key={secret}&x=1")
    ours.info(
        "deep", headers=[(b"authorization", b"Basic dXNlcjpodW50ZXIy"), (b"x", secret.encode())], a={"b": [secret]}
    )
    ours.info("positional %s", secret)
    theirs.debug("< Authorization: Bearer %s", secret)
    theirs.debug("< Sec-WebSocket-Protocol: stems.v1, token.%s", secret)
    theirs.debug("< TEXT %r", json.dumps({"type": "resume", "token": secret, "received": 0}))
    try:
        raise ValueError(f"got {secret}")
    except ValueError:
        theirs.exception("failed")
        ours.exception("failed")
    text = stream.getvalue()
    assert secret not in text
    assert secret.removeprefix("t1.") not in text
    assert "dXNlcjpodW50ZXIy" not in text
    assert text.count("***") >= 12
    assert "stems.v1" in text
    if format == "json":
        assert len(lines(stream)) == 9


def test_a_field_that_is_called_a_secret_is_one_however_it_looks() -> None:
    log.configure("json", "info", stream := io.StringIO())
    headers = [(b"Cookie", b"hunter2"), ("x-other", "stays")]
    structlog.get_logger("server").info(
        "got", password="hunter2", Token="hunter2", deep=[{"secret": "hunter2"}], h=headers
    )
    assert "hunter2" not in stream.getvalue()
    (line,) = lines(stream)
    assert (line["password"], line["Token"], line["deep"]) == ("***", "***", [{"secret": "***"}])
    assert "stays" in stream.getvalue()


def test_what_is_no_secret_stays() -> None:
    log.configure("json", "info", stream := io.StringIO())
    words = "model htdemucs_ft/955717e8-8726e21a.th at 44100 Hz, sha256 " + "ab" * 32
    structlog.get_logger("server").info(words, key="studio", session="0123456789abcdef", samples=12.5)
    (line,) = lines(stream)
    assert (line["event"], line["key"], line["samples"]) == (words, "studio", 12.5)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_person_gets_text_and_a_pipe_gets_json(terminal: bool) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    log.configure("auto", "info", stream := Stream())
    structlog.get_logger("server").info("hello", samples=3)
    assert stream.getvalue().startswith("{") != terminal
    assert "hello" in stream.getvalue()


def test_a_server_logs_nothing_but_json_and_no_key(tmp_path: Path) -> None:
    """A process of its own, at its most talkative, with a right and a wrong key over HTTP and over a socket."""
    environment = {
        **os.environ, "RIVULET_KEYS": json.dumps([{"name": "studio", "sha256": digest(KEY)}]),
        "RIVULET_CACHE": str(tmp_path),
    }  # fmt: skip
    command = [sys.executable, "-m", "server", "serve", "--port", "0", "--log-level", "debug", "--preload", "speech"]
    wrong, file = new_key(), tmp_path / "log"
    with file.open("w") as errors:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert server.stdout
            url = server.stdout.readline().split()[-1]
            tokens = talk(url, wrong)
        finally:
            server.terminate()
            server.communicate(timeout=60)
    text = file.read_text()
    parsed = [json.loads(line) for line in text.splitlines()]
    session = [line for line in parsed if line.get("session") and line["level"] == "info"]
    assert [line["event"] for line in session] == ["session begins", "session ends"]
    assert {(line["model"], line["identity"]) for line in session} == {("speech", "studio")}
    refusals = [line for line in parsed if line["event"] == "refused"]
    assert [(line["code"], line["address"]) for line in refusals] == [("unauthorized", "127.0.0.1")] * 2
    assert not [line for line in parsed if "connection open" in line["event"]]
    assert "uvicorn.error" in {line["logger"] for line in parsed}
    for secret in (KEY, wrong, *tokens):
        assert secret not in text
    assert not re.search(r"rk_[\w-]{8}", text)


def talk(url: str, wrong: str) -> list[str]:
    """The tokens that were given out."""
    retrying = httpx.HTTPTransport(retries=10)
    with httpx.Client(base_url=url, transport=retrying, timeout=60) as http:
        while http.get("/readyz").status_code != 200:
            time.sleep(0.1)
        assert http.get("/v1/models", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401
        token = http.post("/v1/tokens", headers={"Authorization": f"Bearer {KEY}"}).json()["token"]
    return [token, *asyncio.run(converse(url.removeprefix("http://"), token))]


async def converse(host: str, token: str) -> list[str]:
    async with serving.connect(host, subprotocols=["stems.v1", f"token.{token}"]) as socket:
        await socket.send(serving.start("speech"))
        ready = json.loads(await socket.recv())
        assert ready["type"] == "ready", ready
    async with serving.connect(host, additional_headers={"Authorization": f"Bearer {token}x"}) as socket:
        assert json.loads(await socket.recv())["code"] == "unauthorized"
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
    return [ready["resume"]]
