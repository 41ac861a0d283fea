"""Networks for where those go who override: their likelihood, what they learn, what is refused."""
# pyright: reportArgumentType=false, reportOptionalMemberAccess=false

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code, learn
from mepjax.learn.networks.logits import as_choices, log_choices, unlikelihood

from . import cases

KEY = jax.random.key(0)
# Overrides that care more where they go than those of other tests.
STEEP = mj.autonomy.Softmax(0.4, 8.0, 4.0)
CENTRES = np.array([[3.2, 3.2], [3.8, 3.3], [3.5, 3.8]])


def choice(**options):
    return learn.Choice(**({"width": 8, "steps": 5, "batch": 64} | options))


def _moved(state, seed=2, size=0.3):
    rng = np.random.default_rng(seed)
    leaves, tree = jax.tree.flatten(state.params)
    return jax.tree.unflatten(tree, [a + size * rng.normal(size=a.shape) for a in leaves])


def test_likelihood_is_that_of_the_mathematics_and_its_gradient_that_of_differences():
    base, learner = cases.problem(), choice()
    state = learner.init(KEY, base)
    params, towards = _moved(state), _moved(state, seed=3)
    rows = as_choices(base, cases.log().for_problem(base))
    network = learner._network(state)
    told = (network, rows, base.x, state.origin, state.spacing)

    @jax.jit
    def both(step):
        at = jax.tree.map(lambda a, b: a + step * b, params, towards)
        return log_choices(at, *told), unlikelihood(at, *told)

    @jax.jit
    def logits():
        at = lambda a: (a - state.origin) / state.spacing  # noqa: E731
        return (
            network(params["pull"], at(rows.centres), at(rows.centres), None, True),
            network(
                params["reach"], at(base.x[rows.entity])[:, None], at(rows.centres), None, True
            ),
        )

    pull, reach = map(np.asarray, logits())
    prescribed, realised = np.asarray(rows.prescribed), np.asarray(rows.realised)
    expected = np.zeros(len(prescribed))
    for row, (j, k) in enumerate(zip(prescribed, realised, strict=True)):
        if j != k:
            others = [a for a in range(cases.K) if a != j]
            value = {a: pull[row, j, a] + reach[row, 0, a] for a in others}
            expected[row] = value[k] - np.log(sum(np.exp(value[a]) for a in others))
    found, mean = both(0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(mean, -expected.mean(), rtol=1e-12)
    slope = jax.jit(jax.grad(lambda step: both(step)[1]))(0.0)
    np.testing.assert_allclose(slope, (both(1e-5)[1] - both(-1e-5)[1]) / 2e-5, rtol=1e-6)


def test_a_log_becomes_a_model_that_is_nearer_the_truth_than_overrides_to_all_alike():
    base = cases.problem()
    many = learn.collect(base, learn.Simulated(STEEP), key=KEY, rounds=30, each=100)
    model = choice().autonomy_of(base, many, steps=300)
    strayed = np.mean(np.asarray(many.realised) != np.asarray(many.prescribed))
    np.testing.assert_allclose(model.kappa, strayed, rtol=1e-12)

    @eqx.filter_jit
    def average(model):
        return base.replace(autonomy=model).average_distances(jnp.asarray(CENTRES))

    models = (STEEP, model, mj.autonomy.Uniform(strayed))
    true, found, alike = (np.asarray(average(a)) for a in models)
    error, without = (np.sqrt(np.mean((a - true) ** 2)) for a in (found, alike))
    assert error < 0.5 * without


def test_what_is_seen_adds_up_and_compiled_is_the_same():
    base, groups = cases.problem(), np.arange(cases.N) % 2
    learner = choice(kappa=groups)
    found = cases.log().for_problem(base)
    state = learner.reserve(learner.init(KEY, base), base, len(found))
    one, told = learner.update(state, base, found, KEY)
    two, again = eqx.filter_jit(learner.update)(state, base, found, KEY)
    np.testing.assert_allclose(told["loss"], again["loss"], rtol=1e-9)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
    assert int(one.count) == cases.M and int(one.step) == 5 and int(one.lost) == 0
    strayed = np.asarray(found.realised) != np.asarray(found.prescribed)
    kappa = np.asarray(learner.autonomy(one).kappa)
    for group in (0, 1):
        mine = groups[np.asarray(found.entity)] == group
        np.testing.assert_allclose(kappa[groups == group], strayed[mine].mean(), rtol=1e-12)
    # Where nothing was reserved inside a program, what finds no room is counted, not lost quietly.
    full, _ = eqx.filter_jit(learner.update)(one, base, found, KEY)
    assert int(learner.state_code(full)) == int(Code.INVALID_INPUT) and int(full.lost) > 0


@pytest.mark.slow
def test_asked_while_annealing_it_finds_the_centres_of_the_truth():
    base = cases.problem()
    schedule = mj.Geometric(1.0, 200.0, 1.2)
    learned = learn.interact(
        base, learn.Simulated(cases.truth()), choice(steps=20), schedule, key=KEY, starts=2
    ).raise_if_failed()
    assert isinstance(learned.autonomy, mj.autonomy.Pairwise)
    true = base.replace(autonomy=cases.truth())
    best = mj.anneal(true, schedule, key=KEY, adjoint=mj.NoGrad()).params
    ignoring = mj.anneal(base, schedule, key=KEY, adjoint=mj.NoGrad()).params
    cost, least, without = (float(true.harden(y).cost) for y in (learned.params, best, ignoring))
    assert cost - least < 0.5 * (without - least) or cost < 1.001 * least


def test_bad_input_is_named():
    base = cases.problem()
    for options, match in (
        ({"kappa": "own"}, "`kappa` must be 'shared' or the group"),
        ({"width": 0}, "`width` must be"),
        ({"steps": 0}, "`steps` must be"),
        ({"learning_rate": 0.0}, "`learning_rate` must be"),
        ({"average": 1.5}, "`average` must be"),
    ):
        with pytest.raises(ValueError, match=f"Choice: {match}"):
            learn.Choice(**options)
    with pytest.raises(ValueError, match=r"Choice: `problem` must have at least 2 clusters"):
        choice().init(KEY, mj.Clustering(cases.X, 1))
    with pytest.raises(ValueError, match=r"Choice: `kappa` must have shape \(40,\)"):
        choice(kappa=[0, 1]).init(KEY, base)
    with pytest.raises(ValueError, match=r"autonomy_of: `centres` of the interactions"):
        choice().autonomy_of(base, learn.Interactions([0], [0], [1]))
    with pytest.raises(TypeError, match=r"autonomy_of: `interactions` must be"):
        choice().autonomy_of(base, [0])
