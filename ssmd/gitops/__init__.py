"""Configuration as files under git: read with positions, checked whole, edited with their comments kept."""
