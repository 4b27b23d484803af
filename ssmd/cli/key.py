"""`ssmd key`: the credentials that an environment names, without ever showing one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmd.cli import completing
from ssmd.cli.as_json import AsJson, print_json
from ssmd.cli.printing import print_table
from ssmd.errors import Permanent

if TYPE_CHECKING:
    from ssmd import jobs

app = typer.Typer(
    no_args_is_help=True, help="The credentials that an environment names; none is ever shown.", rich_markup_mode=None
)


@app.callback()
def key() -> None:
    """The credentials that an environment names; none is ever shown."""


@app.command()
def verify(
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
    """Ask every venue whether it accepts our key; exit code 1 if one is not accepted.

    \b
    ssmd key verify
    ssmd key verify --local --env kalshi-live
    """
    verified = _verified(data, local, env)
    if json:
        print_json(verified)
    else:
        _show(verified)
    if not verified.good:
        raise typer.Exit(1)


def _verified(data: Path, local: bool, env: str | None) -> "jobs.VerifiedKeys":
    """By this folder's own platform, or here if there is none."""
    import asyncio  # noqa: PLC0415

    from ssmd import jobs, service  # noqa: PLC0415
    from ssmd.cli import job  # noqa: PLC0415

    addresses = None
    if not local:
        try:
            addresses = service.addresses(data, env)
        except Permanent:
            typer.echo("no platform is running on this data folder: asking from here", err=True)
    if addresses is not None:
        keys = jobs.Keys(addresses.environment)
        return asyncio.run(
            job.by_temporal("VerifyKeys", keys, keys.verify_keys_id, jobs.VerifiedKeys, addresses, "ssmd key verify")
        )
    return job.here("VerifyKeys", jobs.Keys(env or ""), jobs.VerifiedKeys, data, env=env)


def _show(verified: "jobs.VerifiedKeys") -> None:

    if not verified.keys:
        typer.echo(f"environment {verified.environment} names no key, and needs none", err=True)
        return
    lines = [("feed", "state", "age", "ends in", "rights", "reference")]
    for one in verified.keys:
        lines.append(
            (one.feed, one.state, _days(one.age_days), _days(one.expires_in_days), " ".join(one.rights), one.reference)
        )
    print_table(lines, right={2, 3})
    for one in verified.keys:
        if one.state != "accepted":
            typer.echo(f"{one.feed}: {one.said}", err=True)


def _days(days: int | None) -> str:
    return "" if days is None else f"{days:,} d"
