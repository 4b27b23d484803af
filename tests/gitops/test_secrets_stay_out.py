"""Secrets go into files that only their owner reads, and into nothing else: no output, no YAML, no commit."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd.gitops import leaks, secrets

from .conftest import Said, git

LIVE = """\
name: live
feeds:
  - feed: kalshi
    endpoint: demo
    key:
      id: env:TEST_KALSHI_ID
      secret: file:~/keys/kalshi.pem
"""


@pytest.fixture(scope="module")
def pem() -> bytes:
    return secrets.rsa_pem()


@pytest.fixture
def live(folder: Path, tmp_path: Path) -> Path:
    """The file that environment live's key belongs into."""
    (folder / "environments" / "live.yaml").write_text(LIVE)
    return tmp_path / "home" / "keys" / "kalshi.pem"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def middle(pem: bytes) -> str:
    return pem.decode().splitlines()[5]


def test_a_secret_goes_from_file_to_file_unseen(
    live: Path, tmp_path: Path, pem: bytes, ssmd: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "downloaded").write_bytes(pem)
    old = os.umask(0)
    try:
        code, out, err = ssmd("key", "set", "live", "kalshi", "--secret-from", "downloaded")
    finally:
        os.umask(old)
    assert code == 0, err
    assert live.read_bytes() == pem and mode(live) == 0o600 and mode(live.parent) == 0o700
    assert "export TEST_KALSHI_ID=" in out and middle(pem) not in out + err
    monkeypatch.setenv("TEST_KALSHI_ID", "the-id-of-the-key")
    for command in (("key", "show", "live", "kalshi"), ("key", "list"), ("validate", "--check-keys")):
        code, out, err = ssmd(*command)
        assert code == 0, (command, out, err)
        assert middle(pem) not in out + err and "the-id-of-the-key" not in out + err
    assert "ready" in ssmd("key", "list", "live")[1]
    (told,) = msgspec.json.decode(ssmd("key", "list", "live", "--json")[1])
    assert told == {
        "environment": "live",
        "key": "kalshi",
        "id": "env:TEST_KALSHI_ID",
        "secret": "file:~/keys/kalshi.pem",
        "days": 0,
        "state": "ready",
    }


def test_standard_input_is_taken_too(live: Path, folder: Path, tmp_path: Path, pem: bytes) -> None:
    command = [sys.executable, "-m", "ssmd", "key", "set", "live", "kalshi", "--secret-from", "-"]
    ended = subprocess.run(command, input=pem, capture_output=True, check=False, timeout=60, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert live.read_bytes() == pem
    assert middle(pem).encode() not in ended.stdout + ended.stderr


def test_what_is_no_key_is_refused_and_not_shown(
    live: Path, tmp_path: Path, pem: bytes, ssmd: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KALSHI_ID", "some-id")
    (tmp_path / "wrong").write_text("hunter2-hunter2\n")
    code, out, err = ssmd("key", "set", "live", "kalshi", "--secret-from", "wrong")
    assert code == 2 and "private key" in err and "hunter2" not in out + err
    assert not live.exists()
    (tmp_path / "empty").write_text("\n")
    assert ssmd("key", "set", "live", "kalshi", "--secret-from", "empty")[0] == 2
    code, _, err = ssmd("key", "set", "live", "kalshi", "--id-from", "empty")
    assert code == 2 and "is a variable, which ssmd cannot set for you: export TEST_KALSHI_ID=" in err
    code, _, err = ssmd("key", "set", "live", "kalshi")
    assert code == 2 and "nothing was given" in err
    code, _, err = ssmd("key", "show", "live", "kraken")
    assert code == 2 and "environment live has no key 'kraken': it has kalshi" in err
    assert not live.exists()


def test_keys_that_cannot_be_used_are_found(
    live: Path, pem: bytes, ssmd: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> str:
        code, out, _ = ssmd("validate", "--check-keys")
        assert code == 1
        return out

    assert "live.yaml:6:7: feeds.0.key.id: the variable TEST_KALSHI_ID is not set; export" in told()
    monkeypatch.setenv("TEST_KALSHI_ID", "some-id")
    assert f"live.yaml:7:7: feeds.0.key.secret: {live} does not exist; put it there with `ssmd key set`" in told()
    live.parent.mkdir(parents=True)
    live.write_bytes(pem)
    live.chmod(0o644)
    assert f"{live} can be read by others; chmod 600 {live}" in told()
    live.chmod(0o600)
    assert ssmd("validate", "--check-keys")[0] == 0
    live.write_text("not a key")
    assert "live.yaml:5:5: feeds.0.key:" in told()


def test_a_rotation_can_be_taken_back(
    live: Path, tmp_path: Path, pem: bytes, ssmd: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KALSHI_ID", "some-id")
    (tmp_path / "first").write_bytes(pem)
    code, _, err = ssmd("key", "rotate", "live", "kalshi", "--back")
    assert code == 2 and "there is none before it" in err
    assert ssmd("key", "set", "live", "kalshi", "--secret-from", "first")[0] == 0
    code, out, _ = ssmd("key", "rotate", "live", "kalshi", "--generate")
    assert code == 0 and "-----BEGIN PUBLIC KEY-----" in out and "PRIVATE" not in out
    new = live.read_bytes()
    assert new != pem and secrets.public_pem(new) is not None and mode(live) == 0o600
    before = live.with_name("kalshi.pem.previous")
    assert before.read_bytes() == pem and mode(before) == 0o600
    (tmp_path / "wrong").write_text("hunter2-hunter2\n")
    assert ssmd("key", "rotate", "live", "kalshi", "--secret-from", "wrong")[0] == 2
    assert live.read_bytes() == new, "a refused rotation changes nothing"
    assert ssmd("key", "rotate", "live", "kalshi", "--back")[0] == 0
    assert live.read_bytes() == pem and before.read_bytes() == new


def test_init_makes_what_it_can_and_tells_the_rest(live: Path, tmp_path: Path, ssmd: Callable[..., Said]) -> None:
    code, out, _ = ssmd("key", "init", "live")
    assert code == 0 and not live.exists()
    assert "export TEST_KALSHI_ID=… (the key's id)" in out
    assert f"the secret belongs into {live}: ssmd key set live kalshi --secret-from FILE" in out
    code, out, _ = ssmd("key", "init", "live", "--generate")
    assert code == 0 and "BEGIN PUBLIC KEY" in out and mode(live) == 0o600
    assert "made by the first `ssmd up`" in ssmd("key", "list", "local", "--data", tmp_path / "data")[1]
    assert ssmd("key", "init", "local", "--data", tmp_path / "data")[0] == 0
    made = tmp_path / "data" / "keys"
    assert mode(made / "kalshi.pem") == mode(made / "kalshi.id") == 0o600
    assert ssmd("validate", "--data", tmp_path / "data", folder_of(live), "--check-keys")[0] == 1  # the variable
    assert "there already" in ssmd("key", "init", "local", "--data", tmp_path / "data")[1]
    old = (made / "kalshi.pem").read_bytes()
    assert ssmd("key", "rotate", "local", "kalshi", "--data", tmp_path / "data")[0] == 0
    assert (made / "kalshi.pem").read_bytes() != old


def folder_of(live: Path) -> Path:
    return live.parent.parent.parent / "market"


def test_no_secret_is_put_where_git_would_take_it(
    folder: Path, tmp_path: Path, pem: bytes, ssmd: Callable[..., Said]
) -> None:
    (folder / "environments" / "live.yaml").write_text(LIVE.replace("~/keys/kalshi.pem", str(folder / "kalshi.secret")))
    (tmp_path / "downloaded").write_bytes(pem)
    code, _, err = ssmd("key", "set", "live", "kalshi", "--secret-from", "downloaded")
    assert code == 2 and "git would take it" in err and not (folder / "kalshi.secret").exists()
    (folder / ".gitignore").write_text("*.secret*\n")
    assert ssmd("key", "set", "live", "kalshi", "--secret-from", "downloaded")[0] == 0


# What a file must not hold to be committed; {pem} is a real key.
LEAKS = {
    "a private key in a comment": ("environments/local.yaml", "# {pem}\n"),
    "a secret in a comment": ("feeds/kalshi.yaml", "# secret: hunter2hunter2\n"),
    "a token": ("feeds/kalshi.yaml", "# eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc\n"),
    "an AWS key": ("README.md", "AKIAIOSFODNN7EXAMPLE\n"),
    "a password in an address": ("environments/local.yaml", "nats: nats://user:hunter2@example.com:4222\n"),
    "base64 of 64 bytes": (
        "README.md",
        "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg==\n",
    ),
    "a wallet's private key": ("README.md", f"wallet 0x{'4c0883a69102937d' * 4}\n"),
}


@pytest.mark.parametrize("what", LEAKS)
def test_no_secret_is_committed(what: str, folder: Path, pem: bytes, ssmd: Callable[..., Said]) -> None:
    name, text = LEAKS[what]
    with (folder / name).open("a") as file:
        file.write(text.format(pem=pem.decode().replace("\n", "\n# ")))
    code, out, err = ssmd("commit", "-m", "innocent")
    assert code == 2 and "nothing was committed" in err and f"{name}:" in err
    assert "hunter2" not in out + err and middle(pem) not in out + err
    assert git(folder, "status", "--porcelain").splitlines()[0].startswith("??"), "nothing is staged either"


def test_a_key_file_is_not_committed(folder: Path, ssmd: Callable[..., Said]) -> None:
    (folder / ".gitignore").unlink()
    (folder / "environments" / "kalshi.pem").write_text("x")
    code, _, err = ssmd("commit", "-m", "innocent")
    assert code == 2 and "environments/kalshi.pem:1: seems to hold a key file" in err


@given(st.binary(min_size=48, max_size=96))
def test_random_secrets_are_recognised(value: bytes) -> None:
    import base64

    if len(set(value)) > 40:  # random, as secrets are
        text = base64.b64encode(value).decode()
        assert list(leaks.found("x.yaml", f"# note {text}\n".encode()))


def test_what_ships_holds_no_secret() -> None:
    """The control of the patterns: none of them takes an ordinary file for a secret."""
    from ssmd import config

    for kind in ("feeds", "environments", "schemas"):
        for path in sorted(p for p in (config.config_folder() / kind).rglob("*") if p.is_file()):
            assert list(leaks.found(path.name, path.read_bytes())) == [], path
