"""Capacities: limits on what may be used, and the prices that keep use within them."""
