"""How a workflow has its steps done: by a worker's activities, or without any server right here.

A workflow names its steps and their order once; `do` carries them out wherever it runs. In Temporal that is an
activity with the timeouts and retries below; elsewhere (`--local`) whoever was set with `here` does it.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey

from ssmd import jobs

P = ParamSpec("P")
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
SILENCE = timedelta(seconds=30)  # every step says something each second; so long without means its worker died

Doer = Callable[[str, tuple[Any, ...]], Awaitable[Any]]
here: ContextVar[Doer] = ContextVar("here")


async def do(step: Callable[Concatenate[Any, P], R], *arguments: P.args, within: timedelta, **_: P.kwargs) -> R:
    """Have a step done; `within` bounds all its tries together."""
    if not workflow.in_workflow():
        return cast(R, await here.get()(step.__name__, arguments))
    return cast(
        R,
        await workflow.execute_activity_method(
            cast(Any, step),
            args=arguments,
            schedule_to_close_timeout=within,
            heartbeat_timeout=SILENCE,
            retry_policy=PATIENCE,
        ),
    )


def label(day: jobs.Day) -> None:
    """Make the workflow findable by feed and date."""
    if workflow.in_workflow():
        workflow.upsert_search_attributes([FEED.value_set(day.feed), TRADING_DATE.value_set(day.date)])
