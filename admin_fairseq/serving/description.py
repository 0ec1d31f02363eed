"""The file admin_fairseq.json of an exported model: what CTranslate2's own files do not record."""

from __future__ import annotations

import os
import zlib
from dataclasses import asdict, dataclass, field
from typing import Annotated, Optional

from fairseq.models.transformer import (
    DEFAULT_MAX_SOURCE_POSITIONS,
    DEFAULT_MAX_TARGET_POSITIONS,
)
from msgspec import Meta

from admin_fairseq.errors import AdminError
from admin_fairseq.files import open_regular, read_json, write_json

SENTENCEPIECE_MODEL = "sentencepiece.model"
DESCRIPTION = "admin_fairseq.json"
"""Names of the files that the plugin adds to the folder of an exported model."""
TRANSLATION_VOCABULARIES = tuple(f"{kind}_vocabulary" for kind in ("shared", "source", "target"))
LANGUAGE_MODEL_VOCABULARIES = ("vocabulary",)
VOCABULARIES = TRANSLATION_VOCABULARIES + LANGUAGE_MODEL_VOCABULARIES
PARTS = {
    *("model.bin", "config.json", SENTENCEPIECE_MODEL),
    *(f"{name}.json" for name in VOCABULARIES),
}
"""Names of all files of an exported model except admin_fairseq.json."""
OTHER_PARTS = {f"{name}.txt" for name in VOCABULARIES}
"""Names of further files, in models that earlier versions of CTranslate2 converted."""

BLOCK = 1 << 20  # bytes read at a time
Count = Annotated[int, Meta(ge=1, lt=1 << 31)]


@dataclass(frozen=True)
class Positions:
    """The longest source and target sentence of a model, in pieces and including the end symbol.

    Those of a language model are equal. fairseq's defaults are used if the model's are unknown.
    """

    source: Count = DEFAULT_MAX_SOURCE_POSITIONS
    target: Count = DEFAULT_MAX_TARGET_POSITIONS


@dataclass(frozen=True)
class Description:
    """The content of admin_fairseq.json, which describes an exported model.

    ``packages`` are the versions that exported it. ``checksums`` are CRC-32 of the exported files;
    earlier versions of the plugin recorded none.
    """

    positions: Positions
    languages: dict[str, str] = field(default_factory=dict)
    quantization: Optional[str] = None
    packages: dict[str, str] = field(default_factory=dict)
    checksums: dict[str, int] = field(default_factory=dict)

    def write(self, folder: str) -> None:
        """Write admin_fairseq.json to ``folder``."""
        write_json(asdict(self), os.path.join(folder, DESCRIPTION))

    def check(self, folder: str) -> None:
        """Raise AdminError if a file in ``folder`` cannot be read, or has changed since the export.

        CTranslate2 loads damaged weights without noticing, and some values crash the process.
        """
        for name, found in checksums(folder).items():
            if found != self.checksums.get(name, found):
                path = os.path.join(folder, name)
                raise AdminError(f"{path}: changed or damaged since the export; export it again")


def read_description(folder: str) -> Description:
    """Read admin_fairseq.json in ``folder``, the folder of an exported model.

    Returns a description with defaults if there is no such file, as ``admin-fairseq export`` did
    not make the model. Raises AdminError if the file is damaged.
    """
    path = os.path.join(folder, DESCRIPTION)
    if not os.path.lexists(path):
        return Description(Positions())
    return read_json(path, Description, "a description as admin-fairseq export writes it")


def checksums(folder: str) -> dict[str, int]:
    """Compute the CRC-32 checksums of the model's files in ``folder``: file name → checksum.

    Files that do not exist are left out. Raises AdminError if one cannot be read.
    """
    paths = {name: os.path.join(folder, name) for name in sorted(PARTS | OTHER_PARTS)}
    return {name: _checksum(path) for name, path in paths.items() if os.path.lexists(path)}


def _checksum(path: str) -> int:
    """Compute the CRC-32 checksum of the file ``path``; raise AdminError if it cannot be read."""
    checksum = 0
    try:
        with open_regular(path) as file:
            while block := file.read(BLOCK):
                checksum = zlib.crc32(block, checksum)
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None
    return checksum
