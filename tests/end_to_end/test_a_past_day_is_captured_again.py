"""A connector that is pointed at a replay archives the same frames again: archive and archive are equal."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.archived_days import CONVERSATION, DATE, CapturedDay

from .conftest import ROOT, archived_frames

PATHS = {
    "kalshi": ("/trade-api/ws/v2", "/trade-api/v2"),
    "deribit": ("/ws/api/v2", "/api/v2"),
    "binance": ("/stream", ""),
}


@pytest.mark.parametrize("feed", ["deribit", "binance"])
def test_the_archive_of_a_replay_is_the_archive(tmp_path: Path, free_port: Callable[[], int], feed: str) -> None:
    day = CapturedDay(feed).archive(tmp_path / "past")
    port = free_port()
    folder = _configuration(tmp_path / "configuration", feed, port)
    python = [sys.executable, "-m", "ssmd"]
    replay = [*python, "replay", feed, DATE, "--port", str(port), "--speed", "max", "--data", str(tmp_path / "past")]
    with subprocess.Popen(replay, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as replaying:
        assert replaying.stderr is not None
        while "listening at" not in replaying.stderr.readline():
            assert replaying.poll() is None
        up = [*python, "up", "--for", "12", "--env", "replayed", "--data", str(tmp_path / "again")]
        done = subprocess.run(
            up, cwd=ROOT, env={**os.environ, "SSMD_CONFIG": str(folder)}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        replaying.terminate()
    data = set(day.data)
    again = [frame for lines in archived_frames(tmp_path / "again").values() for _, frame, line in lines]
    channels = {
        line["channel"]
        for lines in archived_frames(tmp_path / "again").values()
        for _, frame, line in lines
        if frame not in data and not str(line["channel"]).startswith("_") and not frame.startswith(b'{"rest":')
    }
    assert [frame for frame in again if frame in data] == day.data
    assert channels <= CONVERSATION


def _configuration(folder: Path, feed: str, port: int) -> Path:
    """Our own, and an environment whose venue is the replay."""
    for kind in ("feeds", "environments", "schemas"):
        shutil.copytree(ROOT / "exchanges" / kind, folder / kind)
    path = folder / "feeds" / f"{feed}.yaml"
    document = yaml.safe_load(path.read_text())
    ws, rest = PATHS[feed]
    replayed = {"ws": f"ws://127.0.0.1:{port}{ws}", "rest": f"http://127.0.0.1:{port}{rest}"}
    for version in document["versions"]:
        version["endpoints"] = {"replayed": replayed}
    path.write_text(yaml.safe_dump(document))
    environment = {"name": "replayed", "servers": "local", "feeds": [{"feed": feed, "endpoint": "replayed"}]}
    (folder / "environments" / "replayed.yaml").write_text(yaml.safe_dump(environment))
    return folder
