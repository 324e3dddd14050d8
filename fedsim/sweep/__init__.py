"""Sweeps: the grids of a scenario, the workers that make their points, and what the points say together."""
