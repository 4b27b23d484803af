"""One job without any server: the workflow's own decisions, its steps done here by the same activities."""

import asyncio
import dataclasses
import functools
import inspect
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import msgspec
from temporalio.exceptions import CancelledError
from temporalio.testing import ActivityEnvironment

from ssmd.errors import Permanent, Transient
from ssmd.jobs import Progress
from workflows import steps
from workflows.runner import WORKFLOWS, input_of

TRIES_MAX = 5  # for a step that found the world busy: 1 + 2 + 4 + 8 s, then whoever waits for it is told
TELL_SECONDS = 1.0  # between two lines about the same


class Local:
    """Does steps in threads, each in the surroundings that an activity knows (heartbeats, cancellation)."""

    def __init__(self, activities: list[Callable[..., Any]]) -> None:
        self._activities = {a.__name__: a for a in activities}
        self._threads = ThreadPoolExecutor(32, "step")  # a day's 24 hours wait side by side
        self._running: set[ActivityEnvironment] = set()
        self._told: dict[str, float] = {}

    async def run(self, job: str, given: str, stop: asyncio.Event) -> bytes:
        """Run the workflow type `job` on JSON; its result as JSON."""
        workflow = next((w for w in WORKFLOWS if w.__name__ == job), None)
        if workflow is None:
            known = ", ".join(w.__name__ for w in WORKFLOWS)
            raise Permanent(f"there is no job {job!r}: there is {known}")
        argument = _argument(workflow, given)
        steps.here.set(self._do)
        steps.begun.set(datetime.now(UTC))
        running = asyncio.ensure_future(_made(workflow, argument).run(argument))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                raise Transient(f"{job} was interrupted and has published nothing: run it again")
            return msgspec.json.encode(running.result())
        finally:
            stopping.cancel()
            running.cancel()
            for environment in self._running:
                environment.cancel()
            await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    async def _do(self, step: str, arguments: tuple[Any, ...]) -> Any:
        """One step; one that found the world busy is tried again a few times."""
        told: tuple[Any, ...] = ()

        def tell(progress: object, *more: object) -> None:
            nonlocal told
            told = (progress, *more)
            self._tell(progress)

        for tries in range(1, TRIES_MAX + 1):
            environment = ActivityEnvironment()
            environment.info = dataclasses.replace(environment.info, heartbeat_details=told)
            environment.on_heartbeat = tell
            self._running.add(environment)
            try:
                doing = functools.partial(environment.run, self._activities[step], *arguments)
                return await asyncio.get_running_loop().run_in_executor(self._threads, doing)
            except Transient as e:
                if tries == TRIES_MAX:
                    raise
                self._say(f"{e} (trying again in {2 ** (tries - 1)} s)")
                await asyncio.sleep(2 ** (tries - 1))
            except CancelledError:
                raise asyncio.CancelledError from None
            finally:
                self._running.discard(environment)
        raise AssertionError("the last try returns or raises")

    def _tell(self, progress: object) -> None:
        assert isinstance(progress, Progress), "every step tells its progress so"
        now = time.monotonic()
        if now - self._told.get(progress.doing, -TELL_SECONDS) < TELL_SECONDS:
            return
        self._told[progress.doing] = now
        share = f": {100 * progress.done // progress.total} %" if progress.total else ""
        self._say(f"{progress.doing}{share}")

    def _say(self, sentence: str) -> None:
        sys.stderr.write(sentence + "\n")
        sys.stderr.flush()


def _made(workflow: type, argument: Any) -> Any:
    """The workflow, given its input already where it wants that (`workflow.init`)."""
    return workflow(argument) if len(inspect.signature(workflow).parameters) else workflow()


def _argument(workflow: type, given: str) -> Any:
    """The job's input, from JSON."""
    kind = input_of(workflow)
    try:
        return msgspec.json.decode(given, type=kind)
    except msgspec.DecodeError as e:
        raise Permanent(f"{given!r} is no input for {workflow.__name__} ({e}): it takes a {kind.__name__}") from e
