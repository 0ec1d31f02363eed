"""``fairseq-train`` with fairscale's FullyShardedDataParallel on a CPU: `python THIS WORDS`.

fairscale needs CUDA's streams, which are stubbed, and gloo wants flat tensors.
"""

from contextlib import nullcontext

import torch
import torch.distributed as dist
from fairscale.nn.data_parallel import fully_sharded_data_parallel as sharding
from fairseq_cli.train import cli_main


class Stream:
    """Everything is done when it returns."""

    def wait_stream(self, other):
        pass

    def synchronize(self):
        pass


def stub_streams():
    stream = Stream()
    torch.cuda.current_stream = lambda: stream
    torch.cuda.stream = lambda stream: nullcontext()
    torch.cuda.synchronize = lambda: None
    torch.Tensor.record_stream = lambda tensor, stream: None
    torch.Tensor.cuda = lambda tensor: tensor
    sharding._get_default_cuda_device = lambda module: torch.device("cpu")
    set_up = sharding.FullyShardedDataParallel._setup_streams

    def set_up_stubs(self):
        first = self._is_root and not self._streams
        set_up(self)
        if first:
            self._streams.update(fp32_to_fp16=stream, all_gather=stream, post_backward=stream)

    sharding.FullyShardedDataParallel._setup_streams = set_up_stubs


def flatten_for_gloo():
    scatter = dist._reduce_scatter_base
    dist._reduce_scatter_base = lambda out, given, **how: scatter(
        out.view(-1), given.reshape(-1), **how
    )


if __name__ == "__main__":
    stub_streams()
    flatten_for_gloo()
    cli_main()
