"""A schema that others read may grow, and may not break: whatever does is named by its field."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ssmd import capnp
from ssmd.gitops import layout

from .conftest import Said, git

TEXT = capnp.schema_path().read_text()

# What is replaced in the schema of events, and what that breaks.
BREAKING = {
    "a type": ("tradeId @3 :Text", "tradeId @3 :UInt64", "Trade.tradeId @3 was Text and is UInt64"),
    "a name": ("tradeId @3 :Text", "id @3 :Text", "Trade.tradeId @3 is now called id: readers find it by its name"),
    "the last field": ("  tradeId @3 :Text;\n", "", "Trade.tradeId @3 is gone: published numbers stay"),
    "numbers swapped": (
        "price @1 :Text;\n  size @2 :Text;\n  tradeId",
        "price @2 :Text;\n  size @1 :Text;\n  tradeId",
        "Trade.price @1 is now called size",
    ),
    "an enumerant": ("buy @1;\n    sell @2", "sell @1;\n    buy @2", "Trade.Side.buy @1 is now called sell"),
    "a list": ("bids @0 :List(Level)", "bids @0 :List(Text)", "BookSnapshot.bids @0 was List(BookSnapshot.Level)"),
    "a union's member": (
        "unknown @1 :Void;\n    ns @2 :Int64",
        "unknown @1 :Int64;\n    ns @2 :Int64",
        "tsEvent.unknown @1",
    ),
    "a struct": ("struct Status", "struct State", "struct Status is gone"),
    "a default": ("start @3 :Int64;", "start @3 :Int64 = 7;", "Gap.start @3 was Int64 and is Int64 = 7"),
}
GROWTH = {
    "a field": ("tradeId @3 :Text;", "tradeId @3 :Text;\n  venue @4 :Text;", ["Trade.venue @4: Text"]),
    "an enumerant": ("sell @2;", "sell @2;\n    auction @3;", ["Trade.Side.auction @3: enumerant"]),
    "a comment": ("the taker's", "the aggressor's", []),
    "a struct": ("struct Status", "struct Fee {\n  rate @0 :Text;\n}\n\nstruct Status", ["Fee.rate @0: Text"]),
}


def changed(folder: Path, old: str, new: str) -> Path:
    text = TEXT.replace(": Status;", ": State;") if new == "struct State" else TEXT
    text = text.replace(old, new, 1)
    if new == "struct State":
        text = text.replace("@12 :Status", "@12 :State")
    assert text != TEXT
    path = folder / "changed.capnp"
    path.write_text(text)
    return path


@pytest.mark.parametrize("what", BREAKING)
def test_what_breaks_readers_is_named(what: str, tmp_path: Path) -> None:
    old, new, told = BREAKING[what]
    found = list(layout.breaking(layout.layout(capnp.schema_path()), layout.layout(changed(tmp_path, old, new))))
    assert any(told in one for one in found), found


@pytest.mark.parametrize("what", GROWTH)
def test_growth_breaks_nothing(what: str, tmp_path: Path) -> None:
    old, new, more = GROWTH[what]
    before, after = layout.layout(capnp.schema_path()), layout.layout(changed(tmp_path, old, new))
    assert list(layout.breaking(before, after)) == []
    assert list(layout.added(before, after)) == more


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("price @1 :Text", "price @1 :Txt", 35, "Not defined: Txt"),
        ("price @1 :Text", "price @1 Text", 35, "Parse error"),
        ("tradeId @3", "tradeId @9", 37, "Skipped ordinal @3"),
        ("struct Event {", 'using X = import "x.capnp";\nstruct Event {', 12, "its hash covers this file alone"),
    ],
)
def test_a_faulty_schema_is_told_with_its_line(old: str, new: str, line: int, told: str, tmp_path: Path) -> None:
    with pytest.raises(layout.Faulty, match=told) as caught:
        layout.layout(changed(tmp_path, old, new))
    assert caught.value.line == line


def test_a_version_that_breaks_a_promise_is_refused_with_the_field(
    folder: Path, tmp_path: Path, ssmd: Callable[..., Said]
) -> None:
    yaml = folder / "schemas" / "events.yaml"
    before = yaml.read_bytes()
    bad = changed(tmp_path, *BREAKING["a type"][:2])
    code, _, err = ssmd("schema", "add-version", "events", "--file", bad)
    assert code == 2 and "breaks events@1, which is active: Trade.tradeId @3 was Text and is UInt64" in err
    assert yaml.read_bytes() == before and not (folder / "schemas/events-2.capnp").exists()


def test_a_version_that_grows_is_taken_and_promised(folder: Path, tmp_path: Path, ssmd: Callable[..., Said]) -> None:
    assert ssmd("schema", "add-version", "events", "--file", changed(tmp_path, *GROWTH["a field"][:2]))[0] == 0
    code, out, _ = ssmd("schema", "list")
    assert code == 0 and [line.split()[1:3] for line in out.splitlines()[1:]] == [["1", "active"], ["2", "draft"]]
    code, _, err = ssmd("env", "update", "local", "--set", "schema=events@2")
    assert code == 2 and "events@2 is a draft; write a version that is promised: events@1" in err
    assert ssmd("schema", "set-status", "events", "active", "--version", "2")[0] == 0
    out = ssmd("schema", "list")[1]
    assert [line.split()[1:3] for line in out.splitlines()[1:]] == [["1", "deprecated"], ["2", "active"]]
    assert "venue @4 :Text" in ssmd("schema", "show", "events")[1]
    assert ssmd("validate")[0] == 0
    code, _, err = ssmd("env", "update", "local", "--set", "schema=events@2")
    assert code == 2 and "would not understand what this software writes: Trade.venue @4 is gone" in err
    code, _, err = ssmd("schema", "set-status", "events", "draft", "--version", "1")
    assert code == 2 and "it can be deprecated, no draft again" in err


def test_a_draft_that_breaks_is_not_promised(folder: Path, tmp_path: Path, ssmd: Callable[..., Said]) -> None:
    """A draft may be anything; what it was made into is compared when it is to become active."""
    assert ssmd("schema", "add-version", "events", "--file", changed(tmp_path, *GROWTH["a field"][:2]))[0] == 0
    (folder / "schemas/events-2.capnp").write_text(changed(tmp_path, *BREAKING["a name"][:2]).read_text())
    code, out, _ = ssmd("validate")
    assert code == 1 and "pin it with `ssmd schema hash NAME --pin`" in out
    assert ssmd("schema", "hash", "events", "--pin")[0] == 0
    assert ssmd("validate")[0] == 0
    code, _, err = ssmd("schema", "set-status", "events", "active")
    assert (
        code == 2 and "breaks events@1, which is deprecated" not in err and "Trade.tradeId @3 is now called id" in err
    )


def test_a_pinned_file_changes_only_by_growing(folder: Path, tmp_path: Path, ssmd: Callable[..., Said]) -> None:
    file = folder / "schemas" / "events.capnp"
    assert ssmd("schema", "hash", "events")[0] == 0
    file.write_text(changed(tmp_path, *GROWTH["an enumerant"][:2]).read_text())
    code, out, err = ssmd("schema", "hash", "events")
    assert code == 2 and "is not what was pinned" in err and out.split()[1] == str(file)
    code, _, err = ssmd("schema", "hash", "events", "--pin")
    assert code == 2 and "is not in the last commit, so the change cannot be compared" in err
    file.write_text(TEXT)
    assert ssmd("commit", "-m", "first")[0] == 0
    file.write_text(changed(tmp_path, *BREAKING["a list"][:2]).read_text())
    code, _, err = ssmd("schema", "hash", "events", "--pin")
    assert code == 2 and "BookSnapshot.bids @0 was List(BookSnapshot.Level)" in err
    file.write_text(changed(tmp_path, *GROWTH["an enumerant"][:2]).read_text())
    assert ssmd("schema", "hash", "events", "--pin")[0] == 0
    code, out, _ = ssmd("diff")
    assert code == 0 and "+ Trade.Side.auction @3: enumerant" in out


def test_a_promise_broken_by_hand_is_not_committed(folder: Path, tmp_path: Path, ssmd: Callable[..., Said]) -> None:
    """File and hash changed together look right by themselves; the last commit knows better."""
    assert ssmd("commit", "-m", "first")[0] == 0
    yaml, file = folder / "schemas/events.yaml", folder / "schemas/events.capnp"
    was = yaml.read_text()
    file.write_text(changed(tmp_path, *BREAKING["a type"][:2]).read_text())
    ssmd("env", "update", "local", "--unset", "schema")
    digest = ssmd("schema", "hash", "events")[1].split()[0]
    pinned = next(line.split()[1] for line in was.splitlines() if "sha256:" in line)
    yaml.write_text(was.replace(pinned, digest))
    assert ssmd("validate")[0] == 0
    assert "! Trade.tradeId @3 was Text and is UInt64" in ssmd("diff")[1]
    code, _, err = ssmd("commit", "-m", "sly")
    assert code == 2 and "Trade.tradeId @3 was Text and is UInt64" in err and "nothing was committed" in err
    assert git(folder, "log", "--oneline").count("\n") == 1
    yaml.write_text(was.replace(pinned, digest).replace("status: active", "status: draft"))
    code, _, err = ssmd("commit", "-m", "sly")
    assert code == 2 and "version 1 was active and is a draft" in err


def test_a_schema_of_ones_own_is_registered(folder: Path, tmp_path: Path, ssmd: Callable[..., Said]) -> None:
    file = tmp_path / "orders.capnp"
    file.write_text("@0xbf5147cbbecf40c1;\nstruct Order {\n  id @0 :Text;\n  List @1 :Int8;\n}\n")
    code, _, err = ssmd("schema", "register", "orders", "--file", file, "--title", "Our orders")
    assert code == 2 and "orders.capnp:4:" in err
    file.write_text("@0xbf5147cbbecf40c1;\nstruct Order {\n  id @0 :Text;\n}\n")
    assert ssmd("schema", "register", "orders", "--file", file, "--title", "Our orders", "--active")[0] == 0
    assert ssmd("validate")[:2] == (0, "2 feeds, 1 environment, 2 schemas: valid\n")
    code, _, err = ssmd("schema", "register", "orders", "--file", file, "--title", "Our orders")
    assert code == 2 and "is there already" in err
    code, _, err = ssmd("schema", "add-version", "orders", "--file", file)
    assert code == 2 and "is version 1 already" in err
    code, _, err = ssmd("schema", "show", "prices")
    assert code == 2 and "there is no schema 'prices'" in err and "there is: events, orders" in err
