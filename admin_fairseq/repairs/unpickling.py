"""Read files of ``torch.save`` from untrusted sources: detect damage and run no code.

torch ignores wrong checksums, loads flipped bits as weights and, before 2.6 (or with
``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD``), calls any function that a file names.
"""

from __future__ import annotations

import argparse
import codecs
import io
import pickle
import re
import zipfile
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch
from fairseq.logging.meters import AverageMeter, StopwatchMeter, TimeMeter

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs.private import NAMES_OF_PYTHON_2, PythonUnpickler, allowed_globals

ZIP, PICKLE = b"PK\x03\x04", b"\x80"
"""First bytes of files of ``torch.save``, since torch 1.6 and before."""
METERS = (AverageMeter, StopwatchMeter, TimeMeter)
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
        _check_integrity(file)
        if KEEPS_AN_ALLOW_LIST:
            return torch.load(file, map_location="cpu", weights_only=True)
        # torch's own protection takes no pickle_module; ours refuses as much
        restricted = _restricted_pickle()
        return torch.load(file, map_location="cpu", weights_only=False, pickle_module=restricted)
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


def _check_integrity(file: BinaryIO) -> None:
    """Raise AdminError if a member of torch's zip archive is damaged; rewind the file otherwise.

    torch stores members uncompressed: a compressed member, or members that add up to more than the
    file, can only be meant to fill the memory. torch's older format, a pickle, has no checksums.
    """
    head = file.read(4)
    if not head.startswith((ZIP, PICKLE)):
        raise AdminError("not a checkpoint, or a damaged one")
    size = file.seek(0, io.SEEK_END)
    if head == ZIP:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            grows = any(member.compress_type != zipfile.ZIP_STORED for member in members)
            if grows or sum(member.file_size for member in members) > size:
                raise AdminError("not a checkpoint of torch, whose members are uncompressed")
            damaged = archive.testzip()
            if damaged is not None:
                raise AdminError(f"damaged: the checksum of {damaged} is wrong")
    file.seek(0)


def _restricted_pickle() -> SimpleNamespace:
    """Return a replacement of the module ``pickle`` that refuses the types torch 2.6 refuses.

    The replacement has only the names that ``torch.load`` uses. Its unpickler calls ``find_class``
    for every function and class that a pickle names, and for nothing else.
    """
    allowed = allowed_globals()  # which cannot be extended before torch 2.6
    allowed.update({"builtins.set": set, "torch.device": torch.device})
    allowed["_codecs.encode"] = codecs.encode  # numpy stores bytes as text
    for entry in allowed_types():
        kind, name = entry if isinstance(entry, tuple) else (entry, _name(entry))
        allowed[name] = kind

    class Unpickler(PythonUnpickler):
        """Python's unpickler, limited to allowed functions and classes."""

        def load_build(self) -> None:
            """Set the state of an object, unless the object is a class or a function."""
            if not isinstance(self.stack[-2], INSTANCES):  # not a class or function
                raise pickle.UnpicklingError("a state for something other than a value")
            super().load_build()

        def load_bytearray8(self) -> None:
            """Refuse a bytearray: unpickling would allocate as many bytes as the file claims."""
            raise pickle.UnpicklingError("a bytearray, which no checkpoint has")

        dispatch: ClassVar = {
            **PythonUnpickler.dispatch,
            pickle.BUILD[0]: load_build,
            pickle.BYTEARRAY8[0]: load_bytearray8,
        }

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
