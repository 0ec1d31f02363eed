"""Read dynamics.jsonl, which --log-dynamics writes (``admin_fairseq/dynamics.py``)."""

from __future__ import annotations

import os
from typing import Annotated, Iterator, Literal, Optional, TypeVar

import msgspec

from admin_fairseq.errors import AdminError, blaming
from admin_fairseq.files import check_json, open_regular

LARGEST = 1 << 30  # bytes of a file
LONGEST_LINE = 1 << 26  # bytes; β of a thousand sub-layers has some ten million

Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
Number = Optional[float]  # None: not finite
Stack = Literal["encoder", "decoder"]
PartT = TypeVar("PartT")


class Scale(msgspec.Struct):
    """The range of the elements of ω or α."""

    min: Number
    mean: Number
    max: Number


class SubLayer(msgspec.Struct):
    """What one update measured of one sub-layer."""

    stack: Stack
    layer: Count
    sublayer: str
    scale: Optional[Scale]
    input_variance: Number
    branch_variance: Number
    weights: Number  # these three are norms
    gradient: Number
    update: Number


class Dependency(msgspec.Struct):
    """Σ β_ii² of one stack in a validation batch; β itself, which is large, is not read."""

    own: Number


class Line(msgspec.Struct):
    """One line: the dynamics of an update, or the layer dependency at a validation."""

    update: Count
    sublayers: Optional[list[SubLayer]] = None
    dependency: Optional[dict[Stack, Dependency]] = None


class Dynamics(msgspec.Struct):
    """The content of a file, each part by the number of its update, in order."""

    updates: dict[int, list[SubLayer]]
    validations: dict[int, dict[Stack, Dependency]]


def read_dynamics(path: str) -> Dynamics:
    """Read a file of dynamics, without what came before its run went back to an earlier update.

    A resumed run repeats some updates, and one that starts afresh in the same folder all of them.
    A last line without an end, which a killed run left, is ignored. Raises AdminError if the file
    cannot be read, is larger than 1 GiB, or is not such a file.
    """
    found = Dynamics({}, {})
    for number, text in enumerate(_lines(path), 1):
        with blaming(f"{path}, line {number}"):
            line = check_json(text, Line, "a line of dynamics")
        _add(found.updates, line.update, line.sublayers)
        _add(found.validations, line.update, line.dependency)
    return found


def _add(found: dict[int, PartT], update: int, part: Optional[PartT]) -> None:
    """Add ``part``, if there is one, after dropping what ``found`` has of later updates."""
    while found and (last := next(reversed(found))) > update:
        del found[last]
    if part is not None:
        found[update] = part


def _lines(path: str) -> Iterator[str]:
    """Yield the complete lines of a file; raise AdminError if it cannot be read."""
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > LARGEST:
                raise AdminError(f"{path}: larger than {LARGEST >> 20} MiB; is it the right file?")
            for line in iter(lambda: file.readline(LONGEST_LINE), b""):
                if line.endswith(b"\n"):
                    yield line.decode("utf-8", errors="replace")
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None
