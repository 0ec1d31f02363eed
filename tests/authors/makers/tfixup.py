"""T-Fixup and its schedule: https://github.com/layer6ai-labs/T-Fixup, a fork of fairseq 0.9."""

from types import SimpleNamespace

import torch

from .common import (
    Authors,
    Source,
    arguments,
    fairseqs_logits,
    fairseqs_parameters,
    made,
    save,
    task,
    write,
)

COMMIT = "b17e166d9f60671a92c3f39e24c9b8c93995e5a3"
SOURCE = Source(
    "layer6ai-labs/T-Fixup",
    COMMIT,
    ["fairseq/models/transformer.py", "fairseq/modules/transformer_layer.py"],
)
NOTES = "encoder_attn_layer_norm is built but never used with --dont-use-layernorm."

SCHEDULE = "fairseq/optim/lr_scheduler/inverse_sqrt_nowarmup_schedule.py"
RECIPE = {"lr": 0.0005, "decay_period": 4000}  # Train_IWSLT_TFixup_example.sh
SETTINGS = [RECIPE, {"lr": 0.002, "decay_period": 100}]
UPDATES = [0, 1, 2, 3, 10, 99, 100, 1000, 3999, 4000, 4001, 12000, 100_000, 330_000]


def build(depths, sizes, types, shared):
    from fairseq.models.transformer import TransformerModel

    options = {"Tfixup": True, "dont_use_layernorm": True}
    args = arguments(TransformerModel, depths, sizes, shared, **options)
    return TransformerModel.build_model(args, task(types))


def schedule(lr, decay_period):
    """The rate before the first update and after some numbers of updates."""
    from fairseq.optim.lr_scheduler.inverse_sqrt_nowarmup_schedule import (
        InverseSquareRootNoWarmupSchedule,
    )
    from fairseq.optim.sgd import SGD

    args = SimpleNamespace(lr=[lr], decay_period=decay_period, momentum=0, weight_decay=0)
    optimizer = SGD(args, [torch.zeros(1)])
    rates = InverseSquareRootNoWarmupSchedule(args, optimizer)
    built = optimizer.get_lr()
    return {
        "lr": lr,
        "decay_period": decay_period,
        "built": built,
        "after": {updates: rates.step_update(updates) for updates in UPDATES},
    }


if __name__ == "__main__":
    unused = ["encoder_attn_layer_norm"]
    authors = Authors(SOURCE, build, fairseqs_parameters, fairseqs_logits, notes=NOTES)
    write("tfixup", authors._replace(theirs_alone=unused))
    found = [schedule(**setting) for setting in SETTINGS]
    source = SOURCE._replace(files=[SCHEDULE])
    save("inverse_sqrt_nowarmup", {**made(source), "schedules": found})
