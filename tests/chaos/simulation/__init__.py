"""Whole worlds in one thread: the real connector, journal and archiver over a simulated clock, network and disk.

A world is made from a seed alone and can be run again: `python -m tests.chaos.simulation SEED`.

scheduler.py  one heap of events, an event loop for each process on it
disk.py    files with a page cache that a kill leaves alone and a power cut does not
broker.py  NATS with JetStream, as far as connector and archiver use it
venue.py   an exchange that numbers its frames, skips some and drops connections
world.py   processes, faults, and what must be true at the end
mutations.py  defences switched off, each of which must be noticed
"""
