"""The LLM as the robot runs it: transformers' LlamaModel in fewer and larger steps, with the same weights.

Queries, keys and values are one product, rotary positions are looked up and one complex product, residuals are added by
the product before them (in float32), norms' weights are part of the products behind them, the last layer goes on with
the tokens that are read alone, and layers share the memory of what none of them keeps: on a CPU a third of
transformers' time goes to operations element by element, most of it to memory that is asked for and given back.
Training has transformers' own; tests hold the two equal.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from sf_ros.core.config import LlmConfig
from sf_ros.model.fusion import llama_config
from sf_ros.model.sequence import attention_bias
from sf_ros.model.skeleton import empty_weights, read_weights

ROWS = 64  # tokens of a step between types on a CPU: 512 KiB of 2048 float32 numbers stay in a core's cache
# transformers' names
QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
NAMES = {"output": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}
NORM = "norm.weight"
NORMS = {"input_layernorm": QKV, "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj")}  # products behind them


@dataclass(frozen=True)
class TokenLayout:
    """Where the n tokens of a run stand, what they see of L, and which are read.

    `causal`: of how many first tokens it is clear that they see what comes before them and nothing else, so that their
    bias need not be read; 0 where tokens before them are known.
    """

    bias: Tensor  # (1, 1, n, L) added to scores, in the type of the weights
    turns: Tensor  # (n, 1, head size / 2) complex: what pairs of numbers are multiplied by at rotary positions
    causal: int = 0
    wanted: Tensor | None = None  # (W,) places of the tokens whose states are read; None: all


@dataclass(frozen=True)
class Scratch:
    """What a layer fills and the next one overwrites, of M tokens: asked for once a pass, and not in every layer."""

    normed: Tensor  # (M, D)
    rows: Tensor  # (M, every head of queries, keys and values)
    turned: Tensor  # (B, n, heads of queries and keys, size) float32
    gate: Tensor  # (M, mlp)
    up: Tensor  # (M, mlp)

    @staticmethod
    def of(tokens: Tensor, config: LlmConfig, dtype: torch.dtype) -> Scratch:
        """For tokens (B, n, D), read with weights of a type."""
        count, size = tokens.shape[0] * tokens.shape[1], config.dim // config.heads
        turned = config.heads + config.kv_heads
        return Scratch(
            tokens.new_empty(count, config.dim, dtype=dtype),
            tokens.new_empty(count, (turned + config.kv_heads) * size, dtype=dtype),
            tokens.new_empty(*tokens.shape[:2], turned, size),
            tokens.new_empty(count, config.mlp, dtype=dtype),
            tokens.new_empty(count, config.mlp, dtype=dtype),
        )

    def first(self, count: int) -> Scratch:
        """The same memory for so many tokens, behind attention."""
        normed, gate, up = (memory[:count] for memory in (self.normed, self.gate, self.up))
        return dataclasses.replace(self, normed=normed, gate=gate, up=up)


class Layer(nn.Module):
    """One transformer layer, the weights of its two norms being part of `qkv`, `gate` and `up`."""

    def __init__(self, config: LlmConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = config.heads, config.kv_heads, config.dim // config.heads
        rows = (config.heads + 2 * config.kv_heads) * self.size
        self.qkv = nn.Linear(config.dim, rows, bias=False)
        self.output = nn.Linear(config.dim, config.dim, bias=False)
        self.gate = nn.Linear(config.dim, config.mlp, bias=False)
        self.up = nn.Linear(config.dim, config.mlp, bias=False)
        self.down = nn.Linear(config.mlp, config.dim, bias=False)
        self.eps = config.norm_eps

    def forward(
        self, x: Tensor, places: TokenLayout, known: Tensor | None, kept: Tensor | None, own: Scratch
    ) -> Tensor:
        """Contiguous float32 x (B, n, D), overwritten -> states of all of them, or of the wanted ones (B, W, D).

        known and kept: the layer's of LlamaDecoder.forward.
        """
        turning, bias, causal = self.heads + self.kv_heads, places.bias, places.causal
        y = normed(x.flatten(0, 1), self.eps, own.normed)
        rows = _product(y, self.qkv, own.rows).view(*x.shape[:2], turning + self.kv_heads, self.size)
        turned = self._turned(rows[:, :, :turning], places.turns, own.turned, y)
        q, k = (part.transpose(1, 2) for part in torch.split(turned, [self.heads, self.kv_heads], dim=2))
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
        _add_product(flat, _attended(q, k, v, bias, causal).reshape(flat.shape), self.output, own.normed)
        y = normed(flat, self.eps, own.normed)
        hidden = F.silu(_product(y, self.gate, own.gate), inplace=True)
        hidden *= _product(y, self.up, own.up)
        _add_product(flat, hidden, self.down, own.normed)
        return x

    def _turned(self, heads: Tensor, turns: Tensor, memory: Tensor, inputs: Tensor) -> Tensor:
        """Queries and keys (B, n, heads, size) at their rotary positions, neighbours turned against each other.

        In float32 `memory`; heads of another type are overwritten and returned. What bfloat16 has rounded off the keys,
        products of `inputs` (M, D), is added again: scores move answers more than all else that is rounded.
        """
        if heads.dtype is torch.float32:
            torch.mul(_complex(heads), turns, out=_complex(memory))
            return memory
        memory.copy_(heads)
        if heads.dtype is torch.bfloat16:
            keys, weight = heads[:, :, self.heads :], self.qkv.weight[self.heads * self.size : heads[0, 0].numel()]
            lost = torch.addmm(keys.flatten(0, 1).flatten(1), inputs, weight.t(), beta=-1)
            memory[:, :, self.heads :] += lost.view(keys.shape)
        _complex(memory).mul_(turns)
        return heads.copy_(memory)


class LlamaDecoder(nn.Module):
    """Embedded tokens -> last hidden states, normalised; the last norm's weight is its own.

    Products and attention are in the type of the weights. Tokens, residuals, rotary positions and states are float32
    always, and bfloat16's keys get back what was rounded off them (docs/performance.md, Precision).
    """

    def __init__(self, config: LlmConfig) -> None:
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.rotary = LlamaRotaryEmbedding(config=llama_config(config))

    def forward(
        self, tokens: Tensor, places: TokenLayout, known: Tensor | None = None, kept: Tensor | None = None
    ) -> Tensor:
        """float32 tokens (B, n, D) behind what is `known` -> states (B, n, D), or of the wanted ones (B, W, D).

        `known`: keys and values (layers, 2, B or 1, kv heads, L - n, head size) of the tokens before; `kept`: is filled
        with those of these tokens, (layers, 2, B, kv heads, n, head size).
        """
        x = tokens.clone(memory_format=torch.contiguous_format)
        own, nothing = Scratch.of(x, self.config, self.dtype), [None] * len(self.layers)
        old, new = (nothing if cache is None else cache for cache in (known, kept))
        read = [dataclasses.replace(places, wanted=None)] * (len(self.layers) - 1) + [places]
        for layer, there, before, these in zip(self.layers, read, old, new, strict=True):
            x = layer(x, there, before, these, own)
        flat = x.flatten(0, 1)
        return normed(flat, self.config.norm_eps, torch.empty_like(flat)).mul_(self.norm.weight).view_as(x)

    def cache(self, tokens: Tensor) -> Tensor:
        """Memory for the keys and values of tokens (B, n, D), as `kept` of `forward` has them."""
        config, (batch, length, _) = self.config, tokens.shape
        size = config.dim // config.heads
        return tokens.new_empty(config.depth, 2, batch, config.kv_heads, length, size, dtype=self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.get_parameter("layers.0.qkv.weight").dtype

    def places(self, mask: Tensor, positions: Tensor, causal: int = 0, wanted: Tensor | None = None) -> TokenLayout:
        """Of n tokens that see a mask (n, L) of bool, true where seen, at rotary positions (n,): on the llm's device.

        causal and wanted: as in TokenLayout.
        """
        like = self.get_parameter("layers.0.qkv.weight")
        turns = torch.complex(*self.rotary(self.rotary.inv_freq, positions[None].to(like.device)))
        return TokenLayout(
            attention_bias(mask, like),
            turns[0, :, None, : turns.shape[-1] // 2],  # halves are the same
            causal,
            None if wanted is None else wanted.to(like.device),
        )


def load_llm(config: LlmConfig, path: Path, device: torch.device, dtype: torch.dtype) -> LlamaDecoder:
    """The llm of a file with transformers' names. RuntimeError when the file does not fit."""
    with empty_weights():
        llm = LlamaDecoder(config)
    with safe_open(path, "pt") as file:
        weights = {key: file.get_tensor(key).float() for key in file.keys() if key.endswith(NORM)}  # noqa: SIM118
    scales: dict[str, Tensor] = {}
    for index, (norm, products) in itertools.product(range(config.depth), NORMS.items()):
        scale = weights.pop(f"layers.{index}.{norm}.weight", None)
        if scale is None:
            raise RuntimeError(f"Missing key {norm} of layer {index}.")
        scales |= {f"layers.{index}.{name}.weight": scale for name in products}
    found = read_weights(path, device, dtype, scales=scales)
    found = {key: weight for key, weight in found.items() if not key.endswith(NORM)}
    for index in range(config.depth):
        there = {f"{key}.weight": f"layers.{index}.{name}.weight" for key, name in NAMES.items()}
        weights |= {f"layers.{index}.{key}": found.pop(name) for key, name in there.items() if name in found}
        parts = [f"layers.{index}.{part}.weight" for part in QKV]
        if all(part in found for part in parts):
            q, k, v = (found.pop(part) for part in parts)
            size = config.dim // config.heads
            weights[f"layers.{index}.qkv.weight"] = torch.cat([_neighbours(q, size), _neighbours(k, size), v])
    llm.load_state_dict(weights | found, strict=True, assign=True)
    return llm.to(device).eval()


def _neighbours(weight: Tensor, size: int) -> Tensor:
    """Rows of heads of `size`: what is turned against each other, half a head apart in Llama, stands together."""
    return weight.view(-1, 2, size // 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def normed(x: Tensor, eps: float, result: Tensor) -> Tensor:
    """Rows of float32 x (M, D), not overwritten, divided by their root mean square: in `result` (M, D), of any type.

    On a CPU with fewer steps over memory than F.rms_norm.
    """
    if x.is_cuda:  # there it is one kernel, and these would be several
        return F.rms_norm(x, x.shape[-1:], eps=eps).to(result.dtype)
    scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    if result.dtype is x.dtype:
        return torch.mul(x, scale, out=result)
    for rows, by, there in _blocks(x, scale, result):
        there.copy_(rows * by)
    return result


def _product(x: Tensor, layer: nn.Linear, result: Tensor) -> Tensor:
    """x (M, d) through a layer without bias into `result` (M, D)."""
    return torch.mm(x, layer.weight.t(), out=result)


def _add_product(x: Tensor, inputs: Tensor, layer: nn.Linear, memory: Tensor) -> None:
    """Add inputs (M, d) through a layer without bias to float32 x (M, D); `memory` (M, D) may be overwritten."""
    if x.dtype is inputs.dtype:
        torch.addmm(x, inputs, layer.weight.t(), out=x)
        return
    for rows, more in _blocks(x, _product(inputs, layer, memory)):
        rows += more


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Rows of tensors (M, ...) in blocks: on a CPU several steps go over memory once; on a GPU there is one block."""
    rows = len(tensors[0]) if tensors[0].is_cuda else ROWS
    return zip(*(torch.split(tensor, rows) for tensor in tensors), strict=True)


def _complex(heads: Tensor) -> Tensor:
    """(..., size) as (..., size / 2) complex numbers, a view."""
    return torch.view_as_complex(heads.view(*heads.shape[:-1], -1, 2))


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
