"""Facts as JSON."""

import json
from pathlib import Path
from typing import Any


def write(path: Path, facts: dict[str, Any]) -> None:
    """Write facts that are dicts, lists, words and finite numbers."""
    text = json.dumps(facts, indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
