"""Reading a file of ``torch.save`` that may come from anyone: damage is noticed, nothing is run.

torch reads on past a wrong check sum, takes flipped bits for weights, and before 2.6 (or told by
``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD``) calls whatever a file names.
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
"""How files of ``torch.save`` begin, of today and of before torch 1.6."""
METERS = (AverageMeter, StopwatchMeter, TimeMeter)
INSTANCES = (argparse.Namespace, np.ndarray, np.dtype, *METERS, OrderedDict, torch.Tensor)
"""Of what a pickle may set the state."""
KEEPS_AN_ALLOW_LIST = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 6)
"""Whether torch can be told what to allow beside tensors; it takes pairs from 2.6 on."""


def allowed_types() -> list[Any]:
    """What fairseq keeps in a checkpoint beside tensors and plain containers.

    Options as a Namespace; numpy numbers and arrays (--eval-bleu logs its counts as such), under
    the names of numpy 1 and of numpy 2, as a checkpoint may come from either; and the meters that
    fairseq up to 0.8 kept, the original release among it.
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
    """What ``torch.save`` put into ``file``, on the CPU.

    Raises AdminError for what is no such file, is damaged, or would run code.
    """
    try:
        _check_sums(file)
        if KEEPS_AN_ALLOW_LIST:
            return torch.load(file, map_location="cpu", weights_only=True)
        # its own protection takes no pickle_module; this one refuses all that it would
        restricted = _restricted_pickle()
        return torch.load(file, map_location="cpu", weights_only=False, pickle_module=restricted)
    except AdminError:
        raise
    except MemoryError:
        raise AdminError("does not fit into memory") from None
    except Exception as error:  # bytes that may be anything make torch raise anything
        raise AdminError(_reason(error)) from None


def _reason(error: Exception) -> str:
    refused = re.search(r"GLOBAL (\S+) (?:was not an allowed global|whose module)", str(error))
    if refused:
        return (
            f"refused: loading it would call {refused[1]}, which is not on the list of what "
            "fairseq checkpoints hold, and might run code"
        )
    if "can't allocate memory" in str(error):
        return "does not fit into memory"
    return "not a checkpoint, or a damaged one"


def _check_sums(file: BinaryIO) -> None:
    """Raise AdminError where a member of torch's zip archive is not what was written.

    torch stores members as they are: compressed ones, or more bytes of members than the file has,
    are somebody's attempt at a file that grows when it is read. torch's older format, a pickle,
    has no sums.
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
                raise AdminError("not a checkpoint of torch, whose members lie there plainly")
            damaged = archive.testzip()
            if damaged is not None:
                raise AdminError(f"damaged: the check sum of {damaged} is wrong")
    file.seek(0)


def _restricted_pickle() -> SimpleNamespace:
    """The part of the module ``pickle`` that ``torch.load`` uses, with torch 2.6's refusals.

    ``find_class`` is asked for every function and class that a pickle names, and for no other.
    """
    allowed = allowed_globals()  # which before torch 2.6 nobody could extend
    allowed.update({"builtins.set": set, "torch.device": torch.device})
    allowed["_codecs.encode"] = codecs.encode  # numpy keeps bytes as text
    for entry in allowed_types():
        kind, name = entry if isinstance(entry, tuple) else (entry, _name(entry))
        allowed[name] = kind

    class Unpickler(PythonUnpickler):
        def load_build(self) -> None:
            if not isinstance(self.stack[-2], INSTANCES):  # a class or function would be changed
                raise pickle.UnpicklingError("a state for what is no value")
            super().load_build()

        def load_bytearray8(self) -> None:  # takes as much memory as the file says
            raise pickle.UnpicklingError("a bytearray, which no checkpoint has")

        dispatch: ClassVar = {
            **PythonUnpickler.dispatch,
            pickle.BUILD[0]: load_build,
            pickle.BYTEARRAY8[0]: load_bytearray8,
        }

        def find_class(self, module: str, name: str) -> Any:
            wanted = f"{NAMES_OF_PYTHON_2.get(module, module)}.{name}"
            if wanted not in allowed:
                raise pickle.UnpicklingError(f"GLOBAL {wanted} was not an allowed global")
            return allowed[wanted]

    def load(file: BinaryIO, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    return SimpleNamespace(Unpickler=Unpickler, load=load, __name__="restricted pickle")


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
