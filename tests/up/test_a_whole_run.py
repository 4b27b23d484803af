"""`ssmd up` with every real part: on a terminal until Ctrl-C, and by itself with `--once`; nothing is left running."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ssmd import config

SSMD = Path(sys.executable).parent / "ssmd"
STOP_SECONDS_MAX = 30.0  # two seconds on a machine of its own; a part that must be killed takes longer


def left_running(data: Path) -> list[str]:
    """The command lines that still name the data folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(data) in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found


class Terminal:
    """`ssmd` in a terminal of its own, 80 by 24."""

    def __init__(self, *arguments: str) -> None:
        self.text = ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.environ |= {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
            os.execv(SSMD, [str(SSMD), *arguments])

    def read_until(self, pattern: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < end, f"no {pattern!r} in {self.text[-3000:]}"
            if select.select([self._fd], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self._fd, 65536).decode(errors="replace")
                except OSError:  # it has ended
                    assert re.search(pattern, self.text), self.text[-3000:]

    def press(self, key: bytes) -> None:
        os.write(self._fd, key)

    def wait(self) -> int:
        try:
            while data := os.read(self._fd, 65536):
                self.text += data.decode(errors="replace")
        except OSError:
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_ctrl_c_on_a_terminal_stops_all_of_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    terminal = Terminal("up", "--data", str(data))
    try:
        terminal.read_until("ready", 60)
        terminal.read_until(r"\d{3} +\d+ +\d{2,} +\d+ ms", 60)
        addresses = config.load_addresses(data)
        assert addresses is not None
        assert addresses.supervisor == terminal.pid
        terminal.read_until(r"schedules: \d+ added", 60)
        diff = subprocess.run([str(SSMD), "schedule", "diff", "--data", str(data)], capture_output=True, timeout=30)
        assert (diff.returncode, diff.stdout) == (0, b"")
        began = time.monotonic()
        terminal.press(b"\x03")
        code = terminal.wait()
    finally:
        if left_running(data):
            os.kill(terminal.pid, signal.SIGKILL)
    assert code == 0, terminal.text[-3000:]
    assert time.monotonic() - began < STOP_SECONDS_MAX
    assert "did not stop" not in terminal.text
    assert re.search(r"kalshi: [\d,]+ frames archived", terminal.text)
    assert left_running(data) == []
    assert not config.addresses_path(data).exists()


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> "tuple[Path, subprocess.CompletedProcess[str]]":
    """A run of a few seconds, to its end."""
    data = tmp_path_factory.mktemp("once") / "data"
    command = [str(SSMD), "up", "--once", "--for", "3", "--seed", "7", "--data", str(data)]
    return data, subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_once_proves_what_it_archived(once: "tuple[Path, subprocess.CompletedProcess[str]]") -> None:
    data, ended = once
    assert (ended.returncode, ended.stderr) == (0, "")
    told = re.search(r"kalshi: ([\d,]+) frames sent, ([\d,]+) archived, each once and byte for byte", ended.stdout)
    assert told, ended.stdout
    assert int(told[2].replace(",", "")) > 300
    assert re.search(r"rolled up \(revision 1\): .*book_deltas [\d,]+.*trades [\d,]+", ended.stdout)
    assert left_running(data) == []


def test_without_a_terminal_it_writes_plain_lines(once: "tuple[Path, subprocess.CompletedProcess[str]]") -> None:
    data, ended = once
    lines = ended.stdout.splitlines()
    assert "\x1b" not in ended.stdout
    assert [line.split("  ")[0] for line in lines[:4]] == ["NATS", "Temporal", "kalshi (simulated)", "data"]
    assert lines[3].endswith(str(data))
    assert any(re.search(r"\d s  .*\| kalshi connected, [\d,]+ frames in", line) for line in lines)


def test_an_unknown_reader_of_the_lines_does_not_keep_it_running(tmp_path: Path) -> None:
    """`ssmd up | head -1`: when the reader goes, the run ends in order."""
    data = tmp_path / "data"
    up = subprocess.Popen([str(SSMD), "up", "--data", str(data)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert up.stdout is not None
    up.stdout.readline()
    up.stdout.close()
    up.wait(40)
    assert up.stderr is not None
    assert b"Traceback" not in up.stderr.read()
    assert left_running(data) == []
