"""`ssmd schedule`: jobs that run by themselves, as the environment's YAML has them."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ssmd.cli import completing
from ssmd.cli.as_json import AsJson, print_json
from ssmd.cli.printing import print_table
from ssmd.errors import Permanent, Transient

if TYPE_CHECKING:
    from temporalio.client import Client

    from ssmd.config import Environment
    from ssmd.scheduling import Change, Present

R = TypeVar("R")

EXIT_DIFFERENT = 1
CONNECT_SECONDS = 5.0
NOTHING = "nothing to change"

app = typer.Typer(help="Jobs that run by themselves: the environment's `schedules:`.", no_args_is_help=True)

DataFolder = Annotated[Path, typer.Option("--data", help="The data folder.")]
EnvironmentName = Annotated[
    str | None,
    typer.Option("--env", autocompletion=completing.environments, help="The environment (else: that of `ssmd up`)."),
]
ScheduleName = Annotated[str, typer.Argument(metavar="NAME", help="As `ssmd schedule list` has it: rollup/kalshi.")]


@app.command()
def apply(json: AsJson = False, data: DataFolder = Path("data"), env: EnvironmentName = None) -> None:
    """Make Temporal's schedules what the YAML says; schedules not made by ssmd stay as they are.

    Example: ssmd schedule apply
    """

    async def work(client: "Client", environment: "Environment") -> "list[Change]":
        from ssmd import scheduling  # noqa: PLC0415

        found = await scheduling.changes(client, environment.name, _planned(environment, data))
        for line in [] if json else _lines(found):  # before anything is done
            typer.echo(line)
        await scheduling.apply(client, environment.name, found)
        return found

    found = _at_temporal(data, env, work)
    if json:
        print_json([_change_record(change) for change in found])
    else:
        typer.echo(_counted(found) if found else NOTHING)


@app.command()
def diff(data: DataFolder = Path("data"), env: EnvironmentName = None, json: AsJson = False) -> None:
    """Say what `apply` would change. Exit code 0: nothing; 1: something.

    Example: ssmd schedule diff --json
    """

    async def work(client: "Client", environment: "Environment") -> "list[Change]":
        from ssmd import scheduling  # noqa: PLC0415

        return await scheduling.changes(client, environment.name, _planned(environment, data))

    found = _at_temporal(data, env, work)
    if json:
        print_json([_change_record(change) for change in found])
    else:
        for line in _lines(found):
            typer.echo(line)
    if found:
        raise typer.Exit(EXIT_DIFFERENT)


@app.command("list")
def list_(data: DataFolder = Path("data"), env: EnvironmentName = None, json: AsJson = False) -> None:
    """List the environment's schedules at Temporal: when they run next, and what ran last.

    Example: ssmd schedule list
    """

    async def work(client: "Client", environment: "Environment") -> "list[Present]":
        from ssmd import scheduling  # noqa: PLC0415

        return await scheduling.present(client, environment.name)

    found = _at_temporal(data, env, work)
    if json:
        print_json([_present_record(p) for p in found])
        return
    rows = [("schedule", "workflow", "when (UTC)", "overlap", "catch-up", "jitter", "next (UTC)", "runs", "last run")]
    for p in found:
        plan = p.planned
        upcoming = "paused" if p.paused else f"{p.next:%m-%d %H:%M}" if p.next is not None else "never"
        late, spread = _seconds(plan.catch_up_seconds), _seconds(plan.jitter_seconds)
        rows.append(
            (plan.id, plan.workflow, plan.when, plan.overlap, late, spread, upcoming, str(p.runs), p.last or "-")
        )
    print_table(rows, right={4, 5, 7})
    if not found:
        typer.echo("no schedules yet: `ssmd schedule apply` makes them", err=True)


@app.command()
def trigger(
    name: ScheduleName, json: AsJson = False, data: DataFolder = Path("data"), env: EnvironmentName = None
) -> None:
    """Run a schedule's job now, once more, whatever its overlap policy.

    Example: ssmd schedule trigger rollup/kalshi
    """

    async def work(client: "Client", environment: "Environment") -> str:
        from temporalio.client import ScheduleOverlapPolicy  # noqa: PLC0415

        from ssmd import scheduling  # noqa: PLC0415

        handle = await scheduling.handle(client, environment.name, name)
        await handle.trigger(overlap=ScheduleOverlapPolicy.ALLOW_ALL)
        return handle.id

    _say(_at_temporal(data, env, work), "runs now", json)


@app.command()
def pause(
    name: ScheduleName,
    note: Annotated[str, typer.Option(help="Why, for whoever finds it paused.")] = "paused by hand",
    json: AsJson = False,
    data: DataFolder = Path("data"),
    env: EnvironmentName = None,
) -> None:
    """Let a schedule rest; `apply` leaves it so, unless the YAML says `paused: false`.

    Example: ssmd schedule pause rollup/kalshi --note "until the disk is mended"
    """

    async def work(client: "Client", environment: "Environment") -> str:
        from ssmd import scheduling  # noqa: PLC0415

        handle = await scheduling.handle(client, environment.name, name)
        await handle.pause(note=note)
        return handle.id

    _say(_at_temporal(data, env, work), f"is paused: {note}", json)


@app.command()
def resume(
    name: ScheduleName, json: AsJson = False, data: DataFolder = Path("data"), env: EnvironmentName = None
) -> None:
    """Have a paused schedule run again.

    Example: ssmd schedule resume rollup/kalshi
    """

    async def work(client: "Client", environment: "Environment") -> str:
        from ssmd import scheduling  # noqa: PLC0415

        handle = await scheduling.handle(client, environment.name, name)
        await handle.unpause(note="resumed by hand")
        return handle.id

    _say(_at_temporal(data, env, work), "runs again", json)


@app.command()
def backfill(
    name: ScheduleName,
    start: Annotated[str, typer.Option("--from", metavar="DATE", help="The first UTC day on which runs were due.")],
    end: Annotated[str, typer.Option("--to", metavar="DATE", help="The last one, included.")],
    json: AsJson = False,
    data: DataFolder = Path("data"),
    env: EnvironmentName = None,
) -> None:
    """Make up for runs that were due on past days, one after another, each with the date it would have had then.

    Example: ssmd schedule backfill rollup/kalshi --from 2026-11-01 --to 2026-11-07
    """
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415

    from ssmd.cli.rollup import utc_date  # noqa: PLC0415

    first, last = (datetime.fromisoformat(utc_date(said)).replace(tzinfo=UTC) for said in (start, end))
    if last < first:
        raise Permanent(f"--to {last:%Y-%m-%d} is before --from {first:%Y-%m-%d}: swap them")

    async def work(client: "Client", environment: "Environment") -> str:
        from temporalio.client import ScheduleBackfill, ScheduleOverlapPolicy  # noqa: PLC0415

        from ssmd import scheduling  # noqa: PLC0415

        handle = await scheduling.handle(client, environment.name, name)
        moment = timedelta(seconds=1)  # Temporal leaves the start itself out
        until = last + timedelta(days=1) - moment
        await handle.backfill(ScheduleBackfill(first - moment, until, ScheduleOverlapPolicy.BUFFER_ALL))
        return handle.id

    id_ = _at_temporal(data, env, work)
    _say(id_, f"makes up for the runs due from {first:%Y-%m-%d} to {last:%Y-%m-%d}, one after another", json)


@app.command()
def delete(
    name: ScheduleName, json: AsJson = False, data: DataFolder = Path("data"), env: EnvironmentName = None
) -> None:
    """Remove a schedule from Temporal; one that is in the YAML comes back with the next `apply`.

    Example: ssmd schedule delete rollup/kalshi
    """

    async def work(client: "Client", environment: "Environment") -> tuple[str, bool]:
        from ssmd import scheduling  # noqa: PLC0415

        handle = await scheduling.handle(client, environment.name, name)
        await handle.delete()
        return handle.id, any(plan.id == handle.id for plan in _planned(environment, data))

    id_, returns = _at_temporal(data, env, work)
    short = id_.split("/")[1]
    _say(id_, "is removed", json)
    if returns:
        typer.echo(f"the next `ssmd schedule apply` makes it again, unless `schedules:` says `{short}: null`", err=True)


# ----------------------------------------------------------------------------------------------------------------


def _at_temporal(data: Path, env: str | None, work: "Callable[[Client, Environment], Awaitable[R]]") -> R:
    """Do something at the environment's Temporal. Raises Transient if it does not answer."""
    import asyncio  # noqa: PLC0415

    from temporalio.service import RPCError  # noqa: PLC0415

    from ssmd import config, service, temporal  # noqa: PLC0415

    addresses = service.addresses(data, env)
    environment = config.environment_of(addresses)

    async def there() -> R:
        connecting = temporal.connect(environment.temporal, addresses.temporal)
        client = await asyncio.wait_for(connecting, CONNECT_SECONDS)
        return await work(client, environment)

    try:
        return asyncio.run(there())
    except (RPCError, TimeoutError) as e:
        why = e.message if isinstance(e, RPCError) else "no answer in time"
        raise Transient(f"Temporal at {addresses.temporal} did not do it ({why}): try again") from e


def _say(id_: str, done: str, json: bool) -> None:
    if json:
        print_json({"schedule": id_, "done": done})
    else:
        typer.echo(f"{id_} {done}")


def _planned(environment: "Environment", data: Path) -> "list[Any]":
    """What should be, for the feeds that run here."""
    from ssmd import config, schedules, service  # noqa: PLC0415

    feeds = config.feeds_run(environment, service.addresses(data, environment.name))
    return schedules.planned(environment, config.application("workflows.runner").inputs(), feeds)


def _lines(found: "list[Change]") -> list[str]:
    """The changes, as a diff."""
    lines = []
    for change in found:
        plan = change.planned
        if plan is None:
            lines.append(f"- {change.id}")
        elif change.kind == "add":
            late, spread = _seconds(plan.catch_up_seconds), _seconds(plan.jitter_seconds)
            lines.append(
                f"+ {change.id}: {plan.workflow} {plan.input_json}, {plan.when}, "
                f"overlap {plan.overlap}, catch-up {late}, jitter {spread}"
            )
        else:
            told = ", ".join(f"{name} {_short(was)} -> {_short(becomes)}" for name, was, becomes in change.fields)
            lines.append(f"~ {change.id}: {told}")
    return lines


def _short(value: object) -> str:
    import msgspec  # noqa: PLC0415

    return msgspec.json.encode(value).decode() if isinstance(value, dict) else str(value)


def _counted(found: "list[Change]") -> str:
    kinds = {"add": "added", "change": "changed", "remove": "removed"}
    counts = {kind: sum(change.kind == kind for change in found) for kind in kinds}
    return ", ".join(f"{count} {kinds[kind]}" for kind, count in counts.items() if count)


def _seconds(seconds: int) -> str:
    """Short: 90 s, 10 min, 7 d."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _change_record(change: "Change") -> dict[str, object]:
    return {
        "change": change.kind,
        "schedule": change.id,
        "planned": None if change.planned is None else _plan_record(change.planned),
        "fields": {name: {"from": was, "to": becomes} for name, was, becomes in change.fields},
    }


def _plan_record(plan: "Any") -> dict[str, object]:
    import dataclasses  # noqa: PLC0415

    return {f.name: getattr(plan, f.name) for f in dataclasses.fields(plan)}


def _present_record(p: "Present") -> dict[str, object]:
    return {
        **_plan_record(p.planned),
        "note": p.note,
        "next": None if p.next is None else p.next.isoformat(),
        "last": p.last,
        "runs": p.runs,
        "missed": p.missed,
        "skipped": p.skipped,
    }
