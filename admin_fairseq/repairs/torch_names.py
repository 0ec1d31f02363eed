"""Names that torch has given to what older versions have elsewhere."""

import torch

if hasattr(torch.compiler, "is_compiling"):
    is_compiling = torch.compiler.is_compiling
else:  # seen in torch 2.1 and 2.2
    from torch._dynamo import is_compiling  # noqa: F401
