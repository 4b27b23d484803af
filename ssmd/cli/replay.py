"""`ssmd replay`: a past day, served again."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ssmd.cli.where import DataPlace
from ssmd.errors import Permanent

if TYPE_CHECKING:
    from ssmd.replaying import Replayed, Told

EXIT_INTERRUPTED = 130


def replay(
    feed: Annotated[str, typer.Argument(metavar="FEED", help="The feed.", show_default=False)],
    date: Annotated[
        str, typer.Argument(metavar="DATE", help="The UTC day: YYYY-MM-DD, today or yesterday.", show_default=False)
    ],
    speed: Annotated[str, typer.Option(metavar="N|max", help="1 is as recorded; max as fast as clients read.")] = "1",
    to: Annotated[
        Literal["ws", "nats"], typer.Option(help="As the venue's WebSocket, or as our frames on NATS.")
    ] = "ws",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where the WebSocket listens (0: any).")] = 0,
    nats: Annotated[str | None, typer.Option(metavar="URL", help="Which NATS (else: the platform's).")] = None,
    name: Annotated[str, typer.Option(help="What subjects on NATS begin with.")] = "replay",
    start: Annotated[str | None, typer.Option(metavar="HH:MM", help="Begin there, UTC.")] = None,
    end: Annotated[str | None, typer.Option(metavar="HH:MM", help="End there, UTC.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    data: DataPlace = "data",
) -> None:
    """Serve an archived day again, to clients of the venue or on NATS.

    Example: ssmd replay kalshi yesterday --speed 10 --port 8080
    """
    from ssmd import config  # noqa: PLC0415
    from ssmd.cli.rollup import utc_date  # noqa: PLC0415

    factor = _factor(speed)
    day = utc_date(date)
    from_ns, until_ns = _window(day, start, end)
    known = config.load_feed(feed).name
    store = data if data.startswith("s3://") else ""
    command = ["--data", str(Path("data" if store else data).absolute()), "--feed", known, "--speed", factor]
    command += ["--store", store] if store else []
    command += ["--from-ns", str(from_ns), "--until-ns", str(until_ns)]
    if to == "ws":
        command = ["services.simulator", *command, "--archive", day, "--listen", str(port)]
    else:
        command = ["services.replayer", *command, "--date", day, "--name", _name(name)]
        command += ["--nats", nats] if nats else []
    replayed = _run(command)
    if json:
        _print_json(replayed)
    else:
        typer.echo(_sentence(replayed))
    if not replayed.complete:
        raise typer.Exit(EXIT_INTERRUPTED)


# ------------------------------------------------------------------------------------------------------- options


def _factor(speed: str) -> str:
    """As services take it."""
    if speed == "max":
        return "inf"
    try:
        if 0 < float(speed) < float("inf"):
            return speed
    except ValueError:
        pass
    raise Permanent(f"--speed {speed}: is neither a factor above 0 nor `max`: 1 is as recorded")


def _name(name: str) -> str:
    if not name or set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789-") or not name[0].isalpha():
        raise Permanent(f"--name {name}: write lower-case letters, digits and dashes, a letter first")
    return name


def _window(date: str, start: str | None, end: str | None) -> tuple[int, int]:
    """From when (included) until when, in ns."""
    from ssmd.clock import DAY_NS  # noqa: PLC0415
    from ssmd.coverage import midnight  # noqa: PLC0415

    first = midnight(date)
    from_ns = first + _minutes_ns("--start", start) if start is not None else first
    until_ns = first + _minutes_ns("--end", end) if end is not None else first + DAY_NS
    if from_ns >= until_ns:
        raise Permanent(f"--start {start}: is not before --end {end}")
    return from_ns, until_ns


def _minutes_ns(option: str, said: str) -> int:
    import re  # noqa: PLC0415

    found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)|24:00", said)
    if found is None:
        raise Permanent(f"{option} {said}: is no time of day: write it as HH:MM, UTC, as in 14:30")
    hours, _, minutes = said.partition(":")
    return (int(hours) * 60 + int(minutes)) * 60_000_000_000


# -------------------------------------------------------------------------------------------------- the process


def _run(command: list[str]) -> "Replayed":
    """Start the service, show what it says; its result. Ctrl-C ends it, and it says what it did."""
    import msgspec  # noqa: PLC0415

    from ssmd import config  # noqa: PLC0415
    from ssmd.replaying import Replayed, Told  # noqa: PLC0415

    decode = msgspec.json.Decoder(Told | Replayed).decode
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=config.application_folder(),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    before = {sig: signal.signal(sig, lambda *_: process.terminate()) for sig in (signal.SIGINT, signal.SIGTERM)}
    replayed = None
    try:
        assert process.stdout is not None
        shown = _shown(decode(line) for line in process.stdout)
        for said in shown:
            replayed = said
    finally:
        code = process.wait()
        for sig, handler in before.items():
            signal.signal(sig, handler)
    if replayed is None:
        raise typer.Exit(code or EXIT_INTERRUPTED)  # it has said why
    return replayed


def _shown(told: "Iterator[Told | Replayed]") -> "Iterator[Replayed]":
    """Show progress, on a terminal in place; the result comes last."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn  # noqa: PLC0415

    from ssmd.replaying import Replayed  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(20), TaskProgressColumn(), TextColumn("{task.fields[left]}"))
    doing = ""
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None, left="")
        for said in told:
            if isinstance(said, Replayed):
                yield said
            elif not said.total or (said.doing != doing and not console.is_terminal):
                progress.console.print(said.doing, soft_wrap=True, highlight=False)
            else:
                progress.update(task, description=said.doing, completed=said.done, total=said.total, left=_left(said))
            doing = said.doing if not isinstance(said, Replayed) else doing


def _left(said: "Told") -> str:
    """Where in the day it stands, and how long it will take."""
    from ssmd import written  # noqa: PLC0415

    at = f"at {written.when(said.at_ns)[11:19]}" if said.at_ns else ""
    return at if said.seconds is None else f"{at}, {written.length(int(said.seconds * 1e9))} left"


# ---------------------------------------------------------------------------------------------------- the result


def _sentence(replayed: "Replayed") -> str:
    told = f"{replayed.feed} {replayed.date}: {replayed.frames:,} frames"
    if replayed.to == "ws":
        told += f" served, {replayed.sent:,} sent to clients,"
    else:
        told += " published"
    told += f" in {replayed.seconds:.1f} s, {replayed.speed:,.1f} times as fast as recorded"
    if replayed.left_out:
        told += f"; {sum(replayed.left_out.values()):,} that the grammar does not know were left out"
    return told if replayed.complete else f"{told}; interrupted"


def _print_json(replayed: "Replayed") -> None:
    import msgspec  # noqa: PLC0415

    found = msgspec.structs.asdict(replayed) | {"speed": round(replayed.speed, 2)}
    typer.echo(msgspec.json.encode(found).decode())
