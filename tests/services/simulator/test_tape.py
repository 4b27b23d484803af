"""A recording is streamed, and one that is damaged is refused in one sentence naming file and line."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exchanges.kalshi.simulator import KalshiSimulator
from exchanges.port import Simulation
from services.simulator.tape import Tape
from ssmd.errors import Permanent

ROOT = Path(__file__).parents[3]
GOOD = b'{"recv_ms":%d,"event":{"type":"trade","sid":2,"seq":1,"msg":{"trade_id":"t","market_ticker":"A"}}}\n'
ANSWER = b'{"recv_ms":1,"event":{"type":"subscribed","id":1,"msg":{"channel":"trade","sid":2}}}\n'
NOISE = gzip.compress(os.urandom(3) + b"".join(GOOD % k + os.urandom(30).hex().encode() for k in range(200)))


def _tape(path: Path) -> Tape:
    return Tape([path], KalshiSimulator(Simulation()).record)


@pytest.mark.parametrize("packed", [True, False])
def test_a_record_has_the_place_of_its_line(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "tape"
    text = GOOD % 5 + ANSWER + b"\n" + GOOD % 7
    path.write_bytes(gzip.compress(text) if packed else text)
    tape = _tape(path)
    assert [(place, record.ts_ns) for place, record in tape.records()] == [(0, 5_000_000), (3, 7_000_000)]
    contents = tape.contents()
    assert contents.instruments == {("trade", "A")}
    assert (contents.frames, contents.first_ns, contents.last_ns) == (2, 5_000_000, 7_000_000)


def test_several_files_are_one_recording(tmp_path: Path) -> None:
    """Places go on from file to file; a file of before the one that it follows, or of nothing, is refused."""
    first, second, nothing = (tmp_path / name for name in ("first.gz", "second", "nothing"))
    first.write_bytes(gzip.compress(GOOD % 5 + ANSWER + GOOD % 7))
    second.write_bytes(GOOD % 6 + GOOD % 9)  # recorders overlap
    nothing.write_bytes(ANSWER)
    parse = KalshiSimulator(Simulation()).record
    tape = Tape([first, second], parse)
    assert [(place, record.ts_ns // 10**6) for place, record in tape.records()] == [(0, 5), (2, 7), (3, 6), (4, 9)]
    contents = tape.contents()
    assert (contents.frames, contents.first_ns, contents.last_ns) == (4, 5_000_000, 9_000_000)
    with pytest.raises(Permanent, match=f"the recording {first} begins before the one it follows"):
        Tape([second, first], parse).contents()
    with pytest.raises(Permanent, match=f"the recording {nothing} holds no market data"):
        Tape([first, nothing], parse).contents()
    second.write_bytes(GOOD % 6 + b"hello\n")
    with pytest.raises(Permanent, match=f"{second}:2: cannot be replayed"):
        Tape([first, second], parse).contents()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (GOOD % 1 + b"hello\n", 2),
        (b"\x00\x01\x02 not gzip at all", 1),
        (b"[]\n", 1),
        (GOOD % 1 + GOOD % 2 + b'{"ts":1,"event":{}}\n', 3),
        (gzip.compress(GOOD % 1 + b'{"recv_ms":1}\n'), 2),
        (gzip.compress(b"".join(GOOD % k for k in range(5)))[:-9], None),
        (NOISE[: len(NOISE) // 2], None),
        (b"\x1f\x8bnot really", 1),
    ],
    ids=["text", "binary", "list", "other key", "no event", "cut at the end", "cut in the middle", "no gzip"],
)
def test_a_damaged_recording_is_one_sentence_with_file_and_line(
    tmp_path: Path, content: bytes, line: int | None
) -> None:
    path = tmp_path / "damaged.ndjson.gz"
    path.write_bytes(content)
    with pytest.raises(Permanent) as caught:
        _tape(path).contents()
    said = str(caught.value)
    assert said.startswith(f"{path}:{'' if line is None else line}") and "\n" not in said and len(said) < 500


def test_a_recording_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"none\.gz: No such file"):
        _tape(tmp_path / "none.gz").contents()
    with pytest.raises(Permanent, match="Is a directory"):
        _tape(tmp_path).contents()
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    with pytest.raises(Permanent, match="no market data"):
        _tape(empty).contents()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--replay", "/nowhere/tape.gz"], "/nowhere/tape.gz"),
        (["--clock", "recorded"], "--clock recorded needs a recording"),
        (["--public-key", "/nowhere/key.pem"], "/nowhere/key.pem"),
        (["--public-key", __file__], "no RSA key in PEM form"),
        (["--rate", "0"], "--rate 0"),
    ],
)
def test_bad_options_end_with_one_sentence_and_no_traceback(tmp_path: Path, options: list[str], says: str) -> None:
    command = [sys.executable, "-m", "services.simulator", "--data", str(tmp_path), "--feed", "kalshi", *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert says in ended.stderr and ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
