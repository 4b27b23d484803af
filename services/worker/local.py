"""One job without any server: the workflow's own decisions, its steps done here by the same activities."""

import asyncio
import dataclasses
import functools
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import msgspec
from temporalio.exceptions import CancelledError
from temporalio.testing import ActivityEnvironment

from ssmd import progress
from ssmd.errors import Interrupted, Permanent, Transient
from ssmd.jobs import Progress
from workflows import steps
from workflows.runner import WORKFLOWS, input_of

TRIES_MAX = 5  # for a step that found the world busy: 1 + 2 + 4 + 8 s, then whoever waits for it is told
LOOK_SECONDS = 0.5


class Local:
    """Does steps in threads, each in the surroundings that an activity knows (heartbeats, cancellation)."""

    def __init__(self, activities: list[Callable[..., Any]]) -> None:
        self._activities = {a.__name__: a for a in activities}
        self._threads = ThreadPoolExecutor(32, "step")  # a day's 24 hours wait side by side
        self._running: set[ActivityEnvironment] = set()
        self._teller = progress.teller()

    async def run(self, job: str, given: str, stop: asyncio.Event) -> bytes:
        """Run the workflow type `job` on JSON; its result as JSON."""
        workflow = next((w for w in WORKFLOWS if w.__name__ == job), None)
        if workflow is None:
            known = ", ".join(w.__name__ for w in WORKFLOWS)
            raise Permanent(f"there is no job {job!r}: there is {known}")
        argument = _argument(workflow, given)
        steps.here.set(self._do)
        steps.begun.set(datetime.now(UTC))
        made = _made(workflow, argument)
        running = asyncio.ensure_future(made.run(argument))
        stopping = asyncio.ensure_future(stop.wait())
        telling = asyncio.ensure_future(self._tell_all(made))
        try:
            await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                raise Interrupted(
                    f"{job} was interrupted: what was finished is kept, nothing half-done is published; "
                    "the same command again does the rest"
                )
            return msgspec.json.encode(running.result())
        finally:
            telling.cancel()
            stopping.cancel()
            running.cancel()
            for environment in self._running:
                environment.cancel()
            await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
            self._teller.close()

    async def _tell_all(self, made: Any) -> None:
        """Say how far the whole is; its steps say so of themselves."""
        doing = ""
        while True:
            now = made.progress()
            if doing != now.doing:
                self._teller.over(doing)
                doing = now.doing
            if now.total:  # what cannot be counted is told by its steps
                self._teller.tell(now)
            await asyncio.sleep(LOOK_SECONDS)

    async def _do(self, step: str, arguments: tuple[Any, ...]) -> Any:
        """One step; one that found the world busy is tried again a few times."""
        told: tuple[Any, ...] = ()

        def tell(now: object, *more: object) -> None:
            nonlocal told
            assert isinstance(now, Progress), "every step tells its progress so"
            if told and told[0].doing != now.doing:
                self._teller.over(told[0].doing)
            told = (now, *more)
            self._teller.tell(now)

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
                self._teller.say(f"{e} (trying again in {2 ** (tries - 1)} s)")
                await asyncio.sleep(2 ** (tries - 1))
            except CancelledError:
                raise asyncio.CancelledError from None
            finally:
                self._running.discard(environment)
                if told:
                    self._teller.over(told[0].doing)
        raise AssertionError("the last try returns or raises")


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
