"""What a new configuration begins with: folders, feeds, environments, schemas."""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ssmd import config, durable
from ssmd.errors import Permanent
from ssmd.gitops import checks, editing, formats
from ssmd.gitops.editing import listed, quoted

_IGNORED = """\
# What is captured, and whatever may hold a secret.
data/
*.pem
*.key
.env
"""
_README = """\
# Market data

What ssmd captures, as files: `feeds/` says what venues offer, `environments/` what is
run and where, `schemas/` what subscribers can read. Secrets are never in here, only where they are.

```sh
ssmd validate          # every mistake with its file, line and remedy
ssmd up                # the whole platform on this machine, against simulated venues
ssmd diff              # what has changed since the last commit
ssmd commit -m "why"   # refuses what is not valid, and secrets
```
"""


@dataclass(frozen=True)
class Plan:
    """How a new environment runs a feed: against its simulator, or at one of its endpoints."""

    feed: str
    endpoint: str
    signed: bool


def own_feeds() -> Path:
    """The feeds that come with this software."""
    return config.application_folder() / "exchanges" / "feeds"


def folder(target: Path, feeds: Sequence[str]) -> list[Path]:
    """Make a configuration in an empty (or new) folder, with these feeds simulated in an environment `local`.

    The files made. Raises Permanent before anything is written if a feed is unknown or files are in the way.
    """
    own = own_feeds()
    for name in feeds:
        if not (own / f"{name}.yaml").is_file():
            known = ", ".join(sorted(p.stem for p in own.glob("*.yaml")))
            raise Permanent(f"there is no feed {name!r} to begin with: choose of {known}, or `ssmd feed create` later")
    standing = [target / name for name in (*checks.MODELS, "README.md", ".gitignore") if (target / name).exists()]
    if standing:
        raise Permanent(f"{standing[0]} is there already: `ssmd init` wants a folder without a configuration")
    if target.exists() and not target.is_dir():
        raise Permanent(f"{target} is a file: name a folder")
    events = own.parent / "schemas" / "events.capnp"
    plans = [Plan(n, config.SIMULATOR, config.load_feed(n, own.parent).at(date.today()).signed) for n in feeds]
    texts = {f"feeds/{name}.yaml": (own / f"{name}.yaml").read_bytes() for name in feeds}
    texts |= {
        "schemas/events.capnp": events.read_bytes(),
        "schemas/events.yaml": schema("events", "Normalized market data", "events.capnp", events, "active").encode(),
        "environments/local.yaml": environment("local", plans, "Everything on this machine, simulated.").encode(),
        ".gitignore": _IGNORED.encode(),
        "README.md": _README.encode(),
    }
    texts |= {f"schemas/json/{name}": text.encode() for name, text in formats.json_schemas().items()}
    made = []
    for name, data in texts.items():
        path = target / name
        durable.make_folder(path.parent)
        durable.replace(path, data)
        made.append(path)
    return made


def environment(name: str, plans: Sequence[Plan], title: str, *, remote: bool = False, nats: str = "") -> str:
    """The text of a new environment."""
    lines = [formats.modeline("environment"), f"# {title}", f"name: {name}"]
    if remote:
        lines.append("servers: remote   # NATS and Temporal run elsewhere")
        lines.append(f"nats: {quoted(nats or 'nats://127.0.0.1:4222')}")
    else:
        lines.append("servers: local   # `ssmd up` starts NATS and Temporal itself")
    lines += ["schema: events@1   # what subscribers can read", "feeds:"]
    for plan in plans:
        lines += [f"  - feed: {plan.feed}", f"    endpoint: {plan.endpoint}"]
        if not plan.signed:
            continue
        if plan.endpoint == config.SIMULATOR:
            lines.append("    key:   # made by the first `ssmd up`; the simulator knows its public half")
            lines += [
                f"      id: file:{{data}}/keys/{plan.feed}.id",
                f"      secret: file:{{data}}/keys/{plan.feed}.pem",
            ]
        else:
            variable = plan.feed.upper().replace("-", "_")
            lines.append("    key:   # only where it is; `ssmd key set` puts it there")
            lines += [f"      id: env:{variable}_API_KEY_ID", f"      secret: file:~/.ssmd/keys/{name}-{plan.feed}"]
    return "\n".join(lines) + "\n"


def feed(
    name: str, *, venue: str, title: str, ws: str, rest: str, endpoint: str, channels: Sequence[str], since: date,
    price: int, size: int, signed: bool,
) -> str:  # fmt: skip
    """The text of a new feed."""
    return f"""\
{formats.modeline("feed")}
name: {name}
venue: {venue}
title: {quoted(title)}
precision: {{price: {price}, size: {size}}}   # digits after the point that the tables keep
versions:
  - effective_from: {since}
    endpoints:
      {endpoint}:
        ws: {quoted(ws)}
        rest: {quoted(rest)}
    channels: {listed(channels)}
    limits:
      symbols_per_subscription: 256
      frame_bytes: 4194304
    silence_seconds: 30   # nothing heard for so long: the connection is dead
    compression: false
    signed: {str(signed).lower()}
"""


def schema(name: str, title: str, file: str, path: Path, status: str) -> str:
    """The text of a new schema, with its first version."""
    return f"""\
{formats.modeline("schema")}
name: {name}
title: {quoted(title)}
compatibility: full   # each version reads the messages of every other
versions:
  - version: 1
    file: {file}
    sha256: {hashlib.sha256(path.read_bytes()).hexdigest()}
    status: {status}
"""


def create(path: Path, text: str) -> None:
    """Write a new file. Raises Permanent if it is there already, or would not be valid."""
    if path.exists():
        raise Permanent(f"{path} is there already: change it with `update`, or choose another name")
    editing.save(path, text)


def copied(source: Path, target: Path) -> None:
    """Take over a file that comes with this software."""
    if target.exists():
        raise Permanent(f"{target} is there already: change it with `update`, or choose another name")
    durable.make_folder(target.parent)
    with source.open("rb") as file:
        durable.replace_by(target, lambda out: shutil.copyfileobj(file, out))
