"""Let a model see a batch on the host, before fairseq moves it to the GPU.

fairseq (0.12.2 and fairseq-fixed 0.12.3.1, ``Trainer._prepare_sample``) moves all of a batch at
once. To learn anything about its values afterwards, such as where padding is, the host must read
from the GPU, and so waits until the GPU has finished all earlier work.
"""

from __future__ import annotations

from typing import Any

from fairseq.trainer import Trainer

from admin_fairseq.repairs import private


def apply() -> None:
    """Call the model's ``note_layouts(batch, moved)``, if it has it, for every batch."""

    def prepare_and_show(self: Trainer, sample: Any, is_dummy: bool = False) -> Any:
        moved, was_dummy = prepare(self, sample, is_dummy)
        note_layouts = getattr(private.module_of(self), "note_layouts", None)
        if note_layouts is not None and isinstance(sample, dict):
            note_layouts(sample, moved)
        return moved, was_dummy

    prepare = private.prepare_samples_with(prepare_and_show)
