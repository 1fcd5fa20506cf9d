"""What this machine can do: products of matrices and copies, measured where and when the engine is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REPEATS = 5  # of each product and copy
COPIED = 256 << 20  # bytes


@dataclass(frozen=True)
class Product:
    """`tokens` rows times the transposed weights (out, in) of a layer, `count` times."""

    tokens: int
    weight: Tensor
    count: int = 1

    @property
    def flops(self) -> int:
        """Operations of all of them, a multiplication with its addition being two."""
        return 2 * self.tokens * self.weight.numel() * self.count


def products(body: nn.Module, tokens: Sequence[int]) -> list[Product]:
    """What the linear layers of a body do for passes of so many tokens each; equal layers are measured once."""
    weights = [module.weight for module in body.modules() if isinstance(module, nn.Linear)]
    shapes: dict[tuple[int, ...], tuple[Tensor, int]] = {}
    for weight in weights:
        first, count = shapes.get(tuple(weight.shape), (weight, 0))
        shapes[tuple(weight.shape)] = first, count + 1
    passes = {length: tokens.count(length) for length in tokens}
    return [Product(n, weight, count * many) for n, many in passes.items() for weight, count in shapes.values()]


def product_rate(asked: Sequence[Product]) -> float:
    """Operations per second of products done one after the other, each at the median of its repeats."""
    return sum(product.flops for product in asked) / sum(product.count * _seconds(product) for product in asked)


def copy_rate(device: torch.device) -> float:
    """Bytes per second, read and written, of a copy that no cache holds: the fastest of its repeats."""
    source = torch.empty(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED / min(repeated(lambda: target.copy_(source), device))


def repeated(call: Callable[[], object], device: torch.device) -> list[float]:
    """Seconds of each of REPEATS runs, after one that does not count."""
    spent = []
    for _ in range(1 + REPEATS):
        settle(device)
        start = time.perf_counter()
        call()
        settle(device)
        spent.append(time.perf_counter() - start)
    return spent[1:]


def settle(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def _seconds(product: Product) -> float:
    weight = product.weight
    rows = torch.randn(product.tokens, weight.shape[1], device=weight.device).to(weight.dtype)
    return statistics.median(repeated(lambda: F.linear(rows, weight), weight.device))
