"""Ten broken configurations: told with file, line, column, field, problem and remedy, as the docs show them."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from .conftest import Said

DOCS = Path(__file__).resolve().parent.parent.parent / "docs" / "configuration.md"


KALSHI = """\
# yaml-language-server: $schema=../schemas/json/feed.json
name: kalshi
venue: kalshi
title: Kalshi event contracts
# Prices come with four decimals (the type allows six), counts with two.
precision: {price: 6, size: 2}
versions:
  - effective_from: 2026-03-12   # the day integer cents left the WebSocket feed
    endpoints:
      production:
        ws: wss://external-api-ws.kalshi.com/trade-api/ws/v2
        rest: https://external-api.kalshi.com/trade-api/v2
    channels: [orderbook_delta, trade, ticker]
    silence_seconds: 5
    compression: false
    signed: true
"""
DERIBIT = """\
# yaml-language-server: $schema=../schemas/json/feed.json
name: deribit
venue: deribit
title: Deribit
precision: {price: 8, size: 8}
versions:
  - effective_from: 2019-01-01
    endpoints:
      production:
        ws: wss://www.deribit.com/ws/api/v2
        rest: https://www.deribit.com/api/v2
    channels: [platform_state]
"""


class Told(NamedTuple):
    """A line of `ssmd validate`."""

    place: str
    field: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: {self.field}{'' if self.field == 'the file' else ':'} {self.problem}; {self.remedy}"


class Broken:
    """A mistake: what of which file is replaced by what, and all that is then told."""

    def __init__(self, what: str, file: str, old: str, new: str, *told: Told) -> None:
        self.what, self.file, self.old, self.new, self.told = what, file, old, new, told


BROKEN = [
    Broken(
        "a field misspelt",
        "environments/local.yaml",
        "    endpoint: simulator\n    key",
        "    endpont: simulator\n    key",
        Told("environments/local.yaml:7:5", "feeds.0.endpoint", "is missing", "add `endpoint: …` (a text)"),
        Told(
            "environments/local.yaml:8:5", "feeds.0.endpont", "is no field here", "write `endpoint`, if that is meant"
        ),
    ),
    Broken(
        "a date that does not exist",
        "feeds/kalshi.yaml",
        "2026-03-12 ",
        "2026-13-12 ",
        Told(
            "feeds/kalshi.yaml:8:5", "versions.0.effective_from", "'2026-13-12' is no date", "write a date, YYYY-MM-DD"
        ),
    ),
    Broken(
        "a secret in the place of its reference",
        "environments/local.yaml",
        "file:{data}/keys/kalshi.pem",
        "hunter2-hunter2",
        Told(
            "environments/local.yaml:11:7",
            "feeds.0.key.secret",
            "is not in the form that it must have",
            "write where the secret is, env:NAME or file:PATH, never the secret itself",
        ),
    ),
    Broken(
        "an address of the wrong kind",
        "feeds/deribit.yaml",
        "ws: wss://www.deribit",
        "ws: https://www.deribit",
        Told(
            "feeds/deribit.yaml:10:9",
            "versions.0.endpoints.production.ws",
            "'https://www.deribit.com/ws/api/v2' is not in the form that it must have",
            "write an address that begins with wss:// or ws://",
        ),
    ),
    Broken(
        "an endpoint that the feed does not have",
        "environments/local.yaml",
        "- feed: deribit\n    endpoint: simulator",
        "- feed: deribit\n    endpoint: prodution",
        Told(
            "environments/local.yaml:13:5",
            "feeds.1.endpoint",
            "feed deribit has no endpoint 'prodution'",
            "write one of production, simulator",
        ),
    ),
    Broken(
        "a feed that does not exist",
        "environments/local.yaml",
        "- feed: deribit",
        "- feed: debirit",
        Told(
            "environments/local.yaml:12:5",
            "feeds.1.feed",
            "there is no feed 'debirit'",
            "write one of deribit, kalshi, or `ssmd feed create` it",
        ),
    ),
    Broken(
        "a number out of bounds",
        "feeds/kalshi.yaml",
        "{price: 6, size: 2}",
        "{price: 60, size: two}",
        Told("feeds/kalshi.yaml:6:13", "precision.price", "60 is too large", "write 38 or less"),
        Told("feeds/kalshi.yaml:6:24", "precision.size", "'two' is no whole number", "write a whole number"),
    ),
    Broken(
        "a name given twice",
        "feeds/kalshi.yaml",
        "    compression: false\n",
        "    compression: false\n    compression: true\n",
        Told("feeds/kalshi.yaml:16:5", "versions.0.compression", "is given twice", "keep one of them"),
    ),
    Broken(
        "broken YAML",
        "environments/local.yaml",
        "feeds:\n",
        "feeds: [\n",
        Told(
            "environments/local.yaml:7:3",
            "the file",
            "is not valid YAML (expected the node content, but found '-')",
            "mend it",
        ),
    ),
    Broken(
        "a promised schema that was changed",
        "schemas/events.capnp",
        "tradeId @3 :Text",
        "tradeId @3 :UInt64",
        Told(
            "schemas/events.yaml:8:5",
            "versions.0.sha256",
            "is not that of events.capnp, which has changed",
            "restore the file (git checkout), and register the change with `ssmd schema add-version`",
        ),
    ),
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda b: b.what)
def test_each_mistake_is_told_with_place_and_remedy(broken: Broken, folder: Path, ssmd: Callable[..., Said]) -> None:
    (folder / "feeds" / "kalshi.yaml").write_text(KALSHI)
    (folder / "feeds" / "deribit.yaml").write_text(DERIBIT)
    assert ssmd("validate")[0] == 0
    path = folder / broken.file
    text = path.read_text()
    assert broken.old in text
    path.write_text(text.replace(broken.old, broken.new, 1))
    code, out, err = ssmd("validate")
    told = out.replace(f"{folder}/", "").splitlines()
    assert code == 1
    assert told == [str(line) for line in broken.told]
    assert err.endswith(f"{len(told)} to mend\n")
    page = DOCS.read_text()
    assert all(line in page for line in told), "docs/configuration.md shows each"


def test_a_schedule_that_nobody_could_run_is_told(folder: Path, ssmd: Callable[..., Said]) -> None:
    with (folder / "environments" / "local.yaml").open("a") as file:
        file.write('schedules:\n  mine: {workflow: RolupDay, cron: "1 0 * * *"}\n')
    code, out, _ = ssmd("validate")
    assert code == 1
    assert "local.yaml:15:10: schedules.mine.workflow: there is no workflow 'RolupDay'; there is ApplyRet" in out


def test_a_valid_configuration_is_valid(folder: Path, ssmd: Callable[..., Said]) -> None:
    assert ssmd("validate") == (0, "2 feeds, 1 environment, 1 schema: valid\n", "")


def test_a_single_file_is_looked_at_alone(folder: Path, ssmd: Callable[..., Said]) -> None:
    (folder / "feeds" / "kalshi.yaml").write_text("name: kalshi\n")
    assert ssmd("validate", folder / "feeds" / "deribit.yaml")[:2] == (0, "1 feed: valid\n")
    code, out, _ = ssmd("validate", folder / "feeds" / "kalshi.yaml", "--json")
    assert code == 1
    assert [f["field"] for f in msgspec.json.decode(out)["findings"]] == ["venue", "title", "precision", "versions"]


@pytest.mark.parametrize(
    "text",
    ["", "[]\n", "name: [\n", "a: &a [*a]\n", "? [x]\n: 1\n", "\x00", "x: !!python/object:os.system {}\n", "- " * 5000],
    ids=repr,
)
def test_no_file_breaks_the_check(text: str, folder: Path, ssmd: Callable[..., Said]) -> None:
    (folder / "feeds" / "odd.yaml").write_text(text)
    code, out, _ = ssmd("validate")
    assert code == 1
    assert all("feeds/odd.yaml:" in line for line in out.splitlines())


def test_a_bomb_of_references_is_refused_quickly(folder: Path, ssmd: Callable[..., Said]) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (folder / "feeds" / "bomb.yaml").write_text("\n".join(lines))
    code, out, _ = ssmd("validate")
    assert code == 1 and "too much of it" in out


def test_what_is_no_configuration_is_one_sentence(tmp_path: Path, ssmd: Callable[..., Said]) -> None:
    code, _, err = ssmd("validate", "--config", tmp_path)
    assert code == 2 and "`ssmd init` makes one" in err
    code, _, err = ssmd("validate", tmp_path / "nothing.yaml")
    assert code == 2 and "does not exist" in err
    code, _, err = ssmd("feed", "list", "--config", tmp_path / "nowhere")
    assert code == 2 and "is no folder" in err
