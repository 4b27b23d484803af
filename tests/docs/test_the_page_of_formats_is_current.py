"""docs/formats.md is what the structs say, with examples as they are really written."""

import re
from pathlib import Path

import msgspec
import pytest

from ssmd import archive, checked_json
from tests.docs import formats


@pytest.fixture(scope="module")
def made_again(made: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return formats.page(formats.PAGE.read_text(), made, tmp_path_factory.mktemp("store"))


def test_the_page_is_current(made_again: str) -> None:
    assert formats.PAGE.read_text() == made_again, "docs/formats.md is old: make it anew with `make docs`"


def test_every_example_that_is_json_and_whole_can_be_read(made_again: str) -> None:
    examples = [
        line for block in re.findall(r"```json\n(.*?)```", made_again, re.DOTALL) for line in block.splitlines()
    ]
    whole = [line for line in examples if line.startswith('{"') and "…" not in line]
    assert len(whole) > 10
    for line in whole:
        msgspec.json.decode(line)


def test_a_field_without_its_meaning_is_no_documentation() -> None:
    """The control: whoever adds a field says what it is."""

    class News(msgspec.Struct):
        told: int  # what it is
        untold: int

    with pytest.raises(KeyError, match="untold"):
        formats._table(News)


def test_the_made_folder_is_whole(made: Path) -> None:
    for path in made.glob("archive/*/*/manifest.json"):
        manifest = archive.load_manifest(path)
        assert manifest.sealed and manifest.whole and manifest.frames > 100
        for segment in manifest.segments:
            archive.check_segment(path.parent / segment.name, segment)
    assert len(list(made.glob("lake/days/*/*/manifest.json"))) == 4
    assert checked_json.decode(archive.cursor_path(made / "archive", formats.FEED).read_bytes(), archive.Cursor).seq
