"""Settings: where they come from, which one wins, and what is refused."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import rivulet_client
import trustme
import zoo

from server.auth import digest
from server.config import Settings, load, loopback
from server.secret import secret

ROOT = Path(__file__).parent.parent
HASH = "ab" * 32


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("RIVULET_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RIVULET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rivulet.toml"
    path.write_text(
        f'port = 1\nmax_sessions = 1\ndrain_s = 1\n[[keys]]\nname = "a"\nsha256 = "{HASH}"\nmax_sessions = 3\n'
    )
    return path


def rivulet(*words: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "server", *words]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, input=stdin, capture_output=True, text=True, timeout=120
    )


def test_the_command_line_over_the_environment_over_the_file_over_the_defaults(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIVULET_PORT", "2")
    monkeypatch.setenv("RIVULET_MAX_SESSIONS", "2")
    given = load(config=file, port=3)
    assert (given.port, given.max_sessions, given.drain_s, given.idle_timeout_s) == (3, 2, 1, 60)
    assert (given.keys[0].name, given.keys[0].max_sessions, given.keys[0].models) == ("a", 3, None)


def test_the_environment_names_the_file_and_an_empty_variable_is_none(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIVULET_CONFIG", str(file))
    monkeypatch.setenv("RIVULET_KEYS", "")
    assert load().keys[0].name == "a"
    monkeypatch.setenv("RIVULET_KEYS", f'[{{"name": "b", "sha256": "{HASH}"}}]')
    assert [key.name for key in load().keys] == ["b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 8000", "FILE: got unknown key 'prot', known are admission, connects_per_minute, diarizers, drain_s"),
        ("port = 'x'", "FILE: port: got 'x', Input should be a valid integer"),
        ("port = ", "got the configuration FILE, which cannot be read: Invalid value"),
        ("[[keys]]\nname = 'a'\nsha = 'b'", "FILE: keys.0.sha256: Field required; FILE: keys.0.sha: Extra inputs"),
        (f"[[keys]]\nname = 'a b'\nsha256 = '{HASH}'", "FILE: keys.0.name: got 'a b'"),
        (f"[[keys]]\nname = 'anonymous'\nsha256 = '{HASH}'", "got a key named anonymous"),
        (f"[[keys]]\nname = 'a'\nsha256 = '{HASH}'\n" * 2, "got two keys with the name 'a'"),
        (
            f"secret = 'short'\n[[keys]]\nname = 'a'\nsha256 = '{HASH}'",
            "got a secret of 5 characters, expected at least 16",
        ),
        ("tls_cert = 'a.pem'", "got tls_cert a.pem and tls_key None, expected both or neither"),
        ("host = '0.0.0.0'", "got host '0.0.0.0', which others can reach, and no keys"),
    ],
)
def test_a_mistake_is_told_with_its_file(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "rivulet.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=re.escape(said.replace("FILE", str(file)))):
        load(config=file)


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(ValueError, match=r"nowhere.toml, which cannot be read: .*No such file"):
        load(config=Path("nowhere.toml"))


def test_a_variable_that_is_not_json_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIVULET_KEYS", "rk_key")
    with pytest.raises(ValueError, match=r'"keys".*expected JSON'):
        load()


def test_a_key_where_its_hash_belongs_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"keys.0.sha256") as caught:
        load(keys=[{"name": "a", "sha256": "rk_the_key_itself", "key": "rk_the_key_itself"}])
    assert "rk_" not in str(caught.value)
    assert "a long secret, really" not in repr(Settings(secret="a long secret, really"))


@pytest.mark.parametrize(
    ("host", "fine"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
        ("", False), ("192.168.1.2", False), ("localhost.example", False), ("::ffff:127.0.0.1", True),
    ],
)  # fmt: skip
def test_only_loopback_needs_no_keys(host: str, fine: bool) -> None:
    assert loopback(host) == fine
    if fine:
        assert load(host=host).host == host
        return
    with pytest.raises(ValueError, match="which others can reach"):
        load(host=host)
    assert load(host=host, insecure=True).insecure
    assert load(host=host, keys=[{"name": "a", "sha256": HASH}]).keys


def test_the_command_refuses_a_public_address_and_says_the_ways_out() -> None:
    refused = rivulet("serve", "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 2
    for word in ("got host '0.0.0.0'", "rivulet keys new", "127.0.0.1 behind a proxy", "--insecure"):
        assert word in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_key_is_shown_once_beside_a_table_that_is_a_setting(tmp_path: Path) -> None:
    made = rivulet("keys", "new", "studio")
    key = re.search(r"rk_[\w-]{43}\b", made.stderr)
    assert key
    assert key[0] not in made.stdout
    (table,) = tomllib.loads(made.stdout)["keys"]
    assert table == {"name": "studio", "sha256": digest(key[0])}
    (tmp_path / "rivulet.toml").write_text(made.stdout)
    assert load(config=tmp_path / "rivulet.toml").keys[0].name == "studio"
    assert rivulet("keys", "hash", stdin=key[0] + "\n").stdout.strip() == table["sha256"]
    assert rivulet("keys", "new", "studio").stdout != made.stdout


@pytest.mark.parametrize(
    ("words", "said"), [(["new", "a b"], "got name 'a b'"), (["hash"], "got a key of 5 characters")]
)
def test_keys_that_are_none(words: list[str], said: str) -> None:
    refused = rivulet("keys", *words, stdin="short\n")
    assert (refused.returncode, said in refused.stderr) == (2, True)


def test_a_secret_is_kept_for_the_next_process_and_for_nobody_else(tmp_path: Path) -> None:
    first = secret(Settings())
    path = tmp_path / "cache" / "secret"
    assert (len(first), first) == (32, path.read_bytes())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret(Settings()) == first
    assert [child.name for child in path.parent.iterdir()] == ["secret"]
    assert secret(Settings(secret="set")) == b"set"


def test_two_processes_that_begin_at_once_keep_the_same_secret(tmp_path: Path) -> None:
    code = "from server.config import Settings; from server.secret import secret; print(secret(Settings()).hex())"
    running = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert len({process.communicate(timeout=120)[0] for process in running}) == 1


@pytest.mark.parametrize("how", ["open to others", "short", "a folder", "no folder"])
def test_a_secret_that_cannot_be_kept_is_random_and_told(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cache" / "secret"
    if how == "no folder":
        path.parent.write_text("a file where the folder should be")
    else:
        path.parent.mkdir()
        path.mkdir() if how == "a folder" else path.write_bytes(b"x" * (8 if how == "short" else 32))
        path.chmod(0o644 if how == "open to others" else 0o700 if how == "a folder" else 0o600)
    with caplog.at_level(logging.WARNING):
        assert secret(Settings()) != secret(Settings())
    assert "Set RIVULET_SECRET" in caplog.text


def test_every_setting_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    missing = [name for name in Settings.model_fields if f"`RIVULET_{name.upper()}`" not in text]
    assert not missing


def test_the_example_is_a_configuration() -> None:
    example = load(config=ROOT / "deploy" / "rivulet.toml")
    assert example.keys
    assert not loopback(example.host)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def certificate(authority: trustme.CA, folder: Path) -> tuple[str, str]:
    issued = authority.issue_cert("localhost", "127.0.0.1")
    cert, key = folder / "cert.pem", folder / "key.pem"
    for blob in issued.cert_chain_pems:
        blob.write_to_path(cert, append=True)
    issued.private_key_pem.write_to_path(key)
    return str(cert), str(key)


@contextmanager
def listening(*words: str) -> Iterator[str]:
    """`rivulet serve` in a process of its own, on a port of its choice; what it says of its address."""
    command = [sys.executable, "-m", "server", "serve", "--port", "0", "--log-level", "warning", *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.communicate(timeout=60)


async def test_a_session_over_tls(authority: trustme.CA, tmp_path: Path) -> None:
    """A certificate of our own authority, and the Python client that trusts it, and then one that does not."""
    cert, key = certificate(authority, tmp_path)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with listening("--preload", "speech", "--tls-cert", cert, "--tls-key", key) as url:
        assert url.startswith("https://127.0.0.1:")
        pcm = zoo.audio(1, 8000)
        stems = await rivulet_client.separate_array(url, pcm, 16_000, model="speech", tls=context, retries=20)
        assert [audio.shape for audio in stems.values()] == [(1, 8000)] * 2
        with pytest.raises(rivulet_client.Refused, match="certificate"):
            await rivulet_client.separate_array(url, pcm, 16_000, model="speech")
        with pytest.raises(httpx.TransportError):
            await asyncio.to_thread(httpx.get, url.replace("https", "http") + "/livez")


def test_a_certificate_that_is_none_is_told(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("not a certificate")
    for path in (wrong, tmp_path / "nowhere.pem"):
        refused = rivulet("serve", "--port", "0", "--tls-cert", str(path), "--tls-key", str(path))
        assert refused.returncode == 2
        assert f"got tls_cert {path} and tls_key {path}, which do not load" in refused.stderr
        assert "Traceback" not in refused.stderr
