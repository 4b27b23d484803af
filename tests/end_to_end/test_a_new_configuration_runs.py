"""What `ssmd init` makes in an empty folder is valid, runs and answers, without a word from outside."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ssmd import config
from ssmd.up import wanted


def test_from_an_empty_folder_to_an_answer(tmp_path: Path, free_port: Callable[[], int]) -> None:
    here = tmp_path / "market"
    here.mkdir()
    known = {k: v for k, v in os.environ.items() if not k.startswith("SSMD_")}
    known |= {"GIT_CEILING_DIRECTORIES": str(tmp_path)}
    for name in ("AUTHOR", "COMMITTER"):
        known |= {f"GIT_{name}_NAME": "Tester", f"GIT_{name}_EMAIL": "tester@example.com"}

    def ssmd(*arguments: str) -> str:
        command = [sys.executable, "-m", "ssmd", *arguments]
        done = subprocess.run(command, cwd=here, env=known, capture_output=True, text=True, timeout=170)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    ssmd("init", "--feed", "kalshi", "--feed", "deribit")
    assert ssmd("validate") == "2 feeds, 1 environment, 1 schema: valid\n"
    ssmd("commit", "-m", "first")
    environment = config.load_environment("local", here)
    sources = [wanted.Source(config.load_feed(f.feed, here), environment.feed(f.feed)) for f in environment.feeds]
    ports = [f"--port={name}={free_port()}" for name in wanted.usual_ports(environment, sources)]
    told = ssmd("up", "--once", "--for", "5", *ports)
    for feed in ("kalshi", "deribit"):
        found = re.search(rf"^{feed}: ([\d,]+) frames sent, ([\d,]+) archived, each once", told, re.M)
        assert found and found[1] == found[2], told
    assert int(ssmd("query", "select count(*) from trades", "--format", "csv").split()[1]) > 0
    assert ssmd("validate", "--check-keys").endswith("valid\n")
    assert not subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, env=known).stdout
