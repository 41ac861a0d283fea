"""The same points in every kind of file, and what goes with them."""

import gzip
import io
import sys

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from mepjax.cli.errors import CommandError
from mepjax.cli.tables.points import read_matrix, read_points

X = np.array([[1.0, 2.5, 3.0], [3.0, -40.0, 0.0]])


def npy(values, **options) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, **options)
    return stream.getvalue()


def npz(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def table(**columns) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pa.table(columns), stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (npy(X), 3), (npy(np.asfortranarray(X)), 3), (npy(X.astype(">f4")), 3),
        (npy(X.astype(np.float16)), 3), (npz(a=X), 3), (npz(a=X.astype(np.longdouble)), 3),
        (table(a=X[:, 0], b=X[:, 1], c=[3, 0]), "abc"),
        (table(a=pa.array(X[:, 0], pa.float32()), b=pa.array([2.5, -40.0]).dictionary_encode(),
               c=pa.array([3, 0], pa.uint8())), "abc"),
        (table(a=X[:, 0], __index_level_0__=["p", "q"], b=X[:, 1], c=X[:, 2]), "abc"),
        (gzip.compress(b"a,b,c\n1,2.5,3\n3,-4e1,0\n"), "abc"),
        (gzip.compress(b"a,b,c\n1,2.5,3\n") + gzip.compress(b"3,-4e1,0\n"), "abc"),
        (b"\xef\xbb\xbfa;b;c\r\n1;2.5;3\r\n3;-4e1;0\r\n", "abc"),
    ],
    # What a content is compressed to tells the time, and workers must agree on the names.
    ids=[
        "npy", "npy-columns", "npy-big-endian", "npy-float16", "npz", "npz-longdouble",
        "parquet", "parquet-types", "parquet-index", "gzip", "gzip-members", "csv-marked",
    ],
)  # fmt: skip
def test_the_content_tells_the_kind(tmp_path, content, names):
    path = tmp_path / "points.bin"  # whatever it is called
    path.write_bytes(content)
    points = read_points(path)
    np.testing.assert_array_equal(points.x, X)
    assert points.x.dtype == np.float64
    expected = [f"column_{index}" for index in range(3)] if names == 3 else list(names)
    assert list(points.names) == expected


def test_parquet_decimals_and_weights(tmp_path):
    from decimal import Decimal

    path = tmp_path / "p.parquet"
    path.write_bytes(
        table(a=[Decimal("1.25"), Decimal("2.50")], w=[1, 3], when=["x", None], b=[True, False])
    )
    points = read_points(path, columns="a", weights="w", ids="when")
    np.testing.assert_array_equal(points.x, [[1.25], [2.5]])
    np.testing.assert_array_equal(points.weights, [1, 3])
    assert points.ids == ("x", "")


def test_one_of_several_arrays(tmp_path):
    path = tmp_path / "p.npz"
    path.write_bytes(npz(a=X, other=X[:, :2] + 1))
    np.testing.assert_array_equal(read_points(path, array="other").x, X[:, :2] + 1)


@pytest.mark.parametrize(
    ("values", "expected"), [(X, ("1", "3")), (X.astype(np.int64), ("1", "3"))]
)
def test_ids_are_text_and_no_coordinate(tmp_path, values, expected):
    path = tmp_path / "p.npy"
    path.write_bytes(npy(values))
    points = read_points(path, ids="0", weights="2")
    assert points.ids == expected and points.x.shape == (2, 1)
    path.write_text('name,x\n"a, b",1\n,2\n"a, b",3\n')
    points = read_points(path, ids="name")
    assert points.ids == ("a, b", "", "a, b") and points.names == ("x",)


def test_a_matrix_from_npy(tmp_path):
    path = tmp_path / "p.npy"
    path.write_bytes(npy(np.array([[0.9, 0.1], [0.4, 0.6]])))
    np.testing.assert_allclose(read_matrix(path, 2), [[0.9, 0.1], [0.4, 0.6]])
    path.write_bytes(npy(np.array([[0.9, 0.1], [0.4, 0.5]])))
    with pytest.raises(CommandError, match="--matrix .*, row 1: got a row that sums to 0.9"):
        read_matrix(path, 2)


def test_without_pyarrow_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    path = tmp_path / "p.parquet"
    path.write_bytes(table(a=[1.0]))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CommandError, match=r'pip install "mepjax\[files\]"'):
        read_points(path)


# --- Longitude and latitude. -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "columns", "names", "lonlat"),
    [
        ("lat,lon", None, ("lon", "lat"), (0, 1)),
        ("Longitude,LATITUDE", None, ("Longitude", "LATITUDE"), (0, 1)),
        ("lat,lng", "lat,lng", ("lat", "lng"), (1, 0)),
        ("a,b", "b,a", ("b", "a"), (0, 1)),
        ("lat,east", "lat,east", ("lat", "east"), (1, 0)),
        ("north,long", "north,long", ("north", "long"), (1, 0)),
    ],
)
def test_longitude_and_latitude_are_recognised(tmp_path, header, columns, names, lonlat):
    path = tmp_path / "p.csv"
    path.write_text(f"speed,{header},note\n30,51.5,-0.1,x\n50,51.6,0.1,y\n")
    points = read_points(path, columns=columns, lonlat=True)
    assert points.names == names and points.lonlat == lonlat
    title = header.split(",")
    for index, name in enumerate(names):
        expected = [51.5, 51.6] if title.index(name) == 0 else [-0.1, 0.1]
        np.testing.assert_array_equal(points.x[:, index], expected)


def test_more_columns_than_longitude_and_latitude(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("speed,lat,lon\n30,51.5,-0.1\n50,51.6,0.1\n")
    points = read_points(path, columns="speed,lat,lon", lonlat=True)
    assert points.names == ("speed", "lat", "lon") and points.lonlat == (2, 1)


@pytest.mark.parametrize(
    ("text", "columns", "says"),
    [
        ("x,y\n1,2\n", None, "among them no longitude"),
        ("lon,y\n1,2\n", None, "among them no latitude"),
        ("lon,lng,lat\n1,2,3\n", None, "among them more than one longitude"),
        ("lon,lat,lat\n1,2,3\n", None, "among them more than one latitude"),
        ("x,y,z\n1,2,3\n", "x,y,z", "among them no longitude"),
        ("lon,lng\n1,2\n", "lon,lng", "among them no latitude"),
        ("lon,lat\n181,2\n", None, "line 2, column 'lon': got 181; expected a longitude from -180"),
        ("lon,lat\n1,-90.5\n", None, "column 'lat': got -90.5; expected a latitude from -90 to 90"),
        ("lon,lat\n51,-0.1\n52,-120\n", None, "line 3.*swapped"),
        ("lon,lat\n1,nan\n", None, "got nan; expected a finite number"),
    ],
)
def test_what_is_no_longitude_or_latitude(tmp_path, text, columns, says):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(CommandError, match=says):
        read_points(path, columns=columns, lonlat=True)
