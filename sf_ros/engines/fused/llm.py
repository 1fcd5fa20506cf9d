"""The LLM for inference: transformers' LlamaModel with the same weights in fewer, larger operations.

* Query, key and value projections are one product; rotary embedding is one complex product with precomputed factors.
* The products before residual additions accumulate into the float32 residual.
* RMSNorm weights are folded into the projections that follow.
* After attention, the last layer computes only the tokens whose states are read.
* A prefix that many sequences share is read once: its keys and values are kept for the sequences behind it.
* Layers share scratch memory. With transformers on a CPU, element-wise operations take a third of the time, most of it
  in allocating and freeing memory.

Training uses transformers; tests compare the two.
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
from torch import Tensor, nn

from sf_ros.core.config import LlmConfig
from sf_ros.model.fusion import llama_config
from sf_ros.model.sequence import attention_bias
from sf_ros.model.weights import empty_weights, read_weights

ROWS = 64  # tokens per step of a dtype conversion on a CPU: 512 KiB of 2048 float32 numbers fit in a core's cache
# transformers' names
QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
NAMES = {"output": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}
NORM = "norm.weight"
NORMS = {"input_layernorm": QKV, "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj")}  # norm -> projections


@dataclass(frozen=True)
class KeyValueCache:
    """Rotated keys and values of a prefix of N tokens in every layer, in fixed memory."""

    keys: Tensor  # (depth, kv heads, N, size) in the dtype of the weights
    values: Tensor


@dataclass(frozen=True)
class TokenLayout:
    """Attention and positions of a sequence of L tokens, and which of their states are read.

    Behind a prefix of N tokens, its keys and values come before the sequence's own; otherwise N is 0.
    """

    bias: Tensor | None  # (1, 1, L, N + L) added to attention scores, in the dtype of the weights; None: all are seen
    rotation: Tensor  # (L, 1, head size / 2) complex rotary factors
    causal: int = 0  # length of the purely causal prefix, for which the bias need not be read
    read: Tensor | None = None  # (R,) indices of the tokens whose states are returned; None: all
    writes: KeyValueCache | None = None  # takes the keys and values of the sequence, a batch of one
    behind: KeyValueCache | None = None  # the prefix


@dataclass(frozen=True)
class Scratch:
    """Memory for M = B * L tokens that every layer overwrites; allocated once per forward pass."""

    normed: Tensor  # (M, D)
    qkv: Tensor  # (M, heads of queries, keys and values * size)
    rotated: Tensor  # (B, L, heads of queries and keys, size) float32
    gate: Tensor  # (M, mlp)
    up: Tensor  # (M, mlp)

    @staticmethod
    def allocate(tokens: Tensor, config: LlmConfig, dtype: torch.dtype) -> Scratch:
        """For tokens (B, L, D) and weights of a dtype."""
        count, size = tokens.shape[0] * tokens.shape[1], config.dim // config.heads
        rotated = config.heads + config.kv_heads
        return Scratch(
            tokens.new_empty(count, config.dim, dtype=dtype),
            tokens.new_empty(count, (rotated + config.kv_heads) * size, dtype=dtype),
            tokens.new_empty(*tokens.shape[:2], rotated, size),
            tokens.new_empty(count, config.mlp, dtype=dtype),
            tokens.new_empty(count, config.mlp, dtype=dtype),
        )

    def first(self, count: int) -> Scratch:
        """The same memory for the first `count` tokens, for the operations after attention."""
        normed, gate, up = (memory[:count] for memory in (self.normed, self.gate, self.up))
        return dataclasses.replace(self, normed=normed, gate=gate, up=up)


class Layer(nn.Module):
    """One transformer layer, with the weights of its two norms folded into `qkv`, `gate` and `up`."""

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

    def forward(self, x: Tensor, layout: TokenLayout, scratch: Scratch, index: int) -> Tensor:
        """Contiguous float32 x (B, L, D), overwritten -> states (B, L, D), or (B, R, D) of the tokens that are read.

        `index`: of this layer in a cache.
        """
        rotated, bias, causal = self.heads + self.kv_heads, layout.bias, layout.causal
        y = normed(x.flatten(0, 1), self.eps, scratch.normed)
        qkv = _product(y, self.qkv, scratch.qkv).view(*x.shape[:2], rotated + self.kv_heads, self.size)
        qk = self._rotate(qkv[:, :, :rotated], layout.rotation, scratch.rotated, y)
        q, k = (part.transpose(1, 2) for part in torch.split(qk, [self.heads, self.kv_heads], dim=2))
        v = qkv[:, :, rotated:].transpose(1, 2)
        if layout.writes is not None:
            layout.writes.keys[index].copy_(k[0])
            layout.writes.values[index].copy_(v[0])
        if layout.read is not None:
            x, q, causal = x[:, layout.read], q[:, :, layout.read], 0
            bias = None if bias is None else bias[:, :, layout.read]
            scratch = scratch.first(x.shape[0] * x.shape[1])
            if len(layout.read) == 0:
                return x
        if layout.behind is not None:
            k, v = _joined(layout.behind.keys[index], k), _joined(layout.behind.values[index], v)
        flat = x.view(-1, x.shape[-1])
        _add_product(flat, _attention(q, k, v, bias, causal).reshape(flat.shape), self.output, scratch.normed)
        y = normed(flat, self.eps, scratch.normed)
        hidden = F.silu(_product(y, self.gate, scratch.gate), inplace=True)
        hidden *= _product(y, self.up, scratch.up)
        _add_product(flat, hidden, self.down, scratch.normed)
        return x

    def _rotate(self, qk: Tensor, rotation: Tensor, memory: Tensor, inputs: Tensor) -> Tensor:
        """Queries and keys (B, L, heads, size) rotated by their positions; channels 2i and 2i + 1 are a pair.

        Float32 results are in `memory`; other dtypes overwrite `qk`. For bfloat16, the rounding error of the keys,
        which are products of `inputs` (M, D), is computed and added back: rounded scores change answers more than
        everything else that is rounded.
        """
        if qk.dtype is torch.float32:
            torch.mul(_complex(qk), rotation, out=_complex(memory))
            return memory
        memory.copy_(qk)
        if qk.dtype is torch.bfloat16:
            keys, weight = qk[:, :, self.heads :], self.qkv.weight[self.heads * self.size : qk[0, 0].numel()]
            lost = torch.addmm(keys.flatten(0, 1).flatten(1), inputs, weight.t(), beta=-1)
            memory[:, :, self.heads :] += lost.view(keys.shape)
        _complex(memory).mul_(rotation)
        return qk.copy_(memory)


class LlamaDecoder(nn.Module):
    """Embedded tokens -> normalised last hidden states.

    Products and attention have the dtype of the weights. Tokens, residuals, rotary factors and states are always
    float32 (docs/performance.md, Precision).
    """

    def __init__(self, config: LlmConfig) -> None:
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.rotary = LlamaRotaryEmbedding(config=llama_config(config))

    def forward(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """float32 tokens (B, L, D) -> states (B, L, D), or (B, R, D) of the tokens that are read."""
        x = tokens.clone(memory_format=torch.contiguous_format)
        scratch = Scratch.allocate(x, self.config, self.dtype)
        whole = dataclasses.replace(layout, read=None)
        for index, layer in enumerate(self.layers):
            x = layer(x, layout if index + 1 == len(self.layers) else whole, scratch, index)
        flat = x.flatten(0, 1)
        return normed(flat, self.config.norm_eps, torch.empty_like(flat)).mul_(self.norm.weight).view_as(x)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.get_parameter("layers.0.qkv.weight").dtype

    def cache(self, length: int) -> KeyValueCache:
        """Memory for the keys and values of a prefix of `length` tokens."""
        shape = self.config.depth, self.config.kv_heads, length, self.config.dim // self.config.heads
        like = self.get_parameter("layers.0.qkv.weight")
        return KeyValueCache(like.new_zeros(shape), like.new_zeros(shape))

    def token_layout(
        self, mask: Tensor | None, positions: Tensor, causal: int = 0, read: Tensor | None = None
    ) -> TokenLayout:
        """The TokenLayout, on the LLM's device, of an attention mask (L, N + L), True where seen, and positions (L,).

        `mask` None: every token sees every other.
        """
        like = self.get_parameter("layers.0.qkv.weight")
        rotation = torch.complex(*self.rotary(self.rotary.inv_freq, positions[None].to(like.device)))
        return TokenLayout(
            None if mask is None else attention_bias(mask, like),
            rotation[0, :, None, : rotation.shape[-1] // 2],  # the second half repeats the first
            causal,
            None if read is None else read.to(like.device),
        )


def load_llm(config: LlmConfig, path: Path, device: torch.device, dtype: torch.dtype) -> LlamaDecoder:
    """The LLM of a file with transformers' names. RuntimeError when the file does not fit, WeightsError if damaged."""
    with empty_weights():
        llm = LlamaDecoder(config)
    norms = {key: weight.float() for key, weight in read_weights(path, suffix=NORM).items()}
    scales: dict[str, Tensor] = {}
    for index, (norm, projections) in itertools.product(range(config.depth), NORMS.items()):
        scale = norms.pop(f"layers.{index}.{norm}.weight", None)
        if scale is None:
            raise RuntimeError(f"Missing key {norm} of layer {index}.")
        scales |= {f"layers.{index}.{name}.weight": scale for name in projections}
    stored = read_weights(path, device, dtype, scales=scales)
    stored = {key: weight for key, weight in stored.items() if not key.endswith(NORM)}
    weights = norms
    for index in range(config.depth):
        names = {f"{key}.weight": f"layers.{index}.{name}.weight" for key, name in NAMES.items()}
        weights |= {f"layers.{index}.{key}": stored.pop(name) for key, name in names.items() if name in stored}
        parts = [f"layers.{index}.{part}.weight" for part in QKV]
        if all(part in stored for part in parts):
            q, k, v = (stored.pop(part) for part in parts)
            size = config.dim // config.heads
            weights[f"layers.{index}.qkv.weight"] = torch.cat([_paired(q, size), _paired(k, size), v])
    llm.load_state_dict(weights | stored, strict=True, assign=True)
    return llm.to(device).requires_grad_(False).eval()


def _paired(weight: Tensor, size: int) -> Tensor:
    """Rows reordered within each head, so that rotary pairs are adjacent; in Llama they are size / 2 apart."""
    return weight.view(-1, 2, size // 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def normed(x: Tensor, eps: float, result: Tensor) -> Tensor:
    """Rows of float32 x (M, D) divided by their root mean square, in `result` (M, D) of any dtype.

    On a CPU this passes over memory fewer times than F.rms_norm.
    """
    if x.is_cuda:  # one kernel on a GPU
        return F.rms_norm(x, x.shape[-1:], eps=eps).to(result.dtype)
    scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    if result.dtype is x.dtype:
        return torch.mul(x, scale, out=result)
    for rows, row_scale, converted in _blocks(x, scale, result):
        converted.copy_(rows * row_scale)
    return result


def _product(x: Tensor, layer: nn.Linear, result: Tensor) -> Tensor:
    """x (M, d) through a layer without bias, in `result` (M, D)."""
    return torch.mm(x, layer.weight.t(), out=result)


def _add_product(x: Tensor, inputs: Tensor, layer: nn.Linear, memory: Tensor) -> None:
    """Adds inputs (M, d) through a layer without bias to float32 x (M, D); may overwrite `memory` (M, D)."""
    if x.dtype is inputs.dtype:
        torch.addmm(x, inputs, layer.weight.t(), out=x)
        return
    for rows, added in _blocks(x, _product(inputs, layer, memory)):
        rows += added


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Matching blocks of rows of tensors (M, ...): small enough for the cache on a CPU, one block on a GPU."""
    rows = len(tensors[0]) if tensors[0].is_cuda else ROWS
    return zip(*(torch.split(tensor, rows) for tensor in tensors), strict=True)


def _complex(heads: Tensor) -> Tensor:
    """(..., size) as (..., size / 2) complex numbers, a view."""
    return torch.view_as_complex(heads.view(*heads.shape[:-1], -1, 2))


def _joined(prefix: Tensor, own: Tensor) -> Tensor:
    """A prefix's keys or values (kv heads, N, size) before those of B sequences (B, kv heads, L, size)."""
    return torch.cat([prefix.expand(len(own), -1, -1, -1), own], dim=2)


def _attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: int) -> Tensor:
    """Attention (B, n, heads, size): causal for the first `causal` queries, which halves their work, else by `bias`."""
    groups = q.shape[1] // k.shape[1]
    if q.is_cuda:  # grouped attention with a mask is slow on a GPU
        k, v, groups = _repeated(k, groups), _repeated(v, groups), 1
    attention = functools.partial(F.scaled_dot_product_attention, enable_gqa=groups > 1)
    outputs = []
    if causal:
        outputs.append(attention(q[:, :, :causal], k[:, :, :causal], v[:, :, :causal], is_causal=True))
    if causal < q.shape[2]:
        mask = None if bias is None else bias[:, :, causal:]
        outputs.append(attention(q[:, :, causal:], k, v, attn_mask=mask))
    parts = [output.transpose(1, 2) for output in outputs]  # the CPU kernel's own memory order
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _repeated(heads: Tensor, times: int) -> Tensor:
    """(B, kv heads, L, size) -> (B, heads, L, size): each key or value head once per query head of its group."""
    if times == 1:
        return heads
    return heads[:, :, None].expand(-1, -1, times, -1, -1).flatten(1, 2)
