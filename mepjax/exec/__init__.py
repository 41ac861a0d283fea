"""Executors: where the sums over data are computed."""
