"""A population in a TOML file."""

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from ... import mdp
from ...datasets import channel_game
from ..errors import CommandError

HELP = (
    "A population as TOML: [channels] with players, scenario, discount, inertia, seed; or "
    "discount, sizes, signals, and an [[agents]] each with local, scoped (and parents) or table "
    "rows and a reward of (own state, signal), or one reward of all joint states. Default: a "
    "bundled example."
)
_CHANNELS = {"players", "scenario", "discount", "inertia", "sensitivity", "seed"}
_TOP = {"discount", "sizes", "signals", "reward", "agents"}
_AGENT = {"local", "scoped", "parents", "table", "reward"}


def read_game(path: Path) -> mdp.FactoredMDP:
    """The population in a file.

    **Raises:** `CommandError` that names the file and the line: where it is no TOML, of a key that
    is not known, or where the agent begins that is wrong.
    """
    where, text = f"GAME {str(path)!r}", ""
    try:
        text = path.read_text("utf-8")
        found = tomllib.loads(text)
    except OSError as error:
        raise CommandError(f"{where}: cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{where}: is no TOML: {error}.") from None
    try:
        return _channels(found["channels"]) if "channels" in found else _tables(found)
    except (KeyError, TypeError, ValueError) as error:
        says = f"lacks {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
        raise CommandError(f"{where}{_line(text, says)}: {says}") from None


def _line(text: str, says: str) -> str:
    """The line of the key that a sentence is about, or of the agent; nothing if of neither."""
    key = re.search("has the key '(.*?)'; expected", says)
    agent = re.search(r"\bagent (\d+)\b", says)
    first = 0
    headers = [m.start() for m in re.finditer(r"(?m)^\s*\[\[\s*agents\s*\]\]", text)]
    if agent and int(agent[1]) < len(headers):
        first = headers[int(agent[1])]
    elif not key:
        return ""
    if key:
        named = re.compile(rf"(?m)^\s*\[*\s*[\"']?{re.escape(key[1])}[\"']?\s*[\]=.]")
        found = named.search(text, first)
        if found is None:
            return ""
        first = found.start()
    # Blank lines before a key belong to the match.
    first += len(text[first:]) - len(text[first:].lstrip())
    return f", line {text.count(chr(10), 0, first) + 1}"


def _known(where: str, table: Any, names: set[str]) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ValueError(f"{where} must be a table; got {table!r:.60}.")
    for name in table:
        if name not in names:
            raise ValueError(
                f"{where} has the key {name!r}; expected only {', '.join(sorted(names))}."
            )
    return table


def _channels(table: Any) -> mdp.FactoredMDP:
    options = dict(_known("[channels]", table, _CHANNELS))
    return channel_game(int(options.pop("players", 6)), **options)


def _tables(found: dict[str, Any]) -> mdp.FactoredMDP:
    _known("the file", found, _TOP)
    behaviours, rewards = [], []
    for number, agent in enumerate(found["agents"]):
        where = f"agent {number}"
        _known(where, agent, _AGENT)
        kinds = [kind for kind in ("local", "scoped", "table") if kind in agent]
        if len(kinds) != 1:
            raise ValueError(f"{where} must have one of local, scoped and table; got {kinds}.")
        rows = np.asarray(agent[kinds[0]], float)
        if kinds[0] == "local":
            behaviours.append(mdp.Local(rows))
        elif kinds[0] == "table":
            behaviours.append(mdp.Table(rows))
        else:
            behaviours.append(mdp.Scoped(rows, agent["parents"]))
        if "reward" in agent:
            rewards.append(np.asarray(agent["reward"], float))
    if ("reward" in found) == bool(rewards) or len(rewards) not in (0, len(behaviours)):
        raise ValueError(
            "there must be either one `reward` of all joint states or one of every agent; got "
            f"{len(rewards)} of agents and {int('reward' in found)} of states."
        )
    reward: Any = mdp.Separable(rewards) if rewards else np.asarray(found["reward"], float)
    return mdp.FactoredMDP(
        behaviours,
        reward,
        sizes=found["sizes"],
        signals=found["signals"],
        discount=float(found["discount"]),
    )
