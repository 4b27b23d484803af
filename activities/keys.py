"""Keys, asked after at their venues. What leaves here are references, states and sentences; never a key."""

import importlib
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

from temporalio import activity
from temporalio.exceptions import CancelledError

from activities.rest import of_feed
from exchanges.port import Key, Venue, Verdict
from ssmd import config, jobs
from ssmd.clock import SECOND_NS
from ssmd.errors import Permanent, SsmdError

TRIES_MAX = 3  # while the answer says nothing of the key, or is doubtful
_ID = re.compile(r"[0-9A-Za-z+/=_.:-]{1,128}")
_WHOLE_MIN, _PART_MIN = 4, 12  # what is shorter may stand in a sentence by chance: PRIVATE, say
_BETWEEN_PARTS = re.compile(r'[\s",:{}]+')


class Keys:
    """The keys that an environment names."""

    def __init__(self, places: config.Places, environment: config.Environment, addresses: config.Addresses) -> None:
        self._places = places
        self._environment = environment
        self._addresses = addresses

    @activity.defn(no_thread_cancel_exception=True)
    def list_keys(self, keys: jobs.Keys) -> list[jobs.Key]:
        """The feeds that have a key, or need one. Raises Permanent if the environment is not this worker's."""
        if keys.environment not in {"", self._environment.name}:
            raise Permanent(
                f"this worker runs environment {self._environment.name}, not {keys.environment}: "
                "start one there, or leave the name out"
            )
        today = datetime.now(UTC).date()
        found = []
        for plan in self._environment.feeds:
            activity.heartbeat(jobs.Progress(f"looking for the key of {plan.feed}"))
            if plan.key is not None or config.load_feed(plan.feed).at(today).signed:
                found.append(jobs.Key(self._environment.name, plan.feed))
        return found

    @activity.defn(no_thread_cancel_exception=True)
    def verify_key(self, key: jobs.Key) -> jobs.KeyChecked:
        """Whether a feed's key is there, well-formed and accepted, how old it is and when it ends."""
        feed = config.load_feed(key.feed)
        reference = self._environment.feed(key.feed).key
        if reference is None:
            return jobs.KeyChecked(key.feed, "missing", f"{feed.title} wants a key, but the environment names none")
        held = _Held([])
        found: jobs.KeyChecked | Verdict
        try:
            found = self._asked(feed, reference, held)
        except CancelledError:
            raise
        except Exception as e:
            # Its words, its cause and its traceback may quote what it was given: only its kind is told.
            found = Verdict("down", f"the key of {feed.name} could not be checked ({type(e).__name__})")
        if isinstance(found, jobs.KeyChecked):
            return found
        now = datetime.now(UTC)
        ends = reference.expires
        if found.expires_ns is not None:
            ends = datetime.fromtimestamp(found.expires_ns // SECOND_NS, UTC).date()
        state, said = str(found.state), found.said
        if state == "wrong" and ends is not None and ends <= now.date():
            state, said = "expired", f"{said}; it ended on {ends}"
        return jobs.KeyChecked(
            feed=key.feed,
            state=state,
            said=held.left_out_of(said),
            reference=reference.secret,
            rights=[held.left_out_of(right) for right in found.rights],
            age_days=_age_days(reference, self._places.data, now),
            expires_in_days=None if ends is None else (ends - now.date()).days,
        )

    def _asked(self, feed: config.Feed, reference: config.KeyReference, held: "_Held") -> jobs.KeyChecked | Verdict:
        """What the venue says of it, unless it never comes so far."""
        doing = f"verifying the key of {feed.name}"

        def beat() -> None:
            activity.heartbeat(jobs.Progress(doing))
            if activity.is_cancelled():
                raise CancelledError(f"{doing}: cancelled")

        beat()
        venue: Venue = importlib.import_module(f"exchanges.{feed.venue}").venue
        try:
            key_id, secret = reference.load(self._places.data)
        except Permanent as e:
            return jobs.KeyChecked(feed.name, "missing", str(e), reference.secret)
        held.parts.extend([key_id, secret.decode(errors="replace")])
        malformed = ""
        if not _ID.fullmatch(key_id):
            malformed = f"what {reference.id} leads to is no key id: give the one line that {feed.title} showed"
        else:
            try:
                key: Key = venue.key(key_id, secret)
            except Permanent as e:
                malformed = held.left_out_of(str(e))
        if malformed:
            return jobs.KeyChecked(feed.name, "malformed", malformed, reference.secret)
        try:
            with of_feed(feed, self._environment, self._addresses, key=key, beat=beat) as rest:
                for tries in range(1, TRIES_MAX + 1):
                    answer, sent_ns = rest.answer(venue.key_check(), TRIES_MAX)
                    if answer.status == 0:
                        return Verdict("down", f"{feed.title} cannot be reached ({answer.body.decode()}): try again")
                    verdict = venue.key_verdict(answer, sent_ns, key_id)
                    if not verdict.doubtful or tries == TRIES_MAX:
                        return verdict
        except SsmdError as e:  # nobody to be asked
            return Verdict("down", str(e))
        raise AssertionError("the last try returns")


class _Held(NamedTuple):
    """What was read and must not be told, whatever else is."""

    parts: list[str]

    def left_out_of(self, sentence: str) -> str:
        for text in self.parts:
            parts = [part for part in _BETWEEN_PARTS.split(text) if len(part) >= _PART_MIN]
            for part in [text.strip(), *parts] if len(text.strip()) >= _WHOLE_MIN else parts:
                sentence = sentence.replace(part, "…")
        return sentence


def _age_days(reference: config.KeyReference, data: Path, now: datetime) -> int | None:
    """By the environment's word, else by the file that holds the secret."""
    made: date | None = reference.created
    kind, _, where = reference.secret.partition(":")
    if made is None and kind == "file":
        path = Path(where.replace("{data}", str(data))).expanduser()
        made = datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
    return None if made is None else (now.date() - made).days
