"""`ssmd shell` as a person has it, on a pseudo-terminal: typing, Tab, Ctrl-C, Ctrl-D, history; and as a script."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssmd.cli import run
from ssmd.cli.rows import fitted
from ssmd.cli.shell import is_whole, statements
from tests.cli.terminals import CTRL_C, CTRL_D, ENTER, TAB, UP, Terminal
from tests.lake.archives import DATE, FEED, GOLD, a_day

SSMD = Path(sys.executable).parent / "ssmd"
LONG = "select count(*) from range(100000000000) a, range(1000) b where a.range % 7 = b.range % 3;"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    a_day().write(folder / "archive")
    assert run(["rollup", FEED, DATE, "--local", "--data", str(folder)]) == 0
    return folder


class Person:
    """Somebody at `ssmd shell`."""

    def __init__(self, data: Path, state: Path, columns: int = 100) -> None:
        command = [str(SSMD), "shell", "--data", str(data)]
        self.terminal = Terminal(command, state, columns, XDG_STATE_HOME=str(state))
        self.prompted()

    def prompted(self, text: str = "") -> list[str]:
        """Wait for the prompt with this text behind it; what is above it."""
        *above, _ = self.terminal.until(lambda lines: bool(lines) and lines[-1] == f"ssmd> {text}".rstrip())
        return above

    def ask(self, text: str) -> list[str]:
        """Type it and Enter; what is answered."""
        self.terminal.screen.reset()  # an empty screen, on which the prompt is drawn anew
        self.terminal.type("\x0c" + text)
        self.terminal.until(lambda lines: bool(lines) and text[-5:] in lines[-1])
        self.terminal.type(ENTER)
        self.terminal.until(lambda lines: len(lines) > text.count(ENTER) + 1 and lines[-1] == "ssmd>")
        return self.terminal.lines()[1:-1]

    def leave(self) -> None:
        self.terminal.until(lambda lines: lines[-1] == "ssmd>")  # Ctrl-D is read by the prompt, not by the terminal
        self.terminal.type(CTRL_D)
        assert self.terminal.ended() == 0


@pytest.fixture
def person(data: Path, tmp_path: Path) -> Iterator[Person]:
    person = Person(data, tmp_path)
    yield person
    person.terminal.close()


def test_a_question_over_several_lines_is_answered_in_a_table(person: Person) -> None:
    person.terminal.type("select symbol, price" + ENTER)
    person.terminal.until(r"^  \.\.>$")
    person.terminal.type("from trades order by price desc;" + ENTER)
    lines = person.terminal.until(r"^ssmd>$")
    assert any(re.fullmatch(rf"│ {GOLD}\s+│\s+0.51 │", line) for line in lines)
    person.leave()


@pytest.mark.parametrize(
    ("typed", "whole"),
    [
        ("select trade_", "select trade_id"),
        ("select count(*) from ticke", "select count(*) from tickers"),
        ("select * from instruments_as_", "select * from instruments_as_of("),
        ("sele", "select"),
        ("SELEC", "SELECT"),
        (".sche", ".schema"),
        (".schema cov", ".schema coverage"),
        (".mode js", ".mode json"),
        (".gaps kal", ".gaps kalshi"),
    ],
)
def test_tab_completes_views_columns_functions_and_commands(person: Person, typed: str, whole: str) -> None:
    person.terminal.type(typed + TAB)
    person.prompted(whole)
    person.terminal.type(CTRL_C)  # what was typed is dropped
    person.terminal.until(r"^ssmd>$")
    person.leave()


def test_a_question_may_be_made_of_completions(person: Person) -> None:
    person.terminal.type("select symb" + TAB)
    person.terminal.until(r"^ssmd> select symbol$")  # and below it that there is `symbols`, too
    person.terminal.type(" from trad" + TAB)
    person.terminal.until(r"^ssmd> select symbol from trades$")
    person.terminal.type(" where price > 0.5;" + ENTER)
    person.terminal.until(rf"^│ {GOLD} │$")


def test_ctrl_c_cancels_what_runs_and_the_next_question_is_answered(person: Person) -> None:
    person.terminal.type(LONG + ENTER)
    person.terminal.until(r"^running .* left ")  # it runs for a second
    person.terminal.type(CTRL_C)
    person.terminal.until(r"^cancelled$")
    person.prompted()
    assert "│ 42 │" in person.ask("select 42 as n;")
    person.leave()


def test_history_is_there_after_a_restart_for_oneself_alone(data: Path, tmp_path: Path) -> None:
    first = Person(data, tmp_path)
    first.ask("select 'remembered' as said;")
    first.leave()
    kept = tmp_path / "ssmd" / "shell_history"
    assert "remembered" in kept.read_text() and kept.stat().st_mode & 0o077 == 0
    second = Person(data, tmp_path)
    second.terminal.type(UP)
    second.prompted("select 'remembered' as said;")
    second.terminal.type(ENTER)
    second.terminal.until(r"^│ remembered │$")
    second.leave()


def test_a_mistake_is_one_sentence_and_the_prompt_stays(person: Person) -> None:
    [told, *_] = person.ask("from trade;")
    assert told.startswith("error: there is no view trade: did you mean trades?")
    assert person.ask(".tabels") == ["error: there is no .tabels: did you mean .tables? `.help` lists what there is"]
    assert "│ 1 │" in person.ask("select 1;")
    person.terminal.type(".quit" + ENTER)
    assert person.terminal.ended() == 0


def test_what_does_not_fit_is_cut_and_said(data: Path, tmp_path: Path) -> None:
    person = Person(data, tmp_path, columns=60)
    told = person.ask("select * from tickers;")
    assert any("│ … │" in line for line in told)
    assert " of 16 columns: add a limit, name columns" in told[-2]
    told = person.ask("select range from range(1000);")
    assert any(line.startswith("more than 40 rows: add a limit") for line in told)
    assert sum(line.startswith("│") for line in told) == 40
    person.terminal.close()


def test_columns_give_way_from_the_widest_and_then_from_the_middle() -> None:
    assert fitted([5, 5], [5, 5], 80) == {0: 5, 1: 5}
    assert fitted([5, 50], [5, 12], 40) == {0: 5, 1: 28}
    shown = fitted([20] * 10, [12] * 10, 80)
    assert list(shown) == [0, 1, 2, 8, 9], "some of the first, the last"
    assert sum(shown.values()) + 3 * len(shown) + 1 + 4 == 80, "no room is left"
    assert fitted([200], [12], 40) == {0: 36}


# --------------------------------------------------------------------------------------------------------- scripts


def script(data: Path, text: str) -> "subprocess.CompletedProcess[str]":
    command = [str(SSMD), "shell", "--data", str(data)]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


def test_standard_input_is_run_as_a_script(data: Path) -> None:
    done = script(
        data,
        "-- how many; really\n"
        "select count(*) as n from trades; select ';' as semicolon;\n"
        ".mode csv\n"
        "select symbol\nfrom trades\norder by price desc limit 1;\n"
        ".mode json\nselect 1 as one",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f'n\n2\nsemicolon\n;\nsymbol\n{GOLD}\n[\n  {{"one":1}}\n]\n'


def test_a_script_ends_at_its_first_mistake_with_its_line(data: Path) -> None:
    done = script(data, "select 1 as n;\n\nselect *\nfrom trade;\nselect 3;\n")
    assert done.returncode == 2
    assert done.stdout.split() == ["n", "1"]
    assert done.stderr.startswith("error: line 3: there is no view trade: did you mean trades?")
    assert done.stderr.count("\n") == 1
    assert script(data, "select 1; .quit\nselect nonsense;").returncode == 0, "what follows .quit is not run"


def test_dot_commands_say_what_there_is(data: Path) -> None:
    told = script(data, ".help\n.tables\n.schema trades\n.gaps kalshi\n.timer on\nselect 1;\n")
    for part in (".timer on|off", "book_deltas", "the price, exact", "seq 9 after 7"):
        assert part in told.stdout
    assert re.fullmatch(r"[0-9.]+ s\n", told.stderr)
    made = script(data, "create table mine as select 1 as n;\n.tables\n.schema mine\n")
    assert re.search(r"^mine +your own$", made.stdout, re.MULTILINE) and "INTEGER" in made.stdout


def test_statements_end_at_semicolons_that_are_theirs() -> None:
    assert [s for _, s in statements("select ';', \"a;b\" -- ;\n; /* ; */ select 2")] == [
        "select ';', \"a;b\" -- ;\n;",
        "/* ; */ select 2",
    ]
    assert list(statements("\n\n.tables\nselect 1;\n")) == [(3, ".tables"), (4, "select 1;")]
    assert list(statements("-- nothing but a comment\n")) == []
    assert is_whole("select 1;") and is_whole(".help") and is_whole("") and is_whole("select '€;' ; -- done")
    assert not is_whole("select 1") and not is_whole("select 'a;") and not is_whole("select 1; select 2")


def test_no_folder_is_one_sentence(tmp_path: Path) -> None:
    done = script(tmp_path / "nowhere", "select 1;")
    assert done.returncode == 2 and "there is no data folder" in done.stderr and done.stderr.count("\n") == 1
