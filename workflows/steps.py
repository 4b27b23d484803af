"""How a workflow has its steps done: by a worker's activities, or without any server right here.

A workflow names its steps and their order once; `do` carries them out wherever it runs. In Temporal that is an
activity with the timeouts and retries below; elsewhere (`--local`) whoever was set with `here` does it.
"""

import dataclasses
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, ClassVar, Protocol, TypeVar, cast, overload

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey

from ssmd import jobs

A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R")


class _Dated(Protocol):
    """A job's input with a date: a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def date(self) -> str: ...


J = TypeVar("J", bound=_Dated)

FEED = SearchAttributeKey.for_keyword("Feed")
TRADING_DATE = SearchAttributeKey.for_keyword("TradingDate")
_DUE = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")  # Temporal's own, of runs that a schedule started

# What the worker turns `ssmd.errors.Permanent` into, whatever its subclass: never tried again.
PERMANENT = "Permanent"
# Anything else is tried again, ever more rarely, until the step's time is up: a disk is freed, a fault is mended.
PATIENCE = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(minutes=1),
    non_retryable_error_types=[PERMANENT],
)
SILENCE = timedelta(seconds=15)  # every step says something each second; so long without means its worker died

Doer = Callable[[str, tuple[Any, ...]], Awaitable[Any]]
here: ContextVar[Doer] = ContextVar("here")
begun: ContextVar[datetime] = ContextVar("begun")  # when a job began that no server runs (UTC)


@overload
async def do(step: Callable[[Any], R], /, *, within: timedelta) -> R: ...
@overload
async def do(step: Callable[[Any, A], R], first: A, /, *, within: timedelta) -> R: ...
@overload
async def do(step: Callable[[Any, A, B], R], first: A, second: B, /, *, within: timedelta) -> R: ...
async def do(step: Callable[..., Any], /, *arguments: Any, within: timedelta) -> Any:
    """Have a step (an activity's method) done; `within` bounds all its tries together."""
    if not workflow.in_workflow():
        return await here.get()(step.__name__, arguments)
    queue = workflow.info().task_queue
    return await workflow.execute_activity_method(
        cast(Any, step),
        args=arguments,
        task_queue=processes_queue(queue) if getattr(step, "in_a_process", False) else queue,
        schedule_to_close_timeout=within,
        heartbeat_timeout=SILENCE,
        retry_policy=PATIENCE,
        summary=jobs.summary(*arguments[:1]) or None,
    )


def processes_queue(queue: str) -> str:
    """The task queue beside `queue` for steps that keep a process busy: a worker takes as many as it has processes.

    From one queue with room for all the steps that only wait, the first worker would take a day's hours alone.
    """
    return f"{queue}-processes"


async def have_done(other: type[Any], given: object, answer: type[R], id_: str) -> R:
    """Have another workflow run as a part of this one, and wait for its answer."""
    done: R
    if not workflow.in_workflow():
        done = await other().run(given)
    else:
        done = await workflow.execute_child_workflow(other.run, given, id=id_, result_type=answer)
    return done


def since(change: str) -> bool:
    """Whether this run has a change of its workflow: every new one, and none that was begun before it."""
    return not workflow.in_workflow() or workflow.patched(change)


def due() -> datetime:
    """When this run was due: by its schedule (also one made up for later), else when it was started (UTC)."""
    if not workflow.in_workflow():
        return begun.get()
    info = workflow.info()
    return info.typed_search_attributes.get(_DUE) or info.start_time


def dated(job: J) -> J:
    """The job with its date written out, if that is `today`, `yesterday` or `today-7`."""
    return dataclasses.replace(job, date=jobs.date_of(job.date, due().date()))


def label(job: object) -> None:
    """Make the workflow findable by the feed and the date of its input, as far as it has them."""
    if workflow.in_workflow():
        said = {key: getattr(job, name, None) for key, name in ((FEED, "feed"), (TRADING_DATE, "date"))}
        if found := [key.value_set(value) for key, value in said.items() if value]:
            workflow.upsert_search_attributes(found)
