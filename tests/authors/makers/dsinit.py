"""DS-Init: https://github.com/bzhangGo/zero, for TensorFlow 1, here under its stand-in in 2.x.

It needs tensorflow on the path: ``pip install --target FOLDER tensorflow-cpu``, without the numpy
that comes with it.
"""

import re
import sys
from types import SimpleNamespace

import numpy as np
import tensorflow.compat.v1 as tf

from .. import subject
from .common import Source, made, save

tf.disable_v2_behavior()
sys.modules["tensorflow"] = tf

SOURCE = Source(
    "bzhangGo/zero",
    "d97e2c21b1c6d0467fe821223042247bf2b46bf9",
    ["models/transformer.py", "modules/initializer.py", "func.py"],
)
NOTES = (
    "Of every matrix in a layer its shape, as [fan_out, fan_in], and its largest size in the "
    "layers from the first to the last, by the authors' names; all are uniform, all biases zero. "
    "The options are those of docs/depth_scale_init_and_merged_attention, the model is their "
    "'transformer'. They hand initializer_gain/√l to variance_scaling_initializer, which takes a "
    "variance's scale: the bounds are √(6/(fan_in + fan_out)) l^(-1/4), at gain 1. Queries, keys "
    "and values of self-attention are one matrix of 3d x d, whose bound is 1/√2 of a square "
    "one's. tensorflow.compat.v1 stands in for tensorflow 1."
)


class Vocabulary:
    def size(self):
        return subject.TYPES_DRAWN + 4

    def pad(self):
        return 0


def variables(depths):
    """The authors' name of every variable → as it is drawn."""
    from models import transformer
    from modules import initializer

    options = SimpleNamespace(
        hidden_size=subject.DRAWN["embed_dim"],
        embed_size=subject.DRAWN["embed_dim"],
        filter_size=subject.DRAWN["ffn_embed_dim"],
        num_heads=subject.DRAWN["attention_heads"],
        num_encoder_layer=depths[0],
        num_decoder_layer=depths[1],
        src_vocab=Vocabulary(),
        tgt_vocab=Vocabulary(),
        shared_source_target_embedding=False,
        shared_target_softmax_embedding=False,
        **dict.fromkeys(("dropout", "attention_dropout", "residual_dropout", "relu_dropout"), 0.0),
        label_smooth=0.0,
        deep_transformer_init=True,
        initializer="uniform_unit_scaling",
        initializer_gain=1.0,
        scope_name="model",
    )
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        words = {side: tf.placeholder(tf.int32, [None, None]) for side in ("source", "target")}
        start = initializer.get_initializer(options.initializer, options.initializer_gain)
        transformer.train_fn(words, options, initializer=start)
        session.run(tf.global_variables_initializer())
        return {variable.op.name: session.run(variable) for variable in tf.global_variables()}


def matrices(depths):
    found = {}
    for name, value in variables(depths).items():
        layer = re.fullmatch(r"model/(\w+)/layer_(\d+)/(.+)/(W|b)_0(_0)?", name)
        if layer and layer[4] == "b":
            assert not value.any()
        elif layer:
            place = found.setdefault(f"{layer[1]}/layer_*/{layer[3]}", {"largest": []})
            place["shape"] = [*reversed(value.shape)]  # they multiply from the right
            assert len(place["largest"]) == int(layer[2])
            place["largest"].append(float(f"{abs(value).max():.6g}"))
            # as of a uniform distribution: √3
            assert 1.68 < abs(value).max() / np.std(value) < 1.79
    return found


if __name__ == "__main__":
    found = {"-".join(map(str, depths)): matrices(depths) for depths in subject.DEPTHS}
    save("dsinit", {**made(SOURCE, NOTES), "tensorflow": tf.__version__, "matrices": found})
