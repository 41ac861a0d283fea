"""Two hundred files and options that must end in one line, not in a traceback or half a result."""

import gzip
import io
import os
import pickle
import re
import stat
import struct
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mepjax.cli.app import run
from mepjax.cli.commands import cluster as command
from mepjax.cli.errors import CommandError
from mepjax.cli.tables.points import Points, read_points

from .test_formats import X, npy, npz, table

GOOD = b"x,y,w,name\n1,2,1,a\n3,4,2,b\n5,7,1,c\n"


class Bomb:
    """Unpickling this would be seen."""

    def __reduce__(self):
        return (os.mkdir, ("unpickled",))


def header(text: str, version=(1, 0), data: bytes = b"\0" * 64) -> bytes:
    size = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text.encode("latin-1") + data


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("_", "."), content)
    return stream.getvalue()


def flipped(content: bytes, at: int) -> bytes:
    at %= len(content)
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


SHAPE = "{'descr': '<f8', 'fortran_order': False, 'shape': %s, }\n"
HUGE = "9" * 400
NPY, NPZ, PARQUET = npy(X), npz(a=X), table(x=[1.0, 2.0], y=[3.0, 4.0], name=["p", "q"])
GZIP = gzip.compress(GOOD)

# Content, options, and what the complaint says.
TEXT = [
    (b"", {}, "empty file"),
    (b"\xef\xbb\xbf", {}, "empty file|no rows"),
    (b"\n\n\r\n", {}, "empty file"),
    (b"\r", {}, "empty file"),
    (b",", {}, "no rows"),
    (b",,,\n,,,\n", {}, "no rows"),
    (b"#\n#\n", {}, "no rows"),
    (b"\t\t\t", {}, "empty file"),
    (b"x", {}, "no row of points"),
    (b"x,y", {}, "no row of points"),
    (b"\0", {}, "binary file"),
    (b"1,2\0\n3,4\n", {}, "binary file"),
    (b"\xff\xfe1\x00,\x002\x00", {}, "binary file"),
    (b"x,y\n1,\xe9\n", {}, "UTF-8"),
    (bytes(range(256)), {}, "binary file"),
    (b"\x80" * 500, {}, "binary file"),
    (b"%PDF-1.4\n%\xe2\xe3\n", {}, "binary file"),
    (b"<html><body>404</body></html>", {}, "a web page .HTML.; export the table"),
    (b'{"a": [1, 2]}', {}, "got JSON; convert it"),
    (b"x,y\n1,2\n3\n", {}, "line 3: got 1 cells; expected 2"),
    (b"x,y\n1,2,3\n", {}, "got 3 cells|got 2 cells|expected"),
    (b"x,y\n1;2\n3;4\n", {}, "expected"),
    (b"1,2\n3;4\n5\t6\n", {}, "expected"),
    (b"1,2\n1 2\n", {}, "expected"),
    (b"x,y\n1,2\n\n3,4,\n", {}, "line 4: got 3 cells"),
    (b"x,y\n1,NaN\n", {}, "got NaN; expected a finite number"),
    (b"x,y\n1,nan\n", {}, "got nan"),
    (b"x,y\n1,+nan\n", {}, "got .nan"),
    (b"x,y\n1,Infinity\n", {}, "got Infinity"),
    (b"x,y\n-inf,1\n", {}, "got -inf"),
    (b"x,y\n1,1e400\n", {}, "got 1e400"),
    (b"x,y\n1,NULL\n2,3\n", {}, "got 'NULL'"),
    (b"x,y\n1,\n2,3\n", {}, "an empty cell"),
    (b"x,y\n1,?\n2,3\n", {}, "got '\\?'"),
    (b"x,y\n1,1/2\n2,3\n", {}, "got '1/2'"),
    (b"x,y\n1,0x1F\n2,3\n", {}, "got '0x1F'"),
    (b"x,y\n1,1_0\n2,3\n", {}, "got '1_0'"),
    (b"x,y\n1,12%\n2,3\n", {}, "got '12%'"),
    (b"x,y\n1,1+2j\n2,3\n", {}, "got '1.2j'"),
    (b"x,y\n1,True\n2,3\n", {}, "got 'True'"),
    (b"x;y\n1;2,5\n3;4.5\n", {}, "decimal point"),
    (b"x\n" + HUGE.encode() + b"\n", {}, "got 999"),
    (b"x,y\n1," + b"a" * 100_000 + b"\n2,3\n", {}, "got 'aaa"),
    (b'x,y\n1,"2\n3,4\n', {}, "expected"),
    (b'x,y\n"1,2\n3,4\n', {}, "expected"),
    (b"x,y\n" + b"1," * 20_000 + b"1\n", {}, "cells; expected"),
    (b"x," * 5_000 + b"x\n" + b"1,2\n", {}, "cells; expected"),
    (b"x,y\n\xe2\x88\x921,2\n3,4\n", {}, "got '\N{MINUS SIGN}1'"),
    (b"1,a\n2,b\n", {}, "--header or --no-header"),
    (b"a,1\n", {"header": True}, "no row of points"),
    (b"a,b\n1,2\n", {"header": False}, "got 'a'"),
    (b"\xf0\x9f\x98\x80,y\nz,1\n", {}, "is not numeric"),
    (b"=cmd(),y\n<b>,1\n", {}, "'=cmd\\(\\)' is not numeric"),
    (b"x\xc2\xa0,y\nq,1\n", {}, "not numeric"),
    (b"a\x1b[31m,y\nq,1\n", {}, "not numeric"),
]

COLUMNS = [
    ({"columns": "z"}, "--columns: got 'z'; expected one of 'x'"),
    ({"columns": "X"}, "--columns: got 'X'"),
    ({"columns": ""}, "--columns: got ''"),
    ({"columns": ","}, "--columns: got ','"),
    ({"columns": "x,"}, "--columns: got 'x,'"),
    ({"columns": " "}, "--columns: got ' '"),
    ({"columns": "x,x"}, "twice"),
    ({"columns": "x,0"}, "twice"),
    ({"columns": "-1"}, "got '-1'"),
    ({"columns": "4"}, "got '4'"),
    ({"columns": "1.0"}, "got '1.0'"),
    ({"columns": "1e0"}, "got '1e0'"),
    ({"columns": HUGE}, "got '999"),
    ({"columns": "\u0661"}, "--columns: got"),
    ({"columns": "\u00b2"}, "--columns: got"),
    ({"columns": "x\ny"}, "--columns: got"),
    ({"columns": '"x"y'}, "--columns: got 'xy'"),
    ({"columns": "x;y"}, "got 'x;y'"),
    ({"columns": "../x"}, "got '../x'"),
    ({"columns": "x" * 10_000}, "got 'xxx"),
    ({"columns": "name"}, "'name' is not numeric"),
    ({"columns": "x,w", "weights": "w"}, "also the --weights column"),
    ({"columns": "x,2", "weights": "w"}, "also the --weights column"),
    ({"columns": "x,y", "ids": "x"}, "also the --ids column"),
    ({"weights": "v"}, "--weights: got 'v'"),
    ({"weights": ""}, "--weights: got ''"),
    ({"weights": "name", "columns": "x"}, "column 'name' is not numeric"),
    ({"weights": "x,y"}, "--weights: got 'x,y'"),
    ({"ids": "none"}, "--ids: got 'none'"),
    ({"ids": "9"}, "--ids: got '9'"),
    ({"array": "a"}, "--array: got 'a' beside a file of another kind"),
    ({"array": ""}, "--array: got ''"),
    ({"lonlat": True, "ids": "name"}, "among them no longitude"),
    ({"lonlat": True, "columns": "x"}, "among them no longitude"),
    ({"lonlat": True, "columns": "x,y,w"}, "among them no longitude"),
]

WEIGHTS = [
    (b"x,w\n1,-1\n2,1\n", "--weights, line 2: got -1; expected >= 0"),
    (b"x,w\n1,1\n2,-1e-300\n", "--weights, line 3"),
    (b"x,w\n1,0\n2,0\n", "sum to 0"),
    (b"x,w\n1,nan\n2,1\n", "got nan"),
    (b"x,w\n1,inf\n2,1\n", "got inf"),
    (b"x,w\n1,1e308\n2,1e308\n", "sum to inf"),
    (b"x,w\n1,\n2,1\n", "an empty cell"),
    (b"x,w\n1,heavy\n2,1\n", "got 'heavy'"),
    (b"w\n1\n2\n", "no column but the weights"),
    (b"x,w,w\n1,2,3\n", "the name of 2 columns"),
    (npy(np.array([[1.0, 2.0]])), "--weights: got 'w'; expected an index from 0 to 1"),
    (table(x=[1.0], w=["a"]), "column 'w' is not numeric, it has the type"),
    (table(x=[1.0, 2.0], w=[1.0, None]), "row 1, column 'w': got an empty cell"),
    (table(x=[1.0, 2.0], w=[1.0, -2.0]), "--weights, row 1: got -2"),
    (table(x=[1.0], w=[float("nan")]), "row 0, column 'w': got nan"),
]

DEGREES = [
    (b"lon,lat\n180.1,0\n", "got 180.1; expected a longitude"),
    (b"lon,lat\n-181,0\n", "got -181"),
    (b"lon,lat\n359,0\n", "got 359"),
    (b"lon,lat\n0,91\n", "perhaps the two columns are swapped"),
    (b"lon,lat\n170,91\n", "got 91; expected a latitude from -90 to 90"),
    (b"lon,lat\n0,-1e300\n", "got -1e.300"),
    (b"lon,lat\n0,nan\n", "got nan"),
    (b"lon,lat\n51 30 N,0\n1,2\n", "got '51 30 N'"),
    (b"lon,lat\n530000,180000\n", "got 530000"),
    (b"Lon,LON,lat\n1,2,3\n", "more than one longitude"),
    (b"latitude\n1\n", "no longitude"),
    (b"easting,northing\n1,2\n", "no longitude"),
    (table(lon=[1.0], lat=[99.0]), "row 0, column 'lat': got 99"),
    (table(lon=["1"], lat=[9.0]), "column 'lon' is not numeric"),
    (NPY, "no longitude"),
]

BINARY = [
    # NPY
    (b"\x93NUMPY", {}, "broken NPY"),
    (b"\x93NUMPY\x01", {}, "broken NPY"),
    (b"\x93NUMPY\x09\x00" + NPY[8:], {}, "broken NPY"),
    (b"\x93NUMPY\x03\x00" + NPY[8:], {}, "broken NPY"),
    (NPY[:40], {}, "broken NPY"),
    (NPY[:-1], {}, "broken NPY file .it ends before 2 x 3 numbers"),
    (NPY[:128], {}, "it ends before"),
    (header("{"), {}, "broken NPY"),
    (header("__import__('os').mkdir('unpickled')"), {}, "broken NPY"),
    (header("[" * 5000), {}, "broken NPY"),
    (header("(" * 200 + ")" * 200), {}, "broken NPY"),
    (header("{'descr': '<f8'}"), {}, "broken NPY"),
    (header(SHAPE % "(-1, 2)"), {}, "broken NPY"),
    (header(SHAPE % "(1.5, 2)"), {}, "broken NPY"),
    (header(SHAPE % "'ab'"), {}, "broken NPY"),
    (header(SHAPE % "(10**30, 2)"), {}, "broken NPY"),
    (header(SHAPE % f"({10**15}, 2)"), {}, "it ends before"),
    (header(SHAPE % f"({10**30}, {10**30})"), {}, "it ends before"),
    (header(SHAPE % f"({2**62}, 4)"), {}, "it ends before"),
    (header(SHAPE % "(2, 2)", data=b"\xff" * 32), {}, "got nan"),
    (header(SHAPE % "(2, 2)" + " " * 20_000, version=(2, 0)), {}, "broken NPY"),
    (header((SHAPE % "(2, 2)").replace("<f8", "<q9")), {}, "broken NPY"),
    (npy(np.float64(3.0)), {}, "0 dimensions"),
    (npy(np.arange(5.0)), {}, "1 dimensions .5.; expected 2, one point a row; for one feature"),
    (npy(np.zeros((2, 2, 2))), {}, "3 dimensions"),
    (npy(np.zeros((0, 2))), {}, "got an array of 0 x 2"),
    (npy(np.zeros((2, 0))), {}, "got an array of 2 x 0"),
    (npy(np.zeros(0)), {}, "1 dimensions"),
    (npy(X + 1j), {}, "complex numbers"),
    (npy(X > 0), {}, "true and false"),
    (npy(X.astype("M8[s]")), {}, "dates"),
    (npy(X.astype("m8[s]")), {}, "durations"),
    (npy(X.astype(str)), {}, "words"),
    (npy(X.astype(bytes)), {}, "bytes"),
    (npy(np.array([(1, 2.0)], dtype="i4,f8")), {}, "records"),
    (npy(np.array([[Bomb()]], dtype=object), allow_pickle=True), {}, "never unpickled"),
    (npy(np.array([[10**30, 1]], dtype=object), allow_pickle=True), {}, "never unpickled"),
    (pickle.dumps(Bomb()), {}, "binary file"),
    (npy(X * np.nan), {}, "row 0, column 'column_0': got nan"),
    (npy(np.array([[1.0, np.inf]])), {}, "column 'column_1': got inf"),
    (npy(np.full((1, 2), np.finfo(np.longdouble).max)), {}, "expected a finite number"),
    (NPY, {"columns": "x"}, "--columns: got 'x'; expected an index from 0 to 2"),
    (NPY, {"columns": "3"}, "expected an index from 0 to 2"),
    (NPY, {"header": True}, "--header: got it beside a binary file"),
    (NPY, {"header": False}, "--no-header: got it beside a binary file"),
    (NPY, {"array": "a"}, "with NPZ only"),
    # NPZ
    (NPZ[: len(NPZ) // 2], {}, "broken NPZ"),
    (NPZ[:-1], {}, "broken NPZ"),
    (NPZ[:4], {}, "broken NPZ"),
    (b"PK\x05\x06" + b"\0" * 18, {}, "archive without an array"),
    (flipped(NPZ, len(NPZ) // 3), {}, "broken NP"),
    (zipped(a_txt=b"hello"), {}, "got a zip archive of text; unpack it"),
    (zipped(a_bin=b"hello"), {}, "archive without an array"),
    (zipped(a_npy=b"hello"), {}, "broken NPY"),
    (zipped(a_npy=b""), {}, "broken NPY"),
    (zipped(a_npy=NPY[:-3]), {}, "broken NPY"),
    (zipped(a_npy=npy(np.array([Bomb()]), allow_pickle=True)), {}, "never unpickled"),
    (npz(a=X, b=X), {}, "got 2 arrays, 'a', 'b'; expected one, or a choice with --array"),
    (npz(**{f"array{i}": X for i in range(40)}), {}, "got 40 arrays"),
    (npz(a=X, b=X), {"array": "c"}, "--array: got 'c'; expected one of 'a', 'b'"),
    (npz(a=X), {"array": ""}, "--array: got ''"),
    (npz(a=X > 0), {}, "true and false"),
    (npz(a=np.float64(1)), {}, "0 dimensions"),
    (npz(a=X, b=X[0]), {"array": "b"}, "1 dimensions"),
    # Parquet
    (b"PAR1", {}, "broken Parquet"),
    (b"PAR1" + b"\0" * 100, {}, "broken Parquet"),
    (b"PAR1" + b"\0" * 4 + b"PAR1", {}, "broken Parquet"),
    (PARQUET[: len(PARQUET) // 2], {}, "broken Parquet"),
    (PARQUET[:-1], {}, "broken Parquet"),
    (PARQUET[:-20] + b"\xff" * 12 + PARQUET[-8:], {}, "broken Parquet"),
    (table(x=pa.array([], pa.float64())), {}, "got 0 rows and 1 columns"),
    (table(), {}, "0 rows and 0 columns"),
    (table(__index_level_0__=[1, 2]), {}, "0 columns"),
    (table(x=["a", "b"]), {}, "'x' is not numeric, it has the type"),
    (table(x=[True, False]), {}, "it has the type bool"),
    (table(x=[[1.0], [2.0]]), {}, "it has the type list"),
    (table(x=[{"a": 1}]), {}, "it has the type struct"),
    (table(x=[b"a"]), {}, "it has the type binary"),
    (table(x=pa.array([1], pa.date32())), {}, "it has the type date32"),
    (table(x=pa.nulls(3)), {}, "it has the type null"),
    (table(x=[1.0, None]), {}, "row 1, column 'x': got an empty cell"),
    (table(x=[1.0, float("inf")]), {}, "row 1, column 'x': got inf"),
    (table(x=[1.0], y=["a"]), {}, "for instance --columns x"),
    (PARQUET, {"columns": "z"}, "--columns: got 'z'; expected one of 'x', 'y', 'name'"),
    (PARQUET, {"columns": "name"}, "'name' is not numeric"),
    (PARQUET, {"header": True}, "--header: got it beside a binary file"),
    (PARQUET, {"array": "x"}, "with NPZ only"),
    # gzip
    (GZIP[:2], {}, "broken gzip"),
    (GZIP[:-1], {}, "broken gzip"),
    (GZIP[: len(GZIP) // 2], {}, "broken gzip"),
    (flipped(GZIP, -6), {}, "broken gzip"),
    (flipped(GZIP, 14), {}, "broken gzip"),
    (GZIP + b"trailing", {}, "broken gzip"),
    (gzip.compress(b""), {}, "empty file"),
    (gzip.compress(b"\n"), {}, "empty file"),
    (gzip.compress(NPY), {}, "binary file"),
    (gzip.compress(GZIP), {}, "binary file"),
    (gzip.compress(b"x,y\n1\n2,3,4\n"), {}, "expected"),
    (b"BZh91AY&SY" + b"\x80" * 30, {}, "binary file"),
]  # fmt: skip

TABLE = [
    *TEXT,
    *((GOOD, options, says) for options, says in COLUMNS),
    *((content, {"weights": "w"}, says) for content, says in WEIGHTS),
    *((content, {"lonlat": True}, says) for content, says in DEGREES),
    *BINARY,
]


def test_there_are_two_hundred():
    assert len(TABLE) >= 200


@pytest.mark.parametrize(
    ("content", "options", "says"), TABLE, ids=[str(i) for i in range(len(TABLE))]
)
def test_a_hostile_file_is_one_sentence(tmp_path, monkeypatch, content, options, says):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "points"
    path.write_bytes(content)
    with pytest.raises(CommandError, match=says) as caught:
        read_points(path, **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 700 and caught.value.code == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["points"]


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(tmp_path, monkeypatch):
    from mepjax.cli.tables import binary, delimited

    monkeypatch.setattr(delimited, "LARGEST", 1000)
    monkeypatch.setattr(binary, "LARGEST", 1000)
    for content, says in (
        (gzip.compress(b"1,2\n" * 1000), "more than 1000 bytes of text"),
        (npz(a=np.zeros((1000, 2))), "more than 1000 bytes"),
        (table(x=np.zeros(1000)), "got 1000 cells; expected at most 125"),
    ):
        path = tmp_path / "points"
        path.write_bytes(content)
        with pytest.raises(CommandError, match=says):
            read_points(path)


def _read_or_complain(path, content, **options):
    path.write_bytes(content)
    try:
        points = read_points(path, **options)
    except CommandError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(points, Points) and np.all(np.isfinite(points.x))


QUICK = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@QUICK
@given(content=st.binary(max_size=200))
def test_any_bytes(tmp_path, content):
    _read_or_complain(tmp_path / "points", content)


@QUICK
@given(
    start=st.sampled_from([NPY, NPZ, GZIP, PARQUET, GOOD]), at=st.integers(0, 10_000),
    byte=st.integers(0, 255), length=st.integers(1, 10_000),
)  # fmt: skip
def test_damaged_files(tmp_path, start, at, byte, length):
    at %= len(start)
    damaged = start[:at] + bytes([byte]) + start[at + 1 :]
    _read_or_complain(tmp_path / "points", damaged[:length])


@QUICK
@given(
    text=st.text(st.sampled_from('1.,;\t|e-+ax "#\r\n\u00e9'), max_size=60),
    columns=st.none() | st.text(st.sampled_from('01x,"- '), max_size=5),
    header=st.none() | st.booleans(),
    lonlat=st.booleans(),
)
def test_any_text_and_columns(tmp_path, text, columns, header, lonlat):
    _read_or_complain(
        tmp_path / "points", text.encode(), columns=columns, header=header, lonlat=lonlat
    )


# --- The whole command, which must not come as far as a solve. ---------------------------------

FILES = {
    "good.csv": GOOD,
    "good.npy": NPY,
    "good.npz": npz(a=X, b=X[:, :2]),
    "good.parquet": PARQUET,
    "map.csv": b"lon,lat,name\n-0.1,51.5,a\n0.1,51.6,b\n",
    "bad.csv": b"x,y\n1,nan\n",
    "bad.npy": NPY[:-1],
    "bad.npz": npz(a=np.array([Bomb()])),
    "bad.parquet": PARQUET[:-1],
    "bad.csv.gz": GZIP[:-1],
    "map_bad.csv": b"lon,lat\n-0.1,151.5\n",
}
COMMANDS = [
    ("good.csv", ["--ids", "id"], "--ids: got 'id'; expected one of"),
    ("good.csv", ["--ids", "x", "--columns", "x"], "also the --ids column"),
    ("good.csv", ["--lonlat"], "--lonlat: got columns 'x', 'y', 'w', 'name'"),
    ("good.csv", ["--lonlat", "--columns", "x"], "no longitude"),
    ("good.csv", ["--array", "a"], "with NPZ only"),
    ("good.csv", ["--columns", "x,y", "--animate", "yes"], "unexpected extra argument|yes"),
    ("good.csv", ["--columns", "x,y", "--out", "file"], "got a file; expected a folder"),
    ("good.csv", ["--columns", "x,y", "--out", "file/deeper"], "cannot be written"),
    ("good.csv", ["--columns", "x,y", "--out", "good.csv"], "got a file; expected a folder"),
    ("good.csv", ["--columns", "x,y", "--out", "/proc/none"], "cannot be written"),
    ("good.csv", ["--columns", "x,y", "--out", "a\0b"], "cannot be written|null"),
    ("good.csv", ["--columns", "x,y", "--out", "n" * 300], "cannot be written"),
    ("good.csv", ["--columns", "x,y", "--out", "earlier"], "has report.html; .* or --force"),
    ("good.csv", ["--columns", "x,y", "--out", "film"], "has anneal.gif"),
    ("good.csv", ["--columns", "x,y", "--out", "map"], "has centres.geojson"),
    ("good.csv", ["--columns", "x,y", "--out", "folder"], "a folder named report.html"),
    ("good.csv", ["--columns", "x,y", "--out", "folder", "--force"], "a folder named report.html"),
    ("good.csv", ["--columns", "x,y", "--out", "dangling"], "got a file"),
    ("good.csv", ["-k", "4", "--columns", "x,y"], "at most one cluster a point, 3"),
    ("good.csv", ["--columns", "x,y", "--weights", "w", "--ids", "w", "-k", "9"], "at most one"),
    ("good.npz", [], "got 2 arrays, 'a', 'b'"),
    ("good.npz", ["--array", "z"], "--array: got 'z'"),
    ("good.npy", ["--header"], "--header: got it beside a binary file"),
    ("good.npy", ["--no-header"], "--no-header: got it"),
    ("good.npy", ["--columns", "x"], "an index from 0 to 2"),
    ("good.parquet", [], "column 'name' is not numeric"),
    ("good.parquet", ["--lonlat", "--ids", "name"], "no longitude"),
    ("good.parquet", ["--columns", "x", "--matrix", "bad.npy"], "--matrix 'bad.npy': got a broken"),
    ("good.parquet", ["--columns", "x", "--matrix", "good.npy"], "got 2 rows and 3 columns"),
    ("good.parquet", ["--columns", "x", "--matrix", "bad.csv.gz"], "--matrix 'bad.csv.gz': got a"),
    ("map.csv", ["--lonlat", "--columns", "lon,name"], "'name' is not numeric"),
    ("map.csv", ["--lonlat", "--weights", "lat"], "no latitude"),
    ("map.csv", ["--lonlat", "--ids", "lon"], "no longitude"),
    ("map.csv", ["--lonlat", "--weights", "lon", "--columns", "lon,lat"], "also the --weights"),
    ("map_bad.csv", ["--lonlat"], "got 151.5; expected a latitude"),
    ("bad.csv", [], "got nan"),
    ("bad.npy", [], "broken NPY"),
    ("bad.npz", [], "never unpickled"),
    ("bad.parquet", [], "broken Parquet"),
    ("bad.csv.gz", [], "broken gzip"),
    ("absent.parquet", [], "no such file"),
    ("a\0b", [], "null (byte|character)"),
    ("n" * 300, [], "cannot be read"),
    (".", [], "got a folder"),
    ("", [], "got a folder"),
    ("loop", [], "cannot be read"),
    (None, ["--ids", "0"], "--ids: got '0' without a file"),
    (None, ["--lonlat"], "--lonlat: got it without a file"),
    (None, ["--array", "a"], "--array: got 'a' without a file"),
    (None, ["--columns", "x"], "--columns: got 'x' without a file"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "says"), COMMANDS, ids=[str(i) for i in range(len(COMMANDS))]
)
def test_a_hostile_command_is_one_line_and_leaves_nothing(
    tmp_path, monkeypatch, capsys, name, arguments, says
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEPJAX_DEBUG", "1")  # a bug would raise
    for file, content in FILES.items():
        (tmp_path / file).write_bytes(content)
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    for folder, file in (
        ("earlier", "report.html"), ("film", "anneal.gif"), ("map", "centres.geojson"),
    ):  # fmt: skip
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text("old")
    (tmp_path / "folder" / "report.html").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(command, "solve", lambda *inputs: pytest.fail("came to a solve"))
    k = [] if "-k" in arguments or name is None else ["-k", "2"]
    code = run(["cluster", *([] if name is None else [name]), *k, *arguments])
    captured = capsys.readouterr()
    assert code == 2 and captured.out == ""
    assert captured.err.startswith("mepjax: error: ") and captured.err.count("\n") == 1
    assert re.search(says, captured.err), captured.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read anything"
)
def test_a_file_without_permission(tmp_path):
    path = tmp_path / "points.csv"
    path.write_bytes(GOOD)
    path.chmod(0)
    try:
        with pytest.raises(CommandError, match="cannot be read"):
            read_points(path)
    finally:
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
