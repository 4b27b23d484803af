"""What Tab offers for the names that commands take: from the names of files alone, so that it is quick."""

from pathlib import Path
from typing import TYPE_CHECKING

from typer import Context

if TYPE_CHECKING:
    from collections.abc import Iterable


DAYS = ["today", "yesterday"]


def feeds(ctx: Context, incomplete: str) -> list[str]:
    """Feeds of the configuration, and what the data folder has archived."""
    return _beginning(incomplete, _configured("feeds") | {path.name for path in _below(_archive(ctx))})


def environments(incomplete: str) -> list[str]:
    return _beginning(incomplete, _configured("environments"))


def schemas(incomplete: str) -> list[str]:
    return _beginning(incomplete, _configured("schemas"))


def dates(ctx: Context, incomplete: str) -> list[str]:
    """Archived days, of the feed if it is given already; the latest first."""
    feed = ctx.params.get("feed")
    folders = [_archive(ctx) / feed] if feed else _below(_archive(ctx))
    found = {day.name for folder in folders for day in _below(folder)}
    return [name for name in [*DAYS, *sorted(found, reverse=True)] if name.startswith(incomplete)]


def channels(ctx: Context, incomplete: str) -> list[str]:
    """Channels that the feed's archive has."""
    days = _below(_archive(ctx) / str(ctx.params.get("feed")))
    names = {path.name.rpartition("_")[0] for day in days for path in day.glob("*.jsonl.gz")}
    return _beginning(incomplete, names)


def views(incomplete: str) -> list[str]:
    from ssmd.views import VIEWS  # noqa: PLC0415

    return _beginning(incomplete, VIEWS)


def _beginning(incomplete: str, names: "Iterable[str]") -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def _configured(kind: str) -> set[str]:
    from ssmd.config import config_folder  # noqa: PLC0415
    from ssmd.errors import SsmdError  # noqa: PLC0415

    try:
        return {path.stem for path in (config_folder() / kind).glob("*.yaml")}
    except SsmdError:  # nobody reads an error while completing
        return set()


def _archive(ctx: Context) -> Path:
    return Path(str(ctx.params.get("data") or "data")) / "archive"


def _below(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
