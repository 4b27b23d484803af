"""`ssmd init`, `diff` and `commit`: the configuration and nothing else goes into git, or nothing does."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import nats
import pytest

from ssmd import config
from tests.conftest import NatsServer

from .conftest import Said, git


def test_init_makes_a_valid_configuration_in_git(
    tmp_path: Path, ssmd: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.delenv("SSMD_CONFIG", raising=False)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    code, out, _ = ssmd("init", "--feed", "kraken", "--feed", "kalshi")
    assert code == 0 and "environments/local.yaml" in out
    assert ssmd("validate")[:2] == (0, "2 feeds, 1 environment, 1 schema: valid\n"), "found in the current folder"
    assert git(Path.cwd(), "rev-parse", "--show-toplevel").strip() == str(tmp_path / "empty")
    (tmp_path / "empty/data/keys").mkdir(parents=True)
    (tmp_path / "empty/data/keys/x.pem").write_text("x")
    assert "data" not in git(Path.cwd(), "status", "--porcelain")
    before = sorted(Path.cwd().rglob("*"))
    code, _, err = ssmd("init")
    assert code == 2 and "is there already" in err
    code, _, err = ssmd("init", "elsewhere", "--feed", "nyse")
    assert code == 2 and "there is no feed 'nyse' to begin with: choose of binance" in err
    assert sorted(Path.cwd().rglob("*")) == before


def test_diff_tells_fields(folder: Path, ssmd: Callable[..., Said]) -> None:
    assert ssmd("diff")[1].splitlines()[:2] == ["environments/local.yaml", "  + the whole file"]
    assert ssmd("commit", "-m", "first")[0] == 0
    assert ssmd("diff") == (0, "", "nothing has changed since HEAD\n")
    ssmd("env", "update", "local", "--set", "archiving.rotate_seconds=60")
    ssmd("feed", "add-version", "kalshi", "--effective-from", "2031-01-01")
    ssmd("feed", "update", "deribit", "--unset", "limits.frame_bytes", "--set", "silence_seconds=16")
    (folder / "feeds" / "kalshi.yaml").write_text((folder / "feeds" / "kalshi.yaml").read_text() + "# and more\n")
    code, out, _ = ssmd("diff")
    assert code == 0
    told = out.splitlines()
    assert told[:2] == ["environments/local.yaml", "  + archiving.rotate_seconds: 60"]
    assert "  - versions.2019-01-01.limits.frame_bytes: 4194304" in told
    assert "  ~ versions.2019-01-01.silence_seconds: 15 -> 16" in told
    assert "  + versions.2031-01-01.silence_seconds: 5" in told
    assert "+  - effective_from: 2031-01-01" in ssmd("diff", "--text")[1]
    code, _, err = ssmd("diff", "nowhere")
    assert code == 2 and "git knows no 'nowhere'" in err


def test_only_the_configuration_is_committed(folder: Path, ssmd: Callable[..., Said]) -> None:
    (folder / "notes.txt").write_text("mine\n")
    git(folder, "add", "notes.txt")
    code, out, _ = ssmd("commit", "-m", "first\n\nmore about it")
    assert code == 0 and out.splitlines()[0].endswith(" first") and "  feeds/kalshi.yaml" in out
    assert "notes.txt" not in git(folder, "ls-tree", "-r", "--name-only", "HEAD")
    assert git(folder, "status", "--porcelain") == "A  notes.txt\n", "what else was staged still is"
    (folder / "feeds" / "deribit.yaml").unlink()
    code, _, err = ssmd("commit", "-m", "no more Deribit")
    assert code == 2 and "there is no feed 'deribit'" in err and "nothing was committed: 1 to mend" in err
    ssmd("env", "update", "local", "--unset", "feeds.deribit")
    code, out, _ = ssmd("commit", "-m", "no more Deribit")
    assert code == 0 and [line.strip() for line in out.splitlines()[1:]] == [
        "environments/local.yaml",
        "feeds/deribit.yaml",
    ]
    assert ssmd("commit", "-m", "again") == (0, "", "nothing has changed since the last commit\n")
    code, _, err = ssmd("commit", "-m", " ")
    assert code == 2 and "is empty" in err


def test_a_configuration_within_a_larger_repository(
    tmp_path: Path, folder: Path, ssmd: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As exchanges/ is in ssmd's own."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "market" / ".git").rename(tmp_path / ".git")
    (tmp_path / "other.txt").write_text("x\n")
    assert ssmd("commit", "-m", "first")[0] == 0
    names = git(tmp_path, "ls-tree", "-r", "--name-only", "HEAD").splitlines()
    assert "market/feeds/kalshi.yaml" in names and all(name.startswith("market/") for name in names)
    ssmd("feed", "update", "kalshi", "--set", "silence_seconds=6")
    assert ssmd("diff")[1].splitlines() == ["feeds/kalshi.yaml", "  ~ versions.2026-03-12.silence_seconds: 5 -> 6"]
    assert ssmd("commit", "-m", "second")[1].splitlines()[1:] == ["  feeds/kalshi.yaml"]


def test_a_refused_commit_leaves_all_as_it_was(folder: Path, ssmd: Callable[..., Said]) -> None:
    hook = folder / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no such thing >&2\nexit 1\n")
    hook.chmod(0o755)
    before = git(folder, "status", "--porcelain")
    code, _, err = ssmd("commit", "-m", "first")
    assert code == 2 and "no such thing" in err
    assert git(folder, "status", "--porcelain") == before


def test_outside_of_git_it_is_one_sentence(folder: Path, tmp_path: Path, ssmd: Callable[..., Said]) -> None:
    (folder / ".git").rename(tmp_path / "gone")
    for command in (("diff",), ("commit", "-m", "x")):
        code, _, err = ssmd(*command)
        assert code == 2 and "is in no git repository" in err and err.count("\n") == 1


def test_a_torn_down_environment_is_gone_and_nothing_else(
    folder: Path, tmp_path: Path, ssmd: Callable[..., Said]
) -> None:
    data = tmp_path / "data"
    config.Places(data).create("local")
    (data / "archive" / "kalshi").mkdir()
    (data / "archive" / "kalshi" / "x").write_bytes(b"12345")
    (data / "mine.txt").write_text("mine")
    code, _, err = ssmd("env", "teardown", "local", "--data", data)
    assert code == 2 and "look with --dry-run, then say --confirm local" in err
    code, out, _ = ssmd("env", "teardown", "local", "--data", data, "--dry-run", "--json")
    told = {item["what"]: (item["where"], item["size"], item["detail"]) for item in msgspec.json.decode(out)}
    assert code == 0 and told["archive"] == (str(data / "archive"), 5, "1 files")
    assert set(told) == {"journal", "archive", "lake", "nats", "temporal", "logs", "keys", "run"}
    assert (data / "archive" / "kalshi" / "x").exists()
    ssmd("env", "create", "other", "--feed", "deribit")
    code, _, err = ssmd("env", "teardown", "other", "--data", data, "--confirm", "other")
    assert code == 2 and "is the data folder of environment local" in err
    addresses = config.Addresses("local", "", "", "", {}, {}, supervisor=os.getpid())
    (data / "run" / "addresses.json").write_bytes(msgspec.json.encode(addresses))
    code, _, err = ssmd("env", "teardown", "local", "--data", data, "--confirm", "local")
    assert code == 2 and "is in use by `ssmd up`" in err and (data / "archive" / "kalshi" / "x").exists()
    (data / "run" / "addresses.json").unlink()
    assert ssmd("env", "teardown", "local", "--data", data, "--confirm", "local")[0] == 0
    assert [p.name for p in data.iterdir()] == ["mine.txt"]
    assert (folder / "environments" / "local.yaml").exists()
    assert "there is nothing to remove" in ssmd("env", "teardown", "local", "--data", data, "--dry-run")[2]


async def test_streams_on_a_server_elsewhere_are_told_and_removed(
    folder: Path, tmp_path: Path, nats_server: NatsServer, ssmd: Callable[..., Said]
) -> None:
    client = await nats.connect(nats_server.url)
    streams = client.jetstream()
    await streams.add_stream(name="TORN_KALSHI", subjects=["torn.kalshi.>"])
    await streams.add_stream(name="TORN_ELSE", subjects=["torn.else.>"])
    await streams.publish("torn.kalshi.x", b"1")
    text = f"name: torn\nservers: remote\nnats: {nats_server.url}\nfeeds:\n  - {{feed: kalshi, endpoint: simulator, "
    text += "key: {id: env:X, secret: env:Y}}\n"
    (folder / "environments" / "torn.yaml").write_text(text)

    def torn(*options: str) -> Said:
        return ssmd("env", "teardown", "torn", "--data", tmp_path / "none", *options)

    code, out, err = await asyncio.to_thread(torn, "--dry-run")
    assert code == 0 and "TORN_KALSHI" in out and "1 messages" in out, err
    assert (await streams.stream_info("TORN_KALSHI")).state.messages == 1
    assert (await asyncio.to_thread(torn, "--confirm", "torn"))[0] == 0
    left = {s.config.name for s in await streams.streams_info()}
    assert "TORN_KALSHI" not in left and "TORN_ELSE" in left
    await client.close()
    (folder / "environments" / "torn.yaml").write_text(text.replace(nats_server.url, "nats://127.0.0.1:9"))
    code, _, err = await asyncio.to_thread(torn, "--dry-run")
    assert code == 2 and "no NATS answers at nats://127.0.0.1:9 " in err
