"""Every question of docs/cookbook.md is asked, and answered as the page says."""

import re
from pathlib import Path

import pytest

from tests.docs import cookbook

TEXT = cookbook.PAGE.read_text()


def test_every_answer_is_what_its_question_gives(made: Path) -> None:
    assert cookbook.page(TEXT, made) == TEXT, "an answer of docs/cookbook.md is old: make it anew with `make docs`"


def test_there_are_twenty_questions_and_each_is_asked() -> None:
    asked = re.split(r"^### ", TEXT, flags=re.MULTILINE)[1:]
    assert len(asked) >= 20
    for part in asked:
        title = part.partition("\n")[0]
        assert title.endswith("?"), title
        assert cookbook.QUESTION.search(part), title
        answers = re.findall(r"^```text\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
        assert answers and all(len(answer.splitlines()) >= 1 and "rror:" not in answer for answer in answers), title


@pytest.mark.parametrize("old", ["61824.01", "the connection was reset"])
def test_a_page_that_lies_is_noticed(made: Path, old: str) -> None:
    """The control: whatever an answer is changed to, asking again gives the truth."""
    [part] = [p for p in re.split(r"(?=^### )", TEXT, flags=re.MULTILINE) if old in p][:1]
    lie = part.replace(old, "something else")
    assert lie != part == cookbook.page(lie, made)
