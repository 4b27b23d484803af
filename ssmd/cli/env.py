"""`ssmd env`: what is run, and where."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmd.cli import completing, folder
from ssmd.cli.as_json import AsJson, print_json
from ssmd.cli.printing import print_table
from ssmd.errors import Permanent

if TYPE_CHECKING:
    from ssmd.gitops.starting import Plan

app = typer.Typer(no_args_is_help=True, help="What is run, and where.", rich_markup_mode=None)

Name = Annotated[
    str,
    typer.Argument(metavar="ENV", autocompletion=completing.environments, help="The environment.", show_default=False),
]


@app.command("list")
def list_(json: AsJson = False, config: folder.Config = None) -> None:
    """List all environments.

    \b
    ssmd env list
    """
    from ssmd.config import load_environment  # noqa: PLC0415

    environments = [load_environment(name) for name in folder.names("environments")]
    if json:
        print_json([e.model_dump(mode="json", by_alias=True) for e in environments])
        return
    lines = [("environment", "servers", "feeds")]
    for e in environments:
        lines.append((e.name, e.servers, ", ".join(f"{f.feed} ({f.endpoint})" for f in e.feeds)))
    print_table(lines, right=set())


@app.command()
def show(name: Name, json: AsJson = False, data: folder.Data = Path("data"), config: folder.Config = None) -> None:
    """Show an environment with everything that it leaves to the defaults.

    \b
    ssmd env show local
    """
    import yaml  # noqa: PLC0415

    from ssmd.config import load_environment  # noqa: PLC0415

    told = load_environment(name).model_dump(mode="json", by_alias=True)
    if json:
        print_json(told)
        return
    typer.echo(yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=110), nl=False)


@app.command()
def create(
    name: Name,
    feed: Annotated[
        list[str],
        typer.Option(metavar="FEED[=ENDPOINT]", help="A feed, simulated or at an endpoint.", show_default=False),
    ],
    title: Annotated[str, typer.Option(metavar="TEXT", help="For readers.")] = "",
    remote: Annotated[bool, typer.Option("--remote", help="NATS and Temporal run elsewhere.")] = False,
    nats: Annotated[str, typer.Option(metavar="URL", help="That NATS.")] = "",
    json: AsJson = False,
    config: folder.Config = None,
) -> None:
    """Make an environment.

    \b
    ssmd env create mine --feed kalshi --feed deribit=production
    """
    from ssmd.gitops import starting  # noqa: PLC0415

    path = folder.path_of("environments", name)
    plans = [_plan(one) for one in feed]
    text = starting.environment(name, plans, title or f"What {name} runs.", remote=remote, nats=nats)
    starting.create(path, text)
    folder.told(path, "made", f"`ssmd up --env {name} --data {name}` runs it", json)
    if not json and any(p.signed and p.endpoint != "simulator" for p in plans):
        typer.echo(f"it needs keys: `ssmd key init {name}` says which")


def _plan(said: str) -> "Plan":
    from datetime import date  # noqa: PLC0415

    from ssmd.config import SIMULATOR, load_feed  # noqa: PLC0415
    from ssmd.gitops.starting import Plan  # noqa: PLC0415

    name, _, endpoint = said.partition("=")
    return Plan(name, endpoint or SIMULATOR, load_feed(name).at(date.today()).signed)


@app.command()
def update(
    name: Name,
    settings: folder.Settings = None,
    unset: folder.Unset = None,
    json: AsJson = False,
    config: folder.Config = None,
) -> None:
    """Change an environment; comments stay. A feed is named in a path as in `feeds.kalshi.endpoint`.

    \b
    ssmd env update local --set archiving.rotate_seconds=60
    ssmd env update mine --set feeds.deribit.symbols.series="[option.BTC]" --unset feeds.kalshi
    """
    from ssmd.gitops.editing import Editor  # noqa: PLC0415

    if not settings and not unset:
        raise Permanent("nothing to change: give --set PATH=VALUE or --unset PATH")
    editor = Editor(folder.path_of("environments", name))
    for setting in settings or []:
        editor.assign(setting)
    for one in unset or []:
        editor.unset(one)
    folder.changed(editor.path, editor.text, json)


@app.command("add-key")
def add_key(
    name: Name,
    feed: Annotated[
        str,
        typer.Argument(
            metavar="FEED", autocompletion=completing.feeds, help="The feed that it signs in to.", show_default=False
        ),
    ],
    id_: Annotated[str, typer.Option("--id", metavar="REFERENCE", help="Where the id is: env:NAME or file:PATH.")],
    secret: Annotated[str, typer.Option(metavar="REFERENCE", help="Where the secret is: env:NAME or file:PATH.")],
    json: AsJson = False,
    config: folder.Config = None,
) -> None:
    """Say where a feed's key is: references only, `ssmd key set` puts the secret there.

    \b
    ssmd env add-key mine kalshi --id env:KALSHI_API_KEY_ID --secret file:~/.kalshi/private-key.pem
    """
    from ssmd.gitops.editing import Editor  # noqa: PLC0415

    for option, reference in (("--id", id_), ("--secret", secret)):
        kind, _, where = reference.partition(":")
        if kind not in {"env", "file"} or not where:  # what was given is not repeated: it may be the secret itself
            raise Permanent(f"{option}: is no reference: write env:NAME or file:PATH, never the secret itself")
    editor = Editor(folder.path_of("environments", name))
    editor.set(f"feeds.{feed}.key", {"id": id_, "secret": secret})
    folder.changed(editor.path, editor.text, json)


@app.command()
def teardown(
    name: Name,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    confirm: Annotated[
        str,
        typer.Option(metavar="ENV", help="Its name again: all of it goes, for ever."),
    ] = "",
    json: AsJson = False,
    data: folder.Data = Path("data"),
    config: folder.Config = None,
) -> None:
    """Remove what an environment has made: its data folder, its streams. Its file and the keys elsewhere stay.

    \b
    ssmd env teardown local --dry-run
    ssmd env teardown local --confirm local
    """
    from dataclasses import asdict  # noqa: PLC0415

    from ssmd.config import load_environment  # noqa: PLC0415
    from ssmd.gitops import teardown as work  # noqa: PLC0415

    environment = load_environment(name)
    if not dry_run and confirm != name:
        raise Permanent(
            f"env teardown {name}: removes archived data for ever: look with --dry-run, then say --confirm {name}"
        )
    items = work.planned(environment, data) if dry_run else work.remove(environment, data)
    if json:
        print_json([asdict(item) for item in items])
        return
    if not items:
        typer.echo(f"{data} holds nothing of {name}: there is nothing to remove", err=True)
        return
    lines = [("would go" if dry_run else "removed", "where", "bytes", "what is in it")]
    print_table([*lines, *((i.what, i.where, f"{i.size:,}", i.detail) for i in items)], right={2})
