"""Where all feeds are simulated, any other is as well if it is asked for, and jobs know of it; elsewhere it is not."""

import pytest

from ssmd import config, schedules
from ssmd.errors import Permanent


def run(environment: str, *feeds: str) -> config.Addresses:
    telemetry = {f"{service}-{feed}": "" for feed in feeds for service in ("archiver", "connector")}
    return config.Addresses(environment, "", "", "", {}, telemetry)


def test_a_feed_that_is_not_listed_is_simulated() -> None:
    environment = config.load_environment("local")
    plan = environment.feed("deribit")
    assert (plan.endpoint, plan.key) == (config.SIMULATOR, None)
    only_deribit = environment.model_copy(update={"feeds": [plan]})
    signed = only_deribit.feed("kalshi")
    assert signed == environment.feed("kalshi"), "with the key that `ssmd up` makes"
    with pytest.raises(Permanent, match="there is no feed 'nyse'"):
        environment.feed("nyse")
    with pytest.raises(Permanent, match="environment live-public has no feed 'kalshi'"):
        config.load_environment("live-public").feed("kalshi")


def test_jobs_know_the_feeds_that_run() -> None:
    listed = config.load_environment("local")
    assert config.environment_of(run("local", "kalshi")) == listed
    assert config.environment_of(run("local")) == listed, "services elsewhere: as it is written"
    found = config.environment_of(run("local", "deribit", "kraken"))
    assert [plan.feed for plan in found.feeds] == ["kalshi", "deribit", "kraken"]
    jobs = config.application("workflows.runner").inputs()
    rolled = {p.input["feed"] for p in schedules.planned(found, jobs) if p.workflow == "RollupDay"}
    assert rolled == {"kalshi", "deribit", "kraken"}
