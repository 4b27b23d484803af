"""python -m tests.docs.cookbook: asks every question of docs/cookbook.md again, and writes the answers below them.

A block of SQL, Python or shell commands is a question; the block of text behind it is the answer, made here from the
folder of tests/docs/made.py. In Python `data` is that folder; shell commands are `ssmd` ones, run in it.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from activities.processes import Processes
from ssmd import config, durable, lake
from ssmd.cli import rows
from tests.docs.made import make

PAGE = config.application_folder() / "docs" / "cookbook.md"
QUESTION = re.compile(r"^```(sql|python|sh)\n(.*?)^```\n(?:\n```text\n.*?^```\n)?", re.MULTILINE | re.DOTALL)


def page(text: str, data: Path) -> str:
    """The page with every answer made again."""

    def answered(found: re.Match[str]) -> str:
        language, question = found[1], found[2]
        return f"```{language}\n{question}```\n\n```text\n{answer(language, question, data).rstrip()}\n```\n"

    return QUESTION.sub(answered, text)


def answer(language: str, question: str, data: Path) -> str:
    """What a question gives."""
    if language == "sql":
        written = io.BytesIO()
        with lake.connect(data) as connection:
            rows.write(rows.Rows(connection.sql(question), 1_000), "table", written, terminal=False)
        return written.getvalue().decode()
    if language == "python":
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), _inside(data):
            exec(compile(question, "cookbook", "exec"), {"data": data})
        return printed.getvalue()
    return "".join(_run(line, data) for line in question.splitlines() if line.startswith("ssmd "))


def _run(command: str, data: Path) -> str:
    arguments = [sys.executable, "-m", "ssmd", *shlex.split(command.partition("  #")[0])[1:], "--data", "."]
    variables = {**os.environ, "PYTHONPATH": str(config.application_folder())}
    done = subprocess.run(arguments, cwd=data, env=variables, capture_output=True, text=True, timeout=60)
    return done.stdout if done.returncode == 0 else done.stderr


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """What is written without a path is written there."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, Processes(2) as processes:
        durable.replace(PAGE, page(PAGE.read_text(), make(Path(folder) / "data", processes)).encode())
