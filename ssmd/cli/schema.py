"""`ssmd schema`: what subscribers can read, pinned by hash."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmd.cli import completing, folder
from ssmd.cli.as_json import AsJson, print_json
from ssmd.cli.printing import print_table
from ssmd.errors import Permanent

if TYPE_CHECKING:
    from ssmd.gitops.schemas import Schema, SchemaVersion

app = typer.Typer(no_args_is_help=True, help="What subscribers can read, pinned by hash.", rich_markup_mode=None)

Name = Annotated[
    str, typer.Argument(metavar="SCHEMA", autocompletion=completing.schemas, help="The schema.", show_default=False)
]
Number = Annotated[int | None, typer.Option("--version", metavar="N", help="This version (else: the last).")]
File = Annotated[Path, typer.Option("--file", metavar="FILE", help="A Cap'n Proto schema.", show_default=False)]


@app.command("list")
def list_(json: AsJson = False, config: folder.Config = None) -> None:
    """List all schemas with their versions.

    \b
    ssmd schema list
    """

    schemas = [_load(name) for name in folder.names("schemas")]
    if json:
        print_json([schema.model_dump(mode="json") for schema in schemas])
        return
    lines = [("schema", "version", "status", "sha256", "file", "title")]
    for schema in schemas:
        for v in schema.versions:
            lines.append((schema.name, str(v.version), v.status, v.sha256[:12], v.file, schema.title))
    print_table(lines, right={1})


@app.command()
def show(name: Name, version: Number = None, json: AsJson = False, config: folder.Config = None) -> None:
    """Show what a schema lays out: structs and enums, fields with their numbers and types.

    \b
    ssmd schema show events
    """
    from ssmd.gitops import layout  # noqa: PLC0415

    schema = _load(name)
    chosen = _chosen(schema, version)
    laid_out = layout.layout(_path(name).parent / chosen.file)
    if json:
        import msgspec  # noqa: PLC0415

        print_json(chosen.model_dump(mode="json") | {"layout": msgspec.to_builtins(laid_out)})
        return
    typer.echo(f"{schema.name}@{chosen.version}, {chosen.status}: {schema.title}\n{chosen.file} {chosen.sha256}")
    for kind, what in laid_out.items():
        typer.echo(f"\n{what.what} {kind}")
        for field in what.fields:
            typer.echo(f"  {field.name} @{field.number}" + (f" :{field.type}" if what.what == "struct" else ""))


@app.command()
def register(
    name: Name,
    file: File,
    title: Annotated[str, typer.Option(metavar="TEXT", help="For readers.", show_default=False)],
    active: Annotated[bool, typer.Option("--active", help="Promise it at once (else: a draft).")] = False,
    json: AsJson = False,
    config: folder.Config = None,
) -> None:
    """Begin a schema: its file is copied, compiled and pinned by its hash.

    \b
    ssmd schema register orders --file orders.capnp --title "Our orders"
    """
    from ssmd import durable  # noqa: PLC0415
    from ssmd.gitops import layout, schemas, starting  # noqa: PLC0415

    path = _path(name)
    if path.exists():
        raise Permanent(f"{path} is there already: `ssmd schema add-version {name}` adds to it")
    schemas.sha256(file)
    layout.layout(file)
    target = path.with_name(f"{name}.capnp")
    if target.resolve() != file.resolve():
        if target.exists():
            raise Permanent(f"{target} is there already: choose another name")
        durable.make_folder(path.parent)
        durable.replace(target, file.read_bytes())
    starting.create(path, starting.schema(name, title, target.name, target, "active" if active else "draft"))
    folder.told(path, "made", f"version 1 is {'active' if active else 'a draft'}", json)


@app.command("hash")
def hash_(
    name: Name,
    version: Number = None,
    pin: Annotated[bool, typer.Option("--pin", help="Write it down: the file was changed on purpose.")] = False,
    json: AsJson = False,
    config: folder.Config = None,
) -> None:
    """Print the SHA-256 of a version's file, and whether it is the one that was pinned.

    `--pin` takes any change of a draft; of a version that was promised only what every reader understands.

    \b
    ssmd schema hash events
    ssmd schema hash events --pin
    """
    from ssmd.gitops import schemas  # noqa: PLC0415
    from ssmd.gitops.editing import Editor  # noqa: PLC0415

    schema = _load(name)
    chosen = _chosen(schema, version)
    path = _path(name).parent / chosen.file
    now = schemas.sha256(path)
    if not pin:
        if json:
            print_json({"file": str(path), "sha256": now, "pinned": chosen.sha256})
        else:
            typer.echo(f"{now}  {path}")
        if now != chosen.sha256:
            raise Permanent(f"{path} is not what was pinned ({chosen.sha256}): restore it, or pin it with --pin")
        return
    if now == chosen.sha256:
        folder.told(path, "nothing", "it is what was pinned", json)
        return
    if chosen.status != "draft":
        _refuse_if_it_breaks(schema, chosen, path)
    editor = Editor(_path(name))
    editor.set(f"versions.{chosen.version}.sha256", now)
    folder.changed(editor.path, editor.text, json)


@app.command("add-version")
def add_version(
    name: Name,
    file: File,
    active: Annotated[bool, typer.Option("--active", help="Promise it at once (else: a draft).")] = False,
    json: AsJson = False,
    config: folder.Config = None,
) -> None:
    """Add a version: refused if it breaks what was promised, with the field that does.

    \b
    ssmd schema add-version events --file events-with-fees.capnp
    """
    from ruamel.yaml.comments import CommentedMap  # noqa: PLC0415

    from ssmd import durable  # noqa: PLC0415
    from ssmd.gitops import layout, schemas  # noqa: PLC0415
    from ssmd.gitops.editing import Editor  # noqa: PLC0415

    schema = _load(name)
    number = schema.versions[-1].version + 1
    digest = schemas.sha256(file)
    twin = next((v for v in schema.versions if v.sha256 == digest), None)
    if twin is not None:
        raise Permanent(f"{file} is version {twin.version} already: change it, or set that one's status")
    new = layout.layout(file)
    _refuse_if_new_breaks(schema, new, str(file))
    target = _path(name).with_name(f"{name}-{number}.capnp")
    if target.exists():
        raise Permanent(f"{target} is there already: remove it, or name it in {_path(name).name} yourself")
    editor = Editor(_path(name))
    editor.append(
        "versions",
        CommentedMap({"version": number, "file": target.name, "sha256": digest, "status": "draft"}),
    )
    if active:
        _activate(editor, schema, number)
    durable.replace(target, file.read_bytes())
    try:
        folder.changed(editor.path, editor.text, json)
    except Permanent:
        durable.remove(target)
        raise


@app.command("set-status")
def set_status(
    name: Name,
    status: Annotated[str, typer.Argument(metavar="STATUS", help="draft, active or deprecated.", show_default=False)],
    version: Number = None,
    json: AsJson = False,
    config: folder.Config = None,
) -> None:
    """Promise a version (active), or no longer choose it (deprecated); the active one before it becomes deprecated.

    \b
    ssmd schema set-status events active --version 2
    """
    from ssmd.gitops import layout  # noqa: PLC0415
    from ssmd.gitops.editing import Editor  # noqa: PLC0415

    if status not in {"draft", "active", "deprecated"}:
        raise Permanent(f"status {status!r} is unknown: choose draft, active or deprecated")
    schema = _load(name)
    chosen = _chosen(schema, version)
    if chosen.status == status:
        folder.told(_path(name), "nothing", f"{name}@{chosen.version} is {status} already", json)
        return
    if status == "draft":
        raise Permanent(
            f"{name}@{chosen.version} is {chosen.status}, so others may read it: it can be deprecated, no draft again"
        )
    if chosen.status == "draft" and status == "deprecated":
        raise Permanent(f"{name}@{chosen.version} is a draft, promised to nobody: take it out of {_path(name)} instead")
    editor = Editor(_path(name))
    if status == "active":
        path = _path(name).parent / chosen.file
        _refuse_if_new_breaks(schema, layout.layout(path), chosen.file, but=chosen.version)
        _activate(editor, schema, chosen.version)
    else:
        editor.set(f"versions.{chosen.version}.status", status)
    folder.changed(editor.path, editor.text, json)


def _activate(editor: "Editor", schema: "Schema", number: int) -> None:  # type: ignore[name-defined]  # noqa: F821
    for v in schema.versions:
        if v.status == "active":
            editor.set(f"versions.{v.version}.status", "deprecated")
    editor.set(f"versions.{number}.status", "active")


def _refuse_if_new_breaks(schema: "Schema", new: object, told: str, but: int | None = None) -> None:
    """Compared with every version that was promised."""
    from ssmd.gitops import layout  # noqa: PLC0415

    if schema.compatibility == "none":
        return
    for v in schema.versions:
        if v.status != "draft" and v.version != but:
            old = layout.layout(_path(schema.name).parent / v.file)
            broken = list(layout.breaking(old, new))  # type: ignore[arg-type]
            if broken:
                raise Permanent(
                    f"{told}: breaks {schema.name}@{v.version}, which is {v.status}: {'; '.join(broken)}; "
                    f"add a new field with the next number and leave the old one as it is"
                )


def _refuse_if_it_breaks(schema: "Schema", chosen: "SchemaVersion", path: Path) -> None:
    """A promised file that was changed in place, compared with what git has of it."""
    import hashlib  # noqa: PLC0415
    import tempfile  # noqa: PLC0415

    from ssmd.config import config_folder  # noqa: PLC0415
    from ssmd.gitops import layout, repository  # noqa: PLC0415

    old = repository.Repository(config_folder()).before("HEAD").get(f"schemas/{chosen.file}", b"")
    if hashlib.sha256(old).hexdigest() != chosen.sha256:
        raise Permanent(
            f"{path}: what was pinned of {schema.name}@{chosen.version} is not in the last commit, so the change "
            f"cannot be compared: restore the file, and `ssmd schema add-version {schema.name}` with the change"
        )
    with tempfile.TemporaryDirectory() as aside:
        before = Path(aside) / path.name
        before.write_bytes(old)
        broken = list(layout.breaking(layout.layout(before), layout.layout(path)))
    if broken and schema.compatibility == "full":
        raise Permanent(
            f"{path}: breaks {schema.name}@{chosen.version}, which is {chosen.status}: {'; '.join(broken)}; "
            f"add a new field with the next number and leave the old one as it is"
        )


def _path(name: str) -> Path:
    return folder.path_of("schemas", name)


def _load(name: str) -> "Schema":
    from ssmd.gitops.reading import read  # noqa: PLC0415
    from ssmd.gitops.schemas import Schema  # noqa: PLC0415

    path = _path(name)
    try:
        document = read(Schema, path)
    except OSError:
        known = ", ".join(folder.names("schemas")) or "none"
        raise Permanent(f"there is no schema {name!r} in {path.parent}; there is: {known}") from None
    if document.value is None:
        raise Permanent(f"{path}:{document.findings[0].line}: {document.findings[0].told}")
    return document.value


def _chosen(schema: "Schema", number: int | None) -> "SchemaVersion":
    return schema.versions[-1] if number is None else schema.version(number)
