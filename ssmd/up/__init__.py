"""The whole platform on one machine: real servers, simulated venues and our services under one roof."""
