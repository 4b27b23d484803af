"""How a workflow has its steps done: by a worker's activities, or without any server right here.

A workflow names its steps and their order once; `do` carries them out wherever it runs. In Temporal that is an
activity with the timeouts and retries below; elsewhere (`--local`) whoever was set with `here` does it.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar, cast, overload

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey

from ssmd import jobs

A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R")

FEED = SearchAttributeKey.for_keyword("Feed")
TRADING_DATE = SearchAttributeKey.for_keyword("TradingDate")

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


@overload
async def do(step: Callable[[Any, A], R], first: A, /, *, within: timedelta) -> R: ...
@overload
async def do(step: Callable[[Any, A, B], R], first: A, second: B, /, *, within: timedelta) -> R: ...
async def do(step: Callable[..., Any], /, *arguments: Any, within: timedelta) -> Any:
    """Have a step (an activity's method) done; `within` bounds all its tries together."""
    if not workflow.in_workflow():
        return await here.get()(step.__name__, arguments)
    return await workflow.execute_activity_method(
        cast(Any, step),
        args=arguments,
        schedule_to_close_timeout=within,
        heartbeat_timeout=SILENCE,
        retry_policy=PATIENCE,
    )


async def have_done(other: type[Any], given: object, answer: type[R], id_: str) -> R:
    """Have another workflow run as a part of this one, and wait for its answer."""
    done: R
    if not workflow.in_workflow():
        done = await other().run(given)
    else:
        done = await workflow.execute_child_workflow(
            other.run, given, id=id_, result_type=answer
        )
    return done


def label_feed(feed: str) -> None:
    """Make the workflow findable by feed."""
    if workflow.in_workflow():
        workflow.upsert_search_attributes([FEED.value_set(feed)])


def label(day: jobs.Day | jobs.Scrub | jobs.Quarantined) -> None:
    """Make the workflow findable by feed and date."""
    if workflow.in_workflow():
        workflow.upsert_search_attributes([FEED.value_set(day.feed), TRADING_DATE.value_set(day.date)])
