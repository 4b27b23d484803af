"""python -m tests.docs.formats: writes the made part of docs/formats.md: every file and message, each with an example.

Fields, their types and their meaning are those of the structs in the source; examples come from the folder that
tests/docs/made.py makes. What depends on the machine's clock or on the code's own digest is left out of them.
"""

import importlib
import inspect
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from temporalio.testing import ActivityEnvironment

from activities.processes import Processes
from activities.storage import Storage
from ssmd import (
    archive,
    capnp,
    config,
    durable,
    events,
    frames,
    jobs,
    journal,
    lake,
    moved,
    published,
    subjects,
    tables,
    versions,
    views,
)
from ssmd import storage as stores
from ssmd.cli import rows, tail
from ssmd.config import Precision
from ssmd.gitops.formats import filled, meanings, shape
from tests.docs.made import make

PAGE = config.application_folder() / "docs" / "formats.md"
FEED, DATE = "binance-usdm", "2024-08-08"
LIST_MAX, TEXT_MAX = 2, 96
# Of no meaning in an example: by the machine's clock, or by the digest of the code that made a file.
PASSING = {"touched_ns", "started_ns", "sealed_at", "published_at", "software"}
LEVELS = re.compile(r"\[((?:\{[^}]*\},){2})[^]]+\]")  # a book's side: its two best are enough
_SIGN = Precision(price=3, size=2, digits=18)  # only to tell prices from sizes


def reference(data: Path, store: Path) -> str:
    """The made part; `data` is a made folder, `store` where its day is published."""
    folder = archive.day_folder(data / "archive", FEED, DATE)
    lines = {segment.name: archive.read_segment(folder / segment.name) for segment in _manifest(data).segments}
    raw = {name: [bytes_of(line) for line in some] for name, some in lines.items()}
    return "\n".join(
        [
            *_section(
                "Archive line", "One frame, as a line of a segment. Without `seq` it is what journal and NATS have."
            ),
            *_table(frames.Line),
            *_code([raw["trade_000.jsonl.gz"][0], raw["_bad_000.jsonl.gz"][0]], "json"),
            *_section(
                "Sessions and gaps", "Our own frames, on channels `_session` and `_gap`: the line's `frame` is one."
            ),
            *_struct(events.Session),
            *_code(raw["_session_000.jsonl.gz"][:2] + raw["_session_000.jsonl.gz"][-1:], "json"),
            *_struct(events.Gap),
            *_code(raw["_gap_000.jsonl.gz"][:2], "json"),
            *_section("Journal", inspect.cleandoc(_journal_says())),
            *_code([_journal_line(data)], "text"),
            *_section("Archive", _layout(archive)),
            *_struct(archive.Segment),
            *_struct(archive.Connection),
            *_struct(archive.Manifest),
            *_code([_shown(_without_digests(_json(folder / "manifest.json")))], "json"),
            *_struct(archive.Cursor),
            *_struct(archive.ConnState),
            *_struct(archive.PartState),
            *_struct(archive.DayState),
            *_code([_shown(_json(archive.cursor_path(data / "archive", FEED)))], "json"),
            *_section("Lake", _layout(tables)),
            *_struct(tables.LakeDay),
            *_struct(tables.LakeFile),
            *_struct(tables.Covered),
            *_code([_shown(_without_digests(_json(data / "lake" / tables.manifest_path(FEED, DATE))))], "json"),
            *_section("Tables", _TABLES_SAY),
            *_columns_of_tables(data),
            *_section("Tables with versions", _layout(versions)),
            *_columns_of_versions(data),
            *_struct(versions.Manifest),
            *_struct(versions.VersionFile),
            *_section("Object storage", _layout(published)),
            *_struct(published.Published),
            *_struct(stores.Object),
            *_code([_shown(_without_digests(_json(store / published.record_path(FEED, DATE))))], "json"),
            *_struct(published.Versions),
            *_section("What has moved there", _layout(moved)),
            *_struct(moved.Moved),
            *_section("NATS", _NATS_SAYS),
            *_subjects(),
            *_section("Cap'n Proto events", _CAPNP_SAYS),
            *_code([capnp.schema_path().read_text().rstrip()], "capnp"),
            *_capnp_example(data),
        ]
    )


_TABLES_SAY = (
    "Columns of the Parquet files and of the views (`ssmd query`); views have `date` besides. A *price* is a "
    "`decimal(digits, price)` and a *size* a `decimal(digits, size)`, by the feed's `precision`. Files are sorted by "
    f"{', '.join(tables.SORT)}."
)
_NATS_SAYS = (
    f"One JetStream stream per feed, `{subjects.stream('local', 'kalshi')}` for the environment `local` and the feed "
    f"`kalshi`, holds its raw frames (`{subjects.raw('local', 'kalshi')[0]}`): file storage, `discard new`, no age; "
    "the archiver purges what is archived. All else is core NATS: heard by whoever listens then. In a symbol, bytes "
    f"that a subject cannot hold are `%XX` (`{subjects.token('BTC/USD')}` is BTC/USD)."
)
_CAPNP_SAYS = (
    "One message each, in the standard framing. Generate a reader from the schema, or use `ssmd.capnp.decode`."
)


# ------------------------------------------------------------------------------------------------------------ pieces


def _section(title: str, text: str) -> list[str]:
    return [f"## {title}", "", text, ""]


def _struct(struct: type) -> list[str]:
    return [f"### {struct.__name__}", "", _words(struct), "", *_table(struct)]


def _words(struct: type) -> str:
    """A struct's docstring; a list within it stays one."""
    out = []
    for part in inspect.cleandoc(struct.__doc__ or "").split("\n\n"):
        out.append(f"```text\n{part}\n```" if "   " in part else " ".join(part.split()))
    return "\n\n".join(out)


def _table(struct: type) -> list[str]:
    """A table of a msgspec struct's fields."""
    comments = meanings(struct)
    rows = ["| field | type | meaning |", "|---|---|---|"]
    for field in msgspec.structs.fields(struct):
        meaning = comments[field.name]  # KeyError: a field without a comment behind it
        kind = shape(msgspec.json.schema(field.type)).replace("anything", "JSON")
        rows.append(_row(f"`{field.encode_name}`", kind, meaning))
    return [*rows, ""]


def _row(*cells: str) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def _code(texts: Iterable[str], language: str) -> list[str]:
    return [f"```{language}", *texts, "```", ""]


def _layout(module: Any) -> str:
    """A module's own words: its first sentence, its paths as they stand there, what else it says."""
    out = []
    for part in inspect.cleandoc(module.__doc__ or "").split("\n\n"):
        listing = part.lstrip().startswith(("{", "archive/")) or part.startswith("    ")
        out.append(f"```text\n{inspect.cleandoc(part)}\n```" if listing else " ".join(part.split()))
    return "\n\n".join(out)


def _columns_of_tables(data: Path) -> list[str]:
    out = ["### every table", "", "| column | type | meaning |", "|---|---|---|"]
    common = tables.schema("status", _SIGN)
    out += [_row(f"`{name}`", _type(common.field(name).type), _said(meant)) for name, meant in tables.COMMON.items()]
    for table in tables.TABLES:
        view = views.VIEWS[table]
        out += ["", f"### {table}", "", f"{view.said[0].upper()}{view.said[1:]}.", ""]
        out += ["| column | type | meaning |", "|---|---|---|"]
        own = [field for field in tables.schema(table, _SIGN) if field.name not in tables.COMMON]
        out += [_row(f"`{field.name}`", _type(field.type), _said(view.columns[field.name])) for field in own]
        out += _first_row(data, f"SELECT * FROM {table} WHERE feed = '{FEED}' ORDER BY ts_recv, n, item LIMIT 1")
    return [*out, ""]


def _first_row(data: Path, sql: str) -> list[str]:
    """A row, as `ssmd query --format ndjson` gives it."""
    written = io.BytesIO()
    with lake.connect(data) as connection:
        rows.write(rows.Rows(connection.sql(sql), 1), "ndjson", written, terminal=False)
    text = written.getvalue().decode().rstrip()
    return ["", *_code([re.sub(LEVELS, r"[\1…]", text)], "json")[:-1]] if text else []


def _said(meant: tables.Meaning) -> str:
    return f"{meant.said} ({meant.unit})" if meant.unit else meant.said


_OF_FILES = {  # columns that the views leave out
    "revision": tables.Meaning("of the manifest with which the row came"),
    "digest": tables.Meaning("of what makes it another version"),
}


def _columns_of_versions(data: Path) -> list[str]:
    out = []
    for table in versions.TABLES:
        meant = views.VIEWS[f"{table.name.removesuffix('s')}_versions"].columns | _OF_FILES
        out += [f"### {table.name}", "", f"Key: feed, {', '.join(table.key)}.", "", "| column | type | meaning |"]
        out += ["|---|---|---|"]
        out += [_row(f"`{field.name}`", _type(field.type), _said(meant[field.name])) for field in table.schema]
        out += [*_first_row(data, f"SELECT * EXCLUDE (raw) FROM {table.name} ORDER BY symbol LIMIT 1"), ""]
    return out


def _type(kind: pa.DataType) -> str:
    if isinstance(kind, pa.Decimal128Type):
        return {3: "price", 2: "size"}.get(kind.scale, f"decimal({kind.precision}, {kind.scale})")
    if isinstance(kind, pa.ListType):
        return f"list of {_type(kind.value_type)}"
    if isinstance(kind, pa.StructType):
        return f"({', '.join(f'{field.name}: {_type(field.type)}' for field in kind)})"
    return {"int64": "int64", "int32": "int32"}.get(str(kind), "text")


def _subjects() -> list[str]:
    """Each function that makes a subject: what it makes, and its own words."""
    out = ["| subject | what |", "|---|---|"]
    given: dict[Callable[..., str], tuple[object, ...]] = {
        subjects.frame: ("{env}", "{feed}", "{channel}", None),
        subjects.normalized: ("{env}", "{feed}", "{kind}", None),
    }
    for name, make_subject in inspect.getmembers(subjects, inspect.isfunction):
        if (
            name in {"token", "symbol", "channel_of", "prefix", "raw", "stream"}
            or make_subject.__module__ != "ssmd.subjects"
        ):
            continue
        arguments = given.get(make_subject, ("{env}", "{feed}")[: len(inspect.signature(make_subject).parameters)])
        subject = make_subject(*arguments)
        if make_subject in given:
            subject = subject.removesuffix(frames.ALL) + "{symbol}"
        out.append(_row(f"`{subject}`", " ".join((make_subject.__doc__ or "").split())))
    return [*out, ""]


def _capnp_example(data: Path) -> list[str]:
    line = next(iter(archive.read_segment(archive.day_folder(data / "archive", FEED, DATE) / "trade_000.jsonl.gz")))
    [trade] = _venue(FEED).events(DATE)("trade", line.wire())
    message = capnp.Encoder(FEED).encode(trade, line.ts_recv, line.conn, line.n, 0)
    said = tail.as_json(capnp.decode(message))
    text = (
        f"The {len(message)} bytes on `{subjects.normalized('local', FEED, 'trade', trade.symbol)}`, and what they say:"
    )
    return [text, "", *_code([message.hex(" ", 8), "", said], "text")]


def _venue(feed: str) -> Any:
    return importlib.import_module(f"exchanges.{config.load_feed(feed).venue}").venue


# ---------------------------------------------------------------------------------------------------------- examples


def bytes_of(line: frames.Line) -> str:
    """A line as it stands in its segment."""
    bad = line.reason
    message = frames.message(line.ts_recv, line.conn.encode(), line.n, line.wire(), bad=bad, json=line.text is None)
    return frames.line(line.seq, message).decode()


def _manifest(data: Path) -> archive.Manifest:
    return archive.load_manifest(archive.manifest_path(data / "archive", FEED, DATE))


def _journal_says() -> str:
    first, rest = inspect.cleandoc(journal.__doc__ or "").split("\n\n", 1)
    return f"{first}\n\n" + "\n\n".join(
        f"```text\n{inspect.cleandoc(part)}\n```".replace("\\n", "")
        if part.startswith("    ")
        else " ".join(part.split())
        for part in rest.split("\n\n")
    )


def _journal_line(data: Path) -> str:
    path = min((data / "journal" / FEED).iterdir())
    return next(line for line in path.read_text().splitlines() if ".json.trade." in line)


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _without_digests(value: Any) -> Any:
    """Without what changes with today's code, or with the time that gzip puts into a file."""
    text = re.sub(r"\b[0-9a-f]{64}\b", "…", json.dumps(value, ensure_ascii=False))
    return json.loads(re.sub(r"\.[0-9a-f]{12}\.parquet", ".….parquet", text))


def _shown(value: Any) -> str:
    """JSON for the eye: the first of long lists, the beginning of long texts, nothing that is another each time."""
    text = json.dumps(_shortened(value), indent=1, ensure_ascii=False).replace('"…"', "…")
    plain = re.compile(r"\[\s+([^][{}]*?)\s+\]")  # lists of numbers and words: on one line
    return plain.sub(lambda found: f"[{' '.join(found[1].split())}]", text)


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        own = {"sha256"} if "format" in value else set()  # the file's own checksum
        return {k: "…" if k in PASSING | own else _shortened(v) for k, v in value.items()}
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        some = [_shortened(v) for v in value[:LIST_MAX]]
        return [*some, "…"] if len(value) > LIST_MAX else some
    if isinstance(value, str) and len(value) > TEXT_MAX:
        return " ".join(value[:TEXT_MAX].split()) + "…"
    return value


def page(text: str, data: Path, store: Path) -> str:
    """The page with its made part made again; `data` is a made folder, `store` an empty one."""
    environment = config.Environment(
        name="t",
        feeds=[config.EnvironmentFeed(feed=FEED, endpoint="simulator")],
        storage=config.Storage(url=str(store)),
    )
    day, revision = jobs.Publication(FEED, DATE), _manifest(data).revision
    ActivityEnvironment().run(Storage(config.Places(data), environment).store_day, day, revision)
    return filled(text, reference(data, store))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, Processes(2) as processes:
        made = make(Path(folder) / "data", processes)
        durable.replace(PAGE, page(PAGE.read_text(), made, Path(folder) / "store").encode())
