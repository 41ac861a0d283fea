"""Faults of kinds that users of other libraries reported, tried on this one.

Each kind has its source, a repository and the number of an issue there. What is right was found
independently.
"""

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

import mepjax as mj
from mepjax._core.arrays import PrecisionWarning
from mepjax._core.scaling import Scaling
from mepjax.cli.app import run
from mepjax.cli.errors import CommandError
from mepjax.cli.options.reading import ReadingOptions
from mepjax.cli.report import geojson, terminal
from mepjax.cli.report.model import Column, Heading, Report, Section, Table
from mepjax.cli.report.sections import coordinates
from mepjax.cli.tables.points import read_points
from mepjax.estimators import AutonomyAwareClustering
from mepjax.plot.views import cluster_view

LINE = np.array([[0.0], [1.0], [10.0], [11.0]])


def masked(values):
    return np.ma.array(values, mask=np.arange(np.size(values)).reshape(np.shape(values)) == 1)


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("x", lambda: mj.Clustering(masked(LINE), 2)),
        ("weights", lambda: mj.Clustering(LINE, 2, weights=masked(np.ones(4)))),
        ("kappa", lambda: mj.autonomy.Uniform(masked(np.full(4, 0.1)))),
        ("p", lambda: mj.autonomy.Matrix(masked(np.eye(2)))),
        ("betas", lambda: mj.Explicit(masked(np.array([1.0, 2.0])))),
        ("nodes", lambda: mj.FacilityPath(masked(LINE), [[3.0]], 1)),
        ("destinations", lambda: mj.FacilityPath(LINE, masked([[3.0], [4.0]]), 1)),
        ("X", lambda: AutonomyAwareClustering(2).fit(masked(LINE))),
        (
            "sample_weight",
            lambda: AutonomyAwareClustering(2).fit(LINE, sample_weight=masked(np.ones(4))),
        ),
    ],
)
def test_masks_are_refused_by_name(name, build):
    """jax-ml/jax 13795: what lies under a mask was read as data."""
    with pytest.raises(ValueError, match=f"`{name}` must not have masked entries; got 1"):
        build()


def test_a_masked_array_without_masked_entries_is_data():
    problem = mj.Clustering(np.ma.array(LINE, mask=np.zeros(LINE.shape, bool)), 2)
    np.testing.assert_array_equal(problem.x, LINE)


@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16, np.longdouble])
def test_other_precisions_are_cast_with_one_warning(kind, x64):
    """apple/coreai-optimization 2: types that nothing knew died far from where they came in."""
    with jax.enable_x64(x64):
        expected = np.float64 if x64 else np.float32
        name = np.dtype(kind).name
        with pytest.warns(PrecisionWarning, match=f"`x` is {name}") as warned:
            problem = mj.Clustering(LINE.astype(kind), 2)
        assert len(warned) == 1
        assert problem.x.dtype == expected
        np.testing.assert_array_equal(problem.x, LINE)
        scalar = mj.Clustering(LINE.astype(expected), 2, autonomy=mj.autonomy.Uniform(kind(0.5)))
        assert isinstance(scalar.autonomy, mj.autonomy.Uniform)
        np.testing.assert_array_equal(scalar.autonomy.kappa, 0.5)
        assert (
            jax.jit(lambda x: mj.Clustering(x, 2).x)(jnp.asarray(LINE, expected)).dtype == expected
        )


@pytest.mark.parametrize("x64", [True, False])
def test_single_precision_tables_of_probabilities_are_taken(x64):
    """numpy/numpy 6123: rows of single precision sum to one in that precision only."""
    with jax.enable_x64(x64):
        table = np.full((5, 5), 0.2, np.float32)
        problem = mj.Clustering(
            np.arange(8.0, dtype=np.float32)[:, None], 5, autonomy=mj.autonomy.Matrix(table)
        )
        assert isinstance(problem.autonomy, mj.autonomy.Matrix)
        np.testing.assert_allclose(problem.autonomy.p, 0.2, rtol=1e-7)
        with pytest.raises(ValueError, match="sum to"):
            mj.autonomy.Matrix(np.full((5, 5), 0.21, np.float32))


@pytest.mark.filterwarnings("ignore::mepjax._core.arrays.PrecisionWarning")
@pytest.mark.parametrize("module", [np, jnp])
@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_tables_of_probabilities_are_taken(kind, module):
    """Sevenths in half precision sum to .9998, or 1.002."""
    table = module.asarray(np.full((7, 7), 1 / 7).astype(kind))
    np.testing.assert_allclose(mj.autonomy.Matrix(table).p, 1 / 7, rtol=1e-12)
    with pytest.raises(ValueError, match="sum to"):
        mj.autonomy.Matrix(table * kind(0.9))


@pytest.mark.parametrize("weight", [1e-320, 1e308])
@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("weights", lambda w: mj.Clustering(LINE, 2, weights=w)),
        ("weights", lambda w: mj.FacilityPath(LINE, [[3.0]], 1, weights=w)),
        ("sample_weight", lambda w: AutonomyAwareClustering(2).fit(LINE, sample_weight=w)),
    ],
)
def test_weights_beyond_what_a_number_holds_are_refused_by_name(name, build, weight):
    """scikit-learn/scikit-learn 16529: the data were blamed for weights.

    Here for those of 1e-320; those of 1e308 gave an infinite inertia.
    """
    with pytest.raises(ValueError, match=f"`{name}`.* a sum "):
        build(np.full(4, weight))


@pytest.mark.parametrize("weight", [1e-300, 1e300])
def test_only_the_shares_of_weights_count(weight):
    found = AutonomyAwareClustering(2).fit(LINE, sample_weight=np.full(4, weight))
    np.testing.assert_allclose(np.sort(found.cluster_centers_[:, 0]), [0.5, 10.5], rtol=1e-9)
    assert found.inertia_ == pytest.approx(weight, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 3, 4, 5, 6, 7])
def test_weights_are_repetitions_for_every_number_of_clusters(k):
    """scikit-learn/scikit-learn 11236: rows that are repeated instead of weighted.

    The clusters were the same, under other labels.
    """
    from sklearn.utils import estimator_checks

    estimator = AutonomyAwareClustering(k)
    estimator_checks.check_sample_weight_equivalence_on_dense_data("clusters", estimator)


def test_labels_follow_the_centres_and_not_the_draw():
    """scikit-learn/scikit-learn 12265: labels depend on the order in which centres were found."""
    x = np.array([[0.0, 1.0], [0.0, -1.0], [5.0, 0.0], [-5.0, 0.0]])
    x = np.concatenate([x + shift for shift in (0.0, 0.01, -0.01)])
    expected = [[-5.0, 0.0], [0.0, -1.0], [0.0, 1.0], [5.0, 0.0]]
    for seed in range(3):
        found = AutonomyAwareClustering(4, random_state=seed).fit(x)
        np.testing.assert_allclose(found.cluster_centers_, expected, atol=1e-6)
        np.testing.assert_array_equal(found.labels_[:4], [2, 1, 3, 0])


@pytest.mark.slow
def test_the_command_orders_clusters_too(tmp_path):
    x = np.array([[0.0, 1.0], [0.0, -1.0], [5.0, 0.0], [-5.0, 0.0]])
    np.savetxt(tmp_path / "points.csv", x, delimiter=",", header="x,y", comments="")
    for seed in range(3):
        coarse = ["--factor", "1.6", "--seed", str(seed), "--no-cache", "--force"]
        out = ["--out", str(tmp_path / "out")]
        assert run(["cluster", str(tmp_path / "points.csv"), "-k", "4", *coarse, *out]) == 0
        read = lambda name: np.genfromtxt(tmp_path / "out" / name, delimiter=",", names=True)  # noqa: E731
        centres = read("centres.csv")
        np.testing.assert_allclose(centres["x"], [-5, 0, 0, 5], atol=1e-5)
        np.testing.assert_allclose(centres["y"], [0, -1, 1, 0], atol=1e-5)
        # Each point is with the centre that stands on it.
        joined = read("assignments.csv")["cluster"].astype(int)
        np.testing.assert_array_equal(joined, [2, 1, 3, 0])


@pytest.mark.parametrize(
    ("autonomy", "ending"),
    [(None, [1, 0, 0]), (mj.autonomy.Uniform(0.3), [0.7, 0.15, 0.15])],
)
def test_what_ends_somewhere_was_told_to_or_strayed(autonomy, ending):
    """scikit-learn-contrib/hdbscan 363: soft shares contradicted what was told to entities.

    `share_ending` was .5 and .5 beside `share_told` 1 and 0, nobody straying.
    """
    problem = mj.Clustering(LINE, 3, autonomy=autonomy)
    together = jnp.full((3, 1), 5.5)
    unread: Any = None
    view = cluster_view(problem, unread, params=together, beta=10.0)
    np.testing.assert_allclose(view.told, [1, 0, 0])
    np.testing.assert_allclose(view.ending, ending, rtol=1e-6)
    np.testing.assert_allclose(view.policy, 1 / 3, rtol=1e-6)


# --- Tables, maps and scales. ------------------------------------------------------------------


def table(tmp_path, content, **options):
    path = tmp_path / "points.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_points(path, **options)


@pytest.mark.parametrize(
    "content",
    [
        ",x,y\n0,1.5,2\n1,3,4\n2,5,6\n",  # pandas
        '"","x","y"\n"1",1.5,2\n"2",3,4\n"3",5,6\n',  # R
        "Unnamed: 0,x,y\n0,1.5,2\n1,3,4\n2,5,6\n",  # pandas, read and written once more
        ",Unnamed: 0,x,y\n0,7,1.5,2\n1,3,3,4\n2,5,5,6\n",  # twice, the first time shuffled
        "x;y;\n1.5;2;7\n3;4;8\n5;6;4\n",  # at the end, of a part of the rows
    ],
)
def test_an_index_without_a_name_is_no_coordinate(tmp_path, content):
    """pandas-dev/pandas 10670: the index that `to_csv` writes comes back as a column of data."""
    points = table(tmp_path, content)
    np.testing.assert_array_equal(points.x, [[1.5, 2], [3, 4], [5, 6]])
    assert "has no name and numbers the rows; --columns takes it" in points.note


@pytest.mark.parametrize(
    ("content", "options", "width"),
    [
        (",x\n0,1\n1,2\n", {"columns": "0,x"}, 2),  # asked for
        (",x\n0,1\n0,2\n", {}, 2),  # no number twice for rows
        (",x\n.5,1\n1,2\n", {}, 2),  # no whole numbers
        ("0,1\n1,2\n", {}, 2),  # no names at all
        ("id,x\n0,1\n1,2\n", {}, 2),  # it has a name
    ],
)
def test_other_columns_stay(tmp_path, content, options, width):
    points = table(tmp_path, content, **options)
    assert points.x.shape == (2, width) and points.note == ""


def test_what_was_left_out_is_told(tmp_path, capsys):
    path = tmp_path / "points.csv"
    path.write_text(",x\n0,1\n1,2\n")
    assert ReadingOptions().read(path, "POINTS").x.shape == (2, 1)
    assert "left out column 0" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["none", "unit", "zscore"])
@pytest.mark.parametrize(
    ("longitudes", "centre"),
    [
        ([179.8, -179.8], -180.0),  # the middle of the Pacific, not of Africa
        ([179.0, -177.0], -179.0),
        ([170.0, 175.0, -160.0, -150.0], -171.25),
        ([-10.0, 20.0], 5.0),
        ([-180.0, 180.0], -180.0),  # one place
        ([100.0], 100.0),
    ],
)
def test_maps_are_cut_where_nobody_lives(kind, longitudes, centre):
    """Turfjs/turf 1905: the centre of points across 180 degrees was on the other side of the earth.

    The right centre is the mean of the longitudes counted from the largest gap eastwards.
    """
    x = np.stack([longitudes, np.linspace(-1, 1, len(longitudes))], axis=1)
    scaling = Scaling.of(kind, x, None, (0, 1))
    found = scaling.invert(np.mean(scaling.apply(x), axis=0))
    assert found[0] == pytest.approx(centre, abs=1e-9) and -180 <= found[0] < 180
    # Places come back as they were.
    back = scaling.invert(scaling.apply(x))[:, 0]
    np.testing.assert_allclose(np.cos(np.radians(back)), np.cos(np.radians(x[:, 0])), atol=1e-12)
    np.testing.assert_allclose(np.sin(np.radians(back)), np.sin(np.radians(x[:, 0])), atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["cluster", "route"])
def test_commands_stay_on_their_side_of_the_earth(tmp_path, command):
    """Two villages on Taveuni, Fiji, through which 180 degrees pass; their middle is there too."""
    (tmp_path / "fiji.csv").write_text("lon,lat\n179.8,-17\n-179.8,-17\n179.9,-17\n-179.9,-17\n")
    options = {
        "cluster": ["-k", "1"],
        "route": ["--facilities", "1", "--destination", "-180,-17"],
    }[command]
    coarse = ["--factor", "1.6", "--restarts", "1", "--no-cache"]
    arguments = [command, str(tmp_path / "fiji.csv"), "--lonlat", *options, *coarse]
    assert run([*arguments, "--out", str(tmp_path / "out")]) == 0
    name = {"cluster": "centres.csv", "route": "facilities.csv"}[command]
    with (tmp_path / "out" / name).open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert abs(float(row["lon"])) == pytest.approx(180, abs=1e-3)
    assert float(row["lat"]) == pytest.approx(-17, abs=1e-3)


def test_other_places_are_on_the_near_side_of_the_map():
    """A destination across 180 degrees of nodes that are all on one side of it."""
    x = np.array([[170.0, 0.0], [179.0, 0.0]])
    scaling = Scaling.of("none", x, None, (0, 1))
    (start, _), (end, _) = scaling.apply(np.array([[179.0, 0.0], [-179.0, 0.0]]))
    assert end - start == pytest.approx(2 * 6371.0088 * np.pi / 180)  # km


def test_the_usual_map_stays_as_it_is():
    rng = np.random.default_rng(0)
    x = np.stack([rng.uniform(-8, 30, 50), rng.uniform(36, 60, 50)], axis=1)
    scaling = Scaling.of("none", x, None, (0, 1))
    np.testing.assert_array_equal(scaling.apply(x), (x - scaling.shift) / scaling.factor)


def test_lines_across_180_degrees_are_cut_there(tmp_path):
    """RFC 7946, 3.1.9."""
    path = tmp_path / "routes.geojson"
    lines = [[[179.0, 10.0], [-179.0, 12.0], [-178.0, 12.0]], [[1.0, 2.0], [3.0, 4.0]]]
    geojson.write(path, [Table("routes", [Column("row", [0, 1])], lines)])
    first, second = (f["geometry"] for f in json.loads(path.read_text())["features"])
    assert first == {
        "type": "MultiLineString",
        "coordinates": [[[179, 10], [180, 11]], [[-180, 11], [-179, 12], [-178, 12]]],
    }
    assert second == {"type": "LineString", "coordinates": lines[1]}


@pytest.mark.parametrize(
    "column",
    [
        np.full(1000, 14.62),
        np.where(np.arange(1000) % 2, 0.2999999999999999, 0.3000000000000001),
        np.full(22, np.log(1e-5)),
        1e9 + 1e-7 * (np.arange(300) % 2),
    ],
)
def test_columns_constant_but_for_rounding_count_nothing(column):
    """scikit-learn/scikit-learn 17794: 1,000 times 14.62 was scaled to -1."""
    other = np.arange(len(column)) % 7 + 0.5
    x = np.stack([other, column], axis=1)
    expected = StandardScaler().fit_transform(x)
    scaling = Scaling.of("zscore", x, None)
    found = scaling.apply(x)
    np.testing.assert_allclose(found[:, 0], expected[:, 0], rtol=1e-12)
    np.testing.assert_array_equal(found[:, 1], 0)
    assert np.max(np.abs(expected[:, 1])) < 1e-6
    np.testing.assert_allclose(scaling.invert(found), x, rtol=1e-12)
    # With one factor for all, of nothing but such columns too.
    np.testing.assert_array_equal(Scaling.of("unit", x[:, 1:], None).apply(x[:, 1:]), 0)


@pytest.mark.parametrize("column", [1e9 + np.arange(5.0), 1e-9 * np.arange(5.0), np.ones(3) + 1e-9])
def test_columns_that_differ_count_in_full(column):
    x = np.stack([column, np.append(column[1:], column[0] + 1e-3)], axis=1)
    found, expected = Scaling.of("zscore", x, None).apply(x), StandardScaler().fit_transform(x)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("0,5;1,5\n2;3,25\n", [[0.5, 1.5], [2, 3.25]]),
        ("x;y\n-0,5;1,5e1\n,5;3\n", [[-0.5, 15], [0.5, 3]]),
        ("x\ty\n1,5\t1,200\n2\t3,25\n", [[1.5, 1.2], [2, 3.25]]),
        ("sep=;\nx;y\n1;2\n3;4\n", [[1, 2], [3, 4]]),
        ("sep=,\r\nx,y\r\n1,2\r\n", [[1, 2]]),
        ("\ufeffSEP=|\nx|y\n1|2\n", [[1, 2]]),
        ("x;y;street\n1,5;2;Main St, 3\n", [[1.5, 2]]),
    ],
)
def test_decimal_commas_and_separator_lines_are_read(tmp_path, content, expected):
    """SheetJS/sheetjs 2239, shancarter/mr-data-converter 52: what spreadsheets write in Europe."""
    columns = "x,y" if "street" in content else None
    np.testing.assert_array_equal(table(tmp_path, content, columns=columns).x, expected)


def workbook(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, text in members.items():
            file.writestr(name.replace("__", "/").replace("_", "."), text)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('x,y\n"1,200.5",2\n3,4\n', "got '1,200.5'; expected a number without separators of thou"),
        ("x;y\n1,200.5;2\n", "without separators of thousands"),
        ("x;y\n1 200;2\n3;4\n", "without separators of thousands"),
        ("x;y\n1,200;2,300\n", "line 2: got '1,200', which may be a decimal or thousands"),
        ("x;y\n1,5;2.5\n", "expected a number with a decimal point"),
        ("x,y\n1,200.5,3\n", "got 3 cells; expected 2, as in line 1 .numbers with commas need quo"),
        (
            '{"type": "FeatureCollection", "features": []}',
            "got GeoJSON; give the table",
        ),
        ('[{"x": 1}]', "got JSON; convert it to CSV"),
        ('{"x": 1, "y": 2}\n{"x": 3, "y": 4}\n', "got JSON lines; convert them to CSV"),
        ('<?xml version="1.0"?><kml></kml>', "got KML; export the table as CSV"),
        (workbook(xl__workbook_xml=""), "got an Excel workbook .xlsx.; save the sheet as CSV"),
        (workbook(content_xml=""), "got an OpenDocument file"),
        (workbook(roads_shp="", roads_dbf=""), "got a shapefile"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 99, "got an old Excel workbook .xls."),
        ("x,y\n1,2\n".encode("utf-16"), "got text in UTF-16 or a binary file; save it as UTF-8"),
    ],
)
def test_what_is_no_table_is_called_by_its_name(tmp_path, content, says):
    """SheetJS/sheetjs 2236, among others: refusals blamed something else, or a column was lost."""
    with pytest.raises(CommandError, match=says):
        table(tmp_path, content)


@pytest.mark.parametrize(
    "northings",
    [
        [5400040.25, 5400043.5, 5400039.75],
        [-33.86882, -33.86891],
        [1e6 + 1, 1e6 + 1.5],
        [6378137.0],
    ],
)
def test_shown_centres_differ_where_centres_do(northings):
    """OPM/ResInsight 670: UTM coordinates in six digits, 5.40004e+06, tell no two apart."""
    places = np.stack([np.zeros(len(northings)), northings], axis=1)
    table = Table("centres", coordinates(("x", "y"), places), on_terminal=True)
    heading = Heading("cluster", "", "")
    report = Report(heading, [], [Section("Where?", [table])], {})
    shown = [line.split()[1] for line in terminal.lines(report, [], Path())[3 : 3 + len(places)]]
    span = np.ptp(northings) or abs(northings[0])
    np.testing.assert_allclose([float(cell) for cell in shown], northings, atol=1e-4 * span)
    assert not any("e" in cell for cell in shown)
    assert len(set(shown)) == len(set(northings))


COSTS = {
    "sqeuclidean": {},
    "euclidean": {"cost": "euclidean"},
    "manhattan": {"cost": "manhattan"},
    "uniform": {"autonomy": mj.autonomy.Uniform(0.1)},
    "mahalanobis": {},  # of the size of d
}


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("kind", COSTS)
def test_fused_roundings_make_no_exponent_positive(kind, d):
    """SlopDotCash/asi 2886: under jit the least of scaled costs is contracted below the minimum.

    The largest exponent becomes positive in float32, and all is NaN at large beta.
    """
    with jax.enable_x64(False):
        x = np.array([[0, 1, 10, 11, 1e4]] * d, np.float32).T
        options: Any = COSTS[kind]
        if kind == "mahalanobis":
            options = {"cost": mj.costs.Mahalanobis(np.float32(0.3) * np.eye(d, dtype=np.float32))}
        problem = mj.Clustering(x, 2, weights=np.array([1, 1, 1, 1, 0], np.float32), **options)
        start = jnp.asarray([[0.5] * d, [10.5] * d], jnp.float32)

        @jax.jit
        def say(params, beta):
            return problem.update(params, beta), problem.policy(params, beta)

        for beta in np.array([1, 200, 1e5, 1e9, 1e12], np.float32):
            new, log_policy = say(start, beta)
            assert np.isfinite(new).all()
            assert np.max(log_policy) <= 1e-6
            told = np.exp(log_policy)
            np.testing.assert_allclose(told.sum(axis=1), 1, atol=1e-6)
            if beta >= 200:
                np.testing.assert_array_equal(told.argmax(axis=1), [0, 0, 1, 1, 1])


# --- Where an anneal ends. ---------------------------------------------------------------------


def far(record):
    """Two neighbours and a bad record far away."""
    return jnp.array([[0.0], [1.0], [record]])


def test_the_schedule_goes_on_until_the_data_have_separated():
    """scikit-learn/scikit-learn 23141: fewer clusters than asked for, without a word.

    Twins a thousandth of the data apart stayed at one centre, with code OK.

    The first transition is that of all data; by the second the record is alone, and its
    neighbours part at 1 / (2 x the variance .25).
    """
    key, stages = jax.random.key(0), []
    for record in (1e3, 1e5, 1e7, 1e9):
        problem = mj.Clustering(far(record), 3)
        solution = mj.anneal(problem, key=key).raise_if_failed()
        assert mj.Code(int(solution.code)) is mj.Code.OK
        centres = np.sort(np.asarray(solution.params)[:, 0])
        np.testing.assert_allclose(centres, [0, 1, record], rtol=1e-9, atol=1e-4)
        assert float(problem.harden(solution.params).cost) < 1e-8
        assert int(solution.n_transitions) == 2
        first = float(1 / (2 * np.var(np.asarray(problem.x))))
        np.testing.assert_allclose(solution.transitions[:2], [first, 2.0], rtol=1e-4)
        assert float(solution.entropy) <= 1e-3 * np.log(3)
        stages.append(int(solution.n_stages))
    steps: Any = np.diff(stages)
    # A factor of 1e4 in beta each, at 1.5 a stage.
    np.testing.assert_allclose(steps, np.log(1e4) / np.log(1.5), atol=2)
    # Nothing to decide: two rows are one place, and no beta will part what stands there.
    twins = mj.anneal(mj.Clustering(jnp.array([[0.0], [0.0], [5.0]]), 3), key=key)
    assert mj.Code(int(twins.code)) is mj.Code.OK and int(twins.n_transitions) == 1
    assert int(twins.n_stages) < stages[0]


@pytest.mark.parametrize("kind", ["Detector", "Growth"])
def test_an_end_that_was_given_is_kept_and_told(kind):
    problem, key = mj.Clustering(far(1e3), 3), jax.random.key(0)
    schedule, detector = mj.CriticalJump(beta_max=0.02, max_factor=2.0), getattr(mj, kind)()
    solution = mj.anneal(problem, schedule, key=key, detector=detector).raise_if_failed()
    assert float(solution.beta) == pytest.approx(0.02)
    assert mj.Code(int(solution.code)) is mj.Code.UNSEPARATED
    assert "Raise beta_max" in solution.summary()
    same = mj.Clustering(jnp.array([[0.0], [0.0], [1000.0]]), 3)
    solution = mj.anneal(same, schedule, key=key, detector=detector)
    assert mj.Code(int(solution.code)) is mj.Code.OK


@pytest.mark.parametrize("near", [0.0, 1e-3])
def test_copies_leave_nothing_to_part_at_a_soft_end(near):
    """scikit-learn/scikit-learn 10059: clusters asked for that copies of rows cannot fill.

    Five slots on three places: where the middle one is two places a thousandth apart, they part at
    1 / (2 x their variance), which is far beyond the end.
    """
    x = np.repeat([[0.0], [1.0], [3.0]], 4, axis=0)
    x[4:6] += near
    solution = mj.anneal(mj.Clustering(x, 5), mj.CriticalJump(beta_max=4.0), key=jax.random.key(0))
    assert len(np.unique(solution.params)) == 3
    assert float(solution.beta) == pytest.approx(4.0) and float(solution.entropy) > 0.1
    expected = mj.Code.UNSEPARATED if near else mj.Code.OK
    assert mj.Code(int(solution.code)) is expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["linear", "noise", "growth", "paths"])
def test_single_precision_stays_where_double_is_on(kind):
    """jax-ml/jax 2004, Joshuaalbert/jaxns 154: a loop over float32 stopped where x64 is on."""
    with jax.enable_x64(True):
        x = LINE.astype(np.float32)
        problem: Any = mj.Clustering(x, 2)
        if kind == "paths":
            problem = mj.FacilityPath(x, x[:1] + 5, 2, n_stages=1)
        first = float(problem.beta_scale())
        schedule: Any = {
            "linear": mj.Linear(0.5 * first, 20 * first, 8),
            "noise": mj.Geometric(0.5 * first, 100 * first, 2.0),
        }.get(kind)
        detector = {"growth": mj.Growth(), "paths": mj.Detector()}.get(kind, mj.NoDetector())
        solution = mj.anneal(problem, schedule, key=jax.random.key(0), detector=detector)
        found = jax.tree.leaves((solution.params, solution.beta, solution.free_energy))
        assert {leaf.dtype for leaf in found} == {np.dtype(np.float32)}
        # Half way from each pair to the only destination, on paths.
        expected = [2.75, 7.75] if kind == "paths" else [0.5, 10.5]
        np.testing.assert_allclose(np.sort(solution.params[:, 0]), expected, atol=1e-3)


@pytest.mark.parametrize("solve", [mj.anneal, mj.solve, mj.begin])
def test_a_problem_of_a_precision_that_is_off_by_now_is_refused(solve):
    """jax-ml/jax 2004 too: types that meet in a loop were all that was said, if anything."""
    problem = mj.Clustering(LINE, 2)
    with jax.enable_x64(False), pytest.raises(TypeError, match=r"in float64 .its `x` is.* x64"):
        solve(problem, key=jax.random.key(0))


def city(seed=0):
    """Four quarters 40 apart, and one bad record."""
    rng = np.random.default_rng(seed)
    quarters = np.array([[0, 0], [40, 0], [0, 40], [40, 40]])[:, None] + rng.normal(size=(4, 25, 2))
    inertia = np.sum((quarters - quarters.mean(axis=1, keepdims=True)) ** 2)
    return np.concatenate([quarters.reshape(100, 2), [[5e5, 5e6]]]), inertia


@pytest.mark.slow
@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize(
    "detector", [mj.Growth(), mj.Detector(), mj.NoDetector()], ids=["growth", "kicks", "noise"]
)
def test_one_bad_record_hides_no_city(detector, x64):
    x, inertia = city()
    with jax.enable_x64(x64):
        problem = mj.Clustering(x if x64 else x.astype(np.float32), 5)
        solution = mj.anneal(problem, key=jax.random.key(0), detector=detector).raise_if_failed()
        hard = problem.harden(solution.params)
    assert len(np.unique(hard.assignments)) == 5
    assert float(hard.cost) * len(x) == pytest.approx(inertia, rel=1e-4)
    assert int(solution.code) == 0


@pytest.mark.slow
def test_estimator_and_solve_see_the_city_too():
    x, inertia = city()
    found = AutonomyAwareClustering(5, random_state=0).fit(x)
    assert found.inertia_ == pytest.approx(inertia, rel=1e-5) and found.n_used_clusters_ == 5
    solved = mj.solve(mj.Clustering(x, 5), key=jax.random.key(0))
    np.testing.assert_allclose(solved.runs.cost, inertia / len(x), rtol=1e-5)


@pytest.mark.slow
def test_lanes_end_where_each_has_separated():
    """Under vmap: as one by one."""
    key, records = jax.random.key(0), jnp.array([3.0, 1e3, 1e6])

    def end(record):
        problem = mj.Clustering(jnp.stack([jnp.zeros(1), jnp.ones(1), record[None]]), 3)
        solution = mj.anneal(problem, key=key)
        return jnp.sort(solution.params[:, 0]), solution.beta, solution.code, solution.n_stages

    lanes = jax.vmap(end)(records)
    for lane, record in enumerate(records):
        for got, expected in zip(lanes, jax.jit(end)(record), strict=True):
            np.testing.assert_allclose(got[lane], expected, rtol=1e-6, atol=1e-6)
    assert np.all(np.asarray(lanes[2]) == 0)


@pytest.mark.slow
def test_facilities_part_where_their_customers_do():
    """annoviko/pyclustering 366: two places where three were asked for."""
    problem = mj.FacilityPath(far(1e3), jnp.array([[300.0]]), 3, n_stages=1)
    solution = mj.anneal(problem, key=jax.random.key(0)).raise_if_failed()
    # One facility a customer, half way to the only destination.
    expected = np.sort((np.array([0, 1, 1e3]) + 300) / 2)
    found = np.sort(np.asarray(problem.locations(solution.params))[:, 0])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert int(solution.code) == 0 and int(solution.n_transitions) == 2


# --- Medians that are not unique. --------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "centres", "mean"), [(4, [0, 1, 10, 11], 0.04 / 3), (2, [0.5, 10.5], 0.5)]
)
def test_medians_that_are_not_unique_hold_no_centre(k, centres, mean):
    """DynamoDS/RefineryToolkits 115: medians of points on a line, of which there are many.

    Any place between 1 and 10 is one: the smoothing alone held all centres there.

    The right centres are the groups, and for two the middle of each flat stretch, which has the
    mean distance of all its places.
    """
    x = (np.repeat([0.0, 1, 10, 11], 3) + np.tile([-0.02, 0, 0.02], 4))[:, None]
    problem = mj.Clustering(x, k, cost="euclidean")
    solution = mj.anneal(problem, key=jax.random.key(0)).raise_if_failed()
    found = np.sort(np.asarray(solution.params)[:, 0])
    np.testing.assert_allclose(found, centres, atol=1e-3)
    distances = np.abs(x - np.asarray(solution.params)[:, 0])
    assert np.mean(np.min(distances, axis=1)) == pytest.approx(mean, rel=1e-3)
    assert float(solution.entropy) < 1e-3 and int(solution.code) == 0
    # Costs matter from one over the distances on, here 5 from the mean.
    assert float(problem.beta_scale()) == pytest.approx(0.1, rel=1e-3)


# --- Squares that are no numbers. --------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-22, 1e19])
@pytest.mark.parametrize(
    "build",
    [
        lambda x: mj.Clustering(x, 2),
        lambda x: mj.Clustering(x, 2, cost="euclidean"),
        lambda x: mj.FacilityPath(x, x[:1] / 2, 1),
    ],
    ids=["squares", "distances", "paths"],
)
def test_squares_that_are_no_numbers_are_refused(build, scale):
    """scipy/scipy 24216: values whose squares no number holds.

    All stood at the mean, with code OK: every square was zero.
    """
    with pytest.raises(ValueError, match="differences between 1.08e-16 and 1.84e.17, whose"):
        build((LINE * scale).astype(np.float32))


@pytest.mark.slow
def test_traced_data_whose_squares_are_no_numbers_have_their_code():
    """The right centres are .5 and 10.5, at any scale whose squares are numbers."""
    problem, key = mj.Clustering(LINE.astype(np.float32), 2), jax.random.key(0)

    def end(scale):
        solution = mj.anneal(problem.replace(x=problem.x * scale), key=key)
        return jnp.sort(solution.params[:, 0]) / scale, solution.code

    with jax.enable_x64(False):
        scales = jnp.array([1e-22, 1e-12, 1e12], jnp.float32)
        centres, codes = jax.jit(jax.vmap(end))(scales)
    assert list(codes) == [mj.Code.INVALID_INPUT, mj.Code.OK, mj.Code.OK]
    np.testing.assert_allclose(centres[1:], [[0.5, 10.5]] * 2, rtol=1e-4)


# --- Debugging modes of JAX. -------------------------------------------------------------------

MODES = {
    "nans": lambda: jax.debug_nans(True),
    "types": lambda: jax.numpy_dtype_promotion("strict"),
    "ranks": lambda: jax.numpy_rank_promotion("raise"),
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_debugging_modes_stop_no_anneal(mode):
    """patrick-kidger/diffrax 630, google/flax 1534, jax-ml/jax 7368: options that find faults.

    NaN as what a trace does not know stopped every anneal, as did sums over unlike types and ranks.
    Centres are means of two entities, so d sum(centres^2) / dx is the entity's centre.
    """
    key = jax.random.key(0)

    def end(x):
        return mj.anneal(mj.Clustering(x, 2), key=key).params

    with MODES[mode]():
        centres = end(jnp.asarray(LINE))
        gradient = jax.grad(lambda x: jnp.vdot(end(x), end(x)))(jnp.asarray(LINE))
    np.testing.assert_allclose(np.sort(centres[:, 0]), [0.5, 10.5], atol=1e-5)
    np.testing.assert_allclose(gradient[:, 0], [0.5, 0.5, 10.5, 10.5], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_debugging_modes_stop_nothing_else(mode):
    key, x = jax.random.key(0), jnp.asarray(LINE)
    with MODES[mode]():
        found = AutonomyAwareClustering(2, random_state=0).fit(LINE)
        solved = mj.solve(mj.Clustering(x, 2), key=key)
        path = mj.anneal(mj.FacilityPath(x, x[:1] + 5, 2, n_stages=1), key=key)
    np.testing.assert_allclose(found.cluster_centers_[:, 0], [0.5, 10.5], atol=1e-6)
    np.testing.assert_allclose(solved.runs.cost, 0.25, rtol=1e-6)
    # Half way from each pair to the only destination.
    np.testing.assert_allclose(np.sort(path.params[:, 0]), [2.75, 7.75], atol=1e-4)
