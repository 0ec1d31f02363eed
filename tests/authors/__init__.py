"""Our schemes, optimisers and schedules held against what their authors' code gives.

``numbers`` holds that: each file was made by a module of ``makers``, which runs the authors' own
code from a checkout of its repository and writes down what it finds. The tests build the same with
our code. None of the authors' code is here.
"""

import json
from pathlib import Path
from typing import Any

NUMBERS = Path(__file__).parent / "numbers"


def numbers(name: str) -> dict[str, Any]:
    return json.loads((NUMBERS / f"{name}.json").read_text())
