"""Users of MovieLens by the genres they like, for people who hold the ratings."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

_OWNER = "movielens_users"
GENRES = (
    "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War",
    "Western",
)  # fmt: skip
# As later editions write them, and what they have beside genres.
_ALSO = {"Children": "Children's"}
_NO_GENRE = ("(no genres listed)", "IMAX")


class MovieLensUsers(NamedTuple):
    """Users, what they like, and a reduction of it.

    **Fields:**

    - `x`: components of what each user likes, the data of the published experiments.
    - `users`: the number of each in the ratings, ascending.
    - `shares`: features by `genres`: the mean of the genre indicators of what a user has rated,
        weighted by the ratings; in [0, 1], adding up to more than 1 where films have several.
    - `mean`, `components`: x = (shares - mean) components^T, with orthonormal rows whose largest
        loading is positive.
    - `explained`: of the variance of `shares`, by component.
    - `genres`: their names.
    """

    x: Float[np.ndarray, "n c"]
    users: Int[np.ndarray, " n"]
    shares: Float[np.ndarray, "n 18"]
    mean: Float[np.ndarray, " 18"]
    components: Float[np.ndarray, "c 18"]
    explained: Float[np.ndarray, " c"]
    genres: tuple[str, ...]


def movielens_users(folder: str | Path, components: int = 10) -> MovieLensUsers:
    r"""Ratings to 18 features of genres to ten components, for each user.

    **Arguments:**

    - `folder`: where MovieLens was unpacked: `ratings.dat` and `movies.dat`, with `::` between
        columns, or `ratings.csv` and `movies.csv`, with a header. MovieLens may not be passed on;
        it is had from GroupLens, for research.
    - `components`: how many, from 1 to 18.

    **Returns:** `MovieLensUsers`, in float64.

    **Raises:** `FileNotFoundError` naming the file that is missing; `ValueError` naming file and
    line of what cannot be read: columns, numbers, a film that is not among the films, a rating
    that is not positive, a genre that is none of the 18; and for too many components.

    Source: Harper and Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015; the features are those
    of autonomy-aware clustering, section 6.

    **Example:**

    ```python
    >>> import tempfile, pathlib
    >>> from mepjax.datasets import movielens_users
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "movies.dat").write_text("7::Up::Comedy|Drama\n9::Down::War\n")
    >>> _ = (folder / "ratings.dat").write_text("1::7::1::0\n1::9::3::0\n2::9::5::0\n")
    >>> found = movielens_users(folder, components=1)
    >>> found.shares[:, found.genres.index("War")].tolist()
    [0.75, 1.0]

    ```
    """
    folder = Path(folder)
    if isinstance(components, bool) or not isinstance(components, int) or not (
        1 <= components <= len(GENRES)
    ):  # fmt: skip
        raise ValueError(
            f"{_OWNER}: `components` must be an int from 1 to {len(GENRES)}; got {components!r}."
        )
    kind = "csv" if (folder / "ratings.csv").exists() else "dat"
    films = _films(_present(folder / f"movies.{kind}"))
    users, shares = _shares(_present(folder / f"ratings.{kind}"), films)
    if components > len(users):
        raise ValueError(
            f"{_OWNER}: `components` must be at most the number of users; got {components} and "
            f"{len(users)}."
        )
    return _reduced(users, shares, components)


def _present(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(
            f"{_OWNER}: `folder` must have ratings.dat and movies.dat, or ratings.csv and "
            f"movies.csv, of MovieLens; {path} is missing."
        )
    return path


def _lines(path: Path, columns: int) -> list[tuple[int, list[str]]]:
    """Columns of each line that is not empty, with its number."""
    found = []
    with open(path, encoding="utf-8" if path.suffix == ".csv" else "latin-1", newline="") as file:
        if path.suffix == ".csv":
            lines = enumerate(csv.reader(file), 1)
            next(lines, None)
        else:
            lines = enumerate((line.rstrip("\r\n").split("::") for line in file), 1)
        for number, cells in lines:
            if cells and cells != [""]:
                if len(cells) != columns:
                    raise ValueError(
                        f"{_OWNER}: {path.name}, line {number}: must have {columns} columns; got "
                        f"{len(cells)}."
                    )
                found.append((number, cells))
    if not found:
        raise ValueError(f"{_OWNER}: {path.name} has no lines.")
    return found


def _films(path: Path) -> dict[int, Float[np.ndarray, " 18"]]:
    """Indicators of the genres of each film."""
    found = {}
    for number, (film, _, genres) in _lines(path, 3):
        indicator = np.zeros(len(GENRES))
        for genre in genres.split("|"):
            genre = _ALSO.get(genre, genre)
            if genre in _NO_GENRE:
                continue
            if genre not in GENRES:
                raise ValueError(
                    f"{_OWNER}: {path.name}, line {number}: a genre must be one of "
                    f"{', '.join(GENRES)}; got {genre!r}."
                )
            indicator[GENRES.index(genre)] = 1
        found[_number(path, number, "film", film, int)] = indicator
    return found


def _number(path: Path, line: int, name: str, text: str, kind: type) -> float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(
            f"{_OWNER}: {path.name}, line {line}: {name} must be a number; got {text!r}."
        ) from None


def _shares(
    path: Path, films: dict[int, Float[np.ndarray, " 18"]]
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 18"]]:
    """Users, and the weighted means of indicators."""
    sums: dict[int, np.ndarray] = {}
    for number, (who, what, rated, _) in _lines(path, 4):
        user, film = (
            int(_number(path, number, name, text, int))
            for name, text in (("user", who), ("film", what))
        )
        rating = _number(path, number, "rating", rated, float)
        if film not in films:
            raise ValueError(
                f"{_OWNER}: {path.name}, line {number}: film {film} is not among the films."
            )
        if not 0 < rating < np.inf:
            raise ValueError(
                f"{_OWNER}: {path.name}, line {number}: a rating must be positive; got {rated}."
            )
        held = sums.setdefault(user, np.zeros(len(GENRES) + 1))
        held[:-1] += rating * films[film]
        held[-1] += rating
    users = np.array(sorted(sums))
    every = np.array([sums[user] for user in users])
    return users, every[:, :-1] / every[:, -1:]


def _reduced(
    users: Int[np.ndarray, " n"], shares: Float[np.ndarray, "n 18"], components: int
) -> MovieLensUsers:
    """Components of the centred features, not scaled."""
    mean = shares.mean(axis=0)
    _, sizes, loadings = np.linalg.svd(shares - mean, full_matrices=False)
    variance = np.sum(sizes**2)
    explained = (sizes**2 / (variance if variance > 0 else 1.0))[:components]
    loadings = loadings[:components]
    largest = np.argmax(np.abs(loadings), axis=1)
    loadings = loadings * np.sign(loadings[np.arange(components), largest])[:, None]
    x = (shares - mean) @ loadings.T
    return MovieLensUsers(x, users, shares, mean, loadings, explained, GENRES)
