# pyright: reportArgumentType=false, reportPossiblyUnboundVariable=false
"""Brute-force float64 oracle for facility location with path optimisation.

Written from the mathematics document alone ("section 1.x" below refers to it), on purpose without
any of the library's code and without its recursion: every walk

    node i -> facility at stage 1 -> ... -> facility at stage q -> destination l,   q <= K,

is written down, costed and weighted. The destination absorbs. Shapes: ``x (N, d)`` nodes,
``rho (N,)`` weights summing to one, ``y (M, d)`` facilities, ``z (L, d)`` destinations; ``G`` walks
in all. Masks are True where a leg is permitted. Stages are counted from 0 in arrays.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np


class Walks(NamedTuple):
    """All walks, shortest first, as how often each uses every leg."""

    routes: tuple[tuple[int, ...], ...]  # facilities in the order visited, possibly none
    ends: np.ndarray  # (G,) destination
    visits: np.ndarray  # (G, M)
    entry: np.ndarray  # (G, M)
    links: np.ndarray  # (G, K-1, M, M): from the facility at stage k to the one at stage k + 1
    exits: np.ndarray  # (G, K, M, L): from the facility at stage k to the destination
    direct: np.ndarray  # (G, L)
    allowed: np.ndarray  # (N, G) which node may take which walk


class Masks(NamedTuple):
    """Permitted legs; the last is the straight one from the node, the others do not affect it."""

    entry: Any = True  # (N, M)
    link: Any = True  # (M, M)
    exit: Any = True  # (M, L)
    direct: Any = True  # (N, L)


class Costs(NamedTuple):
    """Finite cost of every leg; ``links`` and ``exits`` may lack the leading stage axis."""

    entry: np.ndarray  # (N, M)
    links: np.ndarray  # (M, M) or (K-1, M, M)
    exits: np.ndarray  # (M, L) or (K, M, L)
    direct: np.ndarray  # (N, L)


class Prices(NamedTuple):
    """What section 1.6 adds to the costs of legs."""

    facility: Any = 0.0  # (M,) at every visit
    entry: Any = 0.0  # (M,) where the facility is the first
    link: Any = 0.0  # (M, M) at every use, whatever the stage


NO_PRICES, EVERY_LEG = Prices(), Masks()


def walks(shape, *, self_loops=False, direct=False, masks=EVERY_LEG, max_hops: Any = np.inf):
    """Every walk of section 1.1 for ``shape = (N, M, L, K)``, and which node may take it.

    ``direct`` adds node -> destination; ``max_hops``, one or (N,), bounds the facilities visited.
    """
    n, m, n_ends, k = shape
    routes = [
        route
        for q in range(0 if direct else 1, k + 1)
        for route in itertools.product(range(m), repeat=q)
        if self_loops or all(a != b for a, b in itertools.pairwise(route))
    ]
    routes, ends = zip(*itertools.product(routes, range(n_ends)), strict=True)
    entry, visits = np.zeros((2, len(ends), m))
    links = np.zeros((len(ends), k - 1, m, m))
    exits = np.zeros((len(ends), k, m, n_ends))
    straight = np.zeros((len(ends), n_ends))
    for g, (route, end) in enumerate(zip(routes, ends, strict=True)):
        if route:
            entry[g, route[0]] = 1
            exits[g, len(route) - 1, route[-1], end] = 1
        else:
            straight[g, end] = 1
        for a in route:
            visits[g, a] += 1
        for stage, (a, b) in enumerate(itertools.pairwise(route)):
            links[g, stage, a, b] = 1

    sizes = (n, m), (m, m), (m, n_ends), (n, n_ends)
    shut = Masks(*(~np.broadcast_to(mask, size) for mask, size in zip(masks, sizes, strict=True)))
    blocked = (links * shut.link).sum((1, 2, 3)) + (exits * shut.exit).sum((1, 2, 3))
    blocked = blocked + shut.entry @ entry.T + shut.direct @ straight.T
    allowed = (blocked == 0) & (visits.sum(1) <= np.broadcast_to(max_hops, n)[:, None])
    for i in np.flatnonzero(~allowed.any(1)):
        raise ValueError(f"node {i} has no walk to a destination")
    return Walks(routes, np.array(ends), visits, entry, links, exits, straight, allowed)


def squared_costs(x, y, z):
    """Squared Euclidean cost of every leg, the same at every stage."""

    def between(a, b):
        return ((a[:, None] - b[None]) ** 2).sum(-1)

    return Costs(between(x, y), between(y, y), between(y, z), between(x, z))


def walk_costs(w, costs, prices=NO_PRICES):
    """Cost of every walk from every node, prices included: (N, G), inf where not allowed."""
    links = np.broadcast_to(costs.links + np.asarray(prices.link), w.links.shape[1:])
    exits = np.broadcast_to(costs.exits, w.exits.shape[1:])
    shared = (
        np.einsum("gkab,kab->g", w.links, links)
        + np.einsum("gkal,kal->g", w.exits, exits)
        + (w.visits * prices.facility + w.entry * prices.entry).sum(1)
    )
    total = costs.entry @ w.entry.T + costs.direct @ w.direct.T + shared
    return np.where(w.allowed, total, np.inf)


# ------------------------------------------------------------- free energy, policies, expectations


def log_partition(cost, beta):
    """Log of the sum over walks of exp(-beta cost): (N,)."""
    return np.logaddexp.reduce(-beta * cost, axis=1)


def gibbs(cost, beta):
    """Probability of every walk given the node: (N, G)."""
    return np.exp(-beta * cost - log_partition(cost, beta)[:, None])


def free_energy(cost, rho, beta):
    """F = -(1/beta) sum_i rho_i log Z_i; with prices the Lagrangian without its target term."""
    return -rho @ log_partition(cost, beta) / beta


def distortion(p, cost, rho):
    """D: expected cost of walks of probability ``p``, with the costs they are to be judged by."""
    return rho @ np.sum(np.where(p > 0, p * np.where(p > 0, cost, 0), 0), axis=1)


def entropy(p, rho):
    """H: weighted Shannon entropy (nats) of the nodes' walks."""
    return -rho @ np.sum(p * np.log(np.where(p > 0, p, 1)), axis=1)


def stage_policies(w, cost, beta):
    """Next-step probabilities by conditioning the Gibbs law: ``first``, ``later``.

    The last axis lists the M facilities, then the L destinations. ``first (N, M + L)`` is the step
    from the node, ``later (N, K, M, M + L)`` the step from facility a at stage k, NaN where the
    node's walks never are there. Summed in the log domain, so an unlikely stage is still exact.
    """
    log_weight = -beta * cost

    def conditional(used):  # (G, M + L): how often each walk takes each step
        steps = [np.logaddexp.reduce(log_weight[:, u > 0], axis=1) for u in used.T]
        steps = np.stack(steps, axis=1)
        total = np.logaddexp.reduce(steps, axis=1, keepdims=True)
        reached = np.isfinite(total)
        return np.where(reached, np.exp(steps - np.where(reached, total, 0)), np.nan)

    nowhere = np.zeros((len(w.ends), 1, *w.links.shape[2:]))  # no facility follows the last stage
    steps = np.concatenate([np.concatenate([w.links, nowhere], axis=1), w.exits], axis=3)
    _, k, m, _ = steps.shape
    later = [[conditional(steps[:, s, a]) for a in range(m)] for s in range(k)]
    first = conditional(np.concatenate([w.entry, w.direct], axis=1))
    return first, np.moveaxis(np.array(later), 2, 0)


def facility_usage(w, p, rho):
    """Visits to every facility per unit weight, summed over stages: (M,)."""
    return rho @ p @ w.visits


def entry_shares(w, p, rho):
    """Share of the weight whose walk enters at each facility: (M,)."""
    return rho @ p @ w.entry


def link_usage(w, p, rho):
    """Expected uses of every link a -> b, summed over stages: (M, M)."""
    return np.einsum("g,gkab->ab", rho @ p, w.links)


def traffic(w, p, rho):
    """Expected uses of every leg, shaped like the costs with their stage axes: dF/dcosts."""
    total = rho @ p
    return Costs(
        rho[:, None] * (p @ w.entry),
        np.einsum("g,gkab->kab", total, w.links),
        np.einsum("g,gkal->kal", total, w.exits),
        rho[:, None] * (p @ w.direct),
    )


def revisit_share(w, p, rho):
    """Weight on walks that visit some facility twice or more."""
    return rho @ p @ (w.visits > 1).any(1)


def hard_optimum(w, cost, rho):
    """Best walk per node (the shortest of equal ones), its cost (N,), and the weighted total."""
    best = [(w.routes[g], int(w.ends[g])) for g in cost.argmin(1)]
    return best, cost.min(1), rho @ cost.min(1)


# -------------------------------------------------------------------------- locations of facilities


def priced(w, x, y, z, prices=NO_PRICES):
    """Walk costs at locations ``y`` for squared Euclidean legs."""
    return walk_costs(w, squared_costs(x, y, z), prices)


def gradient(w, p, rho, x, y, z):
    """dF/dy for squared Euclidean legs: the pull of both neighbours, walk by walk, stop by stop."""
    result = np.zeros_like(y)
    for g, (route, end) in enumerate(zip(w.routes, w.ends, strict=True)):
        weight = rho * p[:, g]
        for stop, a in enumerate(route):
            before = weight @ x if stop == 0 else weight.sum() * y[route[stop - 1]]
            after = z[end] if stop == len(route) - 1 else y[route[stop + 1]]
            result[a] += 2 * (weight.sum() * (2 * y[a] - after) - before)
    return result


def location_step(w, p, rho, x, y, z, fixed=False):
    """Section 1.3: minimiser of D over the locations at fixed ``p``.

    ``fixed (M,)`` is True where a facility stays; one without traffic stays as well.
    """
    flow = traffic(w, p, rho)
    exits = flow.exits.sum(0)
    both_ways = flow.links.sum(0) + flow.links.sum(0).T
    stiffness = np.diag(flow.entry.sum(0) + exits.sum(1) + both_ways.sum(1)) - both_ways
    pull = flow.entry.T @ x + exits @ z
    stays = (facility_usage(w, p, rho) == 0) | np.asarray(fixed)
    free = ~stays
    known = pull[free] - stiffness[np.ix_(free, stays)] @ y[stays]
    result = np.array(y)
    result[free] = np.linalg.solve(stiffness[np.ix_(free, free)], known)
    return result


def alternate(w, rho, x, y, z, beta, prices=NO_PRICES, steps=5000):
    """Alternate Gibbs weights and location steps until the locations stop moving."""
    for _ in range(steps):
        old, y = y, location_step(w, gibbs(priced(w, x, y, z, prices), beta), rho, x, y, z)
        if np.abs(y - old).max() <= 1e-14 * np.abs(x).max():
            break
    return y


def differences(function, point, step=1e-3):
    """Fourth-order central differences of ``function``; the axes of ``point`` come last."""
    columns = []
    for index in np.ndindex(point.shape):
        unit = np.zeros_like(point)
        unit[index] = step
        near, far = (function(point + s * unit) - function(point - s * unit) for s in (1, 2))
        columns.append((8 * near - far) / (12 * step))
    return np.stack(columns, axis=-1).reshape(*np.shape(columns[0]), *point.shape)


def hessian(w, rho, x, y, z, beta, prices=NO_PRICES, step=1e-3):
    """Second derivative of F in the locations, (M d, M d), by differences of the gradient."""

    def slope(moved):
        return gradient(w, gibbs(priced(w, x, moved, z, prices), beta), rho, x, moved, z)

    matrix = differences(slope, y, step).reshape(y.size, y.size)
    return (matrix + matrix.T) / 2


# ------------------------------------------------------------------- first transition (section 1.5)


def coincident_walks(m, k, self_loops):
    """Number of routes, ``stiff`` and ``rbar`` with all facilities at one place."""
    q = np.arange(1, k + 1)
    if self_loops:
        count, same_ends, bend = m**q, q == 1, 2
    else:
        other = m - 1
        count, same_ends, bend = m * other ** (q - 1), (-1 / other) ** (q - 1), 2 + 2 / other
    share = count / count.sum()
    return count.sum(), share @ (2 + (q - 1) * bend), share @ same_ends


def first_critical_beta(x, rho, z, m, k, self_loops=False, direct=False):
    """Implicit formula, with or without direct legs, any number of destinations ``z (L, d)``.

    The print has one destination; with more, the weight of a node's walks splits among them.
    """
    if m == 1:
        return np.inf
    routes, stiff, rbar = coincident_walks(m, k, self_loops)
    straight = ((x[:, None] - z) ** 2).sum(-1)

    def margin(beta, centre):
        """Stiffness less pull on a split, and the place where all facilities rest."""
        for _ in range(10000):
            legs = ((x - centre) ** 2).sum(-1)[:, None] + ((z - centre) ** 2).sum(-1)
            via = np.log(routes) - beta * legs
            options = np.concatenate([via, -beta * straight], axis=1) if direct else via
            total = np.logaddexp.reduce(options, axis=1, keepdims=True)
            weight = rho[:, None] * np.exp(via - total)  # (N, L)
            old = centre
            centre = (weight.sum(1) @ x + weight.sum(0) @ z) / (2 * weight.sum())
            if np.abs(centre - old).max() < 1e-15:
                break
        a, b = centre - x, centre - z
        pull = a.T @ (weight.sum(1)[:, None] * a) + b.T @ (weight.sum(0)[:, None] * b)
        pull += rbar * (a.T @ weight @ b + b.T @ weight.T @ a)
        return stiff * weight.sum() - 2 * beta * np.linalg.eigvalsh(pull)[-1], centre

    centre = (rho @ x + z.mean(0)) / 2
    return _first_zero(margin, 1e-2 / ((x - centre) ** 2).sum(1).max(), centre)


def first_critical_beta_numerical(w, rho, x, z, low):
    """Zero of the least eigenvalue of the Hessian along the coincident branch from ``low``."""
    m = w.entry.shape[1]

    def margin(beta, centre):
        y = alternate(w, rho, x, np.tile(centre, (m, 1)), z, beta)
        y = np.tile(y.mean(0), (m, 1))
        return np.linalg.eigvalsh(hessian(w, rho, x, y, z, beta))[0], y[0]

    return _first_zero(margin, low, (rho @ x + z.mean(0)) / 2)


def _first_zero(margin, beta, state, growth=1.05):
    """First sign change of ``margin(beta, state)`` from ``beta`` on, by a scan and bisection."""
    value, state = margin(beta, state)
    if value <= 0:
        raise ValueError("the scan starts above the transition")
    while value > 0:
        low, beta = beta, beta * growth
        value, state = margin(beta, state)
    for _ in range(48):
        middle = (low + beta) / 2
        value, state = margin(middle, state)
        low, beta = (middle, beta) if value > 0 else (low, middle)
    return (low + beta) / 2
