"""Users of MovieLens: weighted means of genres by hand, components, and files that are refused."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from mepjax.datasets import movielens_users
from mepjax.datasets.movielens import GENRES, _reduced

FILMS = {
    3: "Comedy|Drama", 5: "Action", 8: "Children's|Musical|Fantasy", 9: "(no genres listed)",
}  # fmt: skip
RATINGS = [(4, 3, 5), (4, 5, 1), (2, 8, 2), (2, 3, 3), (7, 5, 4), (7, 9, 2), (1, 8, 1)]


def _folder(path: Path, films=FILMS, ratings=RATINGS) -> Path:
    lines = [f"{film}::Title: {film}, caf\xe9 (1999)::{genres}" for film, genres in films.items()]
    (path / "movies.dat").write_bytes("\r\n".join(lines).encode("latin-1"))
    text = "\n".join(f"{u}::{m}::{r}::978300760" for u, m, r in ratings)
    (path / "ratings.dat").write_text(text + "\n\n")
    return path


def _by_hand() -> np.ndarray:
    rows = []
    for user in (1, 2, 4, 7):
        given = [(film, rating) for u, film, rating in RATINGS if u == user]
        total = sum(rating for _, rating in given)
        rows.append(
            [
                sum(r for film, r in given if genre in FILMS[film].split("|")) / total
                for genre in GENRES
            ]
        )
    return np.array(rows)


def test_features_are_means_of_genres_weighted_by_ratings(tmp_path):
    found = movielens_users(_folder(tmp_path), components=3)
    np.testing.assert_array_equal(found.users, [1, 2, 4, 7])
    np.testing.assert_allclose(found.shares, _by_hand(), atol=1e-15)
    assert found.genres == GENRES and found.x.shape == (4, 3)
    # Four users have three components: nothing is lost.
    np.testing.assert_allclose(found.mean + found.x @ found.components, found.shares, atol=1e-12)
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(found.explained.sum(), 1)
    assert np.all(np.diff(found.explained) <= 0)
    assert np.all(found.components.max(axis=1) >= -found.components.min(axis=1))


def test_later_editions_are_tables_with_commas(tmp_path):
    before = movielens_users(_folder(tmp_path), components=2)
    (tmp_path / "movies.csv").write_text(
        "movieId,title,genres\n"
        + "".join(
            f'{m},"Title, {m}",{g.replace(chr(39) + "s", "")}|IMAX\n' for m, g in FILMS.items()
        )
    )
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n" + "".join(f"{u},{m},{r}.0,9\n" for u, m, r in RATINGS)
    )
    after = movielens_users(str(tmp_path), components=2)
    for one, two in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, two)


def test_components_are_those_of_the_published_experiments():
    folder = Path(os.environ.get("MEPJAX_DATA_DIR", "")) / "movielens1m_users10"
    if not (folder / "users_features_18.csv.gz").exists():
        pytest.skip("needs MEPJAX_DATA_DIR")
    tables = []
    for name in ("users_features_18", "users_pca10"):
        with gzip.open(folder / f"{name}.csv.gz", "rt") as file:
            tables.append(np.loadtxt(file, delimiter=",", skiprows=1))
    features, expected = tables
    found = _reduced(features[:, 0].astype(int), features[:, 1:], 10)
    np.testing.assert_allclose(found.x, expected[:, 1:], atol=2e-7)
    np.testing.assert_allclose(found.explained.sum(), 0.94785, atol=1e-5)


@pytest.mark.parametrize(
    ("films", "ratings", "match"),
    [
        ({3: "Comedie"}, RATINGS, r"movies\.dat, line 1: a genre must be one of .* 'Comedie'"),
        ({"three": "Drama"}, RATINGS, r"movies\.dat, line 1: film must be a number; got 'three'"),
        (FILMS, [(1, 3, 4), (1, 77, 4)], r"ratings\.dat, line 2: film 77 is not among the films"),
        (FILMS, [(1, 3, 0)], r"ratings\.dat, line 1: a rating must be positive; got 0"),
        (FILMS, [(1, 3, "nan")], r"ratings\.dat, line 1: a rating must be positive; got nan"),
        (FILMS, [(1, 3, "good")], r"line 1: rating must be a number; got 'good'"),
        (FILMS, [(1, "3::5", 4)], r"ratings\.dat, line 1: must have 4 columns; got 5"),
        (FILMS, [], r"ratings\.dat has no lines"),
        (FILMS, [(1, 3, 4), (2, 3, 4)], r"`components` must be at most the number of users"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path, films, ratings, match):
    with pytest.raises(ValueError, match=f"movielens_users: .*{match}"):
        movielens_users(_folder(tmp_path, films, ratings), components=3)


def test_missing_files_and_components_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"movielens_users: `folder` .*movies\.dat is miss"):
        movielens_users(tmp_path)
    for components in (0, 19, 2.0, True):
        with pytest.raises(ValueError, match="`components` must be an int from 1 to 18"):
            movielens_users(_folder(tmp_path), components=components)  # pyright: ignore[reportArgumentType]
