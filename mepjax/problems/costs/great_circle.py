"""Distance along the surface of a sphere, between longitudes and latitudes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._core import checks, trees
from ..._core.arrays import as_parameter
from .entities import Entities, sums_and_masses
from .euclidean import SmoothedDistance, as_smoothing, damped_pull, total_deviation

_EARTH_KM = 6371.0088
_RADIAN = np.pi / 180
# Newton's method in degrees is trusted this far, so that longitudes do not run away at a pole.
_NEWTON_REACH = 10.0
# Below this haversine the angle is summed as a series, which is smooth through zero.
_SERIES_LIMIT = 1e-2
# arcsin(sqrt(h))^2 = sum of these times h, h^2, ...
_SERIES = (1.0, 1 / 3, 8 / 45, 4 / 35, 128 / 1575, 128 / 2079, 1024 / 21021, 256 / 6435)


class GreatCircle(SmoothedDistance):
    """Great-circle distance of points (longitude, latitude) in degrees, in units of `radius`.

    Smoothed near zero to sqrt(distance^2 + smoothing^2), so that centres, which are geometric
    medians on the sphere, may meet an entity. An update is one Weiszfeld step along great
    circles, or one of Newton's method where that is lower: the poles and the meridian of 180
    degrees are places like any other. Longitudes of
    centres continue past 180 where a cluster does; `wrap` brings them back.

    **Arguments:**

    - `radius`: > 0, scalar; that of the earth in km by default, so distances are in km.
    - `smoothing`: >= 0, scalar, in the units of `radius`. Default: a thousandth of the data's
        total standard deviation. At 0 see `Euclidean`.

    **Raises:** `ValueError` for other than two features, longitudes outside [-360, 360],
    latitudes outside [-90, 90], `radius` <= 0 or `smoothing` < 0.

    **Example:** London to Paris.

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> london, paris = jnp.array([[-0.1276, 51.5072]]), jnp.array([[2.3522, 48.8566]])
    >>> cost = mj.costs.GreatCircle(smoothing=0.0)
    >>> print(f"{cost.pairwise(london, paris)[0, 0]:.0f} km")
    344 km

    ```
    """

    radius: Float[Array, ""]

    def __init__(self, radius: Any = _EARTH_KM, smoothing: Any = None) -> None:
        self.radius = as_parameter("radius", radius)
        self.smoothing = as_smoothing("GreatCircle", smoothing)
        self.measured = False
        if self.radius.shape != ():
            raise ValueError(
                f"GreatCircle: `radius` must be a scalar; got shape {self.radius.shape}."
            )
        checks.enforce(self._checks())

    @property
    def convex(self) -> bool:
        """Only for data on half a sphere, so it is not promised."""
        return False

    def _checks(self) -> tuple[checks.Check, ...]:
        owner = "GreatCircle"
        return (
            checks.check_finite(owner, "radius", self.radius),
            checks.check_range(owner, "radius", self.radius, low=0.0, open_low=True),
            *self._check_smoothing(),
        )

    def check(self, d: int) -> tuple[checks.Check, ...]:
        """Two features, a positive radius."""
        if d != 2:
            raise ValueError(
                "GreatCircle: `x` must have two columns, longitude and latitude in degrees; "
                f"got {d}."
            )
        return self._checks()

    def check_data(self, x: Float[Array, "n 2"]) -> tuple[checks.Check, ...]:
        """Degrees within their range."""
        owner = "GreatCircle"
        longitude, latitude = "longitude x[:, 0]", "latitude x[:, 1]"
        return (
            checks.check_range(owner, longitude, x[:, 0], low=-360.0, high=360.0),
            checks.check_range(owner, latitude, x[:, 1], low=-90.0, high=90.0),
        )

    def for_data(self, x: Float[Array, "n 2"], weights: Float[Array, " n"]) -> "GreatCircle":
        """With the default smoothing filled in."""
        if self.smoothing is not None:
            return self
        deviation = total_deviation(_on_sphere(x), weights)
        smoothing = self._default_smoothing(deviation, x.dtype) * self.radius
        smoothing = jax.lax.stop_gradient(smoothing)
        return trees.replaced(self, smoothing=smoothing, measured=True)

    def spread(self, x: Any, shares: Any) -> Any:
        """Total standard deviation of the points in space, as an arc in degrees."""
        return super().spread(jax.jit(_on_sphere)(x), shares) / _RADIAN

    def pairwise(self, x: Float[Array, "n 2"], y: Float[Array, "k 2"]) -> Float[Array, "n k"]:
        """Smoothed distances, by haversines of differences: exact for near points."""
        return self._length(self.radius**2 * _squared_angle(_Pairs(x, y).haversine))

    def start(self, entities: Entities) -> Float[Array, "k 2"]:
        """Below the weighted means in space; the first entity where those are at the centre."""
        sums, masses = entities.sum(_sums_in_space)
        # Longitudes count from the first entity's, so that they stay next to the data's.
        first, threshold = entities.first, 1e-6 * masses
        turned = _radians(first[0])
        east = sums[:, 1] * jnp.cos(turned) - sums[:, 0] * jnp.sin(turned)
        front = sums[:, 0] * jnp.cos(turned) + sums[:, 1] * jnp.sin(turned)
        level = jnp.hypot(front, east)
        longitude = first[0] + jnp.arctan2(east, front) / _RADIAN
        latitude = jnp.arctan2(sums[:, 2], level) / _RADIAN
        defined = jnp.hypot(level, sums[:, 2]) > threshold
        return jnp.where(defined[:, None], jnp.stack([longitude, latitude], axis=1), first)

    def step(self, entities: Entities, y: Float[Array, "k 2"]) -> Float[Array, "k 2"]:
        """One Weiszfeld step in the tangent plane, followed along its great circle, or Newton's."""
        move = damped_pull(*entities.sum(_pulls, self, y))
        return self._sharpened(entities, y, _along_great_circle(y, move), reach=_NEWTON_REACH)

    @staticmethod
    def wrap(points: Any) -> Float[Array, "m 2"]:
        """Points with longitudes in [-180, 180) and latitudes in [-90, 90].

        **Example:**

        ```python
        >>> import jax.numpy as jnp, mepjax as mj
        >>> print(mj.costs.GreatCircle.wrap(jnp.array([[181.0, 10.0], [0.0, 91.0]])))
        [[-179.   10.]
         [-180.   89.]]

        ```
        """
        points = jnp.asarray(points)
        latitude = jnp.mod(points[:, 1] + 180, 360) - 180
        beyond = jnp.abs(latitude) > 90
        latitude = jnp.where(beyond, jnp.sign(latitude) * 180 - latitude, latitude)
        longitude = points[:, 0] + jnp.where(beyond, 180.0, 0.0)
        return jnp.stack([jnp.mod(longitude + 180, 360) - 180, latitude], axis=1)


def _sums_in_space(
    weights: Float[Array, "n k"], x: Float[Array, "n 2"]
) -> tuple[Float[Array, "k 3"], Float[Array, " k"]]:
    return sums_and_masses(weights, _on_sphere(x))


def _pulls(
    weights: Float[Array, "n k"], x: Float[Array, "n 2"], cost: GreatCircle, y: Float[Array, "k 2"]
) -> tuple[Float[Array, "k 2"], Float[Array, " k"], Float[Array, " k"]]:
    """Pull in the tangent plane, stiffness, and the weight of those at distance zero."""
    pairs = _Pairs(x, y)
    angle = cost._length(cost.radius**2 * _squared_angle(pairs.haversine)) / cost.radius
    apart = angle > 0
    pulls = jnp.where(apart, weights / jnp.where(apart, angle, 1.0), 0.0)
    coincident = jnp.sum(jnp.where(apart, 0.0, weights), axis=0)
    stretched = pulls * _arc_over_sine(pairs.haversine)
    pull = jnp.stack(
        [jnp.sum(stretched * pairs.east, axis=0), jnp.sum(stretched * pairs.north, axis=0)],
        axis=1,
    )
    return pull, jnp.sum(pulls, axis=0), coincident


def _radians(degrees: Array) -> Array:
    return degrees * _RADIAN


def _on_sphere(points: Float[Array, "m 2"]) -> Float[Array, "m 3"]:
    longitude, latitude = _radians(points[:, 0]), _radians(points[:, 1])
    level = jnp.cos(latitude)
    return jnp.stack(
        [level * jnp.cos(longitude), level * jnp.sin(longitude), jnp.sin(latitude)], axis=1
    )


class _Pairs:
    """Haversines of all angles, and the unit vector to x_i seen from y_k: east and north."""

    def __init__(self, x: Float[Array, "n 2"], y: Float[Array, "k 2"]) -> None:
        # Differences of degrees are exact for near points; those of radians are not.
        across = _radians(x[:, 0, None] - y[None, :, 0])
        up = _radians(x[:, 1, None] - y[None, :, 1])
        own, centre = _radians(x[:, 1, None]), _radians(y[None, :, 1])
        half_across = jnp.sin(0.5 * across) ** 2
        self.haversine = jnp.sin(0.5 * up) ** 2 + jnp.cos(own) * jnp.cos(centre) * half_across
        self.east = jnp.cos(own) * jnp.sin(across)
        self.north = jnp.sin(up) + 2 * jnp.sin(centre) * jnp.cos(own) * half_across


def _guarded(h: Array) -> tuple[Array, Array, Array]:
    """Where the series holds, h there, and h elsewhere, away from the kink at the antipode."""
    near = h < _SERIES_LIMIT
    far = jnp.clip(jnp.where(near, 0.5, h), 0.0, 1 - 4 * float(jnp.finfo(h.dtype).eps))
    return near, jnp.where(near, h, 0.0), far


def _squared_angle(h: Array) -> Array:
    """(2 arcsin sqrt(h))^2 of a haversine h, smooth at 0, with derivative zero at an antipode."""
    near, small, far = _guarded(h)
    series = jnp.zeros_like(h)
    for coefficient in reversed(_SERIES):
        series = (series + coefficient) * small
    return 4 * jnp.where(near, series, jnp.arcsin(jnp.sqrt(far)) ** 2)


def _arc_over_sine(h: Array) -> Array:
    """angle / sin(angle) of a haversine h = sin(angle / 2)^2."""
    near, small, far = _guarded(h)
    series = jnp.zeros_like(h)
    for coefficient in reversed(_SERIES):
        series = series * small + coefficient
    # angle^2 / sin(angle)^2 = arcsin(sqrt(h))^2 / (h (1 - h)).
    squared = jnp.where(
        near, series / (1 - small), jnp.arcsin(jnp.sqrt(far)) ** 2 / (far * (1 - far))
    )
    return jnp.sqrt(squared)


def _along_great_circle(y: Float[Array, "k 2"], move: Float[Array, "k 2"]) -> Float[Array, "k 2"]:
    """Where moves (east, north) in radians lead; increments keep their digits, small or not."""
    squared = jnp.sum(move * move, axis=1)
    moving = squared > 0
    arc = jnp.where(moving, jnp.sqrt(jnp.where(moving, squared, 1.0)), 0.0)
    sine_over_arc = jnp.sinc(arc / jnp.pi)
    eastward, northward = sine_over_arc * move[:, 0], sine_over_arc * move[:, 1]
    latitude = _radians(y[:, 1])
    sine, cosine = jnp.sin(latitude), jnp.cos(latitude)
    # The new point: away from the axis, within the old meridian's plane and across it.
    within = jnp.cos(arc) * cosine - northward * sine
    upward = jnp.cos(arc) * sine + northward * cosine
    distance = jnp.sqrt(within**2 + eastward**2 + float(jnp.finfo(y.dtype).tiny))
    # distance - within, without cancellation unless the move crosses a pole.
    ahead = within > 0
    gap = jnp.where(
        ahead,
        eastward**2 / jnp.where(ahead, distance + within, 1.0),
        distance - within,
    )
    up = jnp.arctan2(northward - gap * sine, distance * cosine + upward * sine)
    around = jnp.arctan2(eastward, within)
    return y + jnp.stack([around, up], axis=1) / _RADIAN
