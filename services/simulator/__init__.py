"""The simulator: plays a venue, from a recording or made up, and writes down exactly what it sent."""
