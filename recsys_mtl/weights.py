"""Weights on disk: a safetensors file with its embedding tables first, those of one width next to each other.

Read, the file is mapped and not copied: only rows that are looked up come into memory, all processes of a machine share
them, and the tables of one width are one matrix.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

TABLES = "embeddings."
"""What names of tables begin with."""
ALIGNMENT = 64
"""Bytes; a multiple of every number's size and of a cache line."""
TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "U8": torch.uint8}
NAMES = {dtype: name for name, dtype in TYPES.items()}


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a file; the library's own writer orders tensors by their names alone."""
    order = sorted(weights, key=lambda name: (-weights[name].element_size(), *_place(name, weights[name])))
    header, start = {}, 0
    for name in order:
        tensor, end = weights[name], start + weights[name].nbytes
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    # A new file each time: the one before it may be mapped by a process that serves it.
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            weights[name].detach().contiguous().view(-1).view(torch.uint8).numpy().tofile(file)
    new.replace(path)


def map_weights(path: Path) -> dict[str, Tensor]:
    """Map a file of weights, as any safetensors writer makes them. Changes of the tensors never reach the file.

    Raises:
        OSError: it cannot be read.
        SafetensorError: it is damaged.
    """
    with safe_open(path, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.offset_keys()}
        kinds = {name: (TYPES[part.get_dtype()], part.get_shape()) for name, part in slices.items()}
    sizes = {name: math.prod(shape) * dtype.itemsize for name, (dtype, shape) in kinds.items()}
    length = path.stat().st_size
    mapped = torch.from_file(str(path), shared=False, size=length, dtype=torch.uint8)
    weights, start = {}, length - sum(sizes.values())
    for name, (dtype, shape) in kinds.items():
        part = mapped[start : start + sizes[name]]
        start += sizes[name]
        weights[name] = part.view(dtype).view(shape) if part.numel() else torch.empty(shape, dtype=dtype)
    return weights


def _place(name: str, tensor: Tensor) -> tuple[bool, int, str]:
    is_table = name.startswith(TABLES)
    return not is_table, tensor.shape[1] if is_table else 0, name
