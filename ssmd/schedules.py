"""Which jobs run when, by themselves: the environment's `schedules:` over the defaults, as Temporal will know them.

An entry of the YAML changes the fields it names of the default of that name, or is a schedule of its own; `null`
leaves a default out. Times are UTC. One entry gives one schedule per feed where its job is about a feed, else one.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec

from ssmd import config
from ssmd.errors import Permanent
from ssmd.jobs import date_of

DAY_SECONDS = 86_400
Range = tuple[int, int, int]  # first, last, step

# What each job's name in ids is, when it runs, and what it is given beyond its feed and environment.
# Dated jobs may overlap: one that waits for its day must not hold up the next one's.
DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "day": {"workflow": "TradingDay", "cron": "0 0 * * *", "input": {"date": "today"}, "overlap": "allow_all"},
    "rollup": {
        "workflow": "RollupDay",
        "cron": "10 0 * * *",
        "input": {"date": "yesterday", "if_any": True},
        "overlap": "allow_all",
        "catch_up_seconds": 7 * DAY_SECONDS,
        "jitter_seconds": 60,
    },
    "publish": {
        "workflow": "PublishArchive",
        "cron": "30 1 * * *",
        "input": {"date": "yesterday", "if_any": True},
        "overlap": "allow_all",
        "catch_up_seconds": 7 * DAY_SECONDS,
        "jitter_seconds": 60,
    },
    # Each day once more a week after it was written; what rots later is found by `ssmd verify`.
    "verify": {
        "workflow": "VerifyArchive",
        "cron": "30 3 * * *",
        "input": {"date": "today-7", "if_any": True},
        "overlap": "buffer_all",
        "catch_up_seconds": 7 * DAY_SECONDS,
        "jitter_seconds": 600,
    },
    "secmaster": {"workflow": "SyncSecmaster", "every_seconds": 300, "catch_up_seconds": 300, "jitter_seconds": 15},
    "secmaster-full": {
        "workflow": "SyncSecmaster",
        "cron": "40 0 * * *",
        "input": {"full": True},
        "overlap": "buffer_one",
        "jitter_seconds": 60,
    },
    "fees": {"workflow": "SyncFees", "cron": "50 0 * * *", "jitter_seconds": 60},
    "backfill": {"workflow": "Backfill", "cron": "20 * * * *", "catch_up_seconds": 3600, "jitter_seconds": 60},
    "keys": {"workflow": "VerifyKeys", "cron": "0 6 * * *", "jitter_seconds": 60},
    "retention": {"workflow": "ApplyRetention", "cron": "0 5 * * *", "jitter_seconds": 60},
    "report": {"workflow": "DailyReport", "cron": "30 6 * * *", "input": {"date": "yesterday"}},
}

STORING = {"publish", "retention"}  # defaults that concern only who has a `storage`


@dataclass(frozen=True)
class Planned:
    """One schedule. Its runs are `{name}/{feed or environment}-{when}`; `paused` None: whoever paused it knows why."""

    id: str
    workflow: str
    input: Mapping[str, object]
    workflow_id: str
    task_queue: str
    cron: str | None
    every_seconds: int | None
    overlap: str
    catch_up_seconds: int
    jitter_seconds: int
    paused: bool | None = None

    @property
    def when(self) -> str:
        return self.cron if self.cron is not None else f"every {self.every_seconds} s"

    @property
    def input_json(self) -> str:
        return msgspec.json.encode(dict(self.input)).decode()


def planned(environment: config.Environment, jobs: Mapping[str, type]) -> list[Planned]:
    """Every schedule of an environment, by id; `jobs` are the workflow types that a worker has, with their inputs.

    Raises Permanent, with file and line, for a schedule that nobody could run. A default that no worker could run is
    left out.
    """
    found: list[Planned] = []
    for name in sorted({*DEFAULTS, *environment.schedules}):
        own = environment.schedules.get(name, config.Schedule())
        if own is None and name not in DEFAULTS:
            raise _wrong(environment, [name], f"there is no default {name!r} to leave out: remove the line")
        if own is None or (name in STORING and environment.storage is None and not own.model_fields_set):
            continue
        try:
            found += _of(environment, name, _over(DEFAULTS.get(name, {}), own), jobs)
        except Permanent:
            if own.model_fields_set:
                raise
    return sorted(found, key=lambda p: p.id)


def _over(default: Mapping[str, Any], own: config.Schedule) -> config.Schedule:
    """A default with what an environment says of it instead."""
    said = own.model_dump(exclude_unset=True)
    merged = {**default, **said, "input": {**default.get("input", {}), **own.input}}
    for one, other in (("cron", "every_seconds"), ("every_seconds", "cron")):
        if one in said and other not in said:
            merged.pop(other, None)
    return config.Schedule.model_validate(merged)


def _of(environment: config.Environment, name: str, entry: config.Schedule, jobs: Mapping[str, type]) -> list[Planned]:
    """An entry's schedules: one per feed if its job takes a feed."""
    workflow = entry.workflow
    if workflow is None or workflow not in jobs:
        said = "needs a workflow" if workflow is None else f"there is no workflow {workflow!r}"
        raise _wrong(environment, [name, "workflow"], f"{said}: there is {', '.join(sorted(jobs))}")
    if (entry.cron is None) == (entry.every_seconds is None):
        raise _wrong(environment, [name], "give either cron or every_seconds")
    if entry.cron is not None:
        try:
            calendar(entry.cron)
        except ValueError as e:
            raise _wrong(environment, [name, "cron"], str(e)) from None
    fields = {f.name for f in dataclasses.fields(jobs[workflow])}
    if entry.feeds and "feed" not in fields:
        raise _wrong(environment, [name, "feeds"], f"{workflow} is not about a feed: remove the line")
    known = [f.feed for f in environment.feeds]
    for feed in entry.feeds:
        if feed not in known:
            raise _wrong(environment, [name, "feeds"], f"there is no feed {feed!r}: there is {', '.join(known)}")
    found = []
    for feed in (entry.feeds or known) if "feed" in fields else [""]:
        given: dict[str, object] = dict(entry.input)
        given |= {"feed": feed} if feed else {}
        given |= {"environment": environment.name} if "environment" in fields else {}
        try:
            if more := sorted(set(given) - fields):
                raise msgspec.ValidationError(f"it has no {', '.join(more)}")
            msgspec.convert(given, jobs[workflow])
            if "date" in given:
                date.fromisoformat(date_of(str(given["date"]), date.today()))
        except (msgspec.ValidationError, ValueError) as e:
            takes = ", ".join(sorted(fields))
            raise _wrong(environment, [name, "input"], f"is no input for {workflow} (of {takes}): {e}") from None
        found.append(
            Planned(
                id="/".join(filter(None, [environment.name, name, feed])),
                workflow=workflow,
                input={k: given[k] for k in sorted(given)},
                workflow_id=f"{name}/{feed or environment.name}",
                task_queue=environment.temporal.task_queue,
                cron=entry.cron,
                every_seconds=entry.every_seconds,
                overlap=entry.overlap,
                catch_up_seconds=entry.catch_up_seconds,
                jitter_seconds=entry.jitter_seconds,
                paused=entry.paused,
            )
        )
    return found


def _wrong(environment: config.Environment, path: Sequence[str | int], why: str) -> Permanent:
    loc = ["schedules", *path]
    where = config.line_of("environments", environment.name, loc)
    return Permanent(f"{where}: {'.'.join(str(part) for part in loc)}: {why}")


# ---------------------------------------------------------------------------------------------------------- cron

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def calendar(cron: str) -> list[list[Range]]:
    """The ranges of a cron line's five fields: minute, hour, day of month, month, day of week (0 and 7: Sunday).

    Raises ValueError. Days of the month and of the week together are refused: cron means either, Temporal both.
    """
    said = cron.split()
    if len(said) != len(_FIELDS):
        raise ValueError(f"{cron!r} is no cron line: it has five fields, minute, hour, day, month, weekday")
    found = [_field(text, *field) for text, field in zip(said, _FIELDS, strict=True)]
    if said[2] != "*" and said[4] != "*":
        raise ValueError(f"{cron!r} names days of the month and of the week: name only one of them")
    found[4] = [(a, b, s) for first, last, step in found[4] for a, b, s in _sundays(first, last, step)]
    return found


def _field(text: str, name: str, low: int, high: int) -> list[Range]:
    ranges: list[Range] = []
    for part in text.split(","):
        body, slash, step_said = part.partition("/")
        step = _number(step_said, name, 1, high) if slash else 1
        if body == "*":
            first, last = low, min(high, 6) if name == "day of week" else high
        else:
            start, dash, end = body.partition("-")
            first = _number(start, name, low, high)
            last = _number(end, name, low, high) if dash else (high if slash else first)
        if last < first:
            raise ValueError(f"{text!r} is no {name}: {last} comes before {first}")
        ranges.append((first, last, step))
    return ranges


def _number(text: str, name: str, low: int, high: int) -> int:
    if name == "day of week" and text.lower() in _WEEKDAYS:
        return _WEEKDAYS.index(text.lower())
    if not text.isdecimal() or not low <= int(text) <= high:
        raise ValueError(f"{text!r} is no {name}: it is a number from {low} to {high}")
    return int(text)


def _sundays(first: int, last: int, step: int) -> list[Range]:
    """7 is Sunday too, which Temporal calls 0."""
    if last < 7:
        return [(first, last, step)]
    days = sorted({day % 7 for day in range(first, last + 1, step)})
    return [(day, day, 1) for day in days]
