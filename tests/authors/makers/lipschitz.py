"""Lipschitz-constrained initialisation: https://github.com/hfxunlp/transformer, its NMT model.

What its folder ``cnfg`` is there to set is set here, before anything else of it is imported.
"""

import re

import cnfg.hyp
import cnfg.vocab.base

from .. import subject
from .common import Authors, Source, write

cnfg.hyp.ease_optimization = False
cnfg.hyp.disable_std_pemb = True
cnfg.vocab.base.pad_id, cnfg.vocab.base.sos_id = subject.PAD, subject.BOS

import cnfg.ihyp  # noqa: E402  reads cnfg.hyp

cnfg.ihyp.ieps_ln_default = 1e-5

SOURCE = Source(
    "hfxunlp/transformer",
    "635c75c7d927f035ae1d45ad1f14f77d9877ac26",
    ["utils/init/base.py", "transformer/NMT.py", "modules/base.py", "cnfg/hyp.py", "cnfg/ihyp.py"],
)
NOTES = (
    "A layer of theirs norms a branch's input, and in computation order v1 adds the branch to the "
    "normed input: Post-LN that begins with a norm of the embeddings, layernorm_embedding with "
    "us. Order v2 adds it to the input as it is: Pre-LN. Set in their cnfg: ease_optimization "
    "False, so that all linear maps have biases; disable_std_pemb True, since their sinusoids are "
    "laid out otherwise and, without them, embeddings are not multiplied by √d; padding is 1 and "
    "the start of a sentence 0; layer norm's epsilon is 1e-5 as with us, not 1e-6. Logits are "
    "read before the log-softmax; their classifier has a bias too."
)
OPTIONS = {"no_token_positional_embeddings": True, "no_scale_embedding": True}


def build(order, depths, sizes, types, shared):
    from transformer.NMT import NMT
    from utils.init.base import init_model_params

    dim, words = sizes["embed_dim"], types + 4
    model = NMT(
        dim,
        words,
        words,
        depths,
        fhsize=sizes["ffn_embed_dim"],
        num_head=sizes["attention_heads"],
        global_emb=shared,
        bindDecoderEmb=shared,
    )
    for module in model.modules():
        if hasattr(module, "norm_residual"):
            module.norm_residual = order == "v1"
    model = init_model_params(model)
    model.dec.fix_init()  # as train.py does: the classifier's row of padding is zero
    return model


BRANCHES = {"encoder": ["self_attn", "final"], "decoder": ["self_attn", "encoder_attn", "final"]}
RENAMED = {
    r"\benc\.": "encoder.",
    r"\bdec\.": "decoder.",
    r"wemb\.": "embed_tokens.",
    r"classifier\.": "output_projection.",
    r"nets\.": "layers.",
    r"\.attn\.": ".self_attn.",
    r"cross_attn\.": "encoder_attn.",
    r"attn\.net\.": "attn.",
    r"outer\.": "out_proj.",
    r"query_adaptor\.": "q_proj.",
    r"ff\.net\.0\.": "fc1.",
    r"ff\.net\.2\.": "fc2.",
    r"\.ff\.normer\.": ".final_layer_norm.",
    r"_attn\.normer\.": "_attn_layer_norm.",
    r"out_normer\.": "layer_norm.",
}


def parameters(model, order):
    found = {}
    for name, value in model.named_parameters():
        for theirs, ours in RENAMED.items():
            name = re.sub(theirs, ours, name)
        if "adaptor." in name:
            prefix, kind = name.rsplit(".", 1)
            prefix, fused = prefix.rsplit(".", 1)
            each = "qkv" if fused == "adaptor" else "kv"
            parts = zip(each, value.chunk(len(each)))
            found |= {f"{prefix}.{part}_proj.{kind}": part_value for part, part_value in parts}
        else:
            found[name] = value
    if order == "v1":
        found = {after_the_sum(name, model): value for name, value in found.items()}
    return found


def after_the_sum(name, model):
    """A norm's name, which is that of the next branch, where it is the last step of one's layer."""
    stack, *within, norm, kind = name.split(".")
    if "norm" not in norm:
        return name
    branches = BRANCHES[stack]
    if within:
        place = int(within[1]) * len(branches) + branches.index(norm.removesuffix("_layer_norm"))
    else:
        place = len(branches) * len(model.enc.nets if stack == "encoder" else model.dec.nets)
    if not place:
        return f"{stack}.layernorm_embedding.{kind}"
    layer, branch = divmod(place - 1, len(branches))
    return f"{stack}.layers.{layer}.{branches[branch]}_layer_norm.{kind}"


def logits(model):
    """What goes into the log-softmax."""
    seen = []
    hook = model.dec.classifier.register_forward_hook(lambda *call: seen.append(call[-1]))
    model(subject.SOURCE, subject.PREVIOUS)
    hook.remove()
    return seen[0]


def make(name, order, options):
    authors = Authors(
        SOURCE,
        lambda *model: build(order, *model),
        lambda model: parameters(model, order),
        logits,
        options={**OPTIONS, **options},
        notes=NOTES,
        theirs_alone=[r"^decoder\.output_projection\.bias$"],
    )
    write(name, authors, scheme="lipschitz")


if __name__ == "__main__":
    make("lipschitz", "v1", {"layernorm_embedding": True})
    make("lipschitz_preln", "v2", {f"{s}coder_normalize_before": True for s in ("en", "de")})
