"""Environments whose storage is a real S3, or a folder."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import duckdb
import yaml

from ssmd import archive, config, published, storage, tables
from ssmd.storage import Store
from tests.lake.archives import DATE, FEED
from tests.workflows.workers import ROOT


def write_environment(folder: Path, server: object, url: str, **more: object) -> dict[str, str]:
    """Write an environment `local` with a storage at `url`; the variables under which commands find it."""
    (folder / "environments").mkdir(parents=True)
    (folder / "feeds").symlink_to(ROOT / "exchanges" / "feeds")
    (folder / "s3.id").write_text(server.key_id)  # type: ignore[attr-defined]
    (folder / "s3.secret").write_text(server.secret + "\n")  # type: ignore[attr-defined]
    key = {"id": f"file:{folder}/s3.id", "secret": f"file:{folder}/s3.secret"}
    s3 = {"endpoint_url": server.endpoint, "key": key} if url.startswith("s3://") else {}  # type: ignore[attr-defined]
    kalshi = {"feed": "kalshi", "endpoint": "production"}
    environment = {"name": "local", "feeds": [kalshi], **more}
    environment |= {"storage": {"url": url, **s3}} if url else {}
    (folder / "environments" / "local.yaml").write_text(yaml.safe_dump(environment))
    return {"SSMD_CONFIG": str(folder)}


def without_aws(more: Mapping[str, str]) -> dict[str, str]:
    """Our own environment's variables, but for what the AWS tools read, and `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | dict(more)


class Setting:
    """A data folder with a rolled-up day, and a store for it."""

    def __init__(self, data: Path, folder: Path, server: object, url: str, **more: object) -> None:
        self.data = data
        self.variables = without_aws(write_environment(folder, server, url, **more))
        self.environment = config.load_environment("local", folder)
        assert self.environment.storage is not None
        self.store: Store = storage.open_store(self.environment.storage, data)

    def ssmd(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", "from ssmd.cli import main; main()", *arguments, "--data", str(self.data)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT, env=self.variables
        )

    def objects(self) -> dict[str, bytes]:
        """Everything in the store but the record, which has a time."""
        found = {}
        for folder in ("archive", "lake"):
            found |= {path: self.store.read(path) for path, _ in self.store.list(folder)}
        return found

    def named(self) -> dict[str, bytes]:
        """What the data folder's manifests name, and they themselves; without content what is not here."""
        manifest = archive.load_manifest(archive.manifest_path(self.data / "archive", FEED, DATE))
        lake = tables.load_day(self.data / "lake" / tables.manifest_path(FEED, DATE))
        paths = [f.path for f in (*published.archive_files(manifest), *published.lake_files(lake))]
        paths += [published.archive_manifest(FEED, DATE), published.lake_manifest(FEED, DATE)]
        return {path: (self.data / path).read_bytes() if (self.data / path).exists() else b"" for path in paths}

    def copied(self, data: Path, folder: Path, server: object, url: str, **more: object) -> "Setting":
        """The same objects in another store, for a data folder that is this one's copy."""
        other = Setting(data, folder, server, url, **more)
        for part in ("archive", "lake", published.FOLDER):
            for path, _ in self.store.list(part):
                other.store.replace(path, self.store.read(path), None)
        return other


def damage(store: Store, path: str) -> None:
    """Flip a bit in the middle of an object."""
    content = bytearray(store.read(path))
    content[len(content) // 2] ^= 1
    found = store.stat(path)
    assert found is not None
    store.replace(path, bytes(content), found.etag)


def first_day(connection: duckdb.DuckDBPyConnection, view: str) -> list[tuple[object, ...]]:
    """A view's rows of the published day; the data folder has begun the next one too."""
    return sorted(connection.sql(f"select * from {view} where date = '{DATE}'").fetchall(), key=repr)


DAY_VIEWS = ("raw", *tables.TABLES, "coverage")
EMPTY = "name: local\nfeeds: [{feed: kalshi, endpoint: production}]\n"


class Machine:
    """Nothing but the program, and what the AWS tools need to find the store."""

    def __init__(self, home: Path, server: object, url: str) -> None:
        self.url = url
        self.home = home
        (home / "config" / "environments").mkdir(parents=True)
        (home / "config" / "environments" / "local.yaml").write_text(EMPTY)
        (home / "config" / "feeds").symlink_to(ROOT / "exchanges" / "feeds")
        aws = server.environment()  # type: ignore[attr-defined]
        self.variables = without_aws(aws | {"HOME": str(home), "SSMD_CONFIG": str(home / "config")})
        self.variables.pop("XDG_CACHE_HOME", None)

    def ssmd(self, *arguments: str, data: str = "") -> "subprocess.CompletedProcess[str]":
        code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from ssmd.cli import main; main()"
        command = [sys.executable, "-c", code, str(ROOT), *arguments, "--data", data or self.url]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd=self.home, env=self.variables
        )
