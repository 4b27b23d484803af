"""`ssmd up`: the whole platform on this machine."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmd.cli import completing, folder

if TYPE_CHECKING:
    from ssmd.up.status import Display


def up(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder for everything that is kept.")] = Path("data"),
    feed: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completing.feeds,
            help="Only this feed; repeatable (else: the environment's).",
        ),
    ] = None,
    env: Annotated[
        str, typer.Option(metavar="NAME", autocompletion=completing.environments, help="What to run, and where.")
    ] = "local",
    seconds: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", help="Stop after so long (else: Ctrl-C).")
    ] = None,
    replay: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Replay this recording (NDJSON, gzip); repeatable, in order."),
    ] = None,
    speed: Annotated[str, typer.Option(metavar="N|max", help="Speed of the replay; 1 is as recorded.")] = "1",
    clock: Annotated[
        str, typer.Option(metavar="now|recorded", help="Frames get the time of now, or of the recording.")
    ] = "now",
    once: Annotated[
        bool, typer.Option("--once", help="Archive, seal and roll up what was replayed, prove it, and end.")
    ] = False,
    port: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N", help="Listen exactly there: nats, temporal, ui, simulator, ..."),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of the simulated markets.")] = None,
    config: folder.Config = None,
) -> int:
    """Run the whole platform on this machine; Ctrl-C stops all of it.

    \b
    ssmd up
    ssmd up --env local-all --data /tmp/market
    ssmd up --once --replay recording.ndjson.gz --speed max --data /tmp/replayed
    """
    from ssmd.up import supervisor, wanted  # noqa: PLC0415 - 0.4 s that other commands need not pay

    asked = wanted.check(
        data=data,
        env=env,
        feeds=feed or [],
        seconds=seconds,
        replay=replay or [],
        speed=speed,
        clock=clock,
        once=once,
        port_options=port or [],
        seed=seed,
    )
    code, summary, wrong = supervisor.run(asked, _display)
    typer.echo(summary)
    if wrong:
        typer.echo(f"error: {wrong}", err=True)
    return code


def _display() -> "Display":
    from rich.console import Console  # noqa: PLC0415

    from ssmd.up.status import Lines, Screen  # noqa: PLC0415

    console = Console()
    return Screen(console) if console.is_terminal and not console.is_dumb_terminal else Lines(sys.stdout)
