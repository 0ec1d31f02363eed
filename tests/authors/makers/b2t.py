"""B2T connection: https://github.com/takase/b2t_connection, a fork of fairseq 0.9."""

from .common import Authors, Source, arguments, fairseqs_logits, fairseqs_parameters, task, write

SOURCE = Source(
    "takase/b2t_connection",
    "c8e2ad4ed0b137bf267272419dbf71771dff9f64",
    ["fairseq/modules/transformer_layer.py"],
)


def build(depths, sizes, types, shared):
    from fairseq.models.transformer import TransformerModel, base_architecture

    options = {"residual_bottom_to_top": True, "save_dir": "."}
    args = arguments(TransformerModel, depths, sizes, shared, **options)
    base_architecture(args)
    return TransformerModel.build_model(args, task(types))


if __name__ == "__main__":
    write("b2t", Authors(SOURCE, build, fairseqs_parameters, fairseqs_logits))
