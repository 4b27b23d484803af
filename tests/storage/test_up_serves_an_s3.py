"""`ssmd up` with a storage of its own: an S3 server is started, days are published to it and read back from it."""

import functools
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from activities.processes import Processes
from ssmd import config, jobs
from ssmd.up import wanted
from tests.lake.archives import DATE, FEED, a_day
from tests.lake.captures import roll_up
from tests.storage.stores import without_aws
from tests.workflows.workers import ROOT


def ssmd(*arguments: str) -> list[str]:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from ssmd.cli import main; main()"
    return [sys.executable, "-c", code, *arguments]


def is_ready(service: str) -> bool:
    try:
        with urllib.request.urlopen(f"{service}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_day_is_published_to_it_and_read_back(tmp_path: Path, free_port: Callable[[], int]) -> None:
    data = tmp_path / "data"
    with Processes(2) as processes:
        a_day().write(data / "archive")
        roll_up(data, processes, jobs.Day(FEED, DATE))
    environment = config.load_environment("local-s3")
    source = wanted.Source(config.load_feed(FEED), environment.feed(FEED))
    ports = [f"--port={name}={free_port()}" for name in wanted.usual_ports(environment, [source])]
    variables = without_aws({"HOME": str(tmp_path)})
    log = (tmp_path / "up.log").open("wb")
    up = subprocess.Popen(ssmd("up", "--env", "local-s3", *ports), cwd=tmp_path, env=variables, stdout=log, stderr=log)
    try:
        while (running := config.load_addresses(data)) is None or not is_ready(running.telemetry["worker"]):
            assert up.poll() is None, (tmp_path / "up.log").read_text()
            time.sleep(0.1)
        assert running.storage.startswith("http://127.0.0.1:")
        assert (data / "keys" / "s3.secret").stat().st_mode & 0o777 == 0o600

        run = functools.partial(
            subprocess.run, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=90, check=False
        )
        published = run(ssmd("publish", FEED, DATE))
        assert published.returncode == 0, published.stderr
        assert published.stdout.startswith(f"{FEED} {DATE} is in s3://ssmd/local: revision 1, ")
        asked = ssmd("query", "--data", "s3://ssmd/local", "-f", "csv", "select count(*) from trades")
        answer = run(asked)
        assert answer.returncode == 0, answer.stderr
        assert int(answer.stdout.split()[-1]) > 0

        secret = (data / "keys" / "s3.secret").read_text().strip()
        empty = tmp_path / "elsewhere"
        empty.mkdir()
        refused = run(asked, cwd=empty)
        assert refused.returncode == 2 and "which does not run on the data folder data" in refused.stderr
        at = {"AWS_ENDPOINT_URL": running.storage, "AWS_ACCESS_KEY_ID": (data / "keys" / "s3.id").read_text().strip()}
        told = {**variables, **at, "AWS_SECRET_ACCESS_KEY": secret, "XDG_CACHE_HOME": str(empty / "cache")}
        assert run(asked, cwd=empty, env=told).stdout == answer.stdout, "from an empty folder, with an empty cache"
        for path in (data / "logs").glob("*.log"):
            assert secret not in path.read_text(), path
    finally:
        began = datetime.now(UTC)
        up.send_signal(signal.SIGINT)
        assert up.wait(30) == 0
        log.close()
    assert (datetime.now(UTC) - began).total_seconds() < 20
