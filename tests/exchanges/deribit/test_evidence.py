"""What is said to be known of each message can be looked up: every channel is there, every fixture exists."""

from pathlib import Path

import yaml

from exchanges.deribit.messages import CHANNELS

FOLDER = Path(__file__).parents[3] / "exchanges" / "deribit"
ROWS = yaml.safe_load((FOLDER / "evidence.yaml").read_text())


def test_every_row_has_the_same_fields_and_known_words() -> None:
    for row in ROWS:
        assert list(row) == ["channel", "variant", "role", "evidence", "source", "fixture"]
        assert row["role"] in {"client", "server", "rest"} and row["source"]
        assert row["evidence"] in {"recorded", "documented", "one-source", "unconfirmed"}
        assert (row["evidence"] == "recorded") == (row["fixture"] is not None)
    assert len({(row["channel"], row["variant"], row["role"]) for row in ROWS}) == len(ROWS)


def test_every_channel_is_accounted_for() -> None:
    assert {row["channel"] for row in ROWS if row["role"] == "client"} == {*CHANNELS.values(), "control"}


def test_fixtures_exist() -> None:
    for row in ROWS:
        if row["fixture"] and not row["fixture"].startswith("shared/"):
            assert (FOLDER / "fixtures" / row["fixture"]).is_file(), row


def test_recordings_that_may_not_be_copied_exist_where_they_are(shared_data: Path) -> None:
    for row in ROWS:
        if row["fixture"] and row["fixture"].startswith("shared/"):
            assert (shared_data / row["fixture"].removeprefix("shared/")).is_file(), row
