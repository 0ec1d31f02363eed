"""Report missing or damaged files of ``fairseq-preprocess`` in one line.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1. For truncated, empty or replaced files,
``data/indexed_dataset.py`` raises an AssertionError or a ValueError about buffers or, during
training, returns wrong tokens; deleting the half-built object then raises an AttributeError.
``data/dictionary.py`` raises various exceptions, and waits forever on a FIFO. For a folder without
data, ``data/data_utils.py`` infers no languages, which ends in a traceback.
"""

from __future__ import annotations

import functools
import os
import struct
from typing import Any, BinaryIO, Callable, NoReturn, TextIO, Union

import numpy as np
from fairseq.data import Dictionary, data_utils, indexed_dataset

from admin_fairseq.errors import AdminError, shortened
from admin_fairseq.files import open_regular
from admin_fairseq.repairs.private import INDEX_MAGIC, OTHER_MAGIC, type_of_tokens

HEADER = struct.Struct("<9sQBQ")  # magic number, version, type of the tokens, sentences


def apply() -> None:
    """Patch fairseq to check data files before it opens them or determines their format.

    Errors about a dictionary file, or a folder without data, are turned into AdminErrors that name
    it.
    """
    data_utils.infer_language_pair = _found(data_utils.infer_language_pair)
    Dictionary.add_from_file = _reporting(Dictionary.add_from_file)
    for name in ("infer_dataset_impl", "make_dataset"):
        setattr(indexed_dataset, name, _checked(getattr(indexed_dataset, name)))


def _found(infer: Callable[[str], Any]) -> Callable[[str], Any]:
    """Wrap ``infer_language_pair`` to raise AdminError for a folder whose languages it cannot
    infer."""

    @functools.wraps(infer)
    def infer_language_pair(folder: str) -> Any:
        try:
            languages = infer(folder)
        except OSError as error:
            raise AdminError(f"{folder}: cannot be read: {error.strerror or error}") from None
        if None in languages:
            raise AdminError(f"{folder}: no translation data of fairseq-preprocess{hint(folder)}")
        return languages

    return infer_language_pair


def hint(folder: str) -> str:
    """Return the advice to give the folder ``bin``, where ``admin-fairseq prepare`` writes data."""
    inner = os.path.join(folder, "bin")
    return f"; give {inner}?" if os.path.isdir(inner) else ""


def _reporting(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``Dictionary.add_from_file`` to raise AdminError for an unreadable or damaged file."""

    @functools.wraps(original)
    def add_from_file(dictionary: Dictionary, file: Union[str, TextIO]) -> None:
        if not isinstance(file, str):
            return original(dictionary, file)
        try:
            if os.path.lexists(file):
                open_regular(file).close()
            return original(dictionary, file)
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
        except Exception as error:  # fairseq raises nothing narrower for a wrong encoding
            reason = f"not a dictionary of fairseq, or a damaged one: {shortened(str(error), 300)}"
        advice = hint(os.path.dirname(file)) or "; fairseq-preprocess writes it to the data folder"
        raise AdminError(f"{file}: {reason}{advice}")

    return add_from_file


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``function`` of fairseq so that ``check`` first examines the data path it is given."""

    @functools.wraps(function)
    def checked(path: str, *args: Any, **kwargs: Any) -> Any:
        check(path)
        return function(path, *args, **kwargs)

    return checked


def check(path: str) -> None:
    """Raise AdminError if the files ``path``.idx and ``path``.bin are not as fairseq wrote them.

    If one of the two is missing nothing is checked, as fairseq then looks for other data formats.
    """
    names = indexed_dataset.index_file_path(path), indexed_dataset.data_file_path(path)
    if not all(map(os.path.exists, names)):
        return
    try:
        with open_regular(names[0]) as index, open_regular(names[1]) as data:
            _check_pair(index, data)
    except OSError as error:
        name = error.filename or names[0]
        raise AdminError(f"{name}: cannot be read: {error.strerror or error}") from None


def _check_pair(index: BinaryIO, data: BinaryIO) -> None:
    """Raise AdminError if ``index`` (.idx file) is damaged or ``data`` (.bin) lacks sentences."""
    header = index.read(HEADER.size)
    if header.startswith(OTHER_MAGIC):
        return  # other formats are not checked
    magic, version, code, sentences = HEADER.unpack(header.ljust(HEADER.size))
    kind = type_of_tokens(code)
    if (magic, version) != (INDEX_MAGIC, 1) or kind is None:
        _refuse(index, "not an index that fairseq-preprocess wrote")
    if not sentences or not _size(data):
        _refuse(data, "holds no sentences")
    if _size(index) < HEADER.size + 12 * sentences:  # 4 bytes of length, 8 of offset
        _refuse(index, f"too short for the {sentences} sentences in its header")
    lengths = np.frombuffer(index.read(4 * sentences), np.int32)
    starts = np.frombuffer(index.read(8 * sentences), np.int64)
    room = (_size(data) - starts) // np.dtype(kind).itemsize
    if min(lengths.min(), starts.min()) < 0 or (lengths > room).any():
        _refuse(data, f"does not contain all sentences that {index.name} lists")


def _size(file: BinaryIO) -> int:
    """Return the size of an open file in bytes."""
    return os.fstat(file.fileno()).st_size


def _refuse(file: BinaryIO, reason: str) -> NoReturn:
    """Raise an AdminError that names ``file`` and advises to run fairseq-preprocess again."""
    raise AdminError(f"{file.name}: {reason}; make the folder again with fairseq-preprocess")
