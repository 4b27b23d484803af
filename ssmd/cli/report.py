"""`ssmd report`: how well a day was captured, feed by feed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmd.cli import completing
from ssmd.cli.as_json import AsJson, print_json
from ssmd.errors import Permanent

if TYPE_CHECKING:
    from ssmd import jobs


def report(
    date: Annotated[str, typer.Option(help="The UTC day: YYYY-MM-DD, today or yesterday.")] = "yesterday",
    deliver: Annotated[bool, typer.Option("--deliver", help="Send it where the environment's `reports:` say.")] = False,
    local: Annotated[bool, typer.Option("--local", help="Do it here, without a Temporal server.")] = False,
    json: AsJson = False,
    data: Annotated[Path, typer.Option("--data", help="The data folder.")] = Path("data"),
    env: Annotated[
        str | None,
        typer.Option(
            "--env", autocompletion=completing.environments, help="The environment (else: that of `ssmd up`)."
        ),
    ] = None,
) -> None:
    """Say how well a day was captured: a score per feed, worst first.

    It is made of coverage, gaps, counts and lag.

    \b
    ssmd report
    ssmd report --date 2026-11-20 --deliver
    """
    from ssmd import health, jobs  # noqa: PLC0415
    from ssmd.cli.rollup import utc_date  # noqa: PLC0415

    made = _made(jobs.Report(utc_date(date), deliver), data, local, env)
    if json:
        print_json(made)
        return
    typer.echo(made.title)
    for line in health.lines(made):
        typer.echo(line)
    if made.delivered:
        typer.echo(f"delivered: {'; '.join(made.delivered)}")
    elif deliver:
        typer.echo("delivered nowhere: the environment names no `reports:`", err=True)


def _made(asked: "jobs.Report", data: Path, local: bool, env: str | None) -> "jobs.Reported":
    """By this folder's own platform, or here if there is none."""
    import asyncio  # noqa: PLC0415

    from ssmd import jobs, service  # noqa: PLC0415
    from ssmd.cli import job  # noqa: PLC0415

    addresses = None
    if not local:
        try:
            addresses = service.addresses(data, env)
        except Permanent:
            typer.echo("no platform is running on this data folder: measuring here", err=True)
    if addresses is not None:
        again = f"ssmd report --date {asked.date}" + (" --deliver" if asked.deliver else "")
        return asyncio.run(job.by_temporal("DailyReport", asked, asked.report_id, jobs.Reported, addresses, again))
    return job.here("DailyReport", asked, jobs.Reported, data, env=env)
