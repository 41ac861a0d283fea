"""Networks whose nodes stay on disk: routes, anneals, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax.exec import FromDisk, Rows

N, K, KEY = 60, 2, jax.random.key(0)
END = np.array([9.0, 1.0])


def nodes() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([[0.0, 0.0], [0.0, 4.0], [3.0, 1.0]])[rng.integers(3, size=N)] + rng.normal(
        size=(N, 2)
    )


@pytest.fixture
def rows(tmp_path) -> Rows:
    weights = np.random.default_rng(1).uniform(0.5, 2.0, N)
    np.save(tmp_path / "nodes.npy", np.column_stack([nodes(), weights]))
    return Rows(tmp_path / "nodes.npy", weights=2)


def both(rows: Rows, **options) -> tuple[mj.FacilityPath, mj.FacilityPath]:
    """On disk in slabs of 32, of which the last is not full, and in memory."""
    weights = rows.source.read(0, N)[1]
    there = mj.FacilityPath(rows, END, K, **options).on(FromDisk(rows=32, block=8))
    return there, mj.FacilityPath(nodes(), END, K, weights=weights, **options)


def test_sums_are_those_in_memory(rows):
    problems = both(rows)
    locations = jnp.array([[2.0, 2.0], [6.0, 1.0]])

    @jax.jit
    def all_of(problem):
        value, slope = jax.value_and_grad(problem.free_energy)(locations, 0.7)
        return value, slope, problem.update(locations, 0.7), problem.init(KEY), problem.size()

    for ours, theirs in zip(*map(all_of, problems), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(*(p.beta_scale() for p in problems), rtol=1e-10)


def limited(tmp_path, **changes) -> Rows:
    """Nodes with hop limits and masks of entries, of which some columns are changed."""
    rng = np.random.default_rng(2)
    columns = {
        "hops": rng.integers(1, K + 1, N),
        "first": np.ones(N),
        "second": rng.integers(2, size=N),
    }
    columns |= changes
    np.save(tmp_path / "limited.npy", np.column_stack([nodes(), *columns.values()]))
    also = {"max_hops": 2, "links.entry": [3, 4]}
    return Rows(tmp_path / "limited.npy", also=also)


@pytest.mark.slow
def test_hop_limits_and_masks_are_columns(tmp_path):
    rows = limited(tmp_path)
    table = np.load(tmp_path / "limited.npy")
    links = mj.paths.Links(entry=table[:, 3:] > 0)
    here = mj.FacilityPath(nodes(), END, K, max_hops=table[:, 2].astype(int), links=links)
    there = mj.FacilityPath(rows, END, K).on(FromDisk(rows=32, block=8))
    assert rows.shape == (N, 2) and not there.exchangeable
    locations = jnp.array([[2.0, 2.0], [6.0, 1.0]])

    @jax.jit
    def all_of(problem):
        value, slope = jax.value_and_grad(problem.free_energy)(locations, 0.7)
        return value, slope, problem.update(locations, 0.7), problem.harden(locations).cost

    for ours, theirs in zip(all_of(there), all_of(here), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    there.harden_to(tmp_path / "routes.npy", locations)
    np.testing.assert_array_equal(
        np.load(tmp_path / "routes.npy")[:, :-1], here.harden(locations).routes
    )


def test_limits_that_are_none_are_named_by_row(tmp_path):
    one = np.arange(N) == 7
    for changes, says in (
        (
            {"hops": np.where(one, 3, 1)},
            r"`also\['max_hops'\]` must be whole .* 1 to 2; got 3 in row 7",
        ),
        ({"second": np.where(one, 0.5, 1)}, r"'links.entry'.* from 0 to 1; got 0.5 in row 7"),
        ({"first": ~one, "second": ~one}, "node 7 cannot reach a destination"),
    ):
        with pytest.raises(ValueError, match=says):
            mj.FacilityPath(limited(tmp_path, **changes), END, K)
    rows = limited(tmp_path)
    with pytest.raises(ValueError, match=r"`also\['links.entry'\]` must name 3 columns; got 2"):
        mj.FacilityPath(rows, END, 3)
    with pytest.raises(TypeError, match="`also` of points on disk must be none; got 'max_hops'"):
        mj.Clustering(rows, K)
    with pytest.raises(TypeError, match="Sharded: `also` of points on disk must be none"):
        mj.Sharded().load(rows)
    other = Rows(tmp_path / "limited.npy", columns=[0, 1], also={"hops": 2})
    with pytest.raises(TypeError, match="must be one of max_hops, links.entry, links.direct; got"):
        mj.FacilityPath(other, END, K)


def test_routes_are_those_in_memory(rows, tmp_path):
    there, here = both(rows)
    locations = jnp.array([[2.0, 2.0], [6.0, 1.0]])
    hard = here.harden(locations)
    path = tmp_path / "routes.npy"
    np.testing.assert_allclose(there.harden_to(path, locations), hard.cost, rtol=1e-12)
    np.testing.assert_allclose(there.harden(locations).cost, hard.cost, rtol=1e-12)
    written = np.load(path)
    np.testing.assert_array_equal(written[:, :-1], hard.routes)
    np.testing.assert_array_equal(written[:, -1], hard.destinations)
    assert [file.name for file in tmp_path.glob(".*")] == []


@pytest.mark.slow
def test_an_anneal_is_that_in_memory(rows, tmp_path):
    there, here = both(rows, stage_costs="euclidean")
    for ours, theirs in zip(*(jax.tree.leaves(p.stage_costs) for p in (there, here)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    np.testing.assert_allclose(there.beta_scale(), here.beta_scale(), rtol=1e-9)
    schedule = mj.Geometric(0.05, 5.0, 1.6)
    ours = mj.anneal(there, schedule, key=KEY)
    theirs = mj.anneal(here, schedule, key=KEY)
    assert int(ours.code) == int(theirs.code)
    np.testing.assert_allclose(ours.free_energy, theirs.free_energy, rtol=1e-9)
    cost = there.harden_to(tmp_path / "routes.npy", ours.params)
    np.testing.assert_allclose(cost, here.harden(ours.params).cost, rtol=1e-9)


def test_what_has_a_row_for_each_node_is_refused(rows):
    with pytest.raises(TypeError, match="`max_hops` must be left out"):
        mj.FacilityPath(rows, END, K, max_hops=1)
    with pytest.raises(TypeError, match="`links.entry` must be left out"):
        mj.FacilityPath(rows, END, K, links=mj.paths.Links(entry=np.ones((N, K), bool)))
    with pytest.raises(TypeError, match="`stage_costs` must be free, a function, or one of Squar"):
        mj.FacilityPath(rows, END, K, stage_costs="great_circle")
    with pytest.raises(ValueError, match="`weights` of points on disk are a column"):
        mj.FacilityPath(rows, END, K, weights=np.ones(N))
    with pytest.raises(ValueError, match=r"`destinations` must have shape \(number, 2\)"):
        mj.FacilityPath(rows, np.ones(3), K)
    with pytest.raises(ValueError, match="node 0 cannot reach a destination"):
        mj.FacilityPath(rows, END, K, links=mj.paths.Links(exit=np.zeros((K, 1), bool)))
    problem = mj.FacilityPath(rows, END, K)
    with pytest.raises(TypeError, match="`executor` must be FromDisk for points on disk"):
        problem.on(mj.Streaming())
    with pytest.raises(TypeError, match="points on disk are never in memory at once"):
        problem.policy(jnp.zeros((K, 2)), 1.0)
    with pytest.raises(TypeError, match="harden_to: the nodes must be `mepjax.exec.Rows`"):
        mj.FacilityPath(nodes(), END, K).harden_to("routes.npy", jnp.zeros((K, 2)))
    limited = mj.FacilityPath(rows, END, K, entry_capacity=np.full(K, 0.6))
    with pytest.raises(TypeError, match="`capacities` must be 'ignore'"):
        limited.harden(limited.at(jnp.zeros((K, 2))), capacities="assign")


@pytest.mark.slow
def test_a_few_nodes_tell_where_facilities_separate_and_start(rows):
    there, here = both(rows)
    # No more than the few: all of them, with their weights.
    params = here.init(KEY)
    beta = 1.5 * here.beta_scale()
    ours, theirs = there.slot_spectrum(params, beta), here.slot_spectrum(params, beta)
    np.testing.assert_allclose(ours.critical_beta, theirs.critical_beta, rtol=1e-9)
    np.testing.assert_allclose(ours.gain, theirs.gain, rtol=1e-6, atol=1e-9)
    assert there.scatter(KEY).shape == (K, 2)
    sample = there.subsample(KEY, 10)
    assert sample.nodes.shape == (10, 2) and isinstance(sample.executor, mj.InMemory)
    sensitivities = there.sensitivities(params, beta)
    np.testing.assert_allclose(
        sensitivities.free_energy["destinations"],
        here.sensitivities(params, beta).free_energy["destinations"],
        rtol=1e-9,
    )
    assert "nodes" not in sensitivities.free_energy


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"links": np.array([[False, True], [False, False]])}])
def test_the_recipe_ends_where_it_does_in_memory(rows, options):
    # With a mask there is no spectrum: slots are swapped, and scattered from the disk.
    there, here = (mj.solve(problem, key=KEY) for problem in both(rows, **options))
    assert there.solution.code == here.solution.code == mj.Code.OK
    costs = [float(jnp.min(solved.runs.cost)) for solved in (there, here)]
    np.testing.assert_allclose(*costs, rtol=1e-6)


@pytest.mark.slow
def test_the_recipe_takes_points_on_disk(rows):
    x, weights = rows.source.read(0, N)
    there = mj.solve(mj.Clustering(rows, 3), key=KEY)
    here = mj.solve(mj.Clustering(x, 3, weights=weights), key=KEY)
    np.testing.assert_allclose(jnp.min(there.runs.cost), jnp.min(here.runs.cost), rtol=1e-6)
