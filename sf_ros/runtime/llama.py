"""The language body as the robot runs it: transformers' LlamaModel in fewer and larger steps, with the same weights.

Queries, keys and values are one product, rotary positions are looked up and not computed, and what nothing else needs
is overwritten in place: on a CPU a third of transformers' time goes to operations element by element, most of it to
memory that is asked for and given back. Training has transformers' own; tests hold the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sf_ros.core.config import LanguageConfig
from sf_ros.model.fusion import llama_config
from sf_ros.model.skeleton import read_weights, without_numbers

QKV = ("q_proj", "k_proj", "v_proj")


@dataclass
class Cache:
    """Keys and values (B, kv heads, n, head size) of every layer: those in `known` come before a pass's own.

    With `keep` the pass adds its own to `kept`.
    """

    known: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    keep: bool = False
    kept: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def first(self, batch: int, length: int) -> Cache:
        """What was kept of the first `length` tokens, known to `batch` sequences."""
        return Cache([tuple(t[:, :, :length].expand(batch, -1, -1, -1) for t in pair) for pair in self.kept])  # type: ignore[misc]


class Norm(nn.RMSNorm):
    """nn.RMSNorm, on a CPU with fewer steps over memory: 700 x 2048 in bfloat16 take 2.2 ms instead of 6.4 on a Xeon.

    A row's length is taken in float32, and only its scale is rounded to the type of x.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) in any floating type, not overwritten."""
        if x.is_cuda:  # there it is one kernel, and these would be several
            return super().forward(x)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = length.square_().div_(x.shape[-1]).add_(self.eps).rsqrt_()
        normalised: Tensor = (x * scale.to(x.dtype)).mul_(self.weight)
        return normalised


class Layer(nn.Module):
    """One transformer layer."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = config.heads, config.kv_heads, config.dim // config.heads
        rows = (config.heads + 2 * config.kv_heads) * self.size
        self.qkv = nn.Linear(config.dim, rows, bias=False)
        self.output = nn.Linear(config.dim, config.dim, bias=False)
        self.gate = nn.Linear(config.dim, config.mlp, bias=False)
        self.up = nn.Linear(config.dim, config.mlp, bias=False)
        self.down = nn.Linear(config.mlp, config.dim, bias=False)
        self.before = Norm(config.dim, config.norm_eps)
        self.behind = Norm(config.dim, config.norm_eps)

    def forward(self, x: Tensor, bias: Tensor, angles: tuple[Tensor, Tensor], cache: Cache, index: int) -> Tensor:
        """Overwrites x (B, n, D). bias: (1, 1, n, L); angles: cosines and sines (n, 1, head size / 2)."""
        turned = self.heads + self.kv_heads
        rows = self.qkv(self.before(x)).unflatten(-1, (turned + self.kv_heads, self.size))  # (B, n, heads, size)
        _turn(rows[:, :, :turned], *angles)
        q, k, v = (part.transpose(1, 2) for part in rows.split([self.heads, self.kv_heads, self.kv_heads], dim=2))
        if cache.keep:
            cache.kept.append((k, v))
        if cache.known:
            k, v = (torch.cat(pair, dim=2) for pair in zip(cache.known[index], (k, v), strict=True))
        groups = self.heads // self.kv_heads
        seen = F.scaled_dot_product_attention(q, _repeated(k, groups), _repeated(v, groups), attn_mask=bias)
        x += self.output(seen.transpose(1, 2).flatten(2))
        y = self.behind(x)
        hidden = F.silu(self.gate(y), inplace=True)
        hidden *= self.up(y)
        x += self.down(hidden)
        return x


class LlamaBody(nn.Module):
    """Embedded tokens -> last hidden states, normalised."""

    def __init__(self, config: LanguageConfig) -> None:
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.norm = Norm(config.dim, config.norm_eps)
        self.rotary = LlamaRotaryEmbedding(config=llama_config(config))

    def forward(
        self, tokens: Tensor, bias: Tensor, angles: tuple[Tensor, Tensor], cache: Cache | None = None
    ) -> Tensor:
        """tokens (B, n, D) at the places of `angles`, behind what `cache` knows; bias (1, 1, n, L): added to scores."""
        x, cache = tokens.clone(), cache or Cache()
        for index, layer in enumerate(self.layers):
            x = layer(x, bias, angles, cache, index)
        states: Tensor = self.norm(x)
        return states

    def angles(self, positions: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (n, 1, head size / 2) of rotary positions (n,), in the type and on the device of `like`."""
        cos, sin = self.rotary(like, positions[None])
        half = cos.shape[-1] // 2
        return cos[0, :, None, :half], sin[0, :, None, :half]


def load_body(config: LanguageConfig, path: Path, device: torch.device, dtype: torch.dtype) -> LlamaBody:
    """The body of a file with transformers' names. RuntimeError when the file does not fit."""
    with without_numbers():
        body = LlamaBody(config)
    found = read_weights(path, device, dtype)
    weights = {"norm.weight": found.pop("norm.weight")} if "norm.weight" in found else {}
    names = {
        "output": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
        "before": "input_layernorm", "behind": "post_attention_layernorm",
    }  # fmt: skip
    for index in range(config.depth):
        there = {f"{key}.weight": f"layers.{index}.{name}.weight" for key, name in names.items()}
        weights |= {f"layers.{index}.{key}": found.pop(name) for key, name in there.items() if name in found}
        parts = [f"layers.{index}.self_attn.{part}.weight" for part in QKV]
        if all(part in found for part in parts):
            weights[f"layers.{index}.qkv.weight"] = torch.cat([found.pop(part) for part in parts])
    body.load_state_dict(weights | found, strict=True, assign=True)
    return body.to(device).eval()


def _turn(heads: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotary positions onto (B, n, heads, size), in place: halves are turned against each other, as Llama has it."""
    one, other = heads.chunk(2, dim=-1)
    turned = (one * cos).addcmul_(other, sin, value=-1)
    other.mul_(cos).addcmul_(one, sin)
    one.copy_(turned)


def _repeated(heads: Tensor, times: int) -> Tensor:
    """(B, kv heads, L, size) -> (B, heads, L, size): each once for every query head of its group."""
    if times == 1:
        return heads
    return heads[:, :, None].expand(-1, -1, times, -1, -1).flatten(1, 2)
