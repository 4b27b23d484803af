"""What is made from the models is current: JSON Schemas and the page of formats; and the models accept what ships."""

import json
import re
from datetime import UTC, datetime

import pytest

from ssmd import config
from ssmd.gitops import checks, formats

ROOT = config.application_folder()


def test_json_schemas_are_current() -> None:
    folder = ROOT / "exchanges" / "schemas" / "json"
    there = {p.name: p.read_text() for p in folder.iterdir()}
    assert there == formats.json_schemas(), "run `make formats`"


def test_the_page_of_formats_is_current() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert text == formats.page(text), "run `make formats`"


def test_the_page_names_every_field_with_its_meaning() -> None:
    told = formats.reference()
    assert "| `effective_from` | date | required | YYYY-MM-DD, UTC |" in told
    assert "| `schema` | text | `events@1` |" in told
    assert re.search(r"\| `status` \| `draft`, `active`, `deprecated` \| `draft` \| draft: not promised", told)


def test_a_json_schema_tells_meanings_and_refuses_other_fields() -> None:
    feed = json.loads(formats.json_schemas()["feed.json"])
    assert feed["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert feed["additionalProperties"] is False
    assert feed["properties"]["venue"]["description"] == "a folder of exchanges/"


def test_everything_that_ships_is_valid_and_tells_editors_its_format() -> None:
    folder = ROOT / "exchanges"
    done = checks.check(folder)
    assert [str(f) for f in done.findings] == []
    assert min(done.counts.values()) >= 1 and set(done.counts) == set(checks.MODELS)
    for kind in checks.MODELS:
        for path in (folder / kind).glob("*.yaml"):
            assert path.read_text().startswith(formats.modeline(checks.SINGULAR[kind]) + "\n"), path


NEW_YORK = config.Calendar.model_validate(
    {
        "timezone": "America/New_York",
        "closures": [
            {"days": ["thursday"], "start": "03:00", "end": "05:00", "reason": "weekly maintenance"},
            {"days": ["saturday"], "start": "22:00", "end": "01:00", "reason": "weekend"},
        ],
        "closed_dates": ["2026-12-25"],
    }
)


@pytest.mark.parametrize(
    ("utc", "reason"),
    [
        ("2026-11-19T07:59", None),
        ("2026-11-19T08:00", "weekly maintenance"),  # Thursday 03:00, winter time
        ("2026-11-19T09:59", "weekly maintenance"),
        ("2026-11-19T10:00", None),
        ("2026-07-16T07:00", "weekly maintenance"),  # summer time
        ("2026-11-20T08:30", None),  # Friday
        ("2026-11-22T03:30", "weekend"),  # Saturday 22:30
        ("2026-11-22T05:30", "weekend"),  # Sunday 00:30
        ("2026-11-22T06:00", None),
        ("2026-12-25T12:00", "closed on 2026-12-25"),
        ("2026-12-26T04:59", "closed on 2026-12-25"),
    ],
)
def test_a_calendar_knows_when_a_venue_is_closed(utc: str, reason: str | None) -> None:
    at = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    assert NEW_YORK.closed(int(at.timestamp()) * 1_000_000_000) == reason
