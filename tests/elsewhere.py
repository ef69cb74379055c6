"""A GPU that is not there: tensors that say they are on one, and refuse to be mixed with others.

Their numbers are in main memory, so that programs that ask for numbers run, too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

GPU, CPU = torch.device("meta"), torch.device("cpu")
"""torch without CUDA does not let anything be on a GPU; whatever is not the CPU does as well."""
MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
"""What takes tensors of two devices."""


class Elsewhere(Tensor):
    """A tensor on the GPU."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "Elsewhere":
        made = Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype, device=GPU
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute in main memory what may be computed."""
        return compute(func, args, kwargs or {})

    def tolist(self) -> Any:
        """Return the numbers; torch would look for them without asking."""
        return self.here.tolist()

    def new_tensor(self, data: Any, **options: Any) -> "Elsewhere":  # type: ignore[override]
        """Bring numbers there; so does this."""
        return Elsewhere(self.here.new_tensor(data, **options))


class Gpu(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes new tensors where they are asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute."""
        return compute(func, args, kwargs or {})


def compute(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """Call an operator on the numbers of its tensors, which must all be on one device."""
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
    away = any(isinstance(tensor, Elsewhere) for tensor in tensors)
    if func not in MOVES:
        strangers = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere) and tensor.dim() > 0]
        if away and strangers:
            raise RuntimeError(f"{func}: a tensor {tuple(strangers[0].shape)} in main memory among those of the GPU")
    if func is torch.ops.aten.copy_.default:
        away = isinstance(args[0], Elsewhere)
    if (device := kwargs.get("device")) is not None:
        away = torch.device(device) == GPU
        kwargs = {**kwargs, "device": CPU, "pin_memory": None}
    found = func(*numbers(args), **numbers(kwargs))
    given = {id(tensor.here): tensor for tensor in tensors if isinstance(tensor, Elsewhere)}
    return tree_map_only(Tensor, lambda x: given[id(x)] if id(x) in given else Elsewhere(x), found) if away else found


def numbers(tree: Any) -> Any:
    """Take tensors' numbers."""
    return tree_map_only(Elsewhere, lambda tensor: tensor.here, tree)


@contextmanager
def gpu() -> Iterator[torch.device]:
    """Have one for a while."""
    with (
        mock.patch.object(optimizer, "_get_fused_kernels_supported_devices", return_value=[GPU.type]),
        mock.patch.object(torch, "is_autocast_enabled", return_value=False),
        Gpu(),  # type: ignore[no-untyped-call]
    ):
        yield GPU
