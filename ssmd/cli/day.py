"""`ssmd day`: the life of an environment's day."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ssmd.cli import completing
from ssmd.cli.as_json import AsJson, print_json
from ssmd.cli.printing import print_table
from ssmd.errors import Permanent, Transient

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowHandle

    from ssmd import jobs

R = TypeVar("R")

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0  # a worker's
LISTED_MAX = 30

app = typer.Typer(help="A UTC day's life: pending, starting, active, ending, complete.", no_args_is_help=True)

DayName = Annotated[
    str,
    typer.Argument(
        metavar="DATE", autocompletion=completing.dates, help="The UTC day: YYYY-MM-DD, today or yesterday."
    ),
]
DataFolder = Annotated[Path, typer.Option("--data", help="The data folder.")]
EnvironmentName = Annotated[
    str | None,
    typer.Option("--env", autocompletion=completing.environments, help="The environment (else: that of `ssmd up`)."),
]
Reason = Annotated[str, typer.Option(help="Why, for the day's history.")]
Seal = Annotated[bool, typer.Option("--seal", help="Seal and roll up now what has come so far.")]


@app.command()
def status(
    date: DayName = "today",
    local: Annotated[bool, typer.Option("--local", help="Look at what is on disk, without a Temporal server.")] = False,
    json: AsJson = False,
    data: DataFolder = Path("data"),
    env: EnvironmentName = None,
) -> None:
    """Say which state a day is in, and what it waits for.

    \b
    ssmd day status
    ssmd day status yesterday --local --json
    """
    _say(_looked_at(date, data, env, local), json)


@app.command()
def show(
    date: DayName = "today",
    local: Annotated[bool, typer.Option("--local", help="Look at what is on disk, without a Temporal server.")] = False,
    json: AsJson = False,
    data: DataFolder = Path("data"),
    env: EnvironmentName = None,
) -> None:
    """Say of each feed of a day how it was last seen.

    Example: ssmd day show today
    """

    found = _looked_at(date, data, env, local)
    if json:
        print_json(found)
        return
    rows = [("feed", "connected", "archiving", "frames", "open gaps", "sealed", "revision", "rolled up", "waits for")]
    for feed in found.feeds:
        waits = feed.lacks if found.state == "ending" or feed.trouble else feed.waits_for
        gaps = "-" if feed.gaps_open is None else f"{feed.gaps_open:,}"
        connected, archiving, sealed = _yes(feed.connected), _yes(feed.archiving), _yes(feed.sealed)
        made_of = str(feed.rolled_up or "-")
        rows.append(
            (feed.feed, connected, archiving, f"{feed.frames:,}", gaps, sealed, str(feed.revision), made_of, waits)
        )
    print_table(rows, right={3, 4, 6, 7})
    typer.echo("")
    _say(found, json=False)


@app.command()
def start(
    date: DayName = "today", json: AsJson = False, data: DataFolder = Path("data"), env: EnvironmentName = None
) -> None:
    """Open a day, if it is not open (its schedule does so at midnight).

    Example: ssmd day start
    """

    async def work(client: "Client", day: "jobs.TradingDay", task_queue: str) -> "jobs.DayStatus":
        from temporalio.common import WorkflowIDConflictPolicy  # noqa: PLC0415

        from ssmd import jobs  # noqa: PLC0415

        handle = await client.start_workflow(
            "TradingDay",
            day,
            id=day.day_id,
            task_queue=task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=jobs.summary(day),
            static_details="Started with `ssmd day start`.",
            memo={"started_by": "ssmd day start"},
        )
        return await _status(handle)

    _say(_at_temporal(date, data, env, work), json)


@app.command()
def end(
    date: DayName = "today",
    reason: Reason = "",
    seal: Seal = False,
    json: AsJson = False,
    data: DataFolder = Path("data"),
    env: EnvironmentName = None,
) -> None:
    """End a day before midnight.

    Example: ssmd day end today --reason "the venue is closed" --seal
    """
    from ssmd import jobs  # noqa: PLC0415

    _say(_update(date, data, env, "end", jobs.EndDay(reason, seal)), json)


@app.command()
def roll(
    date: DayName = "today",
    reason: Reason = "",
    seal: Seal = False,
    json: AsJson = False,
    data: DataFolder = Path("data"),
    env: EnvironmentName = None,
) -> None:
    """End a day now and open the next.

    Example: ssmd day roll --reason "it is late"
    """
    from ssmd import jobs  # noqa: PLC0415

    opened = _update(date, data, env, "roll", jobs.RollDay(reason, seal))
    if json:
        print_json(opened)
    else:
        typer.echo(f"{opened.opened} is open")


@app.command()
def force(
    state: Annotated[str, typer.Argument(metavar="STATE", help="starting, active, ending or complete.")],
    date: DayName = "today",
    reason: Annotated[str, typer.Option(help="Why, for the day's history.", show_default=False)] = "",
    json: AsJson = False,
    data: DataFolder = Path("data"),
    env: EnvironmentName = None,
) -> None:
    """Put a day into a later state, whatever it waits for.

    Example: ssmd day force complete yesterday --reason "one feed was never on"
    """
    from ssmd import jobs  # noqa: PLC0415

    _say(_update(date, data, env, "force", jobs.ForceDay(state, reason)), json)


@app.command()
def history(
    date: Annotated[
        str, typer.Argument(metavar="DATE|all", autocompletion=completing.dates, help="A UTC day, or all.")
    ] = "all",
    json: AsJson = False,
    data: DataFolder = Path("data"),
    env: EnvironmentName = None,
) -> None:
    """List the days that Temporal knows, or one day's turns from state to state.

    \b
    ssmd day history
    ssmd day history yesterday --json
    """

    async def work(client: "Client", day: "jobs.TradingDay", task_queue: str) -> "list[jobs.DayStatus]":
        if date != "all":
            return [await _status(client.get_workflow_handle(day.day_id))]
        prefix = day.day_id.removesuffix(day.date)
        ours = f"WorkflowType = 'TradingDay' AND WorkflowId STARTS_WITH '{prefix}'"
        ids = sorted({run.id async for run in client.list_workflows(ours)}, reverse=True)[:LISTED_MAX]
        return [await _status(client.get_workflow_handle(id_)) for id_ in ids]

    found = _at_temporal("today" if date == "all" else date, data, env, work)
    if json:
        print_json(found)
    elif date != "all":
        print_table([("at (UTC)", "state", "why"), *((t.at[:19], t.state, t.why) for t in found[0].turns)], right=set())
    else:
        rows = [(d.date, d.state, d.turns[-1].at[:19] if d.turns else "", ", ".join(d.waits_for)) for d in found]
        print_table([("date", "state", "since (UTC)", "waits for"), *rows], right=set())


# ----------------------------------------------------------------------------------------------------------------


def _looked_at(date: str, data: Path, env: str | None, local: bool) -> "jobs.DayStatus":
    """What the day's workflow says; with `local`, what is on disk."""

    async def work(client: "Client", day: "jobs.TradingDay", task_queue: str) -> "jobs.DayStatus":
        return await _status(client.get_workflow_handle(day.day_id))

    if not local:
        return _at_temporal(date, data, env, work)
    from ssmd import config, jobs  # noqa: PLC0415
    from ssmd.cli import job  # noqa: PLC0415
    from ssmd.cli.rollup import utc_date  # noqa: PLC0415

    running = config.load_addresses(data)
    environment = env or (running.environment if running is not None else "local")
    day = jobs.TradingDay(environment, utc_date(date))
    return job.here("TradingDay", day, jobs.DayStatus, data, env=environment)


def _update(date: str, data: Path, env: str | None, name: str, asked: object) -> "jobs.DayStatus":
    """What the day answers. Raises Permanent with its words if it refuses."""

    async def work(client: "Client", day: "jobs.TradingDay", task_queue: str) -> "jobs.DayStatus":
        from temporalio.client import WorkflowUpdateFailedError  # noqa: PLC0415

        from ssmd import jobs  # noqa: PLC0415

        handle = client.get_workflow_handle(day.day_id)
        try:
            answer: jobs.DayStatus = await handle.execute_update(name, asked, result_type=jobs.DayStatus)
        except WorkflowUpdateFailedError as e:
            raise Permanent(str(e.cause)) from e
        return answer

    return _at_temporal(date, data, env, work)


async def _status(handle: "WorkflowHandle[Any, Any]") -> "jobs.DayStatus":
    from ssmd import jobs  # noqa: PLC0415

    found: jobs.DayStatus = await handle.query("status", result_type=jobs.DayStatus)
    return found


def _at_temporal(
    date: str, data: Path, env: str | None, work: "Callable[[Client, jobs.TradingDay, str], Awaitable[R]]"
) -> R:
    """Ask the environment's Temporal about a day. Raises Permanent if it is not open there, Transient for no answer."""
    import asyncio  # noqa: PLC0415

    from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError  # noqa: PLC0415
    from temporalio.service import RPCError, RPCStatusCode  # noqa: PLC0415

    from ssmd import config, jobs, service, temporal  # noqa: PLC0415
    from ssmd.cli.rollup import utc_date  # noqa: PLC0415

    asked = utc_date(date)
    addresses = service.addresses(data, env)
    settings = config.load_environment(addresses.environment).temporal
    day = jobs.TradingDay(addresses.environment, asked)

    async def there() -> R:
        client = await asyncio.wait_for(temporal.connect(settings, addresses.temporal), CONNECT_SECONDS)
        return await asyncio.wait_for(work(client, day, settings.task_queue), ANSWER_SECONDS)

    try:
        return asyncio.run(there())
    except RPCError as e:
        if e.status == RPCStatusCode.NOT_FOUND:
            raise Permanent(
                f"{day.date} is not open, or over for long: `ssmd day start {day.date}` opens it, and "
                f"`ssmd day status {day.date} --local` says what is on disk"
            ) from e
        raise Transient(f"Temporal at {addresses.temporal} did not answer for {day.day_id} ({e.message})") from e
    except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError) as e:
        raise Transient(f"no answer for {day.day_id}: is there a worker? `ssmd up` starts one") from e


def _say(found: "jobs.DayStatus", json: bool) -> None:
    if json:
        print_json(found)
        return
    since = f" since {found.turns[-1].at[:19].replace('T', ' ')} ({found.turns[-1].why})" if found.turns else ""
    waits = f", waits for {', '.join(found.waits_for)}" if found.waits_for else ""
    typer.echo(f"{found.environment} {found.date} is {found.state}{since}{waits}")


def _yes(said: bool | None) -> str:
    return "-" if said is None else "yes" if said else "no"
