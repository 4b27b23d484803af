"""The connector: socket, stamp, journal, publish."""
