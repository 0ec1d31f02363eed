"""Build models, or read them from checkpoints, to measure them under the same conditions.

Everything is measured in float32 and, except for training itself, without dropout.
"""

from __future__ import annotations

import copy
import re
import shlex
from dataclasses import dataclass, field
from typing import AbstractSet, Any, Mapping, Optional, Sequence

import torch
from fairseq import tasks, utils
from fairseq.criterions import FairseqCriterion
from fairseq.criterions.adaptive_loss import AdaptiveLoss
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import ARCH_MODEL_NAME_REGISTRY, BaseFairseqModel
from fairseq.tasks import TASK_REGISTRY, FairseqTask
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from admin_fairseq import bounds
from admin_fairseq.analysis.options import Conditions
from admin_fairseq.architectures import ARCHITECTURES, KINDS, MODELS, Model
from admin_fairseq.bounds import SEED
from admin_fairseq.checkpoints import building
from admin_fairseq.checkpoints.dictionaries import data_bin
from admin_fairseq.checkpoints.storage import (
    check_weights,
    model_options,
    read_checkpoint,
    run_options,
)
from admin_fairseq.config import SIZES, resolve
from admin_fairseq.errors import AdminError, blaming
from admin_fairseq.fairseq_runs import (
    Batch,
    build_model,
    first_batches,
    naming_errors,
    parse,
    telling_of_data,
)
from admin_fairseq.hooks.moments import real_tokens
from admin_fairseq.profiling.profile import Profile
from admin_fairseq.profiling.run import profiled
from admin_fairseq.schemes import SCHEMES, Norm
from admin_fairseq.studies.options import Depth

DEFAULTS = {
    "--optimizer": ("adam", "--adam-betas", "(0.9, 0.98)"),
    "--lr": ("5e-4",),
    "--num-workers": ("0",),
    "--distributed-world-size": ("1",),
}
"""Option of ``fairseq-train`` → the arguments that follow it, unless the user gives the option."""

FOR_HOOKS = {
    "checkpoint_activations": False,
    "offload_activations": False,
    "reference_kernels": True,
    "autocast": None,
    "compile": False,
}
"""Model options with which hooks work: layers run once, call all modules, and have T x B x C."""

# fairseq's roberta has its encoder in another place
MEASURED = {name: kind for name, kind in KINDS.items() if name in MODELS or not kind.stock_names}

SAMPLE = 512  # tokens in a language model's sample, as in fairseq's examples; at most --max-tokens


@dataclass(frozen=True)
class Subject:
    """A model to measure: an architecture or the path of a checkpoint.

    ``words`` are the architecture's name and its options, as arguments.
    """

    words: tuple[str, ...] = ()
    path: Optional[str] = None

    def __str__(self) -> str:
        """Return the checkpoint's path, or the architecture and its options as typed."""
        return self.path or shlex.join(self.words)

    @property
    def has_layers(self) -> bool:
        """Return whether the number of layers is fixed, so that studies cannot vary it."""
        return self.path is not None or sets_layers(self.words)


def sets_layers(words: Sequence[str]) -> bool:
    """Return whether ``--encoder-layers`` or ``--decoder-layers`` is among the arguments."""
    return any(re.match("--(en|de)coder-layers(=|$)", word) for word in words)


@dataclass
class Specimen:
    """A model ready to be measured: on its device, in eval mode, with a batch of data.

    ``run`` is the configuration with which fairseq would train it. ``profile`` holds the measured
    variances that give its residual scales ω, if its scheme has one.
    """

    label: str
    model: BaseFairseqModel
    run: DictConfig
    task: FairseqTask
    criterion: FairseqCriterion
    batch: Batch
    profile: Optional[Profile] = None  # of its ω, if the scheme has one

    @property
    def depths(self) -> dict[str, int]:
        """Return stack (encoder, decoder) → its number of layers."""
        stacks = ((name, getattr(self.model, name, None)) for name in ("encoder", "decoder"))
        return {name: stack.num_layers for name, stack in stacks if stack is not None}

    def real(self, stack: str) -> Tensor:
        """Return a mask (T x B) that is True where the stack's input is not padding."""
        return real_tokens(self.model, stack, self.batch)

    def loss(self) -> Tensor:
        """Compute the criterion's loss of the batch, per token.

        Raises AdminError if the loss is not finite, or the criterion does not fit the model.
        """
        adaptive = (
            hasattr(self.model, "decoder") and self.model.decoder.adaptive_softmax is not None
        )
        if adaptive and not isinstance(self.criterion, AdaptiveLoss):
            raise AdminError(
                f"{self.label}: an adaptive softmax needs, after --, --criterion adaptive_loss "
                "--ddp-backend legacy_ddp"
            )
        loss, sample_size, _ = self.criterion(self.model, self.batch)
        if not loss.isfinite():
            raise AdminError(f"{self.label}: its loss is {loss.item()}")
        return loss / sample_size


@dataclass
class Bench:
    """A builder of models, one after another, to be measured on the same batch of data."""

    conditions: Conditions
    _tasks: dict[tuple[Any, ...], tuple[FairseqTask, Batch]] = field(default_factory=dict)

    def put(
        self, subject: Subject, depth: Optional[Depth] = None, seed: Optional[int] = None
    ) -> Specimen:
        """Build a model, or read it from a checkpoint, and make it ready to be measured.

        ``depth`` and ``seed`` override those of the architecture and of the conditions; they do not
        apply to checkpoints. Raises AdminError if fairseq refuses the model's options, the data
        does not fit, or the model is not a transformer.
        """
        if subject.path is not None:
            return self._checkpoint(subject.path)
        seed = self.conditions.seed if seed is None else seed
        run = self._run(subject.words, depth, seed)
        task, batch = self._data(run)
        torch.manual_seed(seed)
        with naming_errors(subject, "build"):
            model = build_model(run, task).to(self.conditions.device)
            criterion = task.build_criterion(run.criterion).to(self.conditions.device)
        ours = subject.words[0] in ARCHITECTURES
        profile = profiled(model, resolve(run.model), task, run) if ours else None
        label, model = label_of(_flat(run.model)), building.for_inference(model)
        return Specimen(label, model, run, task, criterion, batch, profile)

    def _run(self, words: Sequence[str], depth: Optional[Depth], seed: int) -> DictConfig:
        """Return fairseq's configuration for training an architecture in float32, ready for hooks.

        ``words`` are its name and options. Raises AdminError if options are wrong or ask for
        another precision.
        """
        args = parse(self._command_line(words, depth, seed))
        known = [kind.task for kind in MODELS.values()]
        if not issubclass(TASK_REGISTRY[args.task], tuple(TASK_REGISTRY[one] for one in known)):
            raise AdminError(f"--task {args.task}: must be one of {', '.join(known)}")
        run = convert_namespace_to_omegaconf(args)
        bounds.check(run.model, SIZES)  # fairseq does not check its own models
        bounds.check(run.common, {"seed": SEED})  # --seed may also be among the words
        for precision in ("fp16", "bf16", "amp"):
            if run.common[precision]:
                raise AdminError(f"--{precision}: measurements are in float32; leave it out")
        if getattr(run.model, "autocast", None):
            raise AdminError("--autocast: measurements are in float32; leave it out")
        for option, value in FOR_HOOKS.items():
            if hasattr(run.model, option):
                setattr(run.model, option, value)
        return run

    def _command_line(self, words: Sequence[str], depth: Optional[Depth], seed: int) -> list[str]:
        """Return the arguments with which ``fairseq-train`` would train an architecture.

        ``words`` are its name and options.
        """
        conditions, kind = self.conditions, _kind(words[0])
        layers = [
            word
            for stack in (kind.stacks if depth is not None else ())
            for word in (f"--{stack}-layers", str(getattr(depth, stack)))
        ]
        task = ["--task", kind.task]
        given = {word.split("=")[0] for word in (*words, *conditions.words)}
        if kind.task != "translation" and "--tokens-per-sample" not in given:
            task += ["--tokens-per-sample", str(min(SAMPLE, conditions.max_tokens))]
        return [
            *(conditions.data, *task),
            *_defaults({**DEFAULTS, "--criterion": kind.criterion}, given),
            *("--max-tokens", str(conditions.max_tokens), "--seed", str(seed)),
            *(["--cpu"] if conditions.cpu else []),
            *("--arch", *words, *layers, *conditions.words),
        ]

    def _data(self, run: DictConfig) -> tuple[FairseqTask, Batch]:
        """Return the task and the batch to measure on, shared by all models with the same task."""
        key = (*(f"{name}={value}" for name, value in run.task.items()), run.dataset.max_tokens)
        if key not in self._tasks:
            run = copy.deepcopy(run)
            run.common.seed = self.conditions.seed
            if _kind(run.model._name).task == "translation":
                data_bin(run.task.data, run.task)  # raises if folder or languages are missing
            with telling_of_data(run):
                task = tasks.setup_task(run.task)
            (batch,) = first_batches(task, run, 1, self.conditions.subset)
            if self.conditions.device.type == "cuda":
                batch = utils.move_to_cuda(batch)
            self._tasks[key] = task, batch
        return self._tasks[key]

    def _checkpoint(self, path: str) -> Specimen:
        """Read a model from a checkpoint, and make it ready to be measured on the batch."""
        state = read_checkpoint(path)
        options, weights = model_options(state), state["model"]
        options.update({name: value for name, value in FOR_HOOKS.items() if name in options})
        with blaming(path):
            check_weights(weights)
            model = building.build(options, weights)
        model = model.float().to(self.conditions.device)
        trained = run_options(state).get("task") or {}
        if _kind(options["_name"]).task != "translation":
            words = [options["_name"], "--tokens-per-sample", str(model.max_positions())]
        else:
            words = ["transformer"]
            for side, longest in zip(("source", "target"), model.max_positions()):
                words += [f"--max-{side}-positions", str(longest)]
                if trained.get(f"{side}_lang"):
                    words += [f"--{side}-lang", trained[f"{side}_lang"]]
        run = self._run(words, None, self.conditions.seed)
        task, batch = self._data(run)
        _check_dictionaries(model, task, path, self.conditions.data)
        criterion = task.build_criterion(run.criterion).to(self.conditions.device)
        return Specimen(label_of(options), model, run, task, criterion, batch)


def _kind(arch: str) -> Model:
    """Return the kind of model (translation or language model) that an architecture builds.

    Raises AdminError if it is not a transformer.
    """
    if arch not in ARCH_MODEL_NAME_REGISTRY:
        raise AdminError(f"unknown --arch {arch}; docs/schemes.md lists those of this plugin")
    kind = MEASURED.get(ARCH_MODEL_NAME_REGISTRY[arch])
    if kind is None:
        raise AdminError(f"--arch {arch}: not a fairseq transformer such as {', '.join(MEASURED)}")
    return kind


def _defaults(values: Mapping[str, tuple[str, ...]], given: AbstractSet[str]) -> list[str]:
    """Return the arguments in ``values``, by option, for options that are not ``given``."""
    return [
        word for option, words in values.items() if option not in given for word in (option, *words)
    ]


def _check_dictionaries(model: BaseFairseqModel, task: FairseqTask, path: str, folder: str) -> None:
    """Raise AdminError if the dictionaries of ``task`` do not fit the model's embeddings.

    ``path`` (the checkpoint) and ``folder`` (the data) are for the message.
    """
    for stack, dictionary in (
        ("encoder", task.source_dictionary),
        ("decoder", task.target_dictionary),
    ):
        embeddings = getattr(getattr(model, stack, None), "embed_tokens", None)
        if embeddings is not None and embeddings.num_embeddings != len(dictionary):
            raise AdminError(
                f"{folder}: a dictionary of {len(dictionary)} types, but the {stack} of {path} has "
                f"embeddings for {embeddings.num_embeddings}; --data must be the folder that the "
                "checkpoint was trained on"
            )


def _flat(options: Any) -> Mapping[str, Any]:
    """Convert a model's options, a configuration or a namespace, to a dictionary."""
    plain: Any = OmegaConf.to_container(options) if OmegaConf.is_config(options) else vars(options)
    return plain


def label_of(options: Mapping[str, Any]) -> str:
    """Return a short title for a model with these options: its initialisation scheme.

    Pre-LN or Post-LN is added where a scheme allows both.
    """
    stacks = [stack for stack in ("encoder", "decoder") if f"{stack}_layers" in options]
    before = [bool(options.get(f"{stack}_normalize_before")) for stack in stacks]
    norm = "/".join(dict.fromkeys("Pre-LN" if b else "Post-LN" for b in before))
    scheme = SCHEMES.get(options.get("init_type", ""))
    if scheme is None:
        return f"fairseq {norm}"
    if scheme is SCHEMES["default"]:
        return norm
    title = scheme.title.split(":")[0]
    return f"{title}, {norm}" if scheme.norm is Norm.EACH else title
