"""Commands change one field; comments, order and quotes of all else stay, and nothing invalid is written."""

import difflib
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd import config
from ssmd.gitops.editing import Editor

from .conftest import Said

SHIPPED = sorted(
    p for kind in ("feeds", "environments", "schemas") for p in (config.config_folder() / kind).glob("*.yaml")
)


def lines_changed(old: str, new: str) -> list[str]:
    return [line for line in difflib.ndiff(old.splitlines(), new.splitlines()) if line[0] in "+-"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_an_edit_of_nothing_is_nothing(path: Path) -> None:
    assert Editor(path).text == path.read_text()


def scalars(value: object, at: str = "") -> list[str]:
    """The paths of all values that are no list or mapping, but for what names an item."""
    if isinstance(value, dict):
        return [p for name, below in value.items() for p in scalars(below, f"{at}.{name}" if at else str(name))]
    if isinstance(value, list):
        return [p for i, below in enumerate(value) for p in scalars(below, f"{at}.{i}")]
    return [] if at.rpartition(".")[2] in {"feed", "effective_from", "version"} else [at]


@settings(max_examples=30)
@given(st.data())
def test_one_field_changes_one_line(data: st.DataObject) -> None:
    """Against a reference: the content that YAML reads afterwards differs in that one field."""
    path = data.draw(st.sampled_from(SHIPPED))
    text = path.read_text()
    where = data.draw(st.sampled_from(scalars(yaml.safe_load(text))))
    value = data.draw(st.integers(0, 10**9) | st.sampled_from(["plain", '"in: quotes"', "true", "[a, b]"]))
    editor = Editor(path, text)
    editor.assign(f"{where}={value}")
    wanted = yaml.safe_load(text)
    at = wanted
    *around, last = where.split(".")
    for part in around:
        at = at[int(part) if isinstance(at, list) else part]
    at[int(last) if isinstance(at, list) else last] = yaml.safe_load(str(value))
    assert yaml.safe_load(editor.text) == wanted
    assert len(lines_changed(text, editor.text)) <= 3, "two, but where a list of several lines becomes one"
    assert comments(editor.text) == comments(text)


def comments(text: str) -> list[str]:
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


def test_a_feed_is_updated_in_one_line(folder: Path, ssmd: Callable[..., Said]) -> None:
    path = folder / "feeds" / "kalshi.yaml"
    before = path.read_text()
    assert ssmd("feed", "update", "kalshi", "--set", "silence_seconds=7")[0] == 0
    comment = "   # it answers our pings in milliseconds; its own come every 10 s, or not on a busy socket"
    assert lines_changed(before, path.read_text()) == [
        f"-     silence_seconds: 5{comment}",
        f"+     silence_seconds: 7{comment}",
    ]


def test_what_would_not_be_valid_is_not_written(folder: Path, ssmd: Callable[..., Said]) -> None:
    path = folder / "environments" / "local.yaml"
    before = path.read_bytes()
    for setting, sentence in {
        "archiving.rotate_seconds=soon": "archiving.rotate_seconds: 'soon' is no number",
        "feeds.kalshi.endpoint=moon": "feed kalshi has no endpoint 'moon'",
        "feeds.nyse.endpoint=simulator": "there is no 'nyse'; there is: kalshi, deribit",
        "archiving": "is not PATH=VALUE",
        "archiving=[": "the value is not valid YAML",
        "name.first=x": "name",
        "feeds.kalshi.key.secret=hunter2-hunter2": "never the secret itself",
    }.items():
        code, _, err = ssmd("env", "update", "local", "--set", setting)
        assert code == 2 and sentence in err and err.count("\n") == 1, (setting, err)
        assert "hunter2" not in err
        assert path.read_bytes() == before
    code, _, err = ssmd("env", "update", "local", "--unset", "feeds.kalshi.key")
    assert code == 2 and "feed kalshi needs a key" in err
    code, _, err = ssmd("env", "update", "local")
    assert code == 2 and "nothing to change" in err


def test_a_version_holds_from_its_date_on(folder: Path, ssmd: Callable[..., Said]) -> None:
    path = folder / "feeds" / "kalshi.yaml"
    before = path.read_text()
    new = ("--set", "silence_seconds=9", "--set", "endpoints.production.ws=wss://new.example/ws")
    assert ssmd("feed", "add-version", "kalshi", "--effective-from", "2031-01-01", *new)[0] == 0
    text = path.read_text()
    assert text.startswith(before.rstrip("\n")), "the past stays as it was"
    feed = config.load_feed("kalshi", folder)
    assert feed.at(date(2030, 12, 31)).silence_seconds == 5
    later = feed.at(date(2031, 1, 1))
    assert later.silence_seconds == 9 and later.endpoints["production"].ws == "wss://new.example/ws"
    assert later.channels == feed.versions[0].channels
    assert ssmd("feed", "add-version", "kalshi", "--effective-from", "2029-01-01")[0] == 0
    dates = [str(v.effective_from) for v in config.load_feed("kalshi", folder).versions]
    assert dates == ["2026-03-12", "2029-01-01", "2031-01-01"], "in their order"
    code, _, err = ssmd("feed", "add-version", "kalshi", "--effective-from", "2029-01-01")
    assert code == 2 and "has a version from 2029-01-01 already" in err
    code, out, _ = ssmd("feed", "show", "kalshi", "--at", "2032-01-01")
    assert code == 0 and "wss://new.example/ws" in out
    assert ssmd("feed", "update", "kalshi", "--version", "2031-01-01", "--set", "silence_seconds=11")[0] == 0
    assert [v.silence_seconds for v in config.load_feed("kalshi", folder).versions] == [5, 5, 11]


def test_feeds_and_environments_are_made(folder: Path, ssmd: Callable[..., Said]) -> None:
    assert ssmd("feed", "create", "kraken")[0] == 0
    assert (folder / "feeds/kraken.yaml").read_text() == (config.config_folder() / "feeds/kraken.yaml").read_text()
    addresses = ("--ws", "wss://x.example", "--rest", "https://x.example")
    named = ("--venue", "kraken", "--title", "Kraken: another", "--channel", "trade", "--channel", "book.10")
    assert ssmd("feed", "create", "kraken-x", *named, *addresses)[0] == 0
    assert config.load_feed("kraken-x", folder).versions[0].channels == ["trade", "book.10"]
    code, _, err = ssmd("feed", "create", "kraken-y", *named[2:], *addresses, "--venue", "nyse")
    assert code == 2 and "there is no venue 'nyse'; write one of binance" in err
    assert not (folder / "feeds/kraken-y.yaml").exists()
    code, _, err = ssmd("feed", "create", "kraken")
    assert code == 2 and "is there already" in err
    code, _, err = ssmd("feed", "create", "../../kraken")
    assert code == 2 and "can be no name" in err
    code, _, err = ssmd("feed", "create", "something")
    assert code == 2 and "needs --venue, --title, --ws, --rest, --channel" in err

    assert ssmd("env", "create", "mine", "--feed", "kraken-x=production", "--feed", "kalshi=demo")[0] == 0
    mine = config.load_environment("mine", folder)
    assert [(f.feed, f.endpoint) for f in mine.feeds] == [("kraken-x", "production"), ("kalshi", "demo")]
    assert mine.feeds[1].key is not None and mine.feeds[1].key.id == "env:KALSHI_API_KEY_ID"
    reference = ("--id", "env:OTHER", "--secret", "file:~/other.pem")
    assert ssmd("env", "add-key", "mine", "kalshi", *reference)[0] == 0
    assert config.load_environment("mine", folder).feeds[1].key == config.KeyReference(
        id="env:OTHER", secret="file:~/other.pem"
    )
    code, _, err = ssmd("env", "add-key", "mine", "kalshi", "--id", "env:OTHER", "--secret", "hunter2-hunter2")
    assert code == 2 and "--secret: is no reference" in err and "hunter2" not in err
    code, out, _ = ssmd("env", "list")
    assert code == 0 and "mine" in out and "kraken-x (production), kalshi (demo)" in out
    assert ssmd("env", "show", "mine")[1].startswith("name: mine\n")
    assert ssmd("validate")[0] == 0
