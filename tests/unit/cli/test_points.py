import numpy as np
import pytest

from mepjax.cli.errors import CommandError
from mepjax.cli.tables.points import read_matrix, read_points


def _write(tmp_path, content):
    path = tmp_path / "points.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        "x,y\n1,2.5\n3,-4e1\n",
        "1,2.5\n3,-4e1\n",
        "x;y\r\n1;2.5\r\n3;-4e1\r\n",
        "x\ty\n1\t2.5\n3\t-4e1\n",
        "x|y\n1|2.5\n3|-4e1\n",
        "x y\n1   2.5\n  3 -4e1  \n",
        "x, y\n1, 2.5\n3, -4e1",
        '"x","y"\n"1","2.5"\n"3","-4e1"\n',
        b"\xef\xbb\xbfx,y\n1,2.5\n3,-4e1\n",
        "# made by hand\n\nx,y\n1,2.5\n\n # more\n3,-4e1\n\n",
        "x,y\r1,2.5\r3,-4e1\r",
    ],
)
def test_the_same_points_in_every_dress(tmp_path, content):
    points = read_points(_write(tmp_path, content))
    np.testing.assert_array_equal(points.x, [[1, 2.5], [3, -40]])
    assert points.weights is None
    assert points.names in (("x", "y"), ("column_0", "column_1"))


def test_columns_and_weights_by_name_and_index(tmp_path):
    path = _write(tmp_path, 'name,"a, b",y,w\nLondon,1,2,0\nParis,3,4,5\n')
    points = read_points(path, columns='y,"a, b"', weights="w")
    np.testing.assert_array_equal(points.x, [[2, 1], [4, 3]])
    np.testing.assert_array_equal(points.weights, [0, 5])
    assert points.names == ("y", "a, b")
    points = read_points(path, columns="2", weights="3")
    np.testing.assert_array_equal(points.x, [[2], [4]])
    # Names win over indices, and weights are no coordinate.
    points = read_points(_write(tmp_path, "1,0\n7,8\n"), columns="1", header=True)
    np.testing.assert_array_equal(points.x, [[7]])
    points = read_points(_write(tmp_path, "x,w\n7,8\n"), weights="w")
    np.testing.assert_array_equal(points.x, [[7]])


def test_one_column_needs_no_separator(tmp_path):
    np.testing.assert_array_equal(read_points(_write(tmp_path, "x\n1\n2\n")).x, [[1], [2]])


def test_many_columns_of_words_are_ignored_when_not_chosen(tmp_path):
    path = _write(tmp_path, "street name;x;note to self\nMain St;1;a b c\nHigh St;2;\n")
    np.testing.assert_array_equal(read_points(path, columns="x").x, [[1], [2]])


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        ("", {}, "empty file"),
        (" \n\n", {}, "empty file"),
        ("# only this\n", {}, "no rows"),
        ("x,y\n", {}, "no row of points"),
        ("x,y\n1,2\n3\n", {}, "line 3: got 1 cells; expected 2"),
        ("1,2\n3,4,5\n", {}, "line 2: got 3 cells; expected 2"),
        ("x,y\n1,2\n3,4\n5,6,7\n", {}, "line 4: got 3 cells; expected 2, as in line 1"),
        ("x,y\n1,nan\n", {}, "line 2, column 'y': got nan; expected a finite number"),
        ("x,y\n1,2\n-inf,2\n", {}, "line 3, column 'x': got -inf"),
        ("x,y\n1,2\n1,1e999\n", {}, "got 1e999; expected a finite number"),
        ("x,y\n1,2\n1,\n", {}, "line 3, column 'y': got an empty cell"),
        ("x,y\n1,2\n1,N/A\n", {}, "line 3, column 'y': got 'N/A'; expected a number"),
        ("x;y\n1;2.5\n1;2,5\n", {}, "expected a number with a decimal point"),
        ("x,y\n1,2\n1,1_000\n", {}, "got '1_000'"),
        ("name,x\nLondon,1\nParis,2\n", {}, "column 'name' is not numeric, it has 'London'"),
        ("name,x\nLondon,1\nParis,2\n", {}, "--columns x"),
        ("name,x\nLondon,1\n", {"columns": "0"}, "column 'name' is not numeric"),
        ("London,1\nParis,2\n", {}, "--header or --no-header"),
        ("London,1\nParis,2\n", {"header": False}, "column 'column_0' is not numeric"),
        ("x,y\n1,2\n", {"header": False}, "column 'column_0': got 'x'"),
        ("x,y\n1,2\n", {"columns": "x,z"}, "--columns: got 'z'; expected one of 'x', 'y', or an"),
        ("x,y\n1,2\n", {"columns": "x,x"}, "--columns: got 'x' twice"),
        ("x,y\n1,2\n", {"columns": "x,0"}, "--columns: got '0' twice"),
        ("x,y\n1,2\n", {"columns": ""}, "--columns: got ''"),
        ("x,y\n1,2\n", {"columns": "x,,y"}, "--columns: got 'x,,y'"),
        ("x,y\n1,2\n", {"columns": "2"}, "--columns: got '2'"),
        ("x,y\n1,2\n", {"columns": "-1"}, "--columns: got '-1'"),
        ("x,y\n1,2\n", {"columns": "9" * 5000}, "--columns: got '999"),
        ("1,2\n", {"columns": "x"}, "--columns: got 'x'; expected an index from 0 to 1"),
        ("x,x\n1,2\n", {"columns": "x"}, "the name of 2 columns"),
        ("x,y\n1,2\n", {"weights": "w"}, "--weights: got 'w'"),
        ("x,w\n1,2\n", {"weights": "w", "columns": "x,w"}, "also the --weights column"),
        ("w\n1\n", {"weights": "w"}, "no column but the weights"),
        ("x,w\n1,2\n1,-2\n", {"weights": "w"}, "--weights, line 3: got -2; expected >= 0"),
        ("x,w\n1,0\n1,0\n", {"weights": "w"}, "--weights: got weights that sum to 0"),
        ("x,w\n1,1e308\n1,1e308\n", {"weights": "w"}, "--weights: got weights that sum to inf"),
        ("x,w\n1,a\n1,b\n", {"weights": "w"}, "column 'w' is not numeric"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", {}, "binary file"),
        ("x,y\n1,2\n".encode("utf-16"), {}, "text in UTF-16 or a binary file; save it as UTF-8"),
        ("größe\n1\n".encode("latin-1"), {}, "expected UTF-8"),
        ('x,y\n1,"2\n' + "3,4\n" * 50_000, {}, "broken quoting"),
    ],
)
def test_bad_files_are_named(tmp_path, content, options, says):
    with pytest.raises(CommandError) as caught:
        read_points(_write(tmp_path, content), **options)
    text = str(caught.value)
    assert says in text and "\n" not in text and len(text) < 600
    assert caught.value.code == 2


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(CommandError, match="got no such file"):
        read_points(tmp_path / "absent.csv")
    with pytest.raises(CommandError, match="got a folder"):
        read_points(tmp_path)


def test_a_matrix_of_probabilities(tmp_path):
    matrix = read_matrix(_write(tmp_path, "0.9,0.1\n0.4 ,0.6000001\n"), 2)
    np.testing.assert_allclose(matrix, [[0.9, 0.1], [0.4, 0.6]], atol=1e-6)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-15)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("0.9,0.1\n0.4,0.5\n", "line 2: got a row that sums to 0.9; expected rows that sum to one"),
        ("1.1,-0.1\n0.4,0.6\n", "line 1: got -0.1"),
        ("0.9,0.1\n", "got 1 rows and 2 columns; expected 2 and 2 for -k 2"),
        ("0.9,0.1\n0.4,x\n", "got 'x'"),
        ("0.9,0.1\n0.4,nan\n", "got nan"),
    ],
)
def test_bad_matrices_are_named(tmp_path, content, says):
    with pytest.raises(CommandError) as caught:
        read_matrix(_write(tmp_path, content), 2)
    assert says in str(caught.value) and str(caught.value).startswith("--matrix")
