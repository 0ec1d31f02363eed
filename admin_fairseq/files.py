"""Writing files whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

from admin_fairseq.errors import AdminError


def write_json(content: Any, path: str) -> None:
    """Write ``content`` to a temporary file beside ``path``, then rename it.

    Killed at any moment, it leaves the whole file or the old one. Raises AdminError where the
    file cannot be written.
    """
    folder = os.path.dirname(os.path.abspath(path))
    temporary = None
    try:
        os.makedirs(folder, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise AdminError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.remove(temporary)
