"""Engines of federated runs: a run as a text in, what the server knows at the end out. One file each."""
