"""The robot's LLM against transformers', which training uses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from sf_ros.core.config import MODELS, LlmConfig  # noqa: E402
from sf_ros.engines.fused import llm as llm_module  # noqa: E402
from sf_ros.engines.fused.llm import ROWS, Layer, LlamaDecoder, load_llm, normed  # noqa: E402
from sf_ros.model.fusion import build_llm  # noqa: E402
from sf_ros.model.sequence import PackedLayout, attention_bias, packed_layout  # noqa: E402

CPU = torch.device("cpu")
LLAMA3 = dataclasses.replace(  # its rotary frequencies at toy size
    MODELS["paper"].llm, dim=64, depth=3, heads=4, kv_heads=2, mlp=96, vocabulary=50
)
GROUPED = LlmConfig(dim=48, depth=2, heads=4, kv_heads=2, mlp=64, vocabulary=50)
SIZES = {"grouped": GROUPED, "ungrouped": dataclasses.replace(GROUPED, kv_heads=4), "llama3": LLAMA3}


def stored(config: LlmConfig, path: Path) -> torch.nn.Module:
    """transformers' LLM with random norms, and its weights in a bundle's file."""
    torch.manual_seed(3)
    theirs = build_llm(config).eval().requires_grad_(False)
    for name, weight in theirs.named_parameters():
        weight.mul_(6.0) if weight.ndim == 2 else weight.copy_(1 + 0.3 * torch.randn_like(weight))
        if "embed" in name:
            weight.zero_()
    save_file({k: v for k, v in theirs.state_dict().items() if k != "embed_tokens.weight"}, path)
    return theirs


def transformers_states(theirs: torch.nn.Module, tokens: torch.Tensor, packed: PackedLayout) -> torch.Tensor:
    """transformers' states of tokens (B, L, D)."""
    bias = attention_bias(packed.mask, tokens)
    output = theirs(inputs_embeds=tokens, attention_mask=bias, position_ids=packed.positions[None], use_cache=False)
    return output.last_hidden_state


@pytest.mark.parametrize("config", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-4), (torch.bfloat16, 0.15)], ids=str)
def test_states_are_those_of_transformers(
    config: LlmConfig, dtype: torch.dtype, tolerance: float, tmp_path: Path
) -> None:
    theirs = stored(config, tmp_path / "it.safetensors").to(dtype)
    theirs.rotary_emb.float()
    ours = load_llm(config, tmp_path / "it.safetensors", CPU, dtype)
    packed = packed_layout(9, [4, 3])  # positions of the second prompt restart
    tokens = torch.randn(2, 16, config.dim).to(dtype).float()
    before = tokens.clone()
    with torch.inference_mode():
        expected = transformers_states(theirs, tokens.to(dtype), packed).float()
        layout = ours.token_layout(packed.mask, packed.positions)
        for causal in (0, 6, 13):
            for read in (None, tuple(range(16)), tuple(packed.last.tolist()), (15, 2)):
                indices = None if read is None else torch.tensor(read)
                states = ours(tokens, dataclasses.replace(layout, causal=causal, read=indices))
                reference = expected if read is None else expected[:, list(read)]
                assert (states - reference).abs().max() < tolerance, (causal, read)
    assert packed.causal == 13
    assert torch.equal(tokens, before), "the caller's tokens were overwritten"


@pytest.mark.parametrize("config", SIZES.values(), ids=SIZES)
def test_bfloat16_loses_less_than_in_transformers(config: LlmConfig, tmp_path: Path) -> None:
    exact = stored(config, tmp_path / "it.safetensors")
    ours = load_llm(config, tmp_path / "it.safetensors", CPU, torch.bfloat16)
    packed, tokens = packed_layout(40, [6, 5]), torch.randn(4, 51, config.dim)
    with torch.inference_mode():
        expected = transformers_states(exact, tokens, packed)
        states = ours(tokens, ours.token_layout(packed.mask, packed.positions, packed.causal))
        theirs = exact.to(torch.bfloat16)
        theirs.rotary_emb.float()
        rounded = transformers_states(theirs, tokens.bfloat16(), packed).float()
    our_error, their_error = ((x - expected).square().mean().sqrt() for x in (states, rounded))
    assert 0 < our_error < 0.75 * their_error


def test_bfloat16_keys_are_rounded_once_and_queries_twice() -> None:
    layer, config = Layer(LLAMA3).to(torch.bfloat16), LLAMA3
    inputs = torch.randn(200, config.dim).bfloat16()
    rotation = torch.polar(torch.ones(200, 1, 8), torch.rand(200, 1, 8) * 6)
    with torch.inference_mode():
        qkv = torch.mm(inputs, layer.qkv.weight.t()).view(1, 200, -1, 16)
        pairs = (inputs.double() @ layer.qkv.weight.double().t()).view(200, -1, 8, 2)
        exact = torch.view_as_real(torch.view_as_complex(pairs) * rotation).flatten(-2)[:, :6]
        rotated = layer._rotate(qkv[:, :, :6], rotation, torch.empty(1, 200, 6, 16), inputs)[0]
    error = (rotated - exact).square().mean((0, 2)).sqrt() / exact.square().mean((0, 2)).sqrt()
    assert error[4:].max() < 0.85 * error[:4].min() < 0.85 * 2**-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_norms_outside_scratch_memory_change_nothing(
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a GPU norms allocate their result.
    stored(GROUPED, tmp_path / "it.safetensors")
    llm = load_llm(GROUPED, tmp_path / "it.safetensors", CPU, dtype)
    packed, tokens = packed_layout(9, [4, 3]), torch.randn(2, 16, GROUPED.dim)
    layout = llm.token_layout(packed.mask, packed.positions, packed.causal)
    with torch.inference_mode():
        expected = llm(tokens, layout)
        monkeypatch.setattr(llm_module, "normed", lambda x, eps, result: normed(x, eps, torch.empty_like(result)))
        assert torch.equal(llm(tokens, layout), expected)


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="this torch is built without CUDA")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_types_and_shapes_fit_on_a_gpu(dtype: torch.dtype) -> None:
    # Fake tensors: devices, types and shapes are checked without a GPU.
    packed = packed_layout(9, [4, 3])
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        with torch.device("cuda"):
            llm = LlamaDecoder(GROUPED).eval()
            weights = {name: weight.to(dtype) for name, weight in llm.layers.state_dict().items()}
            llm.layers.load_state_dict(weights, assign=True)
            tokens = torch.empty(2, 16, GROUPED.dim)
        whole = llm.token_layout(packed.mask, packed.positions, packed.causal)
        states = llm(tokens, whole)
        last = llm(tokens, llm.token_layout(packed.mask, packed.positions, packed.causal, packed.last))
    assert states.shape == (2, 16, GROUPED.dim) and last.shape == (2, 2, GROUPED.dim)
    assert {states.dtype, last.dtype} == {torch.float32} and whole.bias.dtype == dtype
    assert {x.device.type for x in (states, last, whole.bias, whole.rotation)} == {"cuda"}


@pytest.mark.parametrize("count", [15, 2 * ROWS + 9])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-8)], ids=str)
def test_norms_are_rms_norms(count: int, dtype: torch.dtype, tolerance: float) -> None:
    with torch.inference_mode():
        rows = torch.randn(count, 64) * torch.tensor([1e-3, 1.0, 300.0] * (count // 3 + 1))[:count, None]
        rows[7] = 0  # scales near epsilon and far from it
        before = rows.clone()
        result = normed(rows, 1e-3, torch.full_like(rows, torch.nan, dtype=dtype))
        expected = rows.double() * (rows.double().square().mean(-1, keepdim=True) + 1e-3).rsqrt()
    assert torch.equal(rows, before) and result.dtype == dtype
    assert torch.allclose(result.double(), expected, rtol=tolerance, atol=1e-9)


@pytest.mark.parametrize("change", ["self_attn.k_proj", "input_layernorm", "mlp.up_proj", "unexpected"])
def test_a_file_that_does_not_fit_is_refused(change: str, tmp_path: Path) -> None:
    path = tmp_path / "it.safetensors"
    weights = {k: v for k, v in stored(GROUPED, path).state_dict().items() if k != "embed_tokens.weight"}
    if change == "unexpected":
        weights["layers.2.mlp.up_proj.weight"] = torch.zeros(2)
    else:
        del weights[f"layers.1.{change}.weight"]
    save_file(weights, path)
    with pytest.raises(RuntimeError, match=r"Missing key|Unexpected key"):
        load_llm(GROUPED, path, CPU, torch.float32)
