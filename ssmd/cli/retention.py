"""`ssmd retention`: what is published, verified and old is removed here."""

from pathlib import Path
from typing import Annotated

import typer

from ssmd.cli.as_json import AsJson, print_json
from ssmd.cli.printing import print_table, size

EXIT_KEPT = 1


def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    local: Annotated[bool, typer.Option("--local", help="Do it here, without a Temporal server.")] = False,
    env: Annotated[
        str | None, typer.Option(help="The environment whose settings hold (else: the data folder's own).")
    ] = None,
    json: AsJson = False,
    data: Annotated[Path, typer.Option("--data", help="The data folder.")] = Path("data"),
) -> None:
    """Remove here what is old, and seen to be whole in the store.

    The environment's `retention` says what is old.

    Exit code 0: done; 1: something old stays, and it is said why; 2: nothing could be looked at.

    \b
    ssmd retention --dry-run
    ssmd retention --json
    """
    import asyncio  # noqa: PLC0415

    from ssmd import config, jobs, service  # noqa: PLC0415
    from ssmd.cli import job  # noqa: PLC0415

    places = config.Places(data)
    places.check()
    if local:
        environment = config.load_environment(env or places.environment() or "local").name
        given = jobs.Retention(environment, dry_run)
        told = job.here("ApplyRetention", given, jobs.Retained, data, env=environment)
    else:
        addresses = service.addresses(data, env)
        given = jobs.Retention(addresses.environment, dry_run)
        told = asyncio.run(
            job.by_temporal("ApplyRetention", given, given.retention_id, jobs.Retained, addresses, "ssmd retention")
        )
    if json:
        print_json(told)
    else:
        did = "would go" if told.dry_run else "went"
        typer.echo(
            f"{told.files:,} files of {told.days:,} days {did} ({size(told.bytes)}): {told.store} has them whole"
        )
        if told.kept:
            print_table(
                [("feed", "date", "of", "stays because"), *((r.feed, r.date, r.kind, r.kept) for r in told.kept)], set()
            )
        if told.more:
            typer.echo(f"… and {told.more:,} more stay")
    if told.kept:
        raise typer.Exit(EXIT_KEPT)
