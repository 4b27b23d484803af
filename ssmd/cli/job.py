"""A job, run from the command line: here, or by Temporal."""

import asyncio
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import typer
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError

from ssmd import config, jobs, progress, temporal
from ssmd.config import Addresses
from ssmd.errors import Permanent, Transient

R = TypeVar("R")

LOOK_SECONDS = 0.5
CONNECT_SECONDS = 5.0


def here(workflow: str, given: object, answer: type[R], data: Path, *, env: str | None = None) -> R:
    """Run the job in a process of the application tree, which tells its progress and what went wrong itself.

    Raises typer.Exit with its code if it did. Ctrl-C reaches it, and it says what becomes of the work.
    """
    command = [sys.executable, "-m", "services.worker", "--data", str(data.absolute())]
    command += ["--env", env] if env is not None else []
    command += ["--local", workflow, msgspec.json.encode(given).decode()]
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        worker = subprocess.Popen(command, cwd=config.application_folder(), stdout=subprocess.PIPE)
        printed, _ = worker.communicate()
    finally:
        signal.signal(signal.SIGINT, ours)
    if worker.returncode:
        raise typer.Exit(worker.returncode)
    return msgspec.json.decode(printed, type=answer)


async def by_temporal(workflow: str, given: object, id_: str, answer: type[R], addresses: Addresses, command: str) -> R:
    """Start the workflow, or join it where it runs already, and wait for its result; `command` would do so again."""
    settings = config.load_environment(addresses.environment).temporal
    try:
        connecting = temporal.connect(settings, addresses.temporal)
        client = await asyncio.wait_for(connecting, CONNECT_SECONDS)
        handle = await client.start_workflow(
            workflow,
            given,
            id=id_,
            task_queue=settings.task_queue,
            result_type=answer,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=jobs.summary(given),
            static_details=f"Started with `{command}`.",
            memo={"started_by": command},
            rpc_timeout=timedelta(seconds=CONNECT_SECONDS),
        )
    except Transient as e:
        raise Transient(f"{e}, or do it here with --local") from e
    except (RPCError, TimeoutError) as e:
        raise Transient(
            f"no Temporal answers at {addresses.temporal}: start it with `ssmd up`, or do it here with --local"
        ) from e
    telling = asyncio.create_task(_tell_progress(client, handle))
    try:
        result: R = await handle.result()
        return result
    except WorkflowFailureError as e:
        cause: BaseException = e
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise Permanent(f"{id_} failed: {cause}") from e
    except RPCError as e:
        raise Transient(
            f"Temporal at {addresses.temporal} went away ({e.message}); {id_} goes on when it is back"
        ) from e
    except asyncio.CancelledError:
        telling.cancel()
        await asyncio.wait([telling])  # it leaves the terminal as it was
        typer.echo(
            f"{id_} goes on at Temporal: `{command}` waits for it again, "
            f"`temporal workflow cancel --workflow-id {id_} --address {addresses.temporal}` ends it",
            err=True,
        )
        raise
    finally:
        telling.cancel()
        await asyncio.wait([telling])


async def _tell_progress(client: Client, handle: WorkflowHandle[Any, Any]) -> None:
    """Say what the workflow does, and what its steps say of themselves, whenever that changes."""
    teller = progress.teller()
    told: set[str] = set()
    try:
        while True:
            try:
                now = [await handle.query("progress", result_type=jobs.Progress)]
                now += await _heartbeats(client, handle) if isinstance(teller, progress.Bars) else []
            except RPCError:
                now = []  # no worker yet, or Temporal is away: what waits for the result will say so
            for one in now:
                teller.tell(one)
            for doing in told - {one.doing for one in now}:
                teller.over(doing)
            told = {one.doing for one in now}
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        teller.close()


async def _heartbeats(client: Client, handle: WorkflowHandle[Any, Any]) -> list[jobs.Progress]:
    """What the steps that run now said last."""
    description = await handle.describe()
    found: list[jobs.Progress] = []
    for step in description.raw_description.pending_activities:
        said = step.heartbeat_details.payloads[:1]  # others are for whoever does the step again
        found += await client.data_converter.decode(said, [jobs.Progress] * len(said))
    return found
