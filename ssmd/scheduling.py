"""Schedules at the Temporal server: what is there, how that differs from what should be, and making it so.

A schedule is ours if its memo says so; all others are left alone, whatever they are called.
"""

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleDescription,
    ScheduleHandle,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from ssmd import schedules
from ssmd.errors import Permanent
from ssmd.schedules import Planned

OURS = "ssmd_environment"  # the memo's key; its value is the environment's name
_COMPARED = tuple(f.name for f in dataclasses.fields(Planned) if f.name != "paused")


@dataclass(frozen=True)
class Change:
    """What `apply` would do to a schedule: `add`, `change` (which fields, from what to what) or `remove`."""

    kind: str
    id: str
    planned: Planned | None = None
    fields: tuple[tuple[str, object, object], ...] = ()


@dataclass(frozen=True)
class Present:
    """A schedule of ours as the server has it; `next` is when it runs next (UTC), `last` the workflow it ran last."""

    planned: Planned
    paused: bool
    note: str
    next: datetime | None
    last: str | None
    runs: int
    missed: int
    skipped: int


async def changes(client: Client, environment: str, wanted: Sequence[Planned]) -> list[Change]:
    """What must change for the server to have the wanted schedules, and none of ours besides. Changes nothing."""
    found: list[Change] = []
    described = await asyncio.gather(*(_describe(client, p.id) for p in wanted))
    for plan, there in zip(wanted, described, strict=True):
        if there is None:
            found.append(Change("add", plan.id, plan))
            continue
        if await there.memo_value(OURS, None) != environment:
            raise Permanent(
                f"the schedule {plan.id} was not made by ssmd: rename it there, or in the environment's `schedules:`"
            )
        now, differing = read(there), []
        for name in _COMPARED:
            if getattr(now, name) != getattr(plan, name):
                differing.append((name, getattr(now, name), getattr(plan, name)))
        if plan.paused is not None and plan.paused != there.schedule.state.paused:
            differing.append(("paused", there.schedule.state.paused, plan.paused))
        if differing:
            found.append(Change("change", plan.id, plan, tuple(differing)))
    ids = {plan.id for plan in wanted}
    found += [Change("remove", id_) for id_ in await _ours(client, environment) if id_ not in ids]
    return sorted(found, key=lambda c: c.id)


async def apply(client: Client, environment: str, found: Sequence[Change]) -> None:
    """Make the changes. Raises Permanent where somebody else's schedule has the id of one of ours."""
    await asyncio.gather(*(_make(client, environment, change) for change in found))


async def present(client: Client, environment: str) -> list[Present]:
    """Our schedules, by id."""
    described = await asyncio.gather(*(_describe(client, id_) for id_ in await _ours(client, environment)))
    return [_present(there) for there in described if there is not None]


async def handle(client: Client, environment: str, name: str) -> ScheduleHandle:
    """One of our schedules, by its id with or without the environment. Raises Permanent if there is none."""
    for id_ in (name, f"{environment}/{name}"):
        there = await _describe(client, id_)  # not looked for in a list, which lags behind
        if there is not None and await there.memo_value(OURS, None) == environment:
            return client.get_schedule_handle(id_)
    ours = await _ours(client, environment)
    raise Permanent(f"there is no schedule {name!r}: there is {', '.join(ours) or 'none yet (ssmd schedule apply)'}")


def read(there: ScheduleDescription) -> Planned:
    """A schedule as the server has it, in our words."""
    action, spec, policy = there.schedule.action, there.schedule.spec, there.schedule.policy
    assert isinstance(action, ScheduleActionStartWorkflow), "Temporal knows no other"
    given = [msgspec.json.decode(argument.data) for argument in action.args]
    return Planned(
        id=there.id,
        workflow=action.workflow,
        input={k: given[0][k] for k in sorted(given[0])} if given and isinstance(given[0], dict) else {},
        workflow_id=action.id,
        task_queue=action.task_queue,
        cron=_cron(spec),
        every_seconds=int(spec.intervals[0].every.total_seconds()) if spec.intervals else None,
        overlap=policy.overlap.name.lower(),
        catch_up_seconds=int(policy.catchup_window.total_seconds()) if policy.catchup_window else 0,
        jitter_seconds=int(spec.jitter.total_seconds()) if spec.jitter else 0,
    )


def _schedule(plan: Planned, state: ScheduleState) -> Schedule:
    """As the SDK has it. A cron line is given as the calendar it means, and told in the comment."""
    calendars, intervals = [], []
    if plan.cron is not None:
        calendars = [_calendar(plan.cron)]
    if plan.every_seconds is not None:
        intervals = [ScheduleIntervalSpec(every=timedelta(seconds=plan.every_seconds))]
    if plan.paused is not None:
        state = dataclasses.replace(state, paused=plan.paused)
    about = plan.workflow_id.partition("/")[2]
    return Schedule(
        action=ScheduleActionStartWorkflow(
            plan.workflow,
            dict(plan.input),
            id=plan.workflow_id,
            task_queue=plan.task_queue,
            static_summary=f"{about}, {plan.when}",
            static_details=f"Started by the schedule `{plan.id}`, which `ssmd schedule apply` keeps.",
            memo={"started_by": f"schedule {plan.id}"},
        ),
        spec=ScheduleSpec(
            calendars=calendars, intervals=intervals, jitter=timedelta(seconds=plan.jitter_seconds) or None
        ),
        policy=SchedulePolicy(
            overlap=ScheduleOverlapPolicy[plan.overlap.upper()],
            catchup_window=timedelta(seconds=plan.catch_up_seconds),
        ),
        state=state,
    )


def _calendar(cron: str) -> ScheduleCalendarSpec:
    minute, hour, day, month, weekday = (tuple(ScheduleRange(*r) for r in field) for field in schedules.calendar(cron))
    return ScheduleCalendarSpec(
        minute=minute, hour=hour, day_of_month=day, month=month, day_of_week=weekday, comment=cron
    )


def _cron(spec: ScheduleSpec) -> str | None:
    """The cron line a schedule was made from; if somebody has changed its calendar, words that no line has."""
    if not spec.calendars:
        return None
    [first, *more] = spec.calendars
    if not more and first.comment:
        try:
            if _calendar(first.comment) == dataclasses.replace(first, year=()):
                return first.comment
        except ValueError:
            pass
    return "another calendar"


async def _make(client: Client, environment: str, change: Change) -> None:
    plan = change.planned
    if plan is None:
        await client.get_schedule_handle(change.id).delete()
    elif change.kind == "add":
        try:
            await client.create_schedule(plan.id, _schedule(plan, ScheduleState()), memo={OURS: environment})
        except ScheduleAlreadyRunningError:
            raise Permanent(f"the schedule {plan.id} was made meanwhile by somebody else: apply again") from None
    else:
        wanted = plan

        async def update(there: ScheduleUpdateInput) -> ScheduleUpdate:
            return ScheduleUpdate(_schedule(wanted, there.description.schedule.state))

        await client.get_schedule_handle(plan.id).update(update)


async def _describe(client: Client, id_: str) -> ScheduleDescription | None:
    try:
        return await client.get_schedule_handle(id_).describe()
    except RPCError as e:
        if e.status == RPCStatusCode.NOT_FOUND:
            return None
        raise


async def _ours(client: Client, environment: str) -> list[str]:
    """The ids of our schedules. A list may lag behind, so one that is gone is left out."""
    listed = [s.id async for s in await client.list_schedules() if await s.memo_value(OURS, None) == environment]
    there = await asyncio.gather(*(_describe(client, id_) for id_ in listed))
    return sorted(id_ for id_, found in zip(listed, there, strict=True) if found is not None)


def _present(there: ScheduleDescription) -> Present:
    info, state = there.info, there.schedule.state
    last: Any = info.recent_actions[-1].action if info.recent_actions else None
    return Present(
        planned=dataclasses.replace(read(there), paused=state.paused),
        paused=state.paused,
        note=state.note or "",
        next=info.next_action_times[0].astimezone(UTC) if info.next_action_times and not state.paused else None,
        last=getattr(last, "workflow_id", None),
        runs=info.num_actions,
        missed=info.num_actions_missed_catchup_window,
        skipped=info.num_actions_skipped_overlap,
    )
