"""Environments whose storage is a real S3, or a folder."""

import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from ssmd import config
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
    environment = {"name": "local", "feeds": [kalshi], "storage": {"url": url, **s3}, **more}
    (folder / "environments" / "local.yaml").write_text(yaml.safe_dump(environment))
    return {"SSMD_CONFIG": str(folder)}


def without_aws(more: Mapping[str, str]) -> dict[str, str]:
    """Our own environment's variables, but for what the AWS tools read, and `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | dict(more)


def environment(folder: Path) -> config.Environment:
    return config.load_environment("local", folder)
