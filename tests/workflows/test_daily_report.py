"""DailyReport on a real Temporal server: measured, delivered by every way, and loud about one that fails."""

import asyncio
import http.server
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from temporalio.client import Client
from temporalio.worker import Replayer

from ssmd import config, jobs
from ssmd.cli import run
from tests.lake.archives import DATE, FEED, a_day
from tests.workflows.workers import ROOT, is_ready, running_worker
from workflows.runner import WORKFLOWS, runner

HISTORIES = ROOT / "tests" / "replay" / "histories"
ENV = "wharf"
CANARY = "canary-91ab"


class Posted(http.server.BaseHTTPRequestHandler):
    """Takes webhooks at their secret path, and refuses everything else."""

    seen: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.path == f"/{CANARY}"
        if known:
            self.seen.append(body)
        self.send_response(200 if known else 403)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    Posted.seen = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Posted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def data(
    tmp_path_factory: pytest.TempPathFactory, temporal_server: Any, server: http.server.ThreadingHTTPServer
) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("wharf")
    where = f"http://127.0.0.1:{server.server_port}"
    (folder / "url").write_text(f"{where}/{CANARY}")
    (folder / "topic").write_text(CANARY)
    shutil.copytree(ROOT / "exchanges" / "feeds", folder / "config" / "feeds")
    (folder / "config" / "environments").mkdir()
    (folder / "config" / "environments" / f"{ENV}.yaml").write_text(
        f"name: {ENV}\ntemporal: {{task_queue: {ENV}}}\nfeeds: [{{feed: {FEED}, endpoint: simulator}}]\n"
        f"reports: {{webhook: {{url: 'file:{folder / 'url'}'}}}}\n"
    )
    data = folder / "data"
    path = config.addresses_path(data)
    path.parent.mkdir(parents=True)
    addresses = config.Addresses(ENV, "nats://127.0.0.1:1", temporal_server.address, "", {}, {})
    path.write_bytes(msgspec.json.encode(addresses))
    a_day(DATE).write(data / "archive")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSMD_CONFIG", str(folder / "config"))
        with running_worker(data) as worker:
            worker.until("/ready", is_ready)
            yield data


def ssmd(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capfd.readouterr()
    code = run(arguments)
    told = capfd.readouterr()
    return code, told.out, told.err


def test_it_is_told_and_delivered(data: Path, temporal_server: Any, capfd: pytest.CaptureFixture[str]) -> None:
    asked = ("report", "--date", DATE, "--data", str(data))
    code, out, err = ssmd(capfd, *asked)
    assert code == 0, err
    assert out.startswith(f"ssmd {ENV} {DATE}: {FEED} ")
    assert not Posted.seen, "looking at a report sends it nowhere"

    code, out, err = ssmd(capfd, *asked, "--deliver")
    assert (code, out.splitlines()[-1]) == (0, "delivered: webhook"), err
    assert [body["date"] for body in Posted.seen] == [DATE]
    code, out, err = ssmd(capfd, *asked, "--json")
    assert code == 0, err
    [told] = msgspec.json.decode(out, type=jobs.Reported).feeds
    assert Posted.seen[0]["feeds"][0]["score"] == told.score

    async def kept() -> None:
        client = await Client.connect(temporal_server.address)
        history = await client.get_workflow_handle(f"report/{DATE}").fetch_history()
        assert CANARY not in history.to_json()
        await Replayer(workflows=WORKFLOWS, workflow_runner=runner()).replay_workflow(history)
        if os.environ.get("SSMD_RECORD"):
            text = re.sub(r'"identity": *"[^"]*"', '"identity": "worker"', history.to_json())
            (HISTORIES / "daily_report.json").write_text(json.dumps(json.loads(text), indent=1) + "\n")

    asyncio.run(kept())


def test_one_way_that_fails_holds_up_no_other_and_is_told(
    data: Path, temporal_server: Any, server: http.server.ThreadingHTTPServer, capfd: pytest.CaptureFixture[str]
) -> None:
    path = config.config_folder() / "environments" / f"{ENV}.yaml"
    before = path.read_text()
    ntfy = f"{{server: 'http://127.0.0.1:{server.server_port}', topic: 'file:{data.parent / 'topic'}'}}"
    path.write_text(before.replace("reports: {", f"reports: {{ntfy: {ntfy}, "))
    sent = len(Posted.seen)
    try:
        for way in ((), ("--local",)):
            code, _, err = ssmd(capfd, "report", "--date", DATE, "--data", str(data), "--deliver", *way)
            assert code == 2
            assert "was not delivered everywhere: ntfy at" in err
            assert "refused the report with HTTP 403" in err
            assert CANARY not in err
    finally:
        path.write_text(before)
    assert len(Posted.seen) == sent + 2, "the webhook got it both times"
