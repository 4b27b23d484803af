"""The processes: connectors listen, archivers keep, workers do the batch side, simulators play the venues."""
