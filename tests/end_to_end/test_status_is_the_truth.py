"""`ssmd status` of a platform that runs, of one with a stopped process, and of what is left when nothing runs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from ssmd import archive
from tests.archived_days import CapturedDay

from .conftest import ROOT, Up, start_up


def status(data: Path, *options: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "ssmd", "status", "--data", str(data), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def look(data: Path) -> tuple[int, dict[str, object]]:
    code, said = status(data, "--json")
    return code, json.loads(said)


def test_what_runs_what_does_not_and_what_is_kept(tmp_path: Path) -> None:
    up = start_up(tmp_path)
    try:
        _wait_until_ready(up)
        code, found = look(tmp_path)
        (feed,) = found["feeds"]  # type: ignore[misc]
        assert (code, found["red"], found["running"]) == (0, False, True), found
        assert feed["connected"] and feed["frames_per_second"] > 0 and feed["gaps_open"] == 0
        assert 0 <= found["at"] - feed["last_frame_at"] < 60e9  # type: ignore[operator]
        assert {s["name"].partition("-")[0] for s in feed["services"]} == {
            "simulator", "connector", "archiver", "normalizer",
        }  # fmt: skip
        assert {s["name"] for s in found["servers"]} == {"nats", "temporal", "worker"}  # type: ignore[attr-defined]
        (archiver,) = up.find("archiver")
        os.kill(archiver, signal.SIGSTOP)
        try:
            code, said = status(tmp_path)
        finally:
            os.kill(archiver, signal.SIGCONT)
        assert code == 1 and "3 of 4 healthy" in said and "archiver-kalshi does not answer at" in said
    finally:
        up.process.terminate()
        up.finish(60)
    code, said = status(tmp_path)
    assert code == 0 and "nothing runs" in said and "kalshi" in said and "start it with `ssmd up" in said


def _wait_until_ready(up: Up) -> None:
    deadline = time.monotonic() + 90
    while True:
        assert time.monotonic() < deadline and up.process.poll() is None
        code, said = status(up.data, "--json")
        if code == 0 and json.loads(said)["running"] and json.loads(said)["days"]:
            return
        time.sleep(0.5)


def test_stored_facts_are_told_when_nothing_runs(tmp_path: Path) -> None:
    """The last two days by date, whatever ran; a damaged manifest is red."""
    CapturedDay("kalshi", seconds=0.2).archive(tmp_path)
    code, found = look(tmp_path)
    assert (code, found["running"], found["environment"], found["days"]) == (0, False, None, [])
    today = time.strftime("%Y-%m-%d", time.gmtime())
    (day,) = (tmp_path / "archive" / "kalshi").glob("2026-08-11")
    manifest = archive.load_manifest(day / "manifest.json")
    shutil.copytree(day, day.with_name(today))
    path = day.with_name(today) / "manifest.json"
    archive.save_manifest(path, archive.Manifest(**{**_fields(manifest), "date": today}))
    code, found = look(tmp_path)
    (kept,) = found["days"]  # type: ignore[misc]
    assert code == 0 and (kept["frames"], kept["sealed"], kept["rolled_up"]) == (manifest.frames, True, "no")
    path.write_bytes(path.read_bytes().replace(b'"sealed": true', b'"sealed": false'))
    code, said = status(tmp_path)
    assert code == 1 and f"{path} is damaged" in said


def _fields(manifest: archive.Manifest) -> dict[str, object]:
    return {name: getattr(manifest, name) for name in manifest.__struct_fields__}


def test_no_data_folder_is_one_sentence(tmp_path: Path) -> None:
    code, said = status(tmp_path / "nowhere")
    assert code == 2 and said.startswith("error: ") and said.count("\n") == 1 and "is no data folder yet" in said
