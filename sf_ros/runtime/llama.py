"""The language body as the robot runs it: transformers' LlamaModel in fewer and larger steps, with the same weights.

Queries, keys and values are one product, rotary positions are looked up and not computed, residuals are added by the
product before them, norms' weights are part of the products behind them, the last layer goes on with the tokens that
are read alone, and layers share the memory of what none of them keeps: on a CPU a third of transformers' time goes to
operations element by element, most of it to memory that is asked for and given back. Training has transformers' own;
tests hold the two equal.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sf_ros.core.config import LanguageConfig
from sf_ros.model.fusion import llama_config
from sf_ros.model.skeleton import read_weights, without_numbers

QKV = ("q_proj", "k_proj", "v_proj")
NORMS = {"input_layernorm": ("qkv",), "post_attention_layernorm": ("gate", "up")}  # -> the products behind each
Angles = tuple[Tensor, Tensor]  # cosines and sines (n, 1, head size / 2) of rotary positions


@dataclass(frozen=True)
class Places:
    """Where the n tokens of a run stand, what they see of L, and which are read.

    `causal`: of how many first tokens it is clear that they see what comes before them and nothing else, so that their
    bias need not be read; 0 where tokens before them are known.
    """

    bias: Tensor  # (1, 1, n, L) added to scores
    angles: Angles
    causal: int = 0
    wanted: Tensor | None = None  # (W,) places of the tokens whose states are read; None: all


@dataclass(frozen=True)
class Scratch:
    """What a layer fills and the next one overwrites, of M tokens: asked for once a pass, and not in every layer."""

    normed: Tensor  # (M, D)
    rows: Tensor  # (M, every head of queries, keys and values)
    turned: Tensor  # (B, n, heads of queries and keys, size)
    gate: Tensor  # (M, mlp)
    up: Tensor  # (M, mlp)

    @staticmethod
    def of(tokens: Tensor, config: LanguageConfig) -> Scratch:
        """For tokens (B, n, D)."""
        count, size = tokens.shape[0] * tokens.shape[1], config.dim // config.heads
        turned = config.heads + config.kv_heads
        return Scratch(
            tokens.new_empty(count, config.dim),
            tokens.new_empty(count, (turned + config.kv_heads) * size),
            tokens.new_empty(*tokens.shape[:2], turned, size),
            tokens.new_empty(count, config.mlp),
            tokens.new_empty(count, config.mlp),
        )

    def first(self, count: int) -> Scratch:
        """The same memory for so many tokens, behind attention."""
        normed, gate, up = (memory[:count] for memory in (self.normed, self.gate, self.up))
        return dataclasses.replace(self, normed=normed, gate=gate, up=up)


class Layer(nn.Module):
    """One transformer layer, the weights of its two norms being part of `qkv`, `gate` and `up`."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = config.heads, config.kv_heads, config.dim // config.heads
        rows = (config.heads + 2 * config.kv_heads) * self.size
        self.qkv = nn.Linear(config.dim, rows, bias=False)
        self.output = nn.Linear(config.dim, config.dim, bias=False)
        self.gate = nn.Linear(config.dim, config.mlp, bias=False)
        self.up = nn.Linear(config.dim, config.mlp, bias=False)
        self.down = nn.Linear(config.mlp, config.dim, bias=False)
        self.eps = config.norm_eps

    def forward(self, x: Tensor, places: Places, known: Tensor | None, kept: Tensor | None, own: Scratch) -> Tensor:
        """Contiguous x (B, n, D), which is overwritten -> states of all of them, or of the wanted ones (B, W, D).

        known and kept: the layer's of LlamaBody.forward.
        """
        turning, bias, causal = self.heads + self.kv_heads, places.bias, places.causal
        _product(normed(x.flatten(0, 1), self.eps, own.normed), self.qkv, own.rows)
        rows = own.rows.view(*x.shape[:2], turning + self.kv_heads, self.size)
        _turn(rows[:, :, :turning], *places.angles, own.turned)
        q, k = (part.transpose(1, 2) for part in torch.split(own.turned, [self.heads, self.kv_heads], dim=2))
        v = rows[:, :, turning:].transpose(1, 2)
        if kept is not None:
            kept[0].copy_(k)
            kept[1].copy_(v)
        if known is not None:
            k, v = (torch.cat([old.expand(len(x), -1, -1, -1), new], 2) for old, new in zip(known, (k, v), strict=True))
        if places.wanted is not None:
            x, q, bias, causal = x[:, places.wanted], q[:, :, places.wanted], bias[:, :, places.wanted], 0
            own = own.first(x.shape[0] * x.shape[1])
        flat = x.view(-1, x.shape[-1])
        torch.addmm(flat, _attended(q, k, v, bias, causal).reshape(flat.shape), self.output.weight.t(), out=flat)
        y = normed(flat, self.eps, own.normed)
        hidden = F.silu(_product(y, self.gate, own.gate), inplace=True)
        hidden *= _product(y, self.up, own.up)
        torch.addmm(flat, hidden, self.down.weight.t(), out=flat)
        return x


class LlamaBody(nn.Module):
    """Embedded tokens -> last hidden states, normalised; the last norm's weight is its own."""

    def __init__(self, config: LanguageConfig) -> None:
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.rotary = LlamaRotaryEmbedding(config=llama_config(config))

    def forward(
        self, tokens: Tensor, places: Places, known: Tensor | None = None, kept: Tensor | None = None
    ) -> Tensor:
        """tokens (B, n, D) behind what is `known` -> states (B, n, D), or of the wanted ones (B, W, D).

        `known`: keys and values (layers, 2, B or 1, kv heads, L - n, head size) of the tokens before; `kept`: is filled
        with those of these tokens, (layers, 2, B, kv heads, n, head size).
        """
        x = tokens.clone(memory_format=torch.contiguous_format)
        own, nothing = Scratch.of(x, self.config), [None] * len(self.layers)
        old, new = (nothing if cache is None else cache for cache in (known, kept))
        read = [dataclasses.replace(places, wanted=None)] * (len(self.layers) - 1) + [places]
        for layer, there, before, these in zip(self.layers, read, old, new, strict=True):
            x = layer(x, there, before, these, own)
        states = normed(x.flatten(0, 1), self.config.norm_eps, own.first(x.shape[0] * x.shape[1]).normed)
        return states.mul(self.norm.weight).view_as(x)

    def cache(self, tokens: Tensor) -> Tensor:
        """Memory for the keys and values of tokens (B, n, D), as `kept` of `forward` has them."""
        config, (batch, length, _) = self.config, tokens.shape
        return tokens.new_empty(config.depth, 2, batch, config.kv_heads, length, config.dim // config.heads)

    def angles(self, positions: Tensor, like: Tensor) -> Angles:
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
    names = {"output": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}
    for index in range(config.depth):
        there = {f"{key}.weight": f"layers.{index}.{name}.weight" for key, name in names.items()}
        weights |= {f"layers.{index}.{key}": found.pop(name) for key, name in there.items() if name in found}
        parts = [f"layers.{index}.self_attn.{part}.weight" for part in QKV]
        if all(part in found for part in parts):
            weights[f"layers.{index}.qkv.weight"] = torch.cat([found.pop(part) for part in parts])
        for norm, products in NORMS.items():
            scale = found.pop(f"layers.{index}.{norm}.weight", None)
            if scale is None:
                raise RuntimeError(f"Missing key {norm} of layer {index}.")
            for name in products:
                if (weight := weights.get(f"layers.{index}.{name}.weight")) is not None:
                    weight.mul_(scale)
    body.load_state_dict(weights | found, strict=True, assign=True)
    return body.to(device).eval()


def normed(x: Tensor, eps: float, result: Tensor) -> Tensor:
    """Rows of x (M, D) in any floating type, not overwritten, divided by their root mean square.

    In `result` (M, D), or in memory of its own. On a CPU with fewer steps over memory than F.rms_norm: 2744 x 2048 in
    bfloat16 take 3 ms on two cores of a Xeon, for 40. A row's length is summed in float32 and told in the type of x.
    """
    if x.is_cuda:  # there it is one kernel, and these would be several
        return F.rms_norm(x, x.shape[-1:], eps=eps)
    told = None if x.dtype == torch.bfloat16 else torch.float32  # naming one copies all of x first
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=told).float()
    scale = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return torch.mul(x, scale.to(x.dtype), out=result)


def _product(x: Tensor, layer: nn.Linear, result: Tensor) -> Tensor:
    """x (M, d) through a layer without bias into `result` (M, D)."""
    return torch.mm(x, layer.weight.t(), out=result)


def _turn(heads: Tensor, cos: Tensor, sin: Tensor, result: Tensor) -> None:
    """(B, n, heads, size) at their rotary positions, into `result`: halves turned against each other, as in Llama."""
    (one, other), (first, second) = heads.chunk(2, dim=-1), result.chunk(2, dim=-1)
    torch.mul(one, cos, out=first).addcmul_(other, sin, value=-1)
    torch.mul(other, cos, out=second).addcmul_(one, sin)


def _attended(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, causal: int) -> Tensor:
    """Attention (B, n, heads, size): of the first `causal` queries to what comes before them, of others as `bias` says.

    Half the work of the former is known to be hidden, and left out.
    """
    groups = q.shape[1] // k.shape[1]
    if q.is_cuda:  # there a masked kernel with groups is a slow one
        k, v, groups = _repeated(k, groups), _repeated(v, groups), 1
    attend = functools.partial(F.scaled_dot_product_attention, enable_gqa=groups > 1)
    seen = []
    if causal:
        seen.append(attend(q[:, :, :causal], k[:, :, :causal], v[:, :, :causal], is_causal=True))
    if causal < q.shape[2]:
        seen.append(attend(q[:, :, causal:], k, v, attn_mask=bias[:, :, causal:]))
    parts = [part.transpose(1, 2) for part in seen]  # on a CPU that is how the kernel writes them
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _repeated(heads: Tensor, times: int) -> Tensor:
    """(B, kv heads, L, size) -> (B, heads, L, size): each once for every query head of its group."""
    if times == 1:
        return heads
    return heads[:, :, None].expand(-1, -1, times, -1, -1).flatten(1, 2)
