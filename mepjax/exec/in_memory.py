"""The executor that holds all data and the N x K policy in memory."""

import equinox as eqx


class InMemory(eqx.Module):
    """Sums over data are computed in one piece on one device (default)."""
