"""Temporal behind TLS, with versions, with small values only: what an operator of a shared cluster asks for."""

import asyncio
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from ssmd import __version__, config, jobs, temporal
from ssmd.cli import run
from ssmd.errors import Permanent, Transient
from ssmd.up import servers
from tests.certificates import Authority
from tests.lake.archives import DATE, FEED, a_day
from tests.workflows.workers import ROOT, is_ready, running_worker, write_addresses
from workflows.steps import PATIENCE

ENV = "pier"


class TlsFront:
    """A TLS server that wants our clients' certificate, in front of a server without TLS."""

    def __init__(self, address: str, authority: Authority) -> None:
        signed = authority.sign("server")
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(signed.certificate, signed.key)
        self._tls.load_verify_locations(authority.certificate)
        self._tls.verify_mode = ssl.CERT_REQUIRED
        self._tls.set_alpn_protocols(["h2"])
        self._host, _, port = address.partition(":")
        self._behind = int(port)
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._listening.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self) -> None:
        async def listen() -> None:
            server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
            self.port = server.sockets[0].getsockname()[1]
            self._listening.set()

        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda loop, context: None)  # refused handshakes are what is tested
        self._loop.run_until_complete(listen())
        self._loop.run_forever()
        pouring = asyncio.all_tasks(self._loop)
        for task in pouring:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*pouring, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0.1))  # transports say goodbye
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection(self._host, self._behind)

        async def pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except OSError:
                pass
            finally:
                sink.close()

        await asyncio.gather(pour(reader, behind_writer), pour(behind_reader, writer))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def front(temporal_server: Any, authority: Authority) -> Iterator[TlsFront]:
    front = TlsFront(temporal_server.address, authority)
    yield front
    front.close()


def settings(front: TlsFront, authority: Authority, **more: Any) -> config.Temporal:
    client = authority.sign("client")
    tls = config.Tls(
        ca=f"file:{authority.certificate}", certificate=f"file:{client.certificate}", key=f"file:{client.key}"
    )
    return config.Temporal(address=f"127.0.0.1:{front.port}", task_queue=ENV, tls=tls, **more)


# ------------------------------------------------------------------------------------------------------------ TLS


def test_worker_and_commands_reach_it_by_tls_with_namespace_and_key_by_reference(
    tmp_path: Path, front: TlsFront, authority: Authority,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("SSMD_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("TEMPORAL_SPACE", "default\n")
    monkeypatch.setenv("TEMPORAL_KEY", "canary-77aa")
    shutil.copytree(ROOT / "exchanges" / "feeds", tmp_path / "config" / "feeds")
    (tmp_path / "config" / "environments").mkdir()
    told = settings(front, authority, namespace="env:TEMPORAL_SPACE", api_key="env:TEMPORAL_KEY")
    environment = {
        "name": ENV,
        "servers": "remote",
        "temporal": told.model_dump(),
        "feeds": [{"feed": FEED, "endpoint": "simulator"}],
    }
    (tmp_path / "config" / "environments" / f"{ENV}.yaml").write_text(json.dumps(environment))
    data = tmp_path / "data"
    a_day(DATE).write(data / "archive")
    with running_worker(data, "--env", ENV) as worker:
        worker.until("/ready", is_ready)
        assert run(["report", "--date", DATE, "--env", ENV, "--data", str(data)]) == 0, capfd.readouterr().err
        assert capfd.readouterr().out.startswith(f"ssmd {ENV} {DATE}: {FEED} ")
        assert "canary" not in worker.log.read_text()


async def test_without_the_certificate_nobody_answers(front: TlsFront, authority: Authority) -> None:
    told = settings(front, authority)
    assert told.tls is not None
    for tls, why in [
        (None, r"\(.*\)"),
        (told.tls.model_copy(update={"certificate": None, "key": None}), r"\(.*\)"),
        (config.Tls(), r"\(its certificate is not trusted: UnknownIssuer\)"),
    ]:
        with pytest.raises(Transient, match=f"no Temporal answers at {told.address} {why}: start it with `ssmd up`"):
            await asyncio.wait_for(temporal.connect(told.model_copy(update={"tls": tls})), 20)
    missing = told.tls.model_copy(update={"ca": "file:/nowhere/ca.pem"})
    with pytest.raises(Permanent, match=r"cannot read /nowhere/ca\.pem"):
        await temporal.connect(told.model_copy(update={"tls": missing}))


async def test_who_does_not_answer_is_told_in_words(free_port: Callable[[], int]) -> None:
    with pytest.raises(Transient, match=r"\(Connection refused\): start it with `ssmd up`"):
        await temporal.connect(config.Temporal(address=f"127.0.0.1:{free_port()}"))


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"tls": {"certificate": "file:a"}}, "a client certificate needs its key"),
        ({"api_key": "the key itself"}, "api_key"),
        ({"tls": {"ca": "/etc/ca.pem"}}, "tls.ca"),
    ],
)
def test_wrong_settings_are_refused_at_the_door(said: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        config.Temporal.model_validate(said)


def test_what_up_starts_has_no_tls() -> None:
    feeds = [config.EnvironmentFeed(feed=FEED, endpoint="simulator")]
    with pytest.raises(ValueError, match="has no TLS and no API keys"):
        config.Environment(name="x", temporal=config.Temporal(tls=config.Tls()), feeds=feeds)


# ----------------------------------------------------------------------------------------------- search attributes


def test_a_worker_adds_the_search_attributes_that_are_missing(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    command = servers.temporal_command(servers.find_binary("temporal"), tmp_path / "temporal", port, free_port())
    first = command.index("--search-attribute")
    there_is = ["--search-attribute", "Feed=Keyword"]
    server = subprocess.Popen([*command[:first], *there_is], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        write_addresses(tmp_path, f"127.0.0.1:{port}")
        with running_worker(tmp_path) as worker:
            worker.until("/ready", is_ready, 40)
        asyncio.run(servers.temporal_ready(f"127.0.0.1:{port}"))
    finally:
        server.kill()
        server.wait()


# ------------------------------------------------------------------------------------------------------- versions


async def test_with_a_deployment_only_the_current_version_works(
    tmp_path: Path, temporal_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSMD_CONFIG", str(tmp_path / "config"))
    shutil.copytree(ROOT / "exchanges" / "feeds", tmp_path / "config" / "feeds")
    (tmp_path / "config" / "environments").mkdir()
    (tmp_path / "config" / "environments" / f"{ENV}.yaml").write_text(
        f"name: {ENV}\ntemporal: {{task_queue: {ENV}-versions, deployment: ssmd-{ENV}}}\n"
        f"feeds: [{{feed: {FEED}, endpoint: simulator}}]\n"
    )
    data = tmp_path / "data"
    path = config.addresses_path(data)
    path.parent.mkdir(parents=True)
    addresses = config.Addresses(ENV, "nats://127.0.0.1:1", temporal_server.address, "", {}, {})
    path.write_bytes(msgspec.json.encode(addresses))
    client = await Client.connect(temporal_server.address)
    with running_worker(data) as worker:
        await asyncio.to_thread(worker.until, "/ready", is_ready)
        report = jobs.Report(DATE, deliver=False)
        handle = await client.start_workflow(
            "DailyReport", report, id="versions", task_queue=f"{ENV}-versions", result_type=jobs.Reported
        )
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle.result(), 1)
        current = [str(servers.find_binary("temporal")), "worker", "deployment", "set-current-version", "--yes"]
        current += ["--deployment-name", f"ssmd-{ENV}", "--build-id", __version__, "--address", temporal_server.address]
        done = await asyncio.to_thread(subprocess.run, current, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        assert (await asyncio.wait_for(handle.result(), 30)).date == DATE


# ----------------------------------------------------------------------------------------------------- small values


@activity.defn
def too_much() -> str:
    return "x" * (temporal.PAYLOAD_BYTES_MAX + 1)


@activity.defn
def just_enough() -> str:
    return "x" * (temporal.PAYLOAD_BYTES_MAX - 2)


@workflow.defn(sandboxed=False)
class Carries:
    """Has an activity answer with too much, or gives one too much."""

    @workflow.run
    async def run(self, how: str) -> int:
        within = timedelta(seconds=30)
        if how == "gives":
            await workflow.execute_activity(
                "too_much", "y" * temporal.PAYLOAD_BYTES_MAX, schedule_to_close_timeout=within
            )
        step = too_much if how == "answers" else just_enough
        return len(await workflow.execute_activity(step, schedule_to_close_timeout=within, retry_policy=PATIENCE))


async def test_a_large_value_is_refused_by_its_maker_with_a_sentence(temporal_server: Any) -> None:
    client = await temporal.connect(config.Temporal(), temporal_server.address)
    with ThreadPoolExecutor(1) as threads:
        async with Worker(
            client, task_queue="small", workflows=[Carries], activities=[too_much, just_enough],
            activity_executor=threads, workflow_runner=UnsandboxedWorkflowRunner(),
            workflow_failure_exception_types=[Permanent],
        ):  # fmt: skip
            for how in ("answers", "gives"):
                with pytest.raises(WorkflowFailureError) as raised:
                    await asyncio.wait_for(client.execute_workflow("Carries", how, id=how, task_queue="small"), 30)
                cause: Any = raised.value
                while cause.__cause__ is not None:
                    cause = cause.__cause__
                assert isinstance(cause, ApplicationError)
                assert cause.type == "Permanent"
                assert "a str of 65,53" in cause.message
                assert "may not go through Temporal" in cause.message
            assert await client.execute_workflow("Carries", "fits", id="fits", task_queue="small") == 65_534
    with pytest.raises(Permanent, match="may not go through Temporal"):
        await client.start_workflow("Carries", "z" * 70_000, id="x", task_queue="small")
