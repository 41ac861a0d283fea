"""A process with a twin of every unknown place, where places are interchangeable: on the host."""

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from ..._core import checks
from ...mdp.kernels.deterministic import Deterministic
from .structure import Structure, find_structure

if TYPE_CHECKING:
    from .process import Process

# Above so many pairs of state and action twins are not looked for.
_MOST_PAIRS = 500_000


class Twins(eqx.Module):
    """The same process with every slot there twice; twin of slot k is slot k + number of slots.

    **Fields:** `kernel`; `state` and `action`, whose copies its states and actions are; `slot`,
    which copy of a slot an action chooses, twice their number for none; `exists`, which actions
    do; `structure`.
    """

    kernel: Deterministic
    state: Int[Array, " s"]
    action: Int[Array, " a"]
    slot: Int[Array, "s a"]
    exists: Bool[Array, "s a"]
    structure: Structure


def find_twins(process: "Process") -> Twins | None:
    """The process with twins, `None` where places differ in more than where they are.

    For squared distance, a deterministic kernel, entropy relative to a prior, and unknown
    parameters of states alone, with nothing known of actions, or of actions alone: every state has
    to reach all of them at the same prior and price, and they all the same states.
    """
    unknowns = process.unknowns
    at_states, at_actions = unknowns.state_index, unknowns.action_index
    data = (
        process.kernel, process.permitted, process.terminal, process.prior, process.extra_costs,
        process.start, process.end_costs, at_states, at_actions,
    )  # fmt: skip
    fits = isinstance(process.kernel, Deterministic) and process.step.squared
    if not fits or process.entropy != "prior" or not checks.is_concrete(*data):
        return None
    if process.kernel.n_states * process.kernel.n_actions > _MOST_PAIRS:
        return None
    with jax.ensure_compile_time_eval():
        if at_actions is None and unknowns.actions is None:
            return _of_states(process, np.asarray(at_states))
        if at_states is None and process.step.towards_action:
            return _of_actions(process, np.asarray(at_actions))
    return None


def _pairs(process: "Process") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Next states, and prior and price of every action; the prior is zero where not permitted."""
    assert isinstance(process.kernel, Deterministic)
    after, prior = np.asarray(process.kernel.next), np.exp(np.asarray(process.log_prior()))
    extra = process.extra_costs
    price = np.zeros_like(prior) if extra is None else np.asarray(extra, prior.dtype)
    return after, prior, np.where(prior > 0, price, 0.0)


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return np.allclose(a, b, rtol=1e-6, atol=0.0)


def _of_states(process: "Process", index: np.ndarray) -> Twins | None:
    after, prior, price = _pairs(process)
    (n, a), k = after.shape, len(index)
    ends, start = np.asarray(process.terminal), np.asarray(process.start)
    at_end = process.end_costs
    if at_end is not None and len(np.unique(np.asarray(at_end)[index])) > 1:
        return None
    if ends[index].any() or not _close(start[index], start[index[:1]]):
        return None
    number = np.full(n, k)
    number[index] = np.arange(k)
    slot = number[after]
    # How many actions lead to each state and slot, and moments of their priors and prices.
    moments = np.stack([prior > 0, prior, prior**2, price, price**2, prior * price]).astype(float)
    goes = np.zeros((len(moments), n, k + 1))
    rows = np.broadcast_to(np.arange(n)[:, None], slot.shape)
    for sums, each in zip(goes, moments, strict=True):
        np.add.at(sums, (rows, slot), each)
    goes = goes[:, ~ends, :k]
    if not _close(goes, np.broadcast_to(goes[..., :1], goes.shape)):
        return None
    reaches = np.zeros((len(moments), k, n))
    own = np.broadcast_to(np.arange(k)[:, None], (k, a))
    for sums, each in zip(reaches, moments, strict=True):
        np.add.at(sums, (own, after[index]), each[index])
    if not _close(reaches, np.broadcast_to(reaches[:, :1], reaches.shape)):
        return None

    state = np.concatenate([np.arange(n), index])
    chosen, nobody = slot < k, 2 * k
    both = np.where(chosen, slot, nobody), np.where(chosen, k + slot, nobody)
    slots = np.concatenate(both, axis=1)[state]
    exists = np.concatenate([np.ones_like(chosen), chosen], axis=1)[state]
    copies = np.concatenate([index, n + np.arange(k), [0]])
    following = np.where(slots < nobody, copies[slots], np.tile(after, 2)[state])
    return _twins(process, following, state, np.tile(np.arange(a), 2), slots, exists)


def _of_actions(process: "Process", index: np.ndarray) -> Twins | None:
    after, prior, price = _pairs(process)
    (n, a), k = after.shape, len(index)
    goes_on = ~np.asarray(process.terminal)
    columns = (after[goes_on], prior[goes_on], price[goes_on])
    if not all(_close(c[:, index], c[:, index[:1]]) for c in columns):
        return None
    number = np.full(a, 2 * k)
    number[index] = np.arange(k)
    action = np.concatenate([np.arange(a), index])
    slots = np.broadcast_to(np.concatenate([number, k + np.arange(k)]), (n, a + k))
    exists = np.ones(slots.shape, bool)
    return _twins(process, after[:, action], np.arange(n), action, slots, exists)


def _twins(
    process: "Process", following: np.ndarray, state: np.ndarray, action: np.ndarray,
    slots: np.ndarray, exists: np.ndarray,
) -> Twins:  # fmt: skip
    allowed = exists
    if process.permitted is not None:
        allowed = exists & np.asarray(process.permitted)[state][:, action]
    kernel = Deterministic(following)
    terminal = jnp.asarray(np.asarray(process.terminal)[state])
    structure = find_structure(
        kernel, terminal, jnp.asarray(allowed), process.discount, None, counted=False,
        endless=process.horizon is None,
    )  # fmt: skip
    copied = {"state": state, "action": action, "slot": slots}
    copied = {name: jnp.asarray(value, jnp.int32) for name, value in copied.items()}
    return Twins(kernel, exists=jnp.asarray(exists), structure=structure, **copied)
