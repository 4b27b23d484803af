"""Where the configuration is: an option that all commands about it share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ssmd.cli.as_json import print_json
from ssmd.errors import Permanent


def _use(folder: Path | None) -> Path | None:
    """From here on it is as if $SSMD_CONFIG had been set, for the processes that we start as well."""
    if folder is not None:
        if not folder.is_dir():
            raise Permanent(f"--config {folder}: is no folder: name one with feeds/ and environments/")
        os.environ["SSMD_CONFIG"] = str(folder.resolve())
    return folder


Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="DIR", callback=_use, help="The configuration folder (else: $SSMD_CONFIG)."),
]
Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="The data folder, for {data} in references.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Set a field; repeatable. VALUE is YAML.")
]
Unset = Annotated[list[str] | None, typer.Option("--unset", metavar="PATH", help="Take a field out; repeatable.")]


def everywhere(config: Config = None) -> None:
    """Before any command."""


def path_of(kind: str, name: str) -> Path:
    """The file of a feed, an environment or a schema. Raises Permanent if that can be no name."""
    from ssmd import config  # noqa: PLC0415

    if not name or set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789-") or not name[0].isalpha():
        raise Permanent(f"{name!r} can be no name: write lower-case letters, digits and dashes, a letter first")
    return config.config_folder() / kind / f"{name}.yaml"


def names(kind: str) -> list[str]:
    from ssmd import config  # noqa: PLC0415

    return sorted(p.stem for p in (config.config_folder() / kind).glob("*.yaml"))


def changed(path: Path, text: str, json: bool) -> None:
    """Save a changed file, and say what to do with it."""
    from ssmd.gitops import editing  # noqa: PLC0415

    editing.save(path, text)
    told(path, "changed", "`ssmd diff` shows it, `ssmd commit -m …` keeps it", json)


def told(path: Path, done: str, hint: str, json: bool) -> None:
    """What was done to a file."""
    if json:
        print_json({"file": str(path), "done": done})
    else:
        typer.echo(f"{path}: {done}; {hint}")
