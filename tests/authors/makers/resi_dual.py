"""ResiDual: https://github.com/microsoft/ResiDual, a --user-dir for fairseq 0.12.2."""

import re
from types import SimpleNamespace

from .common import Authors, Source, fairseqs_logits, fairseqs_parameters, task, write

SECOND = re.compile(r"encoder\.layers\.\d+\.(in_proj|out_proj|fc[12])_(weight|bias)$")
SOURCE = Source(
    "microsoft/ResiDual",
    "8682f7510be105a0caf5b98a021e712f44f90ace",
    ["resi_dual/resi_dual.py", "resi_dual/resi_dual_layers.py"],
)


def build(depths, sizes, types, shared):
    from resi_dual.resi_dual import ResiDual, ResiDualConfig

    cfg = ResiDualConfig()
    for stack, layers in zip(("encoder", "decoder"), depths):
        part = getattr(cfg, stack)
        part.layers, part.embed_dim = layers, sizes["embed_dim"]
        part.ffn_embed_dim, part.attention_heads = sizes["ffn_embed_dim"], sizes["attention_heads"]
    cfg.decoder.input_dim = cfg.decoder.output_dim = sizes["embed_dim"]
    cfg.dropout, cfg.share_all_embeddings = 0.0, shared
    return ResiDual.build_model(cfg, task(types))


def parameters(model):
    """Their norm of the stream without norms has the name of a stack's last.

    Of fairseq's encoder layers, the second copy of their weights is left out, which is not used.
    """
    named = [(name, value) for name, value in model.named_parameters() if not SECOND.search(name)]
    named_parameters = SimpleNamespace(named_parameters=lambda: named)
    return {
        name.replace("coder.layer_norm.", "coder.connections.norm."): value
        for name, value in fairseqs_parameters(named_parameters).items()
    }


if __name__ == "__main__":
    write("resi_dual", Authors(SOURCE, build, parameters, fairseqs_logits))
