"""The score follows from the figures; a report goes to real servers, and what refuses it is told from what is away."""

import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from hypothesis import given
from hypothesis import strategies as st
from temporalio.testing import ActivityEnvironment

from activities.processes import Processes
from activities.report import Measuring, Reports, measured
from ssmd import config, health, jobs
from ssmd.errors import Permanent, Transient
from tests.certificates import Authority
from tests.lake.archives import DATE, FEED, a_day

REPORT = jobs.Reported(
    "harbour", "2026-11-20", [jobs.FeedHealth("kalshi", "2026-11-20", 97.5, {"coverage": 0.975}, notes=["a note"])]
)
SECRET = "canary-5f2c"


# ----------------------------------------------------------------------------------------------------- the score


def test_a_clean_day_has_all_marks_and_a_silent_one_none() -> None:
    assert health.score(health.marks(1.0, 10, 0, 500, 500, 80.0)) == 100.0
    assert health.score(health.marks(0.0, 10, 10, 0, 500, 90_000.0)) == 0.0
    assert health.score({}) == 0.0


@pytest.mark.parametrize(
    ("figures", "score"),
    [
        ((0.9, 10, 0, 500, 500, 80.0), 95.0),
        ((1.0, 10, 5, 500, 500, 80.0), 90.0),
        ((1.0, 10, 0, 125, 500, 80.0), 90.0),
        ((1.0, 10, 0, 300, 500, 80.0), 100.0),  # more than half the usual is no alarm
        ((1.0, 10, 0, 500, 500, 7_746.0), 95.0),  # the middle between 1 s and 60 s, by the logarithm
        ((1.0, 10, 0, 500, None, None), 100.0),  # what cannot be had counts neither way
        ((0.5, 10, 0, 500, None, None), 64.3),  # 100 · (50 · 0.5 + 20 · 1) / 70
    ],
)
def test_the_documented_formula(figures: Any, score: float) -> None:
    assert health.score(health.marks(*figures)) == score


@given(
    st.floats(0, 1),
    st.integers(1, 50),
    st.integers(0, 50),
    st.integers(0, 10_000),
    st.integers(1, 10_000),
    st.floats(-500, 1e7),
)
def test_worse_figures_never_score_higher(
    covered: float, instruments: int, affected: int, frames: int, usual: int, lag: float
) -> None:
    affected = min(affected, instruments)
    score = health.score(health.marks(covered, instruments, affected, frames, usual, lag))
    assert 0 <= score <= 100
    for worse in (
        health.marks(covered / 2, instruments, affected, frames, usual, lag),
        health.marks(covered, instruments, instruments, frames, usual, lag),
        health.marks(covered, instruments, affected, frames // 2, usual, lag),
        health.marks(covered, instruments, affected, frames, usual, lag + 10_000),
    ):
        assert health.score(worse) <= score


def test_a_day_is_measured_from_what_is_archived(tmp_path: Path) -> None:
    board = tmp_path / "board"
    board.write_bytes(bytes(16))
    places = config.Places(tmp_path)
    manifest = a_day(DATE).write(tmp_path / "archive")
    twice = a_day("2026-08-10")
    for _ in range(manifest.frames):
        twice.trade("KXGOLD", "0.5100", "7.00")
    twice.write(tmp_path / "archive")
    found = measured(Measuring(places, jobs.Day(FEED, DATE)), board)
    assert (found.frames, found.frames_usual) == (manifest.frames, 2 * manifest.frames)
    assert found.marks["counts"] == 1.0
    assert found.instruments > 0
    assert found.covered is not None
    assert 0 < found.covered < 0.2, "three hours of a day"
    assert found.quarantined == sum(manifest.quarantined.values()) > 0
    assert found.notes[0] == "the day is not rolled up yet"

    assert measured(Measuring(places, jobs.Day(FEED, "2020-01-01")), board) == jobs.FeedHealth(
        FEED, "2020-01-01", 0.0, notes=["nothing is archived of that day"]
    )


# ------------------------------------------------------------------------------------------------------ delivery


class Posted:
    """A small HTTP server: what it was sent, and what it answers."""

    def __init__(self) -> None:
        self.code = 200
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        posted = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                posted.seen.append((self.path, dict(self.headers), json.loads(body)))
                self.send_response(posted.code)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def http_server() -> Iterator[Posted]:
    posted = Posted()
    yield posted
    posted.server.shutdown()


class Mailbox:
    """An SMTP server's handler, and who may log in."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], Message]] = []
        self.refusal = ""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refusal:
            return self.refusal
        assert isinstance(envelope.content, bytes)
        self.mails.append((list(envelope.rcpt_tos), message_from_bytes(envelope.content)))
        return "250 kept"

    def may_log_in(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        known = isinstance(data, LoginPassword) and (data.login, data.password) == (b"ssmd", SECRET.encode())
        return AuthResult(success=known, handled=False)


class Mailer(Controller):
    """On a free port; with STARTTLS, which it insists on."""

    def factory(self) -> SMTP:
        return SMTP(
            self.handler, hostname="127.0.0.1", require_starttls=True, auth_required=True,
            tls_context=self.tls, authenticator=self.handler.may_log_in,
        )  # fmt: skip


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def mailbox(authority: Authority, free_port: Callable[[], int]) -> Iterator[tuple[Mailbox, int]]:
    box, port = Mailbox(), free_port()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server = authority.sign("server")
    tls.load_cert_chain(server.certificate, server.key)
    mailer = Mailer(box, hostname="127.0.0.1", port=port)
    mailer.tls = tls
    mailer.start()
    yield box, port
    mailer.stop()


class Post:
    """Reports of an environment whose `reports:` are as given."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        (folder / "config" / "environments").mkdir(parents=True)
        monkeypatch.setenv("SSMD_CONFIG", str(folder / "config"))
        monkeypatch.setenv("REPORT_SECRET", SECRET)

    def deliver(self, target: str, reports: dict[str, object]) -> str:
        said = {"name": "harbour", "feeds": [{"feed": FEED, "endpoint": "simulator"}], "reports": {target: reports}}
        (self._folder / "config" / "environments" / "harbour.yaml").write_text(json.dumps(said))
        with Processes(1) as processes:
            addresses = config.Addresses("harbour", "", "", "", {}, {})
            activities = Reports(config.Places(self._folder), addresses, processes)
            said_where: str = ActivityEnvironment().run(activities.deliver, REPORT, target)
            return said_where


@pytest.fixture
def post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Post:
    return Post(tmp_path, monkeypatch)


def test_a_webhook_gets_the_report_as_json(post: Post, http_server: Posted, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"{http_server.url}/{SECRET}\n")
    assert post.deliver("webhook", {"url": "file:{data}/url"}) == "webhook"
    path, headers, body = http_server.seen[-1]
    assert (path, headers["Idempotency-Key"]) == (f"/{SECRET}", "report/harbour/2026-11-20")
    assert body["title"] == "ssmd harbour 2026-11-20: kalshi 97.5"
    assert body["text"].splitlines()[1].startswith("kalshi: 97.5 (fair): ")
    assert (body["feeds"][0]["score"], body["feeds"][0]["marks"], body["feeds"][0]["grade"]) == (
        97.5,
        {"coverage": 0.975},
        "fair",
    )


def test_ntfy_gets_it_as_a_message(post: Post, http_server: Posted) -> None:
    told = {"server": http_server.url, "topic": "env:REPORT_SECRET", "token": "env:REPORT_SECRET"}
    assert post.deliver("ntfy", told) == f"ntfy at {http_server.url}"
    _, headers, body = http_server.seen[-1]
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert (body["topic"], body["priority"], body["tags"]) == (SECRET, 3, ["warning"])
    assert "a note" in body["message"]


@pytest.mark.parametrize(("code", "kind"), [(500, Transient), (429, Transient), (404, Permanent), (301, Permanent)])
def test_a_refusal_is_for_good_and_a_busy_server_is_not(
    post: Post, http_server: Posted, tmp_path: Path, code: int, kind: type[Exception]
) -> None:
    (tmp_path / "url").write_text(f"{http_server.url}/{SECRET}")
    http_server.code = code
    try:
        with pytest.raises(kind, match=f"HTTP {code}") as raised:
            post.deliver("webhook", {"url": "file:{data}/url"})
    finally:
        http_server.code = 200
    assert SECRET not in str(raised.value)


def test_nobody_there_is_tried_again_and_no_url_is_not(
    post: Post, free_port: Callable[[], int], tmp_path: Path
) -> None:
    (tmp_path / "url").write_text(f"http://127.0.0.1:{free_port()}/{SECRET}")
    with pytest.raises(Transient, match="does not answer") as raised:
        post.deliver("webhook", {"url": "file:{data}/url"})
    assert SECRET not in str(raised.value)
    with pytest.raises(Permanent, match="is no address") as refused:
        post.deliver("webhook", {"url": "env:REPORT_SECRET"})
    assert SECRET not in str(refused.value)
    with pytest.raises(Permanent, match="the variable NOWHERE is not set"):
        post.deliver("webhook", {"url": "env:NOWHERE"})


def mail(port: int, ca: Path) -> dict[str, object]:
    return {
        "server": "127.0.0.1", "port": port, "ca": f"file:{ca}", "user": "env:REPORT_USER",
        "password": "env:REPORT_SECRET", "sender": "ssmd@example.org", "to": ["a@example.org", "b@example.org"],
    }  # fmt: skip


def test_mail_goes_out_over_starttls_with_a_login(
    post: Post, mailbox: tuple[Mailbox, int], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, port = mailbox
    monkeypatch.setenv("REPORT_USER", "ssmd")
    assert post.deliver("mail", mail(port, authority.certificate)) == "mail to a@example.org, b@example.org"
    [(to, message)] = box.mails
    assert to == ["a@example.org", "b@example.org"]
    assert message["Subject"] == "ssmd harbour 2026-11-20: kalshi 97.5"
    assert message["Message-ID"] == "<report.2026-11-20.harbour@example.org>"
    assert "a note" in str(message.get_payload())


def test_what_a_mail_server_refuses_is_told_apart(
    post: Post, mailbox: tuple[Mailbox, int], authority: Authority,
    monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int],
) -> None:  # fmt: skip
    box, port = mailbox
    ca = authority.certificate
    monkeypatch.setenv("REPORT_USER", "somebody")
    cases: list[tuple[str, dict[str, object], type[Exception], str]] = [
        ("somebody", mail(port, ca), Permanent, "refused the user or the password"),
        ("ssmd", {**mail(port, ca), "ca": None}, Permanent, "a certificate that is not trusted"),
        ("ssmd", mail(free_port(), ca), Transient, "does not answer"),
        ("ssmd", {**mail(port, ca), "security": "none", "user": None, "password": None}, Permanent, "refused"),
    ]
    for user, told, kind, said in cases:
        monkeypatch.setenv("REPORT_USER", user)
        with pytest.raises(kind, match=said) as raised:
            post.deliver("mail", told)
        assert SECRET not in str(raised.value)
    for answer, kind in (("451 later", Transient), ("554 never", Permanent)):
        box.refusal = answer
        with pytest.raises(kind, match=answer[:3]):
            post.deliver("mail", mail(port, ca))


def test_a_password_never_goes_over_an_open_connection() -> None:
    told = {**mail(25, Path("ca.pem")), "security": "none"}
    with pytest.raises(ValueError, match="does not go over an open connection"):
        config.Mail.model_validate(told)
