"""Learning while annealing: gaps to the best known, pieces, lanes, and what breaks down."""
# pyright: reportArgumentType=false, reportOptionalMemberAccess=false

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code, SolveError, learn

N, K = 40, 4
KEY = jax.random.key(0)
FEW = {"starts": 2, "fresh": 200, "key": KEY}


def square():
    return mj.Clustering(mj.datasets.four_square(N)[0], K)


def schedule(factor=1.3):
    return mj.Geometric(1.0, 1e3, factor)


def gap(base, model, centres):
    """Per cent that centres cost more than the corners drawn together by uniform autonomy."""
    aware = mj.Clustering(base.x, K, autonomy=model)
    start = mj.datasets.four_square(4, spread=0.0)[0] * 0.7 + 0.15
    best = mj.anneal(
        aware, mj.Explicit([1e3]), init=start, key=KEY, detector=mj.NoDetector(noise=0.0)
    )
    return 100 * (aware.harden(centres).cost / aware.harden(best.params).cost - 1)


def test_one_interaction_at_a_time_is_the_printed_iteration():
    base = square()
    centres = np.asarray(base.x)[:K]
    p = 0.7 * np.eye(K) + 0.1 * (1 - np.eye(K))
    learner = learn.Tabular()
    rng = np.random.default_rng(0)
    entity, told = rng.integers(0, N, 60), rng.integers(0, K, 60)
    went = np.array([rng.choice(K, p=p[j]) for j in told])
    paid = ((np.asarray(base.x)[entity] - centres[went]) ** 2).sum(axis=1)
    q, visits = np.zeros((N, K)), np.zeros((N, K))
    state = learner.init(KEY, base)
    update = eqx.filter_jit(learner.update)
    for i, j, k, c in zip(entity, told, went, paid, strict=True):
        step = max((1 + visits[i, j]) ** -0.7, 0.02)
        q[i, j] += step * (c - q[i, j])
        visits[i, j] += 1
        rows = learn.Interactions([i], [j], [k], cost=np.array([c])).for_problem(base)
        state, _ = update(state, base, rows, KEY)
    np.testing.assert_allclose(state.costs, q, atol=1e-12)
    np.testing.assert_array_equal(state.visits, visits)
    costs = learner.costs(state, base, jnp.arange(N), jnp.asarray(centres))
    plain = np.asarray(base.distances(centres))
    np.testing.assert_allclose(costs, np.where(visits > 0, q, plain), atol=1e-12)


def test_errors_at_fixed_centres_fall_like_the_root_of_the_number_of_interactions():
    base = square()
    aware = mj.Clustering(base.x, K, autonomy=mj.autonomy.Uniform(0.3))
    centres = base.x[:K]
    expected = aware.average_distances(centres)
    # The unit-horizon Q of equation (6) is the sum over where entities go.
    p = np.asarray(aware.probabilities(centres))
    by_hand = np.einsum("ijk,ik->ij", p, np.asarray(base.distances(centres)))
    np.testing.assert_allclose(expected, by_hand, atol=1e-12)
    soft = jax.nn.softmax(-3.0 * by_hand, axis=1)
    np.testing.assert_allclose(jnp.exp(aware.policy(centres, 3.0)), soft, atol=1e-12)
    asked, learner = learn.Simulated(aware.autonomy), learn.Tabular(omega=1.0, floor=0.0)
    entity = jnp.repeat(jnp.arange(N), K).astype(jnp.int32)
    told = jnp.tile(jnp.arange(K), N).astype(jnp.int32)

    @jax.jit
    def error(key):
        def one(state, key):
            seen = asked.observe(key, base, entity, told, centres)
            paid = jnp.sum((base.x[entity] - centres[seen.realised]) ** 2, axis=1)
            rows = learn.Interactions(entity, told, seen.realised, cost=paid)
            state, _ = learner.update(state, base, rows, key)
            return state, jnp.sqrt(jnp.mean((state.costs - expected) ** 2))

        return jax.lax.scan(one, learner.init(key, base), jax.random.split(key, 400))[1]

    errors = np.mean([error(jax.random.key(s)) for s in range(4)], axis=0)
    slope = np.polyfit(np.log([25, 50, 100, 200, 400]), np.log(errors[[24, 49, 99, 199, 399]]), 1)
    assert -0.6 < slope[0] < -0.4


def test_tabular_finds_the_best_in_pieces_and_in_lanes(count_compiles):
    base, learner = square(), learn.Tabular()
    model = mj.autonomy.Uniform(jnp.asarray(0.3))
    asked = learn.Simulated(model)
    options = {"rounds": 32, **FEW}
    learned = learn.interact(base, asked, learner, schedule(), **options).raise_if_failed()
    assert gap(base, model, learned.params) < 1.0
    stages = schedule().max_stages
    assert learned.n_interactions == 2 * (stages * 32 * N + 200)
    assert learned.autonomy is None and learned.costs(base).shape == (N, K)
    np.testing.assert_allclose(learned.trace.beta[-1], 1e3)
    trace = learned.trace
    np.testing.assert_allclose(
        trace.free_energy, trace.distortion - trace.entropy / trace.beta, atol=1e-9
    )
    assert trace.explored[0] > 0.2 and abs(trace.explored[-1] - 0.1) < 1e-3
    # What fresh interactions say of the start is what it costs.
    aware = mj.Clustering(base.x, K, autonomy=model)
    best = int(np.argmin(learned.starts.cost))
    np.testing.assert_array_equal(learned.params, learned.starts.centres[best])
    off = learned.starts.cost[best] - aware.harden(learned.params).cost
    assert abs(off) < 5 * learned.starts.standard_error[best]

    with count_compiles() as compiled:
        state = learn.begin(base, asked, learner, schedule(), **options)
        part = learn.advance(base, asked, state, 5)
        whole = learn.finish(base, asked, part)
        other = learn.Simulated(mj.autonomy.Uniform(jnp.asarray(0.2)))
        changed = learn.interact(base, other, learner, schedule(), **options)
    assert compiled() == 0
    assert int(part.n_stages) == 5 and not part.done
    np.testing.assert_array_equal(whole.params, learned.params)
    np.testing.assert_array_equal(whole.state.costs, learned.state.costs)

    def at(kappa):
        asked = learn.Simulated(mj.autonomy.Uniform(kappa))
        return learn.interact(base, asked, learner, schedule(), **options).params

    lanes = jax.vmap(at)(jnp.asarray([0.3, 0.2]))
    np.testing.assert_allclose(lanes, jnp.stack([learned.params, changed.params]), atol=1e-9)


def test_starts_are_chosen_by_a_tenth_of_what_they_asked():
    base, environment = square(), learn.Simulated(mj.autonomy.Uniform(0.3))
    levels = schedule().max_stages
    for each, expected in ((1, 2_000), (1_000, levels * 100), (100_000, 200_000)):
        state = learn.begin(
            base, environment, learn.Tabular(), schedule(), key=KEY, rounds=1, each=each
        )
        assert state.fresh == expected


@pytest.mark.parametrize(
    "learner",
    [learn.Counts(), pytest.param(learn.Structured(), marks=pytest.mark.slow)],
    ids=["counts", "structured"],
)
def test_learners_of_models_end_in_an_anneal_of_what_they_learnt(learner):
    base = square()
    model = mj.autonomy.Softmax(0.3, 1.0, 0.5, 10.0)
    told = []
    learned = learn.interact(
        base, learn.Simulated(model), learner, schedule(), each=150, monitor=told.append, **FEW
    ).raise_if_failed()
    assert gap(base, model, learned.params) < 1.0
    # A model that holds anywhere is solved from other starts too.
    assert learned.starts.centres.shape[0] == 2 + learner.shares_starts
    aware = learned.problem(base)
    slope = aware.residual(learned.params, learned.beta)
    assert float(jnp.max(jnp.abs(slope))) < 1e-4
    assert [row.stage for row in told] == list(range(1, schedule().max_stages + 1))
    assert told[-1].beta == pytest.approx(1e3) and told[-1].explored == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize(("learner", "n_levels"), [(learn.Counts(), 4), (learn.Tabular(), 1)])
def test_a_system_that_breaks_down_leaves_what_was_learnt_before(learner, n_levels):
    base, calls = square(), []

    def system(entity, prescribed, centres):
        # The loop may call from another thread, in which doubles were rounded on their way.
        assert centres.dtype == base.x.dtype
        calls.append(entity.shape)
        if len(calls) == 4:
            raise OSError("the line is dead")
        return prescribed, np.full(entity.shape, 0.25)

    asked = learn.FromCallback(system, answers="both")
    learned = learn.interact(base, asked, learner, schedule(), each=50, **FEW)
    with pytest.raises(SolveError, match="environment broke down: OSError: the line is dead"):
        learned.raise_if_failed()
    # Three rounds were learnt from, and nothing was asked after the fourth.
    assert int(np.isfinite(learned.trace.beta).sum()) == n_levels
    assert np.all(np.isfinite(learned.params))
    assert calls == [(2, 1, 50)] * 4
    assert int(learned.n_interactions) == 3 * 2 * 50
    if learned.autonomy is not None:
        assert np.all(np.diag(np.asarray(learned.autonomy.p)) > 0.9)


def test_an_environment_that_knows_nothing_ends_in_a_code():
    nothing = learn.Replay(learn.Interactions([0], [0], [0], times=[0.0]))
    learned = learn.interact(square(), nothing, learn.Counts(), schedule(), each=50, **FEW)
    assert int(learned.code) == Code.INVALID_INPUT and int(learned.n_interactions) == 0
    with pytest.raises(SolveError, match="or nothing at all"):
        learned.raise_if_failed()


def test_impossible_answers_end_in_a_code():
    base = square()
    wild = learn.FromFunction(lambda key, i, x, j, y: (j + 1, None))
    learned = learn.interact(base, wild, learn.Counts(), schedule(), each=50, **FEW)
    assert int(learned.code) == Code.INVALID_INPUT
    with pytest.raises(SolveError, match="answered what cannot be: a cluster outside 0 .. K - 1"):
        learned.raise_if_failed()
    assert np.all(np.isfinite(learned.params))


MISTAKES = {
    "aware": (
        lambda: learn.interact(
            mj.Clustering(square().x, K, autonomy=mj.autonomy.Uniform(0.1)),
            learn.Simulated(None),
            learn.Tabular(),
            **FEW,
        ),
        ValueError,
        "interact: `problem` must have no autonomy",
    ),
    "schedule": (
        lambda: learn.interact(
            square(), learn.Simulated(None), learn.Tabular(), mj.CriticalJump(1.0, 9.0), **FEW
        ),
        ValueError,
        "`schedule` CriticalJump asks for the next transition, which Tabular cannot foretell",
    ),
    "environment": (
        lambda: learn.interact(square(), mj.autonomy.Uniform(0.1), learn.Tabular(), **FEW),
        TypeError,
        "interact: `environment` must be an environment",
    ),
    "rounds": (
        lambda: learn.interact(square(), learn.Simulated(None), learn.Tabular(), rounds=0, **FEW),
        ValueError,
        "interact: `rounds` must be at least 1; got 0",
    ),
    "explore": (lambda: learn.Explore(1.5), ValueError, r"`share` must be in \[0, 1\]; got 1.5"),
    "omega": (lambda: learn.Tabular(omega=0.5), ValueError, r"`omega` must be in \(0.5, 1\]"),
    "state": (
        lambda: learn.advance(square(), learn.Simulated(None), 3, 1),
        TypeError,
        "learn.advance: `state` must be a LearningState",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    make, kind, text = MISTAKES[name]
    with pytest.raises(kind, match=text):
        make()


@pytest.mark.slow
def test_schedules_that_ask_for_transitions_are_told_those_of_the_learnt_model():
    base, model = square(), mj.autonomy.Uniform(0.2)
    learned = learn.interact(
        base,
        learn.Simulated(model),
        learn.Counts(),
        mj.CriticalJump(1.0, 100.0, max_stages=60),
        each=200,
        **FEW,
    )
    beta = np.asarray(learned.trace.beta)
    beta = beta[np.isfinite(beta)]
    assert beta[-1] == pytest.approx(100.0) and len(beta) < 60
    assert gap(base, model, learned.params) < 1.0
