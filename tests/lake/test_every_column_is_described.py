"""`ssmd data schema` says of every view what it is, and of every column what it means."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ssmd import lake, views
from ssmd.cli import build
from tests.lake.archives import a_day


@pytest.mark.parametrize("filled", [False, True])
def test_the_columns_are_those_of_the_views_in_their_order(filled: bool, tmp_path: Path) -> None:
    if filled:
        a_day().write(tmp_path / "archive")
    assert set(views.VIEWS) == set(lake.VIEWS)
    with lake.connect(tmp_path) as connection:
        for name, view in views.VIEWS.items():
            there = [column for column, *_ in connection.execute(f"DESCRIBE {name}").fetchall()]
            assert list(view.columns) == there, name
            assert view.said and all(meaning.said for meaning in view.columns.values())


def test_times_and_decimals_have_a_unit(tmp_path: Path) -> None:
    with lake.connect(tmp_path) as connection:
        for name in views.VIEWS:
            for column in views.described(connection, name):
                if column.name.startswith("ts_") or column.name in {"valid_from", "valid_to"}:
                    assert (column.type, column.unit) == ("BIGINT", "ns"), (name, column)
                if column.type.startswith("DECIMAL") and column.name != "contract_size":
                    assert column.unit, (name, column)


def test_schema_is_told_to_people_and_programs(tmp_path: Path) -> None:
    done = CliRunner().invoke(build(), ["data", "schema", "trades", "--data", str(tmp_path)])
    assert (
        "  price     DECIMAL(18, 6)" in done.stdout.replace("(18,6)", "(18, 6)") and "the price, exact" in done.stdout
    )
    done = CliRunner().invoke(build(), ["data", "schema", "--json", "--data", str(tmp_path)])
    told = {view["view"]: view for view in json.loads(done.stdout)}
    assert list(told) == list(views.VIEWS)
    assert told["trades"]["columns"][0] == {
        "name": "ts_recv",
        "type": "BIGINT",
        "unit": "ns",
        "meaning": "when we received the frame, right after our socket read",
    }
