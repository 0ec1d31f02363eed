"""fairseq's ``label_smoothed_cross_entropy`` without the logits of all tokens in memory at once."""

import inspect
from argparse import Namespace
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, NoReturn, Optional, Tuple

import torch
from fairseq.criterions import CRITERION_REGISTRY, register_criterion
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)
from fairseq.models import BaseFairseqModel, FairseqDecoder
from omegaconf import DictConfig
from torch import Tensor, nn

from admin_fairseq import bounds
from admin_fairseq.bounds import SHARE, counting
from admin_fairseq.criterions import packed_loss
from admin_fairseq.criterions.packed_loss import GraphedLoss
from admin_fairseq.errors import AdminError
from admin_fairseq.fast.layout import TARGET, noted
from admin_fairseq.fast.precision import in_precision
from admin_fairseq.kernels.chunked_loss import ChunkedLoss, Losses

NAME = "label_smoothed_cross_entropy_chunked"
SHARDED = "weights sharded by --ddp-backend fully_sharded"
UNUSED = "--find-unused-parameters"
BOUNDS = {
    "label_smoothing": SHARE,
    "ignore_prefix_size": counting(0),
    "chunk_tokens": counting(1),
}


@dataclass
class ChunkedConfig(LabelSmoothedCrossEntropyCriterionConfig):
    chunk_tokens: int = field(
        default=ChunkedLoss.chunk_tokens,
        metadata={"help": "tokens whose logits are in memory at once; fewer take less memory"},
    )
    cuda_graphs: bool = field(
        default=False,
        metadata={
            "help": "record forward and backward passes as CUDA graphs, which are replayed for "
            "batches of about the same size; needs --fp16 or --bf16"
        },
    )


class LabelSmoothedCrossEntropyChunked(LabelSmoothedCrossEntropyCriterion):
    """Criterion with the losses, gradients and logged numbers of fairseq's, but in less memory.

    A run that used one of the two can be resumed with the other.

    Shapes: B batch, T target time, C channel; N = B·T target positions, less the ignored prefix.
    """

    def __init__(
        self,
        task: Any,
        sentence_avg: bool,
        label_smoothing: float,
        ignore_prefix_size: int = 0,
        report_accuracy: bool = False,
        chunk_tokens: int = ChunkedLoss.chunk_tokens,
        cuda_graphs: bool = False,
    ) -> None:
        super().__init__(task, sentence_avg, label_smoothing, ignore_prefix_size, report_accuracy)
        given = (label_smoothing, ignore_prefix_size, chunk_tokens)
        bounds.check(Namespace(**dict(zip(BOUNDS, given))), BOUNDS)
        self.chunk_tokens = chunk_tokens
        self.cuda_graphs = cuda_graphs
        self.graphed: Optional[GraphedLoss] = None

    @staticmethod
    def check_model(model: BaseFairseqModel, run: DictConfig) -> None:
        """Raise AdminError at the start of ``run`` if ``forward`` would raise it later.

        An error later, while threads load batches ahead, may abort Python as it exits.
        """
        decoder_of(model)
        if run.distributed_training.ddp_backend == "fully_sharded":
            _refuse(SHARDED)
        if run.distributed_training.find_unused_parameters:
            _refuse(UNUSED)
        if getattr(run.criterion, "cuda_graphs", False):  # older checkpoints lack it
            packed_loss.check(model, run)

    def forward(
        self, model: BaseFairseqModel, sample: Dict[str, Any], reduce: bool = True
    ) -> Tuple[Tensor, int, Dict[str, Any]]:
        """Compute the loss of the batch ``sample``: a sum, or N x 1 without ``reduce``.

        Also returns the sample size and the numbers to log. Raises AdminError if the model's logits
        are not the product of features and one matrix.
        """
        if self.cuda_graphs and model.training and torch.is_grad_enabled() and reduce:
            found, total = self._replayed(model, sample)
        else:
            decoder = decoder_of(model)
            output = model(**sample["net_input"], features_only=True)
            target = model.get_targets(sample, output)
            found, total = self._losses(decoder, output[0], target, reduce)
        sentences = sample["target"].size(0)
        sample_size = sentences if self.sentence_avg else sample["ntokens"]
        logged = {
            "loss": found.loss.data,
            "nll_loss": found.nll.data,
            "ntokens": sample["ntokens"],
            "nsentences": sentences,
            "sample_size": sample_size,
        }
        if self.report_accuracy:
            logged.update(n_correct=found.correct.item(), total=total)
        return found.loss, sample_size, logged

    def _replayed(self, model: BaseFairseqModel, sample: Dict[str, Any]) -> Tuple[Losses, int]:
        """Compute losses by recorded CUDA graphs; returns them and the number of real targets."""
        if self.graphed is None:
            while isinstance(getattr(model, "module", None), nn.Module):
                model = model.module
            loss = ChunkedLoss(self.eps, self.chunk_tokens, count_correct=self.report_accuracy)
            self.graphed = GraphedLoss(model, loss, self.padding_idx)
        target = sample["target"].clone()
        target[:, : self.ignore_prefix_size] = self.padding_idx
        total = int(target.ne(self.padding_idx).sum()) if self.report_accuracy else 0  # waits
        return self.graphed(sample, target), total

    def _losses(
        self, decoder: FairseqDecoder, features: Tensor, target: Tensor, reduce: bool
    ) -> Tuple[Losses, int]:
        """Compute the losses of features (B x T x C) for target (B x T), without padding.

        Also returns the number of targets that remain.
        """
        known = None if self.ignore_prefix_size else noted(target, TARGET)
        target = target[:, self.ignore_prefix_size :].reshape(-1)
        features = features[:, self.ignore_prefix_size :].flatten(0, 1)
        kept = known and known.kept
        if kept is None:
            kept = target.ne(self.padding_idx).nonzero().squeeze(1)
        if len(kept) < len(target):
            features = features.index_select(0, kept)
        projection = decoder.output_projection
        chunked_loss = ChunkedLoss(
            self.eps, self.chunk_tokens, _product_dtype(decoder, features), self.report_accuracy
        )
        found = chunked_loss(features, projection.weight, projection.bias, target[kept], reduce)
        if not reduce:
            loss, nll = (_among(x, kept, len(target)) for x in (found.loss, found.nll))
            found = Losses(loss, nll, found.correct)
        return found, len(kept)


def decoder_of(model: BaseFairseqModel) -> FairseqDecoder:
    """Return the decoder of a possibly wrapped model, whose last step is ``output_projection``.

    Raises AdminError if the decoder has no such projection, or the weight or gradient of the
    projection is not accessible.
    """
    finds_unused = getattr(model, "find_unused_parameters", False)
    while isinstance(getattr(model, "module", None), nn.Module):
        if any(kind.__name__ == "FullyShardedDataParallel" for kind in type(model).__mro__):
            _refuse(SHARDED)
        model = model.module
    decoder, name = getattr(model, "decoder", None), type(model).__name__
    if getattr(decoder, "adaptive_softmax", None) is not None:
        _refuse("an adaptive softmax", instead="adaptive_loss")
    projection = getattr(decoder, "output_projection", None)
    if not isinstance(projection, nn.Linear) or type(projection).forward is not nn.Linear.forward:
        _refuse(f"a {name}, which has no linear decoder.output_projection")
    if not _takes(model.forward, "features_only"):
        _refuse(f"a {name}, which does not return its features")
    if finds_unused:  # DDP takes parameters for unused that the model's own forward does not touch
        _refuse(UNUSED)
    return decoder


def _refuse(what: str, instead: str = "label_smoothed_cross_entropy") -> NoReturn:
    """Raise AdminError that ``what`` does not work with this criterion; suggest ``instead``."""
    raise AdminError(f"--criterion {NAME} does not work with {what}; use {instead}")


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Return whether ``function`` accepts a keyword argument ``name``."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _product_dtype(decoder: FairseqDecoder, features: Tensor) -> torch.dtype:
    """Return the dtype of ``output_projection(features)`` under autocast, if there is any.

    It is that of a tiny product, because torch's queries for autocast differ between versions.
    """
    one = features.detach().new_ones(1, 1)
    return in_precision(torch.mm, getattr(decoder, "autocast_dtype", None))(one, one).dtype


def _among(values: Tensor, kept: Tensor, length: int) -> Tensor:
    """Put ``values`` at the positions ``kept`` of a column of zeros, length x 1."""
    return values.new_zeros(length).index_copy(0, kept, values).unsqueeze(1)


if NAME not in CRITERION_REGISTRY:  # the module may be imported twice
    register_criterion(NAME, dataclass=ChunkedConfig)(LabelSmoothedCrossEntropyChunked)

# fairseq resumes an optimiser's state only if the criterion's class has the name that it had; set
# after registration, since two classes of one name cannot be registered
LabelSmoothedCrossEntropyChunked.__name__ = LabelSmoothedCrossEntropyCriterion.__name__
