"""Read files of ``torch.save`` from untrusted sources: detect damage and run no code.

torch ignores wrong checksums, loads flipped bits as weights and, before 2.6 (or with
``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD``), calls any function that a file names. Its own restricted
unpickler lets a small file claim arrays of any size, and hashes nested tuples for ever.
"""

from __future__ import annotations

import argparse
import codecs
import io
import os
import pickle
import re
import tarfile
import zipfile
from collections import OrderedDict
from functools import partial
from types import SimpleNamespace
from typing import Any, BinaryIO, Callable, ClassVar, Mapping
from unittest.mock import patch

import numpy as np
import torch
from fairseq.logging.meters import AverageMeter, StopwatchMeter, TimeMeter

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs.private import NAMES_OF_PYTHON_2, PythonUnpickler, allowed_globals

ZIP, PICKLE = b"PK\x03\x04", b"\x80"
"""First bytes of files of ``torch.save``, since torch 1.6 and before."""
METERS = (AverageMeter, StopwatchMeter, TimeMeter)
MOST_LEAVES = 10_000
"""The most values, at any depth, of a tuple; those of checkpoints have a few dozen."""
INSTANCES = (argparse.Namespace, np.ndarray, np.dtype, *METERS, OrderedDict, torch.Tensor)
"""Types of objects whose state a pickle is allowed to set."""
KEEPS_AN_ALLOW_LIST = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 6)
"""Whether torch has an allow-list that can be extended, with pairs of object and name too."""


def allowed_types() -> list[Any]:
    """List what fairseq checkpoints hold besides tensors and plain containers.

    These are options in a Namespace; numpy's numbers and arrays (from --eval-bleu's counts), under
    their names in numpy 1 and in numpy 2; and the meters of fairseq up to 0.8, including the
    original Admin release. An entry is a type, or a pair of an object and its full name in the
    file, as torch's allow-list requires.
    """
    makers = {"_reconstruct": np.zeros(1).__reduce__()[0], "scalar": np.float64(1).__reduce__()[0]}
    kinds = {type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")}
    return [
        *(argparse.Namespace, np.ndarray, np.dtype, *kinds),
        *((maker, f"numpy.core.multiarray.{name}") for name, maker in makers.items()),
        *((maker, f"numpy._core.multiarray.{name}") for name, maker in makers.items()),
        *((meter, f"fairseq.meters.{meter.__name__}") for meter in METERS),
    ]


def load(file: BinaryIO) -> Any:
    """Load an open file of ``torch.save``, to the CPU, and return its content.

    Raises AdminError if the file is not one of ``torch.save``, is damaged, or would run code.
    """
    try:
        restricted = _restricted_pickle(_check_integrity(file))
        with patch.dict(os.environ):
            os.environ.pop("TORCH_FORCE_WEIGHTS_ONLY_LOAD", None)  # is for torch's own
            return torch.load(
                file, map_location="cpu", weights_only=False, pickle_module=restricted
            )
    except AdminError:
        raise
    except MemoryError:
        raise AdminError("does not fit into memory") from None
    except Exception as error:  # for arbitrary bytes torch raises anything
        raise AdminError(_reason(error)) from None


def _reason(error: Exception) -> str:
    """Return the message for what torch raised while loading: refused, out of memory or damaged."""
    refused = re.search(r"GLOBAL (\S+) (?:was not an allowed global|whose module)", str(error))
    if refused:
        return (
            f"refused: loading it would call {refused[1]}, which is not on the list of what "
            "fairseq checkpoints hold, and might run code"
        )
    if "can't allocate memory" in str(error):
        return "does not fit into memory"
    return "not a checkpoint, or a damaged one"


def _check_integrity(file: BinaryIO) -> dict[str, int]:
    """Raise AdminError if a member of torch's zip archive is damaged; rewind the file otherwise.

    Returns the name of each storage in the archive → its size in bytes.

    torch stores members uncompressed: a compressed member, or members that add up to more than the
    file, can only be meant to fill the memory. torch's older format, a pickle, has no checksums.
    """
    head = file.read(4)
    if not head.startswith((ZIP, PICKLE)):
        raise AdminError("not a checkpoint, or a damaged one")
    size, storages = file.seek(0, io.SEEK_END), {}
    if head == ZIP:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if any(member.filename.endswith("/constants.pkl") for member in members):
                raise AdminError("an archive of TorchScript, not a checkpoint")
            grows = any(member.compress_type != zipfile.ZIP_STORED for member in members)
            repeats = len({member.filename for member in members}) < len(members)
            if grows or repeats or sum(member.file_size for member in members) > size:
                raise AdminError("not a checkpoint of torch, whose members are uncompressed")
            damaged = archive.testzip()
            if damaged is not None:
                raise AdminError(f"damaged: the checksum of {damaged} is wrong")
            names = ((re.fullmatch(r"[^/]*/data/(.+)", m.filename), m) for m in members)
            storages = {name[1]: member.file_size for name, member in names if name}
    file.seek(0)
    if tarfile.is_tarfile(file):  # torch would unpack it
        raise AdminError("not a checkpoint, or a damaged one")
    file.seek(0)
    return storages


def _empty_array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """Return the array whose state numpy sets next, as pickles of arrays ask for it: an empty one.

    numpy's own function would make one of any shape, of memory that is not initialised.
    """
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError("an array without its elements")
    return np.zeros(0)


def _refuse_classes(unpickler: Any) -> None:
    """Refuse a state for anything but an object, whose class or function it would change."""
    if not isinstance(unpickler.stack[-2], INSTANCES):
        raise pickle.UnpicklingError("a state for something other than a value")


def _refuse_arrays(unpickler: Any) -> None:
    """Refuse to make an array or a tensor by its class, of any size and whatever is in memory."""
    if unpickler.stack[-2] in (np.ndarray, torch.Tensor):
        raise pickle.UnpicklingError("an array without its elements")


def _refuse_other_sizes(unpickler: Any) -> None:
    """Refuse a tensor's storage of which the archive has more or fewer bytes."""
    if unpickler.storages:
        _, kind, key, _, count = unpickler.stack[-1]
        dtype = getattr(kind, "dtype", torch.uint8)
        if unpickler.storages.get(key) != count * torch.empty(0, dtype=dtype).element_size():
            raise pickle.UnpicklingError("a storage of another size than its tensor's")


Step = Callable[[Any], None]  # of an unpickler

CHECKS: dict[bytes, Step] = {
    pickle.BUILD: _refuse_classes,
    pickle.REDUCE: _refuse_arrays,
    pickle.NEWOBJ: _refuse_arrays,
    pickle.BINPERSID: _refuse_other_sizes,
}
"""A step of unpickling → what is checked before it is taken."""
TUPLES = (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3)
UNUSED = (pickle.BYTEARRAY8, pickle.INST, pickle.NEWOBJ_EX, pickle.OBJ)
"""Steps that no checkpoint needs: they make objects, or bytes of a number that the file claims."""


def _steps() -> dict[int, Step]:
    """Return the steps of Python's unpickler by their codes, with our checks."""
    steps: dict[int, Step] = dict(PythonUnpickler.dispatch)
    for code in UNUSED:
        del steps[code[0]]
    for code, check in CHECKS.items():
        steps[code[0]] = partial(_checked, check, steps[code[0]])
    for code in TUPLES:
        steps[code[0]] = partial(_counted, steps[code[0]])
    return steps


def _checked(check: Step, step: Step, unpickler: Any) -> None:
    check(unpickler)
    step(unpickler)


def _counted(step: Step, unpickler: Any) -> None:
    """Take a ``step`` that makes a tuple, and refuse one that takes long to hash, as keys must be.

    Hashing visits a tuple as often as others hold it: where 60 tuples each hold the one before
    twice, 2**60 times.
    """
    step(unpickler)
    made = unpickler.stack[-1]
    leaves = 1 + sum(unpickler.leaves.get(id(item), (item, 1))[1] for item in made)
    if leaves > MOST_LEAVES:
        raise pickle.UnpicklingError("a tuple of too many tuples")
    unpickler.leaves[id(made)] = made, leaves


def _restricted_pickle(storages: Mapping[str, int]) -> SimpleNamespace:
    """Return a replacement of the module ``pickle`` that refuses the types torch 2.6 refuses.

    The replacement has only the names that ``torch.load`` uses. Its unpickler calls ``find_class``
    for every function and class that a pickle names, and for nothing else. ``storages`` are the
    sizes of a zip archive's storages, in bytes; empty for torch's older format.
    """
    allowed = allowed_globals()  # which cannot be extended before torch 2.6
    allowed.pop("builtins.bytearray", None)  # of as many bytes as the file claims
    allowed.update({"builtins.set": set, "torch.device": torch.device})
    allowed["_codecs.encode"] = codecs.encode  # numpy stores bytes as text
    for entry in allowed_types():
        kind, name = entry if isinstance(entry, tuple) else (entry, _name(entry))
        allowed[name] = _empty_array if name.endswith("._reconstruct") else kind

    class Unpickler(PythonUnpickler):
        """Python's unpickler, limited to allowed functions, classes and sizes."""

        dispatch: ClassVar = _steps()

        def __init__(self, file: BinaryIO, **options: Any) -> None:
            super().__init__(file, **options)
            self.leaves: dict[int, tuple[tuple, int]] = {}  # id → tuple and number of its leaves
            self.storages = storages

        def find_class(self, module: str, name: str) -> Any:
            """Return ``module.name`` if it is allowed; raise UnpicklingError otherwise."""
            wanted = f"{NAMES_OF_PYTHON_2.get(module, module)}.{name}"
            if wanted not in allowed:
                raise pickle.UnpicklingError(f"GLOBAL {wanted} was not an allowed global")
            return allowed[wanted]

    def load(file: BinaryIO, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    return SimpleNamespace(Unpickler=Unpickler, load=load, __name__="restricted pickle")


def _name(kind: type) -> str:
    """Return the full name of a type, as a pickle spells it: "module.Type"."""
    return f"{kind.__module__}.{kind.__qualname__}"
