"""Fixup: files of https://github.com/hongyi-zhang/Fixup over pytorch/fairseq of their time.

Its folder ``fairseq`` is to be copied over a checkout of pytorch/fairseq at
5d00e8eea2644611f397d05c6c8f15083388b8b4, and the result to be put on the path.
"""

from .common import Authors, Source, arguments, fairseqs_logits, fairseqs_parameters, task, write

SOURCE = Source(
    "hongyi-zhang/Fixup",
    "f3fa449fbb8906ccb7143cea822f8b964b3d9258",
    [
        "fairseq/fairseq/models/transformer_zero.py",
        "fairseq/fairseq/modules/multihead_attention_zero.py",
    ],
)
NOTES = (
    "Over pytorch/fairseq at 5d00e8eea2644611f397d05c6c8f15083388b8b4. Theirs subtracts its "
    "shifts, so that for the logits each is our number's negative."
)

SELF_ATTENTION = [f"self_attn.{p}_proj.before.shift" for p in "qkv"]
CROSS_ATTENTION = ["encoder_attn.q_proj.before.shift"]
FFN = ["fc1.before.shift"], ["shift_before_relu.bias"], ["fc2.before.shift"]
SHIFTS = {"encoder": [SELF_ATTENTION, *FFN], "decoder": [SELF_ATTENTION, CROSS_ATTENTION, *FFN]}
SCALES = {"encoder": ["self_attn", "ffn"], "decoder": ["self_attn", "encoder_attn", "ffn"]}


def build(depths, sizes, types, shared):
    from fairseq.models.transformer_zero import TransformerZeroModel

    args = arguments(TransformerZeroModel, depths, sizes, shared)
    return TransformerZeroModel.build_model(args, task(types))


def parameters(model):
    """Those that stand where ours do; one shift of theirs may be several of ours."""
    found = {}
    for name, value in fairseqs_parameters(model).items():
        stack, *rest = name.split(".")
        layer = ".".join([stack, *rest[:2]])
        if rest[0] == "layers" and rest[2].startswith("shift"):
            found |= {f"{layer}.{ours}": value for ours in SHIFTS[stack][int(rest[2][-1])]}
        elif rest[0] == "layers" and rest[2].startswith("scale"):
            found[f"{layer}.residuals.{SCALES[stack][int(rest[2][-1])]}.alpha"] = value
        else:
            found[name] = value
    return found


def logits(model):
    from fairseq.models.transformer_zero import LayerShift

    for module in model.modules():
        if isinstance(module, LayerShift):
            module.bias.neg_()
    return fairseqs_logits(model)


if __name__ == "__main__":
    ours_alone = [
        r"_proj\.bias$",
        r"fc[12]\.bias$",
        r"out_proj\.before\.shift$",
        r"encoder_attn\.[kv]_proj\.before\.shift$",
    ]
    theirs_alone = [r"coder\.(shift0\.bias|scale0\.weight)$", r"shift_before_relu\.bias$"]
    authors = Authors(SOURCE, build, parameters, logits, notes=NOTES)
    write("fixup", authors._replace(ours_alone=ours_alone, theirs_alone=theirs_alone))
