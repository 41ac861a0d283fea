from ..registry import ROWS

_PLACES = {row.name: place for place, row in enumerate(ROWS)}


def pytest_collection_modifyitems(items):
    """All tests of a row one after another, so that its programs are compiled in one process."""
    places = [place for place, item in enumerate(items) if "row" in _parameters(item)]
    ordered = sorted((items[place] for place in places), key=lambda item: _place_of(item))
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


def _parameters(item):
    return item.callspec.params if hasattr(item, "callspec") and _here(item) else {}


def _here(item):
    return "contracts" in item.path.parts


def _place_of(item):
    return _PLACES[_parameters(item)["row"].name]
