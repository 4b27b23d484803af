"""A command on a pseudo-terminal, seen on the screen as a person sees it."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyte

TAB, ENTER, UP, CTRL_C, CTRL_D = "\t", "\r", "\x1b[A", "\x03", "\x04"
LINES = 60


class Terminal:
    """What is typed goes to the command, what it writes onto the screen."""

    def __init__(self, command: Sequence[str], cwd: Path, columns: int = 100, **variables: str) -> None:
        self.screen = pyte.Screen(columns, LINES)
        self._stream = pyte.ByteStream(self.screen)
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
        known = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES", "NO_COLOR"}}
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=known | {"TERM": "xterm-256color", **variables},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            # Ctrl-C reaches it as a signal then.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        os.close(theirs)
        self.screen.write_process_input = self.type  # type: ignore[method-assign]  # where the cursor is, if asked

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def lines(self) -> list[str]:
        """What is on the screen."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def until(self, shown: str | Callable[[list[str]], bool], seconds: float = 60) -> list[str]:
        """Wait until it is on the screen, a pattern in one line or whatever is asked; the screen then."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            lines = self.lines()
            if shown(lines) if callable(shown) else any(re.search(shown, line) for line in lines):
                return lines
            if not self._read():
                break
        raise AssertionError(f"{shown} is not shown:\n" + "\n".join(self.lines()))

    def ended(self) -> int:
        """Its exit code."""
        while self._read(30):
            pass
        return self.process.wait(30)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _read(self, seconds: float = 0.2) -> bool:
        """What has come since; False if there is nobody any more."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return self.process.poll() is None
        try:
            data = os.read(self._ours, 1 << 16)
        except OSError:  # EIO: it has ended
            return False
        self._stream.feed(data)
        return bool(data)
