"""A worker at a Temporal server: waits for it, outlives its absence, tells how it is."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import structlog
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    Worker,
    WorkerDeploymentConfig,
)

from ssmd import __version__, config, temporal
from ssmd.errors import Permanent, Transient
from ssmd.telemetry import Telemetry
from workflows.runner import WORKFLOWS, runner
from workflows.steps import FEED, PERMANENT, TRADING_DATE, processes_queue

# A thread each, and nearly all of them only wait (for a seal, for a process): the processes bound the work.
ACTIVITIES_MAX = 64
WORKFLOW_TASKS_MAX = 16
# How soon progress shows in the UI, and a cancellation reaches its activity. Temporal's own 30 s is for large clusters.
HEARTBEAT = timedelta(seconds=1)
LOOK_SECONDS = 1.0
CONNECT_SECONDS_MAX = 5.0  # between two tries
UNREACHABLE_LOOKS = 3  # so many looks in a row without an answer make it red


class Serving:
    """What a worker serves, and what it has seen."""

    def __init__(
        self,
        settings: config.Temporal,
        steps: list[Callable[..., Any]],
        processes: int,
        grace_seconds: float,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._temporal = settings
        self._steps = steps
        self._processes = processes
        self._grace = timedelta(seconds=grace_seconds)
        self._log = log
        self._client: Client | None = None
        self._worker: Worker | None = None
        self._unanswered = 0
        self._workflows = {"Running": 0, "Completed": 0, "Failed": 0}
        self._last: dict[str, str] | None = None
        self.activities_running = 0
        self.also: Callable[[], list[str]] = list  # what else is wrong with this worker

    async def run(self, stop: asyncio.Event, telemetry: Telemetry) -> None:
        """Serve until stopped; activities then get the grace, and their processes end with them."""
        telemetry.problems = lambda: self.problems() + self.also()
        telemetry.waiting = self.waiting
        telemetry.status = self.status
        telemetry.gauges("ssmd_worker", self._figures)
        watching = asyncio.create_task(self._watch())
        try:
            while not stop.is_set() and (client := await self._connected(stop)) is not None:
                await self._serve(client, stop)
        finally:
            watching.cancel()

    async def _serve(self, client: Client, stop: asyncio.Event) -> None:
        """One worker's life: until stopped, or until Temporal tells it off."""
        with ThreadPoolExecutor(ACTIVITIES_MAX + self._processes, "activity") as threads:
            worker = Worker(
                client,
                task_queue=self._temporal.task_queue,
                workflows=WORKFLOWS,
                workflow_runner=runner(),
                activities=self._steps,
                activity_executor=threads,
                max_concurrent_activities=ACTIVITIES_MAX,
                max_concurrent_workflow_tasks=WORKFLOW_TASKS_MAX,
                max_heartbeat_throttle_interval=HEARTBEAT,
                default_heartbeat_throttle_interval=HEARTBEAT,
                graceful_shutdown_timeout=self._grace,
                interceptors=[_Verdicts(self)],
                workflow_failure_exception_types=[Permanent],
                deployment_config=_deployment(self._temporal.deployment),
            )
            # What keeps a process busy is taken only when one is free: the rest is for the other workers.
            busy = Worker(
                client,
                task_queue=processes_queue(self._temporal.task_queue),
                activities=self._steps,
                activity_executor=threads,
                max_concurrent_activities=self._processes,
                max_heartbeat_throttle_interval=HEARTBEAT,
                default_heartbeat_throttle_interval=HEARTBEAT,
                graceful_shutdown_timeout=self._grace,
                interceptors=[_Verdicts(self)],
                deployment_config=_deployment(self._temporal.deployment),
            )
            running = asyncio.ensure_future(_both(worker, busy))
            stopping = asyncio.create_task(stop.wait())
            self._worker = worker
            self._log.info("serving", temporal=self._temporal.address, task_queue=self._temporal.task_queue)
            await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
            self._worker = None
            stopping.cancel()
            if not running.done():
                self._log.info("stopping", activities_running=self.activities_running)
                await asyncio.gather(worker.shutdown(), busy.shutdown())
            try:
                await running
            except Exception as e:
                if not stop.is_set():
                    self._log.warning("the worker ended; a new one takes its place", error=str(e))
                    await _sleep(stop, CONNECT_SECONDS_MAX)

    async def _connected(self, stop: asyncio.Event) -> Client | None:
        """A client of a server that answers; None if stopped before there is one."""
        wait = 0.2
        while not stop.is_set():
            try:
                client = await temporal.connect(self._temporal)
                await _ensure_search_attributes(client, self._log)
                self._client = client
                return client
            except (Transient, RPCError) as e:
                self._unanswered += 1
                self._log.warning("waiting for Temporal", address=self._temporal.address, error=str(e)[:200])
                await _sleep(stop, wait)
                wait = min(wait * 2, CONNECT_SECONDS_MAX)
        return None

    # ------------------------------------------------------------------------------------------------- telling

    def problems(self) -> list[str]:
        if self._unanswered >= UNREACHABLE_LOOKS:
            return [f"Temporal at {self._temporal.address} does not answer: no job is started or goes on until it does"]
        return []

    def waiting(self) -> list[str]:
        return [] if self._worker is not None else [f"waiting for Temporal at {self._temporal.address}"]

    def status(self) -> dict[str, object]:
        return {
            "workflows_running": self._workflows["Running"],
            "activities_running": self.activities_running,
            "completed": self._workflows["Completed"],
            "failed": self._workflows["Failed"],
            "last": self._last,
        }

    def _figures(self) -> dict[str, int]:
        return {
            "workflows_running": self._workflows["Running"],
            "workflows_completed": self._workflows["Completed"],
            "workflows_failed": self._workflows["Failed"],
            "activities_running": self.activities_running,
            "temporal_unreachable": int(bool(self.problems())),
        }

    async def _watch(self) -> None:
        """Ask Temporal, again and again, how it is and what became of our workflows."""
        while True:
            if self._client is not None:
                try:
                    await asyncio.wait_for(self._look(self._client), timeout=5)
                    self._unanswered = 0
                except (RPCError, RuntimeError, TimeoutError):
                    self._unanswered += 1
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, client: Client) -> None:
        ours = f"TaskQueue = '{self._temporal.task_queue}'"
        counts = await client.count_workflows(f"{ours} GROUP BY ExecutionStatus", rpc_timeout=timedelta(seconds=2))
        found = {str(group.group_values[0]): group.count for group in counts.groups}
        self._workflows = {name: found.get(name, 0) for name in self._workflows}
        async for run in client.list_workflows(ours, limit=1, rpc_timeout=timedelta(seconds=2)):
            status = run.status.name.lower() if run.status is not None else "unknown"
            self._last = {"workflow": run.id, "status": status}


class _Verdicts(Interceptor):
    """Around every activity: it is counted, and `Permanent` becomes a failure that Temporal does not try again."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _Verdict(next, self._serving)


class _Verdict(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, serving: Serving) -> None:  # noqa: A002
        super().__init__(next)
        self._serving = serving

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        self._serving.activities_running += 1
        try:
            return await super().execute_activity(input)
        except Permanent as e:
            raise ApplicationError(str(e), type=PERMANENT, non_retryable=True) from e
        finally:
            self._serving.activities_running -= 1


def _deployment(name: str | None) -> WorkerDeploymentConfig | None:
    """With a name, Temporal hands this version of ours work once it is made the current one, and not before.

    A workflow moves on to the version that is current: histories replay (tests/replay), so none must stay behind.
    """
    if name is None:
        return None
    version = WorkerDeploymentVersion(deployment_name=name, build_id=__version__)
    return WorkerDeploymentConfig(version, True, VersioningBehavior.AUTO_UPGRADE)


async def _both(one: Worker, other: Worker) -> None:
    """Until both have ended; if one ends with an error, the other is ended, too."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(one.run())
            group.create_task(other.run())
    except ExceptionGroup as e:
        raise e.exceptions[0] from None


async def _ensure_search_attributes(client: Client, log: structlog.typing.FilteringBoundLogger) -> None:
    """Workflows label themselves by feed and date; a server that does not know these labels would block them."""
    try:
        known = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace), retry=False, timeout=timedelta(seconds=5)
        )
        missing = [key.name for key in (FEED, TRADING_DATE) if key.name not in known.custom_attributes]
        if missing:
            keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
            kinds = dict.fromkeys(missing, keyword)
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(namespace=client.namespace, search_attributes=kinds),
                timeout=timedelta(seconds=5),
            )
    except RPCError as e:
        if e.status not in {RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED}:
            raise
        log.warning(
            "search attributes are not ours to make here: whoever owns the namespace must add them",
            keywords=[FEED.name, TRADING_DATE.name],
            error=e.message,
        )


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, but not past the stop."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
