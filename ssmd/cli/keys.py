"""`ssmd key list | show | init | set | rotate`: a secret is never an argument, never shown, never in git."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmd.cli import completing, folder
from ssmd.cli.as_json import AsJson, print_json
from ssmd.cli.key import app
from ssmd.cli.printing import print_table
from ssmd.errors import Permanent

if TYPE_CHECKING:
    from ssmd.gitops.references import Key, Part

Environment = Annotated[
    str,
    typer.Argument(metavar="ENV", autocompletion=completing.environments, help="The environment.", show_default=False),
]
Name = Annotated[str, typer.Argument(metavar="KEY", help="Its feed, as `ssmd key list` tells.", show_default=False)]
IdFrom = Annotated[
    Path | None, typer.Option("--id-from", metavar="FILE", help="Where the key's id is now; - is standard input.")
]
SecretFrom = Annotated[
    Path | None, typer.Option("--secret-from", metavar="FILE", help="Where the secret is now; - is standard input.")
]


@app.command("list")
def list_(
    env: Annotated[
        str | None,
        typer.Argument(metavar="ENV", autocompletion=completing.environments, help="Only this environment's."),
    ] = None,
    json: AsJson = False,
    data: folder.Data = Path("data"),
    config: folder.Config = None,
) -> None:
    """List the keys that environments name, and whether they are there.

    \b
    ssmd key list
    """

    found = [key for name in ([env] if env else folder.names("environments")) for key in _keys(name)]
    if json:
        print_json([_told(key, data) for key in found])
        return
    columns = ("environment", "key", "id", "secret", "days", "state")
    lines = [columns, *(tuple(_cell(_told(key, data)[c]) for c in columns) for key in found)]
    print_table(lines, right={4})
    if not found:
        typer.echo("no environment names a key: `ssmd env add-key` does", err=True)


@app.command()
def show(
    env: Environment,
    name: Name,
    json: AsJson = False,
    data: folder.Data = Path("data"),
    config: folder.Config = None,
) -> None:
    """Show where a key is, how old, and whether the venue's grammar takes it; never what it is.

    \b
    ssmd key show kalshi-live kalshi
    """
    told = _told(_key(env, name), data, closely=True)
    if json:
        print_json(told)
        return
    for what, value in told.items():
        if value is not None:
            typer.echo(f"{what:<13}{value}")


@app.command()
def init(
    env: Environment,
    name: Annotated[str | None, typer.Argument(metavar="KEY", help="Only this one.")] = None,
    generate: Annotated[bool, typer.Option("--generate", help="Make RSA keys, and print the public halves.")] = False,
    data: folder.Data = Path("data"),
    config: folder.Config = None,
) -> None:
    """Make the keys that can be made here, and say what to do for the others.

    \b
    ssmd key init kalshi-live
    """
    from ssmd.gitops import secrets  # noqa: PLC0415

    found = _keys(env) if name is None else [_key(env, name)]
    for key in found:
        missing = [p for p in key.parts if not p.present(data)]
        if not missing:
            typer.echo(f"{env} {key.name}: there already; `ssmd key rotate` replaces it")
        elif key.made_by_up:
            _say_written(key, secrets.write(key, _new(missing), data))
        elif generate and any(p.secret and p.path(data) for p in missing):
            _generate(key, [p for p in missing if p.secret], data, keep_previous=False)
            _say_missing(key, [p for p in missing if not p.secret], data)
        else:
            _say_missing(key, missing, data)
    if not found:
        typer.echo(f"environment {env} names no key: `ssmd env add-key` does", err=True)


@app.command("set")
def set_(
    env: Environment,
    name: Name,
    id_from: IdFrom = None,
    secret_from: SecretFrom = None,
    data: folder.Data = Path("data"),
    config: folder.Config = None,
) -> None:
    """Put a key where it is referred to, readable for you alone: from files, standard input, or typed unseen.

    \b
    ssmd key set kalshi-live kalshi --secret-from ~/Downloads/kalshi.txt
    pass show kalshi | ssmd key set kalshi-live kalshi --secret-from -
    """
    from ssmd.gitops import secrets  # noqa: PLC0415

    key = _key(env, name)
    _say_written(key, secrets.write(key, _given(key, id_from, secret_from, data), data))


@app.command()
def rotate(
    env: Environment,
    name: Name,
    id_from: IdFrom = None,
    secret_from: SecretFrom = None,
    generate: Annotated[bool, typer.Option("--generate", help="Make an RSA key, and print its public half.")] = False,
    back: Annotated[bool, typer.Option("--back", help="Take the one before again.")] = False,
    data: folder.Data = Path("data"),
    config: folder.Config = None,
) -> None:
    """Replace a key; the one before is kept beside it (.previous) until the new one has proved itself.

    \b
    ssmd key rotate kalshi-live kalshi --secret-from new.pem
    ssmd key rotate kalshi-live kalshi --back
    """
    from ssmd.gitops import secrets  # noqa: PLC0415

    key = _key(env, name)
    if back:
        paths = {part: secrets.destination(part, data) for part in key.parts if part.path(data)}
        before = {p: secrets.read(secrets.previous(f)) for p, f in paths.items() if secrets.previous(f).is_file()}
        if not before:
            raise Permanent(f"key {env} {name}: there is none before it: `ssmd key set` puts one there")
        _say_written(key, secrets.write(key, before, data, keep_previous=True))
        return
    if not any(p.present(data) for p in key.parts):
        raise Permanent(f"key {env} {name}: is not there yet: `ssmd key init` or `ssmd key set` begins it")
    if key.made_by_up:
        _say_written(key, secrets.write(key, _new(list(key.parts)), data, keep_previous=True))
    elif generate:
        _generate(key, [p for p in key.parts if p.secret], data, keep_previous=True)
    else:
        given = _given(key, id_from, secret_from, data)
        _say_written(key, secrets.write(key, given, data, keep_previous=True))
    if key.dated:
        typer.echo(
            f"its dates in environments/{env}.yaml are the old one's: `ssmd env update {env} --set …` mends them"
        )
    typer.echo("start what uses it again; when that works, revoke the old key at the venue and remove *.previous")


def _new(parts: "list[Part]") -> "dict[Part, bytes]":
    """A key that only a simulated venue will know."""
    import uuid  # noqa: PLC0415

    from ssmd.gitops import secrets  # noqa: PLC0415

    return {p: secrets.rsa_pem() if p.secret else f"{uuid.uuid4()}\n".encode() for p in parts}


def _generate(key: "Key", parts: "list[Part]", data: Path, *, keep_previous: bool) -> None:
    from ssmd.gitops import secrets  # noqa: PLC0415

    if key.method not in {None, "rsa-pss-sha256"}:
        raise Permanent(f"key {key.environment} {key.name}: is made by the venue ({key.method}): leave out --generate")
    (secret,) = parts
    pem = secrets.rsa_pem()
    _say_written(key, secrets.write(key, {secret: pem}, data, keep_previous=keep_previous))
    typer.echo("its public half, for the venue's page of keys:")
    typer.echo((secrets.public_pem(pem) or b"").decode(), nl=False)


def _given(key: "Key", id_from: Path | None, secret_from: Path | None, data: Path) -> "dict[Part, bytes]":
    """What the user gives for each part that is a file; variables are the user's own affair."""
    sources = (id_from, secret_from) if len(key.parts) > 1 else (secret_from,)
    if id_from == secret_from == Path("-"):
        raise Permanent("--id-from - --secret-from -: standard input is one: give one of them as a file")
    if len(key.parts) == 1 and id_from is not None:
        raise Permanent(f"--id-from: {key.name} has no id: give --secret-from alone")
    given: dict[Part, bytes] = {}
    for part, source in zip(key.parts, sources, strict=True):
        if part.path(data) is None:
            if source is not None:
                raise Permanent(
                    f"{part.reference}: is a variable, which ssmd cannot set for you: "
                    f"export {part.variable}=… where ssmd runs"
                )
            if not part.present(data):
                _say_missing(key, [part], data)
        elif source is not None:
            given[part] = _read(source)
        elif id_from is None and secret_from is None and sys.stdin.isatty():
            what = "secret" if part.secret else "id"
            given[part] = typer.prompt(f"{key.environment} {key.name} {what}", hide_input=True).encode() + b"\n"
    if not given:
        files = [p for p in key.parts if p.path(data)]
        if files:
            raise Permanent(f"key {key.environment} {key.name}: nothing was given: name a file with --secret-from FILE")
        raise Permanent(f"key {key.environment} {key.name}: is all variables, which ssmd cannot set: export them")
    return given


def _read(source: Path) -> bytes:
    from ssmd.gitops import secrets  # noqa: PLC0415

    return sys.stdin.buffer.read() if source == Path("-") else secrets.read(source.expanduser())


def _say_written(key: "Key", paths: list[Path]) -> None:
    for path in paths:
        typer.echo(f"{key.environment} {key.name}: written to {path}, readable for you alone")


def _say_missing(key: "Key", parts: "list[Part]", data: Path) -> None:
    for part in parts:
        what = "secret" if part.secret else "id"
        if part.variable:
            typer.echo(f"{key.environment} {key.name}: export {part.variable}=… (the key's {what}) where ssmd runs")
        else:
            command = f"ssmd key set {key.environment} {key.name} --{what}-from FILE"
            typer.echo(f"{key.environment} {key.name}: the {what} belongs into {part.path(data)}: {command}")


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _told(key: "Key", data: Path, *, closely: bool = False) -> dict[str, object]:
    secret = key.parts[-1]
    told: dict[str, object] = {
        "environment": key.environment,
        "key": key.name,
        "id": key.parts[0].reference if len(key.parts) > 1 else None,
        "secret": secret.reference,
        "days": secret.age_days(data),
        "state": _state(key, data),
    }
    if closely:
        import hashlib  # noqa: PLC0415

        from ssmd.gitops import secrets  # noqa: PLC0415

        path = secret.path(data)
        public = secrets.public_pem(path.read_bytes()) if path and not secret.wrong(data) else None
        told |= {
            "signs by": key.method,
            "public half": f"SHA-256 {hashlib.sha256(public).hexdigest()}" if public else None,
            "rotate after": f"{key.rotate_days} days" if key.rotate_days else None,
        }
    return told


def _state(key: "Key", data: Path) -> str:
    if key.made_by_up and not any(p.present(data) for p in key.parts):
        return "made by the first `ssmd up`"
    for part in key.parts:
        wrong = part.wrong(data)
        if wrong is not None:
            return wrong[0]
    refused = key.refused(data)
    return "ready" if refused is None else refused[0]


def _keys(env: str) -> "list[Key]":
    from ssmd.config import config_folder, load_environment  # noqa: PLC0415
    from ssmd.gitops import references  # noqa: PLC0415

    return references.keys(load_environment(env), config_folder())


def _key(env: str, name: str) -> "Key":
    from ssmd.config import config_folder, load_environment  # noqa: PLC0415
    from ssmd.gitops import references  # noqa: PLC0415

    return references.key(load_environment(env), name, config_folder())
