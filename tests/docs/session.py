"""python -m tests.docs.session: a newcomer's first minutes, as they really went, into docs/first-session.md.

A fresh clone of the last commit, an empty environment, and the commands of the README's first section in their order.
"""

import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from ssmd import config, durable

ROOT = config.application_folder()
PAGE = ROOT / "docs" / "first-session.md"
SECTION = re.compile(r"^## From nothing to an answer\n(.*?)^## ", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINES_MAX = 14  # of one answer
PATIENCE_SECONDS = 900  # of it the installation's most
WATCH_SECONDS = 20  # there shall be something to ask about
# What an index of packages has to say, and that others use the machine, is no part of a session.
STRANGE = re.compile(r"^(WARNING: Location .*|Looking in .*| +\d+ s  port \d+ is taken: .*)\n", re.MULTILINE)

HEAD = """# A first session

The commands of the README's first section in a fresh clone, on a machine with Linux, Python 3.11 and `make`, as they
went: made by `python -m tests.docs.session`. Long answers are cut, and lines about ports that others use are left out.

"""


def commands() -> list[str]:
    """What the README has a newcomer type; the first in one terminal, the others in a second."""
    section = SECTION.search((ROOT / "README.md").read_text())
    assert section is not None, "the README begins with a first session"
    lines = [line for block in BLOCK.findall(section[1]) for line in block.splitlines()]
    return [line for line in lines if "--env" not in line]  # the real venues


def session(folder: Path) -> str:
    """The page."""
    tree = folder / "ssmd"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tree)], check=True)
    first, *others = commands()
    log = folder / "log"
    began = time.monotonic()
    with log.open("wb") as out:
        up = subprocess.Popen(first.split(), cwd=tree, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        while not list(tree.glob("data/archive/kalshi/*/trade_*.part")):
            assert up.poll() is None and time.monotonic() - began < PATIENCE_SECONDS, log.read_text()
            time.sleep(0.1)
        time.sleep(WATCH_SECONDS)
        told = [f"```console\n$ {command}\n{_ran(command, tree)}\n```\n" for command in others]
    finally:
        os.killpg(up.pid, signal.SIGINT)
        up.wait(60)
    terminal = _clean(log.read_text(), tree)
    text = f"First terminal:\n\n```console\n$ {first}\n{terminal}\n```\n\n"
    return f"{HEAD}{text}Second terminal, before the Ctrl-C in the first:\n\n" + "\n".join(told)


def _ran(command: str, tree: Path) -> str:
    variables = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run(command, shell=True, cwd=tree, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (command, done.stderr)
    lines = _clean(done.stderr + done.stdout, tree).splitlines()
    return "\n".join(lines if len(lines) <= LINES_MAX else [*lines[:LINES_MAX], "…"])


def _clean(text: str, tree: Path) -> str:
    return STRANGE.sub("", text).replace(str(tree), "~/ssmd").rstrip()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        durable.replace(PAGE, session(Path(place)).encode())
