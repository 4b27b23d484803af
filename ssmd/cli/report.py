"""`ssmd report`: how well a day was captured, feed by feed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmd.errors import Permanent

if TYPE_CHECKING:
    from ssmd import jobs


def report(
    date: Annotated[str, typer.Option(help="The UTC day: YYYY-MM-DD, today or yesterday.")] = "yesterday",
    deliver: Annotated[bool, typer.Option("--deliver", help="Send it where the environment's `reports:` say.")] = False,
    local: Annotated[bool, typer.Option("--local", help="Do it here, without a Temporal server.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    data: Annotated[Path, typer.Option("--data", help="The data folder.")] = Path("data"),
    env: Annotated[str | None, typer.Option("--env", help="The environment (else: that of `ssmd up`).")] = None,
) -> None:
    """Say how well a day was captured: a score per feed from coverage, gaps, counts and lag, worst first."""
    import msgspec  # noqa: PLC0415

    from ssmd import health, jobs  # noqa: PLC0415
    from ssmd.cli.rollup import utc_date  # noqa: PLC0415

    made = _made(jobs.Report(utc_date(date), deliver), data, local, env)
    if json:
        typer.echo(msgspec.json.encode(made).decode())
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

    import msgspec  # noqa: PLC0415

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
    done = job.here("DailyReport", asked, data, capture=True, env=env)
    if done.returncode:
        raise typer.Exit(done.returncode)  # it has said why
    return msgspec.json.decode(done.stdout, type=jobs.Reported)
