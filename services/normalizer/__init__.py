"""Says live what frames mean, the same for every venue: raw frames in, normalized events out."""
