"""How much facilities and links may be used, and the prices that see to it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._core import checks
from ..._core.paths import StageCosts
from ..capacity.limits import Capacity, no_room


class Prices(eqx.Module):
    """Prices of entering at a facility, of every visit to it, and of every use of a link.

    **Fields:** in units of cost, `None` where there is no such capacity: `entry` (M,),
    `facility` (M,), `link` (M, M) from row to column.
    """

    entry: Float[Array, " m"] | None
    facility: Float[Array, " m"] | None
    link: Float[Array, "m m"] | None


class Capacities(eqx.Module):
    """The capacities of a facility network: shares of weight, or visits per unit weight."""

    entry: Capacity | None
    facility: Capacity | None
    link: Capacity | None

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return any(capacity is not None for capacity in (self.entry, self.facility, self.link))

    @property
    def limits(self) -> Prices:
        """The limits, shaped like the prices."""
        given = self.entry, self.facility, self.link
        return Prices(*(None if capacity is None else capacity.limit for capacity in given))

    def no_prices(self) -> Prices:
        """Zero prices, where there is a capacity."""
        return jax.tree.map(jnp.zeros_like, self.limits)

    # Legs closed by a capacity of zero, which no finite price would empty.

    def closed_entries(self, xp: Any) -> Any:
        """(M,), True where no path may begin; `None` if nothing is closed."""
        closed = [xp.asarray(c.limit) == 0 for c in (self.entry, self.facility) if c is not None]
        return None if not closed else closed[0] if len(closed) == 1 else closed[0] | closed[1]

    def closed_links(self, xp: Any) -> Any:
        """(M, M), True where no path may go on; `None` if nothing is closed."""
        closed = None
        if self.facility is not None:
            limit = xp.asarray(self.facility.limit)
            closed = xp.broadcast_to(limit[None, :] == 0, (limit.size, limit.size))
        if self.link is not None:
            shut = xp.asarray(self.link.limit) == 0
            closed = shut if closed is None else closed | shut
        return closed

    def active(self, permitted: Bool[Array, "m m"]) -> Prices:
        """Boolean, shaped like the prices: which limits mean something."""

        def meaningful(capacity: Capacity | None) -> Array | None:
            if capacity is None:
                return None
            return jnp.isfinite(capacity.limit) & (capacity.limit > 0)

        link = meaningful(self.link)
        return Prices(
            meaningful(self.entry),
            meaningful(self.facility),
            None if link is None else link & permitted,
        )

    def free(self, direct: bool) -> Prices:
        """Boolean, shaped like the prices: which may have either sign.

        Those of equalities, and those of entry shares that leave no room, where every bound is
        met exactly and prices are defined up to a constant.
        """

        def sign(capacity: Capacity | None) -> Array | None:
            return None if capacity is None else jnp.full(capacity.limit.shape, capacity.equality)

        entry = sign(self.entry)
        if self.entry is not None and not self.entry.equality and not direct:
            entry = jnp.broadcast_to(no_room(self.entry.limit), self.entry.limit.shape)
        return Prices(entry, sign(self.facility), sign(self.link))

    def gauge(self, active: Prices, *, direct: bool, n_stages: int) -> Prices | None:
        """Changes of the prices that change nothing, stacked; zero where they do not apply."""
        zeros = self.no_prices()
        rows: list[Prices] = []
        # Every path enters once, and with a single stage visits once.
        if self.entry is not None and active.entry is not None and not direct:
            rows += [Prices(_shift(active.entry, self.entry), zeros.facility, zeros.link)]
        once = n_stages == 1 and not direct
        if self.facility is not None and active.facility is not None and once:
            rows += [Prices(zeros.entry, _shift(active.facility, self.facility), zeros.link)]
        # A visit is an entry or the end of a link.
        linked = self.link is not None and self.link.equality
        if self._met(self.entry) and self._met(self.facility) and (linked or n_stages == 1):
            assert active.entry is not None and active.facility is not None
            both = active.entry & active.facility
            for j in range(both.shape[0]):
                unit = (jnp.arange(both.shape[0]) == j) & both[j]
                through = None if active.link is None else active.link & unit
                rows += [_signed(zeros, -1.0 * unit, 1.0 * unit, through)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows) if rows else None

    @staticmethod
    def _met(capacity: Capacity | None) -> bool:
        return capacity is not None and capacity.equality

    def checks(self, owner: str, *, n_stages: int, direct: bool) -> list[checks.Check]:
        """Non-negative limits, and totals that some way of travelling can meet."""
        found = []
        for name, capacity in (
            ("entry_capacity", self.entry),
            ("facility_capacity", self.facility),
            ("link_capacity", self.link),
        ):
            if capacity is None:
                continue
            xp, limit = checks.on_host(capacity.limit)
            found += [checks.check_range(owner, name, limit, low=0.0)]
            if name == "link_capacity":
                continue
            total = xp.sum(limit)
            most = 1 if name == "entry_capacity" else n_stages
            least = 0 if direct else 1
            tolerance = 1e-5 if limit.dtype == jnp.float32 else 1e-9
            enough = total >= least - tolerance
            if capacity.equality:
                wanted = "1" if least == most else f"in [{least}, {most}]"
                ok = enough & (total <= most + tolerance)
                sentence = f"`{name}` given as Equal must have a sum {wanted}"
            else:
                ok, sentence = enough, f"`{name}` must have a sum of at least {least}"
            found += [checks.Check(ok, total, f"{owner}: {sentence}; got {{got}}.")]
        return found


def _shift(active: Bool[Array, " m"], capacity: Capacity) -> Float[Array, " m"]:
    """The same change of all prices, zero unless all are met exactly."""
    met = jnp.all(active | (capacity.limit == 0)) & (capacity.equality | no_room(capacity.limit))
    return (active & met).astype(capacity.limit.dtype)


def _signed(zeros: Prices, entry: Array, facility: Array, link: Array | None) -> Prices:
    like = [leaf.dtype for leaf in jax.tree.leaves(zeros)][0]
    links = zeros.link if link is None else -1 * link.astype(like)
    return Prices(entry.astype(like), facility.astype(like), links)


def charged(costs: StageCosts, prices: Prices, active: Prices) -> StageCosts:
    """Costs of the legs with the prices of what they use added."""
    prices = jax.tree.map(lambda price, on: jnp.where(on, price, 0.0), prices, active)
    first, links = costs.first, costs.links
    if prices.entry is not None:
        first = first + prices.entry
    if prices.facility is not None:
        first, links = first + prices.facility, links + prices.facility
    if prices.link is not None:
        links = links + prices.link
    return StageCosts(first, links, costs.last, costs.direct, costs.n_stages)


def use(flow: StageCosts, like: Prices) -> Prices:
    """What traffic uses of everything that has a price."""
    entries, links = jnp.sum(flow.first, axis=0), flow.links
    return Prices(
        None if like.entry is None else entries,
        None if like.facility is None else entries + jnp.sum(links, axis=0),
        None if like.link is None else links,
    )


def gaps(used: Prices, limits: Prices, active: Prices) -> Prices:
    """Use less capacity, zero where there is no limit."""
    return jax.tree.map(
        lambda u, limit, on: jnp.where(on, u - jnp.where(on, limit, 0.0), 0.0),
        used, limits, active,
    )  # fmt: skip


def worth(prices: Prices, limits: Prices, active: Prices) -> Any:
    """What all capacity costs at these prices."""
    parts = jax.tree.map(
        lambda price, limit, on: jnp.sum(jnp.where(on, price * jnp.where(on, limit, 0.0), 0.0)),
        prices, limits, active,
    )  # fmt: skip
    return sum(jax.tree.leaves(parts))
