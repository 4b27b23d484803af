"""What is said to be known of each message: every channel is there (that fixtures exist, every venue is asked)."""

from pathlib import Path

import yaml

from exchanges.deribit.messages import CHANNELS

ROWS = yaml.safe_load((Path(__file__).parents[3] / "exchanges/deribit/evidence.yaml").read_text())


def test_no_row_is_there_twice() -> None:
    assert len({(row["channel"], row["variant"], row["role"]) for row in ROWS}) == len(ROWS)


def test_every_channel_is_accounted_for() -> None:
    assert {row["channel"] for row in ROWS if row["role"] == "server"} >= {*CHANNELS.values(), "control"}
