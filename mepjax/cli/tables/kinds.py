"""Files that are no table this command reads, by their names, and what to do with them."""

import io
import json
import zipfile

# How files of a kind begin, what it is called, and what is to be done instead.
_BINARY = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook (xls)", "save it as CSV"),
    (b"%PDF", "a PDF, a binary file", "export the table as CSV"),
    (b"ARROW1", "an Arrow file (Feather)", "save it as Parquet"),
    (b"\x89HDF", "an HDF5 file", "save the array as NPY or the table as Parquet"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (b"MATLAB 5.0", "a MATLAB file", "save the matrix as CSV"),
    (b"\xff\xfe", "text in UTF-16 or a binary file", "save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16 or a binary file", "save it as UTF-8"),
)
_XML = ((b"<kml", "KML"), (b"<gpx", "GPX"), (b"<html", "a web page (HTML)"))
_GEOJSON = {"FeatureCollection", "Feature", "GeometryCollection", "Point", "MultiPoint"}
_LOOKED_AT = 2000


def refusal(raw: bytes) -> str | None:
    """What the file is and what to do, if it is known and is no table; else `None`."""
    for start, kind, remedy in _BINARY:
        if raw.startswith(start):
            return f"got {kind}; {remedy}"
    if raw.startswith(b"PK\x03\x04"):
        return _of_archive(raw)
    head = raw.removeprefix(b"\xef\xbb\xbf").lstrip()[:_LOOKED_AT]
    if head.startswith((b"{", b"[")):
        return _of_json(raw)
    if head.startswith(b"<"):
        lower = head.lower()
        kind = next((name for tag, name in _XML if tag in lower), None)
        if kind is None and (b"<!doctype html" in lower or b"<?xml" not in lower):
            return None
        return f"got {kind or 'XML'}; export the table as CSV"
    return None


def _of_archive(raw: bytes) -> str | None:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as file:
            names = [name.lower() for name in file.namelist()]
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return None
    if any(name.endswith(".npy") for name in names):
        return None
    if "xl/workbook.xml" in names:
        return "got an Excel workbook (xlsx); save the sheet as CSV"
    if "content.xml" in names:
        return "got an OpenDocument file; save the sheet as CSV"
    if any(name.endswith(".shp") for name in names):
        return "got a shapefile; export its attributes with the coordinates as CSV"
    tables = any(name.endswith((".csv", ".tsv", ".txt", ".parquet")) for name in names)
    return "got a zip archive of text; unpack it" if tables else None


def _of_json(raw: bytes) -> str | None:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return _of_json_lines(raw)
    if isinstance(found, dict) and found.get("type") in _GEOJSON:
        return (
            "got GeoJSON; give the table it was made from (such as the CSV that was written beside "
            "it), or convert it to CSV with columns lon and lat"
        )
    return "got JSON; convert it to CSV"


def _of_json_lines(raw: bytes) -> str | None:
    try:
        found = json.loads(raw.lstrip().split(b"\n", 1)[0])
    except (ValueError, RecursionError):
        return None
    return "got JSON lines; convert them to CSV" if isinstance(found, dict) else None
