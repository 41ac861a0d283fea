"""Figure 4.3: what moves, and what is said of rows."""

import jax.numpy as jnp
import numpy as np

from mepjax.reproduce import Setting, figure_4_3


def test_users_and_base_move_and_cells_do_not():
    at, n = figure_4_3._scene(Setting())
    start, later = (np.asarray(at(jnp.asarray(t)).unknowns.states) for t in (0.0, 2.0))
    moved = np.linalg.norm(later - start, axis=1)
    assert n == 24 and np.all(moved[:n] > 0) and np.all(moved[n:-1] == 0) and moved[-1] > 0
    assert at(jnp.asarray(2.0)).structure == at.still.structure


def test_claims_follow_from_rows():
    law = {"changed": 0.25, "distortion": 1.01, "speed": 0.5}
    rows = {
        "(4.8), guarded": law,
        "every frame, warm": {"distortion": 1.0, "speed": 1.0},
        "every frame, cold": {"distortion": 1.0, "speed": 5.0},
    }
    claims = figure_4_3.REPRODUCTION.claims(rows)
    assert [claim.holds for claim in claims] == [True, True, True]
    assert [claim.found.split()[0] for claim in claims] == ["25%", "1.0100", "10"]
    rows["every frame, warm"]["distortion"] = 0.5
    law["changed"] = 0.0
    assert [c.holds for c in figure_4_3.REPRODUCTION.claims(rows)] == [False, False, True]
    assert len(figure_4_3.REPRODUCTION.claims({"(4.8), guarded": law})) == 1
