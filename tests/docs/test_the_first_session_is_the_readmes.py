"""The recorded session is that of the README's first section: an answer on own captured data in under ten commands."""

import re

from tests.docs import session


def test_the_page_has_the_readmes_commands_in_their_order() -> None:
    typed = re.findall(r"^\$ (.+)$", session.PAGE.read_text(), re.MULTILINE)
    assert typed == session.commands(), "docs/first-session.md is old: make it anew with `python -m tests.docs.session`"
    assert len(typed) < 10 and any("ssmd query" in command for command in typed)


def test_every_command_of_it_answered() -> None:
    answers = re.findall(r"^```console\n\$ [^\n]+\n(.*?)^```", session.PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(answers) == len(session.commands())
    for answer in answers:
        assert answer.strip() and "error:" not in answer
