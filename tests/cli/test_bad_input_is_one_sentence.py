"""Whatever is asked wrongly: one sentence saying what, which, where and what to do; exit code 2; nothing written."""

import gzip
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SSMD = Path(sys.executable).parent / "ssmd"
RECORD = b'{"recv_ms":1786410915579,"event":{"type":"trade","sid":1,"seq":1,"msg":{}}}\n'

# (arguments, what the sentence must say); {name} stands for a file made below, in the folder the command runs in.
UP = [
    (["--env", "prod"], "there is no environment 'prod' in"),
    (["--env", "../local"], "there is no environment '../local' in"),
    (["--feed", "nyse"], "there is no feed 'nyse' in"),
    (["--feed", "deribit", "--env", "kalshi-live"], "environment kalshi-live has no feed 'deribit': it has kalshi"),
    (["--feed", "deribit", "--feed", "kraken", "--replay", "{good}"], "of which feed? name one with --feed"),
    (["--replay", "{good}", "--replay", "nothing.ndjson"], "--replay nothing.ndjson: there is no such file"),
    (["--feed", "kalshi", "--feed", "kalshi"], "a feed is named twice"),
    (["--for", "0"], "--for 0: is not a positive number of seconds"),
    (["--for", "-3"], "--for -3: is not a positive number of seconds"),
    (["--for", "nan"], "--for nan: is not a positive number of seconds"),
    (["--for", "inf"], "--for inf: is not a positive number of seconds"),
    (["--for", "soon"], "invalid value for '--for'"),
    (["--seed", "x"], "invalid value for '--seed'"),
    (["--once"], "--once: needs an end: give a recording with --replay FILE, or a duration with --for SECONDS"),
    (["--speed", "max"], "--speed max: is the speed of a replay"),
    (["--clock", "recorded"], "--clock recorded: there is no recording"),
    (["--clock", "mine"], "--clock mine: is neither `now` nor `recorded`"),
    (
        ["--replay", "{good}", "--speed", "fast"],
        "--speed fast: is neither a positive number (1 is as recorded) nor `max`",
    ),
    (["--replay", "{good}", "--speed", "0"], "--speed 0: is neither a positive number"),
    (["--replay", "{good}", "--speed", "-1"], "--speed -1: is neither a positive number"),
    (["--replay", "{good}", "--speed", "nan"], "--speed nan: is neither a positive number"),
    (["--replay", "nothing.ndjson"], "--replay nothing.ndjson: there is no such file"),
    (["--replay", "."], "--replay .: is not a file"),
    (["--replay", "{empty}"], "is empty; name a recording (NDJSON, plain or gzip)"),
    (["--replay", "{empty_gzip}"], "is empty; name a recording (NDJSON, plain or gzip)"),
    (["--replay", "{cut_gzip}"], "cannot be read"),
    (["--replay", "{not_json}"], "its first line is no JSON object"),
    (["--replay", "{not_text}"], "its first line is no JSON object"),
    (["--replay", "{json_list}"], "its first line is no JSON object"),
    (["--replay", "{good}", "--env", "kalshi-live"], "environment kalshi-live has no simulated feed"),
    (["--env", "kalshi-live"], "the variable KALSHI_API_KEY_ID is not set"),
    (["--data", "{good}"], "is a file, not a folder; name another folder"),
    (["--data", "{good}/below"], "is a file, not a folder; name another folder"),
    (["--data", "{newer}"], "was written by ssmd 9.0.0 (format 999)"),
    (["--data", "{damaged}"], "is damaged"),
    (["--data", "{live}"], "is the data folder of environment live-public: name another folder for local with --data"),
    (["--port", "nats"], "is not NAME=N with N from 1 to 65535"),
    (["--port", "nats=0"], "is not NAME=N with N from 1 to 65535"),
    (["--port", "nats=99999"], "is not NAME=N with N from 1 to 65535"),
    (["--port", "postgres=5432"], "nothing here listens as 'postgres'; there is: nats, nats-monitor, temporal, ui"),
    (["--port", "ui={taken}"], "is in use or not ours to open"),
    (["--replay"], "option '--replay' requires an argument"),
    (["--replace", "x"], "no such option: --replace"),
    (["surplus"], "got unexpected extra argument"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """The files and folders that the arguments name."""
    folder = tmp_path_factory.mktemp("made")
    contents = {
        "good": gzip.compress(RECORD * 3),
        "empty": b"",
        "empty_gzip": gzip.compress(b""),
        "cut_gzip": gzip.compress(RECORD)[:30],
        "not_json": b"recv_ms,event\n1,2\n",
        "not_text": bytes(range(128, 256)) * 4 + b"\n",
        "json_list": b"[1,2]\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    for name, mark in {
        "newer": '{"format": 999, "software": "9.0.0"}',
        "damaged": "{",
        "live": '{"format": 1, "software": "0.1.0", "environment": "live-public"}',
    }.items():
        (folder / name).mkdir()
        (folder / name / "ssmd.json").write_text(mark)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield {p.name: str(p) for p in folder.iterdir()} | {"taken": str(s.getsockname()[1])}


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    known = {k: v for k, v in os.environ.items() if not k.startswith("KALSHI")}
    return subprocess.run(
        [str(SSMD), *arguments], cwd=folder, env=known, capture_output=True, text=True, check=False, timeout=60
    )


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(("arguments", "sentence"), UP, ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_up_refuses_with_one_sentence(
    arguments: list[str], sentence: str, made: dict[str, str], tmp_path: Path
) -> None:
    around = Path(made["good"]).parent
    before = listing(around)
    ended = run(tmp_path, "up", *(a.format(**made) if "{" in a else a for a in arguments))
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    assert sentence in ended.stderr
    assert listing(tmp_path) == set(), "nothing may be written"
    assert listing(around) == before, "nothing may be written"


def test_broken_yaml_is_named_with_file_and_line(tmp_path: Path) -> None:
    config = tmp_path / "config"
    (config / "environments").mkdir(parents=True)
    (config / "environments" / "broken.yaml").write_text("name: broken\nfeeds: [\n  - feed: kalshi\n")
    (config / "environments" / "odd.yaml").write_text("name: odd\nfeeds:\n  - feed: kalshi\n    endpont: simulator\n")
    (tmp_path / "here").mkdir()
    known = dict(os.environ) | {"SSMD_CONFIG": str(config)}
    for name, sentence in {
        "broken": "broken.yaml:3: the file is not valid YAML",
        "odd": "odd.yaml:3: feeds.0.",
    }.items():
        command = [str(SSMD), "up", "--env", name]
        ended = subprocess.run(
            command, cwd=tmp_path / "here", env=known, capture_output=True, text=True, check=False, timeout=60
        )
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1
        assert sentence in ended.stderr
        assert listing(tmp_path / "here") == set()


@pytest.mark.parametrize(
    ("pem", "sentence"),
    [
        (None, "cannot read"),
        (b"not a key", "is no private key in PEM form"),
        (b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", "private key"),
    ],
)
def test_a_key_that_is_none_is_refused_and_not_shown(pem: bytes | None, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "home" / ".kalshi").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    if pem is not None:
        (tmp_path / "home" / ".kalshi" / "private-key.pem").write_bytes(pem)
    known = dict(os.environ) | {"HOME": str(tmp_path / "home"), "KALSHI_API_KEY_ID": "some-id"}
    command = [str(SSMD), "up", "--env", "kalshi-live"]
    ended = subprocess.run(
        command, cwd=tmp_path / "here", env=known, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "file:~/.kalshi/private-key.pem" in ended.stderr
    assert sentence in ended.stderr
    assert "c2VjcmV0" not in ended.stderr
    assert listing(tmp_path / "here") == set(), "nothing may be written"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_ours_to_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    ended = run(tmp_path, "up", "--data", "locked/data")
    assert ended.returncode == 2
    assert "you may not write to" in ended.stderr


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    ended = run(tmp_path, "up", "--data", "/proc/ssmd")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["nope"], "no such command 'nope': see `ssmd --help`"), (["--nope"], "no such option: --nope")],
)
def test_an_unknown_command_is_one_sentence(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    ended = run(tmp_path, *arguments)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert sentence in ended.stderr
