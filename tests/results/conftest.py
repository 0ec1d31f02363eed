"""Run folders with short logs, as fairseq writes them."""

import json

import pytest

CONFIG = (
    "2026-11-23 00:36:00 | INFO | fairseq_cli.train | {'_name': None, 'common': {'_name': None, "
    "'log_interval': 50, 'seed': %(seed)s}, 'generation': {'beam': %(seed)s}, "
    "'dataset': {'valid_subset': 'valid', 'train_subset': 'train'}, "
    "'optimization': {'max_epoch': 0, 'max_update': %(max_update)s, 'lr': [%(lr)s]}, "
    "'checkpoint': {'save_dir': 'somewhere-%(seed)s'}, "
    "'model': {'_name': '%(arch)s', 'init_type': %(init_type)s, 'activation_fn': relu, "
    "'encoder_layers': %(layers)s, 'decoder_layers': %(layers)s, "
    "'encoder_normalize_before': False, 'decoder_normalize_before': False}, "
    "'task': Namespace(_name='translation', data='%(data)s', source_lang='de', target_lang='en'), "
    "'optimizer': {'_name': 'radam', 'adam_betas': '(0.9, 0.98)', 'lr': [%(lr)s]}}\n"
)
DEFAULTS = {
    "seed": 1,
    "max_update": 150,
    "lr": 0.001,
    "arch": "admin_transformer",
    "init_type": "adaptive-auto",
    "layers": 6,
    "data": "/data/iwslt14_de_en/bin",
}


def config_line(**options):
    return CONFIG % {**DEFAULTS, **options}


def train_line(update, loss, wall=None):
    return (
        f"2026-11-23 00:36:04 | INFO | train_inner | epoch 001:  {update} / 514 loss={loss + 1}, "
        f"nll_loss={loss}, ppl=9, wps=751.9, ups=0, wpb=72, bsz=12, num_updates={update}, lr=0.1, "
        f"gnorm=2.831, train_wall=0, wall={update // 2 if wall is None else wall}\n"
    )


def valid_line(update, loss):
    return (
        "2026-11-23 00:36:05 | INFO | valid | epoch 001 | valid on 'valid' subset | "
        f"loss {loss + 1} | nll_loss {loss} | ppl 218.25 | wps 5635.9 | num_updates {update}\n"
    )


DONE = "2026-11-23 00:37:17 | INFO | fairseq_cli.train | done training in 1.0 seconds\n"


def log_of(losses=(12.5, 8.0, 5.0), valid=(5.5, 5.25), **options):
    lines = [train_line(50 * i, loss) for i, loss in enumerate(losses, start=1)]
    lines += [valid_line(149 + i, loss) for i, loss in enumerate(valid)]
    return "".join([config_line(**options), *lines])


@pytest.fixture
def make(tmp_path):
    """make(name, log, **evaluation): a run folder below ``make.folder``."""

    def make(name, log=None, **evaluation):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "train.log").write_text(log_of() if log is None else log)
        if evaluation:
            (folder / "evaluation.json").write_text(json.dumps(evaluation))
        return str(folder)

    make.folder = str(tmp_path / "runs")
    return make
