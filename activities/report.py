"""The daily report: a feed's day is measured, and what was measured is delivered."""

import contextlib
import smtplib
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import date, timedelta
from email.message import EmailMessage
from pathlib import Path

import duckdb
import httpx
from temporalio import activity

from activities.archive import check_day
from activities.processes import Board, Processes, in_a_process
from ssmd import archive, config, coverage, health, jobs, ledger, tables
from ssmd.errors import Permanent, Transient

WEEK_DAYS = 7
TARGETS = ("webhook", "ntfy", "mail")
SEND_SECONDS = 10.0  # for each answer of a server
HEARTBEAT_SECONDS = 1.0
_BUSY = {408, 425, 429}


class Reports:
    """A data folder, the environment that it belongs to, and the processes that measure."""

    def __init__(
        self, places: config.Places, environment: str, processes: Processes, feeds: Sequence[str] = ()
    ) -> None:
        """`feeds`: those that run, if they are not just those that the environment lists."""
        self._places = places
        self._environment = environment
        self._processes = processes
        self._feeds = feeds

    @activity.defn(no_thread_cancel_exception=True)
    def reporting(self, report: jobs.Report) -> jobs.Reporting:
        """Whose report it is and where it goes. Raises Permanent for no date."""
        environment = config.load_environment(self._environment)
        check_day(jobs.Day(environment.feeds[0].feed, report.date))
        targets = [name for name in TARGETS if report.deliver and getattr(environment.reports, name) is not None]
        feeds = list(self._feeds) or [plan.feed for plan in environment.feeds]
        return jobs.Reporting(environment.name, feeds, targets)

    @in_a_process
    @activity.defn(no_thread_cancel_exception=True)
    def measure(self, day: jobs.Day) -> jobs.FeedHealth:
        """A feed's day in figures."""
        check_day(day)
        return self._processes.run(f"measuring {day.feed} {day.date}", 0, measured, Measuring(self._places, day))

    @activity.defn(no_thread_cancel_exception=True)
    def deliver(self, report: jobs.Reported, target: str) -> str:
        """Send the report; where it went, in words. Raises Permanent if it is refused, Transient if nobody is there."""
        reports = config.load_environment(self._environment).reports
        by: dict[str, Callable[[jobs.Reported, config.Reports], str]] = {
            "webhook": self._by_webhook,
            "ntfy": self._by_ntfy,
            "mail": self._by_mail,
        }
        with ThreadPoolExecutor(1, "deliver") as thread:
            sending = thread.submit(by[target], report, reports)
            while not sending.done():
                activity.heartbeat(jobs.Progress(f"sending the report by {target}"))
                wait([sending], timeout=HEARTBEAT_SECONDS)
        return sending.result()

    def _by_webhook(self, report: jobs.Reported, reports: config.Reports) -> str:
        assert reports.webhook is not None, "it is a target"
        url = self._secret(reports.webhook.url)
        body = {
            "title": report.title,
            "text": "\n".join([report.title, *health.lines(report)]),  # what chat systems show
            "environment": report.environment,
            "date": report.date,
            "feeds": [{"grade": health.grade(h), **vars(h)} for h in report.feeds],
        }
        key = f"report/{report.environment}/{report.date}"
        _post(url, body, {"Idempotency-Key": key}, f"the webhook {reports.webhook.url}")
        return "webhook"

    def _by_ntfy(self, report: jobs.Reported, reports: config.Reports) -> str:
        assert reports.ntfy is not None, "it is a target"
        worst = min((h.score for h in report.feeds), default=0.0)
        body = {
            "topic": self._secret(reports.ntfy.topic),
            "title": report.title,
            "message": "\n".join(health.lines(report)),
            "priority": 3 if worst >= health.FAIR else 4,
            "tags": ["white_check_mark" if worst >= health.GOOD else "warning"],
        }
        token = reports.ntfy.token
        headers = {} if token is None else {"Authorization": f"Bearer {self._secret(token)}"}
        _post(reports.ntfy.server, body, headers, f"ntfy at {reports.ntfy.server}")
        return f"ntfy at {reports.ntfy.server}"

    def _by_mail(self, report: jobs.Reported, reports: config.Reports) -> str:
        mail = reports.mail
        assert mail is not None, "it is a target"
        message = EmailMessage()
        message["Subject"] = report.title
        message["From"] = mail.sender
        message["To"] = ", ".join(mail.to)
        # Always the same, so that a report that was sent twice is shown once.
        message["Message-ID"] = f"<report.{report.date}.{report.environment}@{mail.sender.rpartition('@')[2]}>"
        message.set_content("\n".join([*health.lines(report), ""]))
        what = f"the mail server {mail.server}:{mail.port}"
        with _smtp_said(what), self._smtp(mail) as server:
            if mail.user is not None and mail.password is not None:
                server.login(self._secret(mail.user), self._secret(mail.password))
            refused = server.send_message(message)
        if refused:
            raise Permanent(f"{what} refused {', '.join(refused)}: mend `to:` in the environment's `reports:`")
        return f"mail to {', '.join(mail.to)}"

    def _smtp(self, mail: config.Mail) -> smtplib.SMTP:
        authority = None if mail.ca is None else self._secret(mail.ca)
        if mail.security == "none":
            return smtplib.SMTP(mail.server, mail.port, timeout=SEND_SECONDS)
        trust = ssl.create_default_context(cadata=authority)
        if mail.security == "tls":
            return smtplib.SMTP_SSL(mail.server, mail.port, timeout=SEND_SECONDS, context=trust)
        server = smtplib.SMTP(mail.server, mail.port, timeout=SEND_SECONDS)
        try:
            server.starttls(context=trust)
        except BaseException:
            server.close()
            raise
        return server

    def _secret(self, reference: str) -> str:
        return config.dereference(reference, self._places.data).decode().strip()


def _post(url: str, body: object, headers: dict[str, str], what: str) -> None:
    """POST JSON. Errors name `what`, never the address."""
    try:
        with httpx.Client(trust_env=False, timeout=SEND_SECONDS) as client:
            code = client.post(url, json=body, headers=headers).status_code
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise Permanent(f"{what} is no address: it must be a URL, https://…") from None
    except httpx.HTTPError as e:
        raise Transient(f"{what} does not answer ({type(e).__name__})") from None
    if code >= 500 or code in _BUSY:
        raise Transient(f"{what} answered HTTP {code}")
    if not 200 <= code < 300:
        raise Permanent(f"{what} refused the report with HTTP {code}: look at its address and its key")


@contextlib.contextmanager
def _smtp_said(what: str) -> Iterator[None]:
    """What went wrong, as Transient or Permanent: a mail server's 4xx is for now, its 5xx for good."""
    try:
        yield
    except ssl.SSLCertVerificationError as e:
        raise Permanent(f"{what} has a certificate that is not trusted ({e.verify_message}): give its `ca:`") from None
    except smtplib.SMTPAuthenticationError as e:
        raise Permanent(f"{what} refused the user or the password ({e.smtp_code})") from None
    except smtplib.SMTPNotSupportedError as e:
        raise Permanent(f"{what} cannot do what is asked of it ({e}): look at `security:`") from None
    except smtplib.SMTPRecipientsRefused as e:
        worst = max(code for code, _ in e.recipients.values())
        kind = Permanent if worst >= 500 else Transient
        raise kind(f"{what} refused {', '.join(e.recipients)} ({worst})") from None
    except smtplib.SMTPResponseException as e:
        kind = Permanent if e.smtp_code >= 500 else Transient
        raise kind(f"{what} refused the report ({e.smtp_code})") from None
    except (smtplib.SMTPException, OSError) as e:
        raise Transient(f"{what} does not answer ({type(e).__name__})") from None


# ------------------------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Measuring:
    """A day to be measured, and where it lies."""

    places: config.Places
    day: jobs.Day


def measured(task: Measuring, board: Path) -> jobs.FeedHealth:
    """Runs in a process of its own."""
    places, day = task.places, task.day
    telling = Board(board)
    try:
        recorded = ledger.recorded(places.archive, day.feed)[0]
        manifest = recorded.manifest(day.date)
    except Permanent:
        telling.close()
        return jobs.FeedHealth(day.feed, day.date, 0.0, notes=["nothing is archived of that day"])
    telling.tell(0)
    of_day = recorded.day(day.date, time.time_ns())
    found = coverage.coverage(of_day)
    instruments = sum(len(c.symbols) for c in found)
    affected = sum(len(c.symbols) for c in found if c.condition in {"missing", "degraded"})
    length = sum(c.day_ns * len(c.symbols) for c in found)
    covered = sum(c.covered_ns * len(c.symbols) for c in found) / length if length else None
    in_gaps = coverage.united(
        (max(gap.start, of_day.start), min(gap.end or of_day.end, of_day.end)) for gap in of_day.gaps
    )
    week = [recorded.manifests[d].frames for d in _week(day.date) if d in recorded.manifests]
    usual = health.usual([frames for frames in week if frames])
    telling.tell(0)
    lake_day = None
    with contextlib.suppress(FileNotFoundError):
        lake_day = tables.load_day(places.lake / tables.manifest_path(day.feed, day.date))
    lag = None if lake_day is None else _lag(places.lake, lake_day)
    telling.close()
    state = recorded.cursor.days.get(day.date) if recorded.cursor is not None else None
    open_ = 0 if state is None else sum(frames for _, _, frames in state.conns.values())  # segments not finished, too
    frames = max(manifest.frames, open_)
    marks = health.marks(covered, instruments, affected, frames, usual, None if lag is None else lag[1])
    notes = [] if manifest.sealed else ["the day is not sealed yet"]
    if lake_day is None:
        notes.append("the day is not rolled up yet")
    elif lake_day.revision < manifest.revision:
        notes.append(f"the tables are of revision {lake_day.revision}, the archive has {manifest.revision}")
    if not marks:
        notes.append("nothing of the day could be marked: no connection was subscribed, and there is no week before")
    if not manifest.whole:
        notes.append("frames are missing from the archive: see the ledger's rows of cause lost")
    return jobs.FeedHealth(
        feed=day.feed,
        date=day.date,
        score=health.score(marks),
        marks={part: round(mark, 4) for part, mark in marks.items()},
        instruments=instruments,
        covered=None if covered is None else round(covered, 6),
        affected=affected,
        gaps=len(of_day.gaps),
        gap_seconds=sum(end - start for start, end in in_gaps) / 1e9,
        frames=frames,
        frames_usual=usual,
        quarantined=sum(manifest.quarantined.values()),
        lag_ms_p50=None if lag is None else round(lag[0], 3),
        lag_ms_p99=None if lag is None else round(lag[1], 3),
        notes=notes,
    )


def _week(day: str) -> list[str]:
    """The seven dates before."""
    last = date.fromisoformat(day)
    return [(last - timedelta(days=before)).isoformat() for before in range(1, WEEK_DAYS + 1)]


def _lag(lake: Path, day: tables.LakeDay) -> tuple[float, float] | None:
    """Median and 99th percentile, in ms, from the venue's time to ours: of trades, else of tickers; None without."""
    for table in ("trades", "tickers"):
        files = [file for file in day.files if file.table == table and file.rows]
        for file in files:
            path = lake / file.path
            if not path.exists() or archive.sha256_of(path) != file.sha256:
                raise Permanent(f"{path} is not what its manifest says: run `ssmd verify {day.feed} {day.date}`")
        if not files:
            continue
        with duckdb.connect(config={"memory_limit": "256MB", "threads": 1}) as db:
            row = db.execute(
                "SELECT approx_quantile((ts_recv - ts_event) / 1e6, [0.5, 0.99]) FROM read_parquet(?) "
                "WHERE ts_event IS NOT NULL AND conn NOT LIKE 'backfill:%'",  # those came late by intent
                [[str(lake / file.path) for file in files]],
            ).fetchone()
        if row is not None and row[0] is not None:
            return float(row[0][0]), float(row[0][1])
    return None
