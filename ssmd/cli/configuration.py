"""`ssmd init | validate | diff | commit`: the configuration as files under git."""

import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from ssmd.cli import folder
from ssmd.cli.as_json import AsJson, print_json
from ssmd.errors import Permanent

EXIT_FINDINGS = 1


def init(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="An empty folder, or a new one.")] = Path(),
    feed: Annotated[list[str] | None, typer.Option(metavar="NAME", help="With this feed; repeatable.")] = None,
    git: Annotated[bool, typer.Option("--git/--no-git", help="Make it a git repository.")] = True,
    json: AsJson = False,
) -> None:
    """Begin a configuration of your own.

    It has feeds, an environment against simulated venues, and schemas.

    \b
    ssmd init market && cd market && ssmd up
    ssmd init --feed kalshi --feed deribit
    """
    from ssmd.gitops import starting  # noqa: PLC0415

    made = starting.folder(target, list(dict.fromkeys(feed or ["kalshi"])))
    if git and shutil.which("git") and not _in_git(target):
        subprocess.run(["git", "-C", str(target), "init", "--quiet"], check=False, timeout=60)
    if json:
        print_json({"files": [str(path) for path in made]})
        return
    for path in made:
        typer.echo(path)
    go = "" if target.resolve() == Path.cwd() else f"cd {target} && "
    typer.echo(f'next: {go}ssmd validate && ssmd up   (`ssmd commit -m "first"` keeps it)')


def _in_git(target: Path) -> bool:
    command = ["git", "-C", str(target), "rev-parse", "--is-inside-work-tree"]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def validate(
    paths: Annotated[list[Path] | None, typer.Argument(help="Only these files or folders.", show_default=False)] = None,
    check_keys: Annotated[bool, typer.Option("--check-keys", help="Also whether each key is there.")] = False,
    json: AsJson = False,
    data: folder.Data = Path("data"),
    config: folder.Config = None,
) -> None:
    """Look for mistakes in the configuration, each with its remedy.

    Exit code 0: all is valid; 1: something is not; 2: it could not be looked at.

    \b
    ssmd validate
    ssmd validate exchanges/environments/local.yaml --check-keys
    """
    from ssmd.config import config_folder  # noqa: PLC0415
    from ssmd.gitops import checks  # noqa: PLC0415

    done = checks.check(config_folder(), paths or [], keys=check_keys, data=data)
    if json:
        print_json({"files": done.counts, "findings": [f.row for f in done.findings]})
    else:
        _show(done)
    if done.findings:
        raise typer.Exit(EXIT_FINDINGS)


def _show(done: "checks.Checked") -> None:  # type: ignore[name-defined]  # noqa: F821
    for finding in done.findings:
        typer.echo(finding)
    files = (
        ", ".join(f"{count} {kind if count > 1 else kind[:-1]}" for kind, count in done.counts.items()) or "no files"
    )
    found = len(done.findings)
    typer.echo(f"{files}: {'valid' if not found else f'{found} to mend'}", err=bool(found))


def diff(
    ref: Annotated[str, typer.Argument(metavar="COMMIT", help="Compared with this commit, branch or tag.")] = "HEAD",
    text: Annotated[bool, typer.Option("--text", help="Line by line, as git shows it.")] = False,
    json: AsJson = False,
    config: folder.Config = None,
) -> None:
    """Show what has changed in the configuration, and what it breaks.

    \b
    ssmd diff
    ssmd diff main --json
    """
    from ssmd.config import config_folder  # noqa: PLC0415
    from ssmd.gitops import repository  # noqa: PLC0415

    repo = repository.Repository(config_folder())
    if text:
        if repo.known(ref):
            typer.echo(
                repo.git("diff", ref, "--", *[k for k in repository.OURS if (repo.folder / k).exists()]), nl=False
            )
            return
        raise Permanent(f"git knows no {ref!r}: name a commit, or leave out --text where nothing is committed yet")
    found = repository.changes(repo, ref)
    if json:
        from dataclasses import asdict  # noqa: PLC0415

        print_json([asdict(change) for change in found])
        return
    before = None
    for change in found:
        if change.file != before:
            typer.echo(change.file)
            before = change.file
        typer.echo(f"  {change}")
    if not found:
        typer.echo(f"nothing has changed since {ref}", err=True)


def commit(
    message: Annotated[str, typer.Option("-m", "--message", metavar="TEXT", help="Why.", show_default=False)],
    json: AsJson = False,
    config: folder.Config = None,
) -> None:
    """Commit the configuration, and nothing else, to git.

    Refused if it is not valid or holds a secret.

    \b
    ssmd commit -m "Deribit options as well"
    """
    from ssmd.config import config_folder  # noqa: PLC0415
    from ssmd.gitops import checks, repository  # noqa: PLC0415

    repo = repository.Repository(config_folder())
    findings = checks.check(config_folder()).findings + repository.broken_promises(repo)
    if findings:
        for finding in findings:
            typer.echo(finding, err=True)
        raise Permanent(f"nothing was committed: {len(findings)} to mend, as told above")
    name, files = repo.commit(message)
    if json:
        print_json({"commit": name if files else None, "files": [str(file) for file in files]})
        return
    if not files:
        typer.echo("nothing has changed since the last commit", err=True)
        return
    typer.echo(f"{name} {message.splitlines()[0]}")
    for file in files:
        typer.echo(f"  {file}")
