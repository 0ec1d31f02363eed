"""The table of published runs: the settings and the evaluation of each, and its score.

Sources: Liu et al. 2020 (arXiv:2004.08249) and its release; Liu et al. 2020, Very Deep Transformers
for Neural Machine Translation (arXiv:2008.07772); Huang et al. 2020 (T-Fixup) and its release; the
README and ``example`` scripts of admin-torch; takase/b2t_connection; the scripts of DLCL's authors.
A value that these sources do not state is our choice, and a comment or ``about`` says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from admin_fairseq.recipes.recipe import (
    Batch,
    Decoding,
    Published,
    Recipe,
    Row,
    Score,
    Settings,
    without,
)

TABLE_1, TABLE_3 = "Admin, Table 1", "Admin, Table 3"
VERY_DEEP = "Very Deep Transformers for Neural Machine Translation"

HALF: Settings = {
    "common.fp16": True,
    "common.fp16_scale_window": 256,
    "common.threshold_loss_scale": 0.03125,
}
"""The Admin release's settings for fp16."""

# Admin

ADMIN_IWSLT: Settings = {
    "model.share_all_embeddings": True,
    "optimizer._name": "radam",
    "optimizer.weight_decay": 1e-4,
    "optimization.clip_norm": 0.0,
    "optimization.lr": 7e-4,
    "model.dropout": 0.3,
    "model.attention_dropout": 0.1,
    "model.activation_dropout": 0.1,
    "optimization.max_update": 100_000,
    "optimization.max_epoch": 90,
    "optimizer.adam_betas": "(0.9, 0.98)",
    "lr_scheduler._name": "inverse_sqrt",
    "lr_scheduler.warmup_updates": 6000,
    "lr_scheduler.warmup_init_lr": 1e-7,
}
NO_WARMUP: Settings = {
    **without(ADMIN_IWSLT, "lr_scheduler"),
    "optimizer.adam_betas": "(0.9, 0.99)",
    "lr_scheduler._name": "linear",
    "lr_scheduler.warmup_updates": 1,
}
ADMIN_WMT: Settings = {
    "model.share_all_embeddings": True,
    "optimizer._name": "radam",
    "optimizer.adam_betas": "(0.9, 0.98)",
    "optimizer.weight_decay": 0.0,
    "optimization.clip_norm": 0.0,
    "optimization.lr": 1e-3,
    "lr_scheduler._name": "inverse_sqrt",
    "lr_scheduler.warmup_updates": 8000,
    "lr_scheduler.warmup_init_lr": 1e-7,
    "model.dropout": 0.1,
    "model.attention_dropout": 0.1,
    "model.activation_dropout": 0.1,
}
ADMIN_EN_DE: Settings = {
    **ADMIN_WMT,
    "optimization.max_update": 500_000,
    "optimization.max_epoch": 100,
}
ADMIN_EN_FR: Settings = {**ADMIN_WMT, "optimization.lr": 7e-4, "optimization.max_epoch": 50}

# admin-torch

TORCH_HALF: Settings = {
    "common.fp16": True,
    "common.memory_efficient_fp16": True,
    "common.fp16_scale_window": 256,
    "common.threshold_loss_scale": 0.0625,
}
TORCH: Settings = {
    "optimization.lr": 1e-3,
    "lr_scheduler.warmup_updates": 8000,
    "optimizer.weight_decay": 0.0,
    "model.dropout": 0.1,
    "model.attention_dropout": 0.1,
    "model.activation_dropout": 0.1,
    "optimization.max_update": 1_000_000,
    "optimizer._name": "adam",
    "optimizer.adam_betas": "(0.9, 0.98)",
    "optimization.clip_norm": 0.0,
    "lr_scheduler._name": "inverse_sqrt",
    "lr_scheduler.warmup_init_lr": 1e-7,
}
"""The settings of admin-torch's example/train_wmt_en-de.sh."""
TORCH_HUGE: Settings = {
    **TORCH,
    "optimization.lr": 1.5e-3,
    "lr_scheduler.warmup_updates": 4000,
    "optimizer.weight_decay": 1e-4,
    "model.dropout": 0.4,  # set by the script; the other two are the architecture's defaults
    "model.attention_dropout": 0.0,
    "model.activation_dropout": 0.0,
    "optimization.max_update": 100_000,
}
"""The settings of admin-torch's example/train_wmt_en-de_huge_batch.sh."""
TRAINED: Settings = {"model.share_all_embeddings": True, "model.omega_trainable": True}
"""The settings that the fourth argument of admin-torch's scripts gives: "--share-all-embeddings
--encoder-as-parameter --decoder-as-parameter"."""
TORCH_BATCH, HUGE_BATCH = Batch(4096, 1, 8), Batch(2048, 32, 8)

# T-Fixup

TFIXUP: Settings = {
    "model.share_decoder_input_output_embed": True,
    "optimizer._name": "adam",
    "optimizer.adam_betas": "(0.9, 0.98)",
    "optimizer.weight_decay": 1e-4,
    "optimization.clip_norm": 25.0,
    "optimization.lr": 5e-4,
    "lr_scheduler._name": "inverse_sqrt_nowarmup",
    "lr_scheduler.decay_period": 4000,
    "model.dropout": 0.5,
    "optimization.max_epoch": 300,
}

# B2T and DLCL

B2T: Settings = {
    "model.share_all_embeddings": True,
    "optimizer._name": "adam",
    "optimizer.adam_betas": "(0.9, 0.98)",
    "optimizer.weight_decay": 0.0,
    "optimization.clip_norm": 0.1,
    "optimization.lr": 1e-3,
    "lr_scheduler._name": "inverse_sqrt",
    "lr_scheduler.warmup_updates": 4000,
    "lr_scheduler.warmup_init_lr": 1e-7,
    "model.dropout": 0.5,
    "optimization.max_update": 50_000,
    "optimization.max_epoch": 0,  # no limit; max_update ends the training
}
DLCL: Settings = {
    **ADMIN_WMT,
    "optimizer._name": "adam",
    "optimizer.adam_betas": "(0.9, 0.997)",
    "optimization.lr": 2e-3,
    "lr_scheduler.warmup_updates": 16_000,
    "optimization.max_update": 0,
    "optimization.max_epoch": 20,
}


def _table_3(depth: int, postln: Optional[float], preln: float, admin: float) -> tuple[Row, ...]:
    """Describe the three runs of one depth in Table 3 of Admin (Liu et al. 2020).

    ``depth`` is the number of layers of the encoder and of the decoder; the other arguments are
    BLEU scores, None for a run that diverged.
    """
    scores = {"postln": postln, "preln": preln, "admin": admin}
    return tuple(
        Row(scheme, (depth, depth), (Score(TABLE_3, bleu),)) for scheme, bleu in scores.items()
    )


def _torch(depth: int, *scores: tuple[float, str, bool]) -> Row:
    """Describe a run of admin-torch's README with its scores.

    Each score is (BLEU, --output-change-scale, whether Admin's residual scale ω is trained).
    """
    return Row(
        "admin-torch",
        (depth, depth),
        tuple(
            Score(
                "admin-torch, README",
                bleu,
                options={"output_change_scale": scale, "omega_trainable": trained},
            )
            for bleu, scale, trained in scores
        ),
    )


IWSLT14_SEEDS = (1111, 2222, 3333, 4444, 5555)
IWSLT14_DECODING = Decoding(beam=5, last_epoch=90)

IWSLT14_TFIXUP = Recipe(
    "tfixup",
    "T-Fixup on IWSLT14 De-En: its Train_IWSLT_TFixup_example.sh, with separate dictionaries. "
    "That names one dropout (the other two are fairseq's 0) and no --clip-norm: 25 is the default"
    " in its fairseq/options.py.",
    TFIXUP,
    HALF,
    Batch(4000, 1, 1),
    # T-Fixup's release chose the epochs to average on the test set; we fix the last 10
    Decoding(beam=4, lenpen=0.3, last_epoch=300),
    seeds=IWSLT14_SEEDS,
    schemes=("tfixup",),
    rows=(
        Row("tfixup", (6, 6), (Score("T-Fixup release", 35.73),)),
        Row(
            "tfixup",
            (12, 12),
            about="T-Fixup's deeper run. Its depth is not published; 12L-12L is our choice.",
        ),
        Row(
            "tfixup",
            (200, 200),
            about="T-Fixup's ultra-deep study, 64-128-2.",
            size="_tiny",
        ),
    ),
)
IWSLT14 = Published(
    "_iwslt_de_en",
    (
        IWSLT14_TFIXUP,
        Recipe(
            "admin",
            "Admin on IWSLT14 De-En (Table 3). The other seeds: common.seed=2222 ... 5555.",
            ADMIN_IWSLT,
            HALF,
            Batch(4096, 1, 1),
            IWSLT14_DECODING,
            seeds=IWSLT14_SEEDS,
            rows=(
                Row("postln", (6, 6), (Score(TABLE_3, 35.64, 0.23),)),
                Row("preln", (6, 6), (Score(TABLE_3, 35.50, 0.04),)),
                Row("admin", (6, 6), (Score(TABLE_3, 35.67, 0.15),)),
                Row("rezero", (6, 6), (Score("Admin release", 34.66),)),
            ),
        ),
        Recipe(
            "no-warmup",
            """
Admin's sweep without a warm-up on IWSLT14 De-En. A row alone is the sweep's first run; all fifteen,
in DIR/0 to DIR/14 (a run that diverges does not stop the others):

  fairseq-hydra-train -m --config-dir configs/iwslt14_de_en --config-name no_warmup_admin \\
      'optimization.lr=[1e-4],[2e-4],[3e-4],[4e-4],[5e-4]' \\
      'optimizer.adam_betas="(0.9, 0.99)","(0.9, 0.995)","(0.9, 0.999)"' \\
      common.suppress_crashes=true hydra.sweep.dir=DIR task.data=DATA_BIN  # an absolute path
""",
            NO_WARMUP,
            HALF,
            Batch(4096, 1, 1),
            IWSLT14_DECODING,
            seeds=IWSLT14_SEEDS,
            rows=tuple(
                Row(scheme, (6, 6), file=f"no_warmup_{scheme}", but={"optimization.lr": 1e-4})
                for scheme in ("postln", "preln", "admin")
            ),
        ),
        replace(IWSLT14_TFIXUP, schemes=(), rows=()),  # for any scheme with --recipe tfixup
    ),
)

EN_DE_DECODING = Decoding(beam=4, lenpen=0.6, last_epoch=100)
EN_DE_ADMIN = Recipe(
    "admin",
    "Admin on WMT14 En-De.",
    ADMIN_EN_DE,
    HALF,
    Batch(8192, 1, 4),
    EN_DE_DECODING,
    rows=(
        *_table_3(6, 27.80, 27.27, 27.90),
        *_table_3(12, None, 28.26, 28.58),
        *_table_3(18, None, 28.38, 29.03),
        Row(
            "postln-preln",
            (18, 18),
            (Score(TABLE_1),),
            about="Table 1: Post-LN encoder, Pre-LN decoder.",
        ),
        Row(
            "admin",
            (60, 12),
            (Score(VERY_DEEP, 30.1),),
            about=f"{VERY_DEEP} (arXiv:2008.07772): we know its depth and its score. Its settings "
            "we do not know; these are the Admin release's of the shallower runs.",
        ),
    ),
)
EN_DE_TORCH = Recipe(
    "admin-torch",
    "admin-torch on WMT14 En-De: its example/train_wmt_en-de.sh; example/eval_wmt_en-de.sh "
    "averages up to epoch 100. Its scores with a constant ω (example/README.md, 4): "
    "model.omega_trainable=false.",
    {**TORCH, **TRAINED, "optimization.max_epoch": 100},
    TORCH_HALF,
    TORCH_BATCH,
    EN_DE_DECODING,
    schemes=("admin-torch",),
    rows=(
        _torch(
            6,
            (27.84, "O(logn)", True),
            (27.83, "O(logn)", False),
            (27.71, "O(1)", False),
            (27.79, "O(1)", True),
        ),
        _torch(
            18,
            (28.91, "O(logn)", True),
            (28.78, "O(logn)", False),
            (28.66, "O(1)", False),
            (28.89, "O(1)", True),
        ),
    ),
)
EN_DE_B2T = Recipe(
    "b2t",
    "B2T on WMT En-De, on 8 GPUs: the README of takase/b2t_connection. Not here: its word dropout "
    "(--sampling-method worddrop --enc-replace-rate 0.1 --dec-replace-rate 0.1). The latest 10 "
    "checkpoints are averaged, beam 4, length penalty 0.6 on newstest2014.",
    B2T,
    {"common.fp16": True},
    Batch(3584, 16, 8),
    Decoding(beam=4, lenpen=0.6),
    seeds=(1,),
    from_layers=18,
    rows=(Row("b2t", (18, 18)),),
)
WMT14_EN_DE = Published(
    "_wmt_en_de",
    (
        Recipe(
            "admin-torch",
            "admin-torch on WMT14 En-De with its huge batch, as much as 128 x 4096 tokens: its "
            'example/train_wmt_en-de_huge_batch.sh. example/README.md, 3, of 100L-100L: "trained '
            'with the huge-batch-size setting, but only for 40 epochs".',
            {**TORCH_HUGE, **TRAINED, "optimization.max_epoch": 40},
            TORCH_HALF,
            HUGE_BATCH,
            replace(EN_DE_DECODING, last_epoch=40),
            schemes=("admin-torch",),
            from_layers=100,
            rows=(_torch(100, (29.65, "O(logn)", True)),),
        ),
        EN_DE_TORCH,
        replace(
            EN_DE_ADMIN,
            about="Admin on WMT14 En-De at 100L-100L, which its release trains without tuning.",
            batch=Batch(4096, 1, 8),
            from_layers=100,
            rows=(Row("admin", (100, 100)),),
        ),
        EN_DE_ADMIN,
        replace(
            EN_DE_B2T,
            settings={**B2T, "optimization.max_update": 25_000},
            from_layers=100,
            rows=(Row("b2t", (100, 100)),),
        ),
        EN_DE_B2T,
        replace(
            EN_DE_B2T,
            about="B2T on WMT En-De, on 8 GPUs: the README of takase/b2t_connection. The latest 10 "
            "checkpoints are averaged, beam 4, length penalty 0.6 on newstest2014.",
            settings={**B2T, "model.dropout": 0.3},
            from_layers=0,
            rows=(Row("b2t", (6, 6)),),
        ),
        Recipe(
            "dlcl",
            "DLCL on WMT En-De on 8 GPUs: its authors' runs/train-wmt-en2de-deep-prenorm-dlcl.sh,"
            " whose architecture, dlcl_transformer_prenorm_deep_wmt_en_de, has the depths and "
            "dropouts. The last 5 epochs are averaged, beam 4, length penalty 0.6. The script "
            'trains in float32 and says "set fp16=1 if possible": common.fp16=true.',
            DLCL,
            {**HALF, "common.fp16": False},
            Batch(4096, 2, 8),
            Decoding(beam=4, lenpen=0.6, last_epoch=20, average=5),
            seeds=(1,),
            rows=(Row("dlcl", (30, 6)),),
        ),
    ),
)

EN_FR_ADMIN = Recipe(
    "admin",
    "Admin on WMT14 En-Fr.",
    ADMIN_EN_FR,
    HALF,
    Batch(8000, 10, 8),
    Decoding(beam=5, lenpen=0.8, last_epoch=50),
    rows=_table_3(6, 41.29, 40.74, 41.47),
)
WMT14_EN_FR = Published(
    "_wmt_en_de",
    (
        replace(
            EN_FR_ADMIN,
            about="Admin on WMT14 En-Fr, on two nodes: start it on each with torchrun or srun "
            "(docs/training.md, Several workers).",
            batch=Batch(5000, 16, 16),
            from_layers=60,
            rows=(
                Row("postln", (60, 12), (Score(TABLE_3),)),
                Row("preln", (60, 12), (Score(TABLE_3, 43.10),)),
                Row("admin", (60, 12), (Score(TABLE_3, 43.80), Score(VERY_DEEP, 43.8))),
            ),
        ),
        EN_FR_ADMIN,
    ),
)


def _compared(batches: str, about: str, settings: Settings, batch: Batch) -> tuple[Recipe, ...]:
    """Describe admin-torch's comparison with Admin and DeepNet, for one of its two batch sizes.

    Returns a recipe for admin-torch and a recipe for Admin and DeepNet; ``batches`` ("8" or "128"
    batches of 4096 tokens in an update) is their name. In the published commands for the latter two
    (example/README.md, 2.2), --init-type replaces --share-all-embeddings, the fourth argument of
    admin-torch's scripts, so these runs share no embeddings.
    """
    torch = Recipe(
        batches,
        "admin-torch's comparison with Admin and DeepNet on WMT17 En-De (its example/README.md): "
        f'{about} Evaluated with "45 10", the last 10 up to epoch 45.',
        {**settings, **TRAINED, "optimization.max_epoch": 45},
        TORCH_HALF,
        batch,
        Decoding(beam=4, lenpen=0.6, last_epoch=45),
        schemes=("admin-torch",),
        rows=(Row("admin-torch", (100, 100), file=f"admin_torch_{batches}x4096"),),
    )
    others = replace(
        torch,
        about=f"{torch.about} In the published commands, --init-type takes the place of the "
        "scripts' --share-all-embeddings; model.share_all_embeddings=true would make these "
        "runs as large as admin-torch's.",
        settings={
            **settings,
            "model.share_all_embeddings": False,
            "optimization.max_epoch": 45,
        },
        schemes=(),
        rows=tuple(
            Row(scheme, (100, 100), file=f"{scheme}_{batches}x4096")
            for scheme in ("admin", "deepnet")
        ),
    )
    return torch, others


WMT17_TFIXUP = Recipe(
    "8",
    "T-Fixup's large batch on WMT17 En-De, of which the size of the model is published. How many "
    "tokens it has is not (128 x 4096 as in the other runs here), nor how long it trains (45 "
    "epochs, as those), nor the dropout (our choice), nor the rest (as on IWSLT14).",
    {**TFIXUP, "model.dropout": 0.1, "optimization.max_epoch": 45},
    HALF,
    Batch(4096, 1, 8),
    Decoding(beam=4, lenpen=0.6, last_epoch=45),
    schemes=("tfixup",),
)
WMT17_EN_DE = Published(
    "_wmt_en_de",
    (
        WMT17_TFIXUP,
        replace(WMT17_TFIXUP, name="128", batch=Batch(4096, 16, 8), rows=(Row("tfixup", (6, 6)),)),
        *_compared("8", "its script for WMT14 En-De.", TORCH, TORCH_BATCH),
        *_compared("128", "its script for the huge batch.", TORCH_HUGE, HUGE_BATCH),
    ),
    recipe="8",
)

MULTI30K_WARMUP = Recipe(
    "warmup",
    "Our own, of no paper: a small model for some minutes of a CPU.",
    {
        "common.log_interval": 50,
        "model.encoder_embed_dim": 128,
        "model.encoder_ffn_embed_dim": 256,
        "model.encoder_attention_heads": 4,
        "model.share_all_embeddings": True,
        "model.dropout": 0.1,
        "optimizer._name": "radam",
        "optimizer.adam_betas": "(0.9, 0.98)",
        "optimization.clip_norm": 0.0,
        "optimizer.weight_decay": 1e-4,
        "optimization.lr": 1e-3,
        "lr_scheduler._name": "inverse_sqrt",
        "lr_scheduler.warmup_updates": 400,
        "lr_scheduler.warmup_init_lr": 1e-7,
        "optimization.max_update": 600,
    },
    {"common.fp16": False},
    Batch(2048, 1, 1),
    Decoding(beam=5, average=0),
    seeds=(1,),
)
MULTI30K = Published(
    "",
    (
        MULTI30K_WARMUP,
        replace(
            MULTI30K_WARMUP,
            name="no-warmup",
            settings={
                **without(MULTI30K_WARMUP.settings, "lr_scheduler"),
                "lr_scheduler._name": "inverse_sqrt_nowarmup",
            },
        ),
        replace(
            MULTI30K_WARMUP,
            name="long",
            about="Our own, of no paper: a deep small model for hours of a CPU, and its dynamics.",
            settings={
                **MULTI30K_WARMUP.settings,
                "model.log_dynamics": 100,
                "criterion._name": "label_smoothed_cross_entropy_chunked",
                "optimization.max_update": 3000,
            },
        ),
    ),
)

PUBLISHED = {
    "iwslt14_de_en": IWSLT14,
    "wmt14_en_de": WMT14_EN_DE,
    "wmt14_en_fr": WMT14_EN_FR,
    "wmt17_en_de": WMT17_EN_DE,
    "multi30k": MULTI30K,
}
"""The published runs, by the name of the data set."""
