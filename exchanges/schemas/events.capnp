@0xc2e6f2a45fd1b7e3;
# Normalized market data: what a frame said, the same for every venue. One Event is one message, in Cap'n Proto's standard
# framing, on
#   {env}.{feed}.{trade|ticker|book|status}.{symbol}
#
# Version 1. Later versions only add fields and kinds, with new numbers: each version reads the messages of every other.
#
# Prices and sizes are decimal text with exactly the venue's digits ("0.4800"), however many: read them as decimals,
# never as binary floats. A text whose pointer is null is something the venue did not say; it is not 0.
# Times are nanoseconds since the epoch, UTC.

struct Event {
  tsRecv @0 :Int64;                   # ours, taken right after the socket read
  tsEvent :union {                    # the venue's own
    unknown @1 :Void;
    ns @2 :Int64;
  }
  n @3 :UInt64;                       # (conn, n) names the frame: a connection, and its frames counted from 1
  item @4 :UInt32;                    # the event's place in its frame, from 0
  feed @5 :Text;
  symbol @6 :Text;                    # the venue's name of the instrument; null where it is not about one
  conn @7 :Text;
  union {
    trade @8 :Trade;                  # on `trade`
    ticker @9 :Ticker;                # on `ticker`
    bookSnapshot @10 :BookSnapshot;   # on `book`
    bookDelta @11 :BookDelta;         # on `book`
    status @12 :Status;               # on `status`
    gap @13 :Gap;                     # on `status`, symbol `all`
  }
}

struct Trade {
  side @0 :Side;                      # the taker's
  price @1 :Text;
  size @2 :Text;
  tradeId @3 :Text;

  enum Side {
    unknown @0;
    buy @1;
    sell @2;
  }
}

struct Ticker {
  last @0 :Text;
  lastSize @1 :Text;
  bid @2 :Text;
  bidSize @3 :Text;
  ask @4 :Text;
  askSize @5 :Text;
  volume @6 :Text;
  openInterest @7 :Text;
}

# The whole book of one instrument; levels best first.
struct BookSnapshot {
  bids @0 :List(Level);
  asks @1 :List(Level);

  struct Level {
    price @0 :Text;
    size @1 :Text;
  }
}

# One level changed: `size` is what stands there now, or `change` what was added to it, as the venue says.
struct BookDelta {
  side @0 :Side;
  price @1 :Text;
  size @2 :Text;
  change @3 :Text;

  enum Side {
    bid @0;
    ask @1;
  }
}

# Something happened to the instrument: created, activated, settled …
struct Status {
  status @0 :Text;
  detail @1 :Text;                    # the venue's JSON
}

# Between `start` and `end` messages are missing. Told when that begins and again, with the end, when it is over.
struct Gap {
  gap @0 :Text;                       # its name, the same both times
  conn @1 :Text;                      # the connection that misses them
  symbols @2 :List(Text);             # none: every instrument of that connection
  start @3 :Int64;
  end :union {
    open @4 :Void;
    ns @5 :Int64;
  }
  cause @6 :Text;                     # disconnect, sequence, stale, parse, lost … (ssmd/events.py has them all)
  evidence @7 :Text;
  repair @8 :Text;
}
