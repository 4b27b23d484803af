"""python -m tests.exchanges.docs: writes docs/venues.md out of every venue's evidence.yaml."""

from tests.exchanges.venues import ROOT, Known, known

HEAD = """# Venues

What each venue's grammar rests on. *recorded*: real frames of this kind are read by the tests; *documented*: the
venue's documentation alone; *one-source*: seen in one place only; *unconfirmed*: assumed, and the code says where.
Roles: *server* sends it to us, *client* is what we send, *rest* is asked over HTTP.

"""


def table(venue: Known) -> str:
    """One venue's section."""
    rows = [f"| {m.channel} | {m.variant} | {m.role} | {m.evidence} | {m.source} |\n" for m in venue.messages]
    head = "| channel | variant | role | evidence | source |\n|---|---|---|---|---|\n"
    return f"## {venue.name.replace('_', '-')}\n\n{head}{''.join(rows)}"


if __name__ == "__main__":
    (ROOT / "docs/venues.md").write_text(HEAD + "\n".join(table(venue) for venue in known()))
