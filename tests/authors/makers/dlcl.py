"""DLCL: https://github.com/wangqiangneu/dlcl, a fork of fairseq 0.6.

The authors' option --normalize-embedding is stored as ``normalize_embedding``; their model reads
``normalize_embed``, which its architectures set to False. So in their runs the embeddings enter the
combinations without a norm. The paper's equation norms them, and so do we: here
``normalize_embed`` is set. ``published_logits`` are those without.
"""

from functools import partial

from .common import (
    Authors,
    Source,
    arguments,
    computed,
    fairseqs_logits,
    fairseqs_parameters,
    task,
    write,
)

SOURCE = Source(
    "wangqiangneu/dlcl",
    "c632ee2bc22a007541243d8d6d2820697c62111b",
    ["fairseq/models/dlcl_transformer.py", "fairseq/modules/dlcl.py"],
)
NOTES = (
    "normalize_embed is set: the option that should set it, --normalize-embedding, does not, so "
    "that the authors' own runs have no norm over the embeddings."
)
NORMS = {
    "encoder": ("self_attn_layer_norm", "final_layer_norm"),
    "decoder": ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
}


def build(depths, sizes, types, shared, normalize_embed=True):
    from fairseq.models.dlcl_transformer import (
        DlclTransformerModel,
        dlcl_transformer_prenorm_wmt_en_de,
    )

    options = {"normalize_embed": normalize_embed} if normalize_embed else {}
    args = arguments(DlclTransformerModel, depths, sizes, shared, **options)
    dlcl_transformer_prenorm_wmt_en_de(args)
    return DlclTransformerModel.build_model(args, task(types))


def parameters(model):
    """A row of their matrix of weights is one of our lists; above the diagonal it is not used."""
    found = {}
    for name, value in fairseqs_parameters(model, renamed).items():
        if name.endswith("history.weight"):
            prefix = name.replace("history.weight", "connections.weights.")
            found |= {f"{prefix}{k}": row[: k + 1, 0] for k, row in enumerate(value)}
        else:
            found[name] = value
    return found


def renamed(name):
    stack, *rest = name.split(".")
    if rest[:2] == ["history", "layer_norms"]:
        return ".".join([stack, "connections", "norms", *rest[2:]])
    if rest[0] == "layers" and rest[2] == "layer_norms":
        return ".".join([stack, "layers", rest[1], NORMS[stack][int(rest[3])], rest[4]])
    return name


if __name__ == "__main__":
    authors = Authors(SOURCE, build, parameters, fairseqs_logits, notes=NOTES)
    published = authors._replace(build=partial(build, normalize_embed=False))
    write("dlcl", authors, published_logits=computed(published)[0].tolist())
