"""The robot's LLM against transformers', which training uses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from sf_ros.core.config import MODELS, LlmConfig  # noqa: E402
from sf_ros.engines.fused import llm  # noqa: E402
from sf_ros.engines.fused.llm import ROWS, load_llm, normed  # noqa: E402
from sf_ros.model.fusion import build_llm  # noqa: E402
from sf_ros.model.sequence import Layout, attention_bias, layout  # noqa: E402

CPU = torch.device("cpu")
LLAMA3 = dataclasses.replace(  # its rotary frequencies, in small
    MODELS["paper"].language, dim=64, depth=3, heads=4, kv_heads=2, mlp=96, vocabulary=50
)
SIZES = {
    "grouped": LlmConfig(dim=48, depth=2, heads=4, kv_heads=2, mlp=64, vocabulary=50),
    "every head its own": LlmConfig(dim=48, depth=2, heads=4, kv_heads=4, mlp=64, vocabulary=50),
    "llama3": LLAMA3,
}


def stored(config: LlmConfig, path: Path) -> torch.nn.Module:
    """transformers' body with norms that do something, and its weights as a bundle has them."""
    torch.manual_seed(3)
    body = build_llm(config).eval().requires_grad_(False)
    for name, weight in body.named_parameters():
        weight.mul_(6.0) if weight.ndim == 2 else weight.copy_(1 + 0.3 * torch.randn_like(weight))
        if "embed" in name:
            weight.zero_()
    save_file({k: v for k, v in body.state_dict().items() if k != "embed_tokens.weight"}, path)
    return body


def read_by(body: torch.nn.Module, tokens: torch.Tensor, plan: Layout) -> torch.Tensor:
    """transformers' states of tokens (B, n, D)."""
    bias = attention_bias(plan.mask, tokens)
    read = body(inputs_embeds=tokens, attention_mask=bias, position_ids=plan.positions[None], use_cache=False)
    return read.last_hidden_state


@pytest.mark.parametrize("config", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("full", [False, True], ids=["causal", "full"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-4), (torch.bfloat16, 0.15)], ids=str)
def test_states_are_those_of_transformers(
    config: LlmConfig, full: bool, dtype: torch.dtype, tolerance: float, tmp_path: Path
) -> None:
    theirs = stored(config, tmp_path / "it.safetensors").to(dtype)
    theirs.rotary_emb.float()
    ours = load_llm(config, tmp_path / "it.safetensors", CPU, dtype)
    plan = layout(9, [4, 3], full)  # the second question's positions begin again
    tokens = torch.randn(2, 16, config.dim).to(dtype).float()
    given = tokens.clone()
    with torch.inference_mode():
        places = ours.places(plan.mask, plan.positions)
        found = ours(tokens, places)
        expected = read_by(theirs, tokens.to(dtype), plan)
        read = {
            (n, wanted): ours(tokens, dataclasses.replace(places, causal=n, wanted=torch.tensor(wanted)))
            for n in sorted({0, plan.causal // 2, plan.causal})
            for wanted in (tuple(range(16)), tuple(plan.last.tolist()), (15, 2))
        }
        first = ours.places(plan.mask[:9, :9], plan.positions[:9], min(plan.causal, 9))
        alone = ours(tokens[:, :9], first)
    assert torch.equal(tokens, given), "the caller's tokens were overwritten"
    assert (found.float() - expected.float()).abs().max() < tolerance
    assert plan.causal == (0 if full else 13)
    for (_, wanted), states in read.items():
        assert (states.float() - expected[:, list(wanted)].float()).abs().max() < tolerance
    assert (alone.float() - expected[:, :9].float()).abs().max() < tolerance


@pytest.mark.parametrize("config", SIZES.values(), ids=SIZES)
def test_bfloat16_moves_states_by_much_less_than_in_transformers(config: LlmConfig, tmp_path: Path) -> None:
    exact = stored(config, tmp_path / "it.safetensors")
    ours = load_llm(config, tmp_path / "it.safetensors", CPU, torch.bfloat16)
    plan, tokens = layout(40, [6, 5]), torch.randn(4, 51, config.dim)
    with torch.inference_mode():
        expected = read_by(exact, tokens, plan)
        found = ours(tokens, ours.places(plan.mask, plan.positions, plan.causal))
        theirs = exact.to(torch.bfloat16)
        theirs.rotary_emb.float()
        rounded = read_by(theirs, tokens.bfloat16(), plan).float()
    off, rounded_off = ((states - expected).square().mean().sqrt() for states in (found, rounded))
    assert 0 < off < 0.75 * rounded_off


def test_keys_of_bfloat16_are_rounded_once_and_queries_twice() -> None:
    layer, config = llm.Layer(LLAMA3).to(torch.bfloat16), LLAMA3
    inputs = torch.randn(200, config.dim).bfloat16()
    turns = torch.polar(torch.ones(200, 1, 8), torch.rand(200, 1, 8) * 6)
    with torch.inference_mode():
        rows = torch.mm(inputs, layer.qkv.weight.t()).view(1, 200, -1, 16)
        pairs = (inputs.double() @ layer.qkv.weight.double().t()).view(200, -1, 8, 2)
        exact = torch.view_as_real(torch.view_as_complex(pairs) * turns).flatten(-2)[:, :6]
        found = layer._turned(rows[:, :, :6], turns, torch.empty(1, 200, 6, 16), inputs)[0]
    off = (found - exact).square().mean((0, 2)).sqrt() / exact.square().mean((0, 2)).sqrt()
    assert off[4:].max() < 0.85 * off[:4].min() < 0.85 * 2**-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_norms_in_memory_of_their_own_as_on_a_gpu_change_nothing(
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SIZES["grouped"]
    stored(config, tmp_path / "it.safetensors")
    body = load_llm(config, tmp_path / "it.safetensors", CPU, dtype)
    plan, tokens = layout(9, [4, 3]), torch.randn(2, 16, config.dim)
    places = body.places(plan.mask, plan.positions, plan.causal)
    with torch.inference_mode():
        expected = body(tokens, places)
        monkeypatch.setattr(llm, "normed", lambda x, eps, result: normed(x, eps, torch.empty_like(result)))
        assert torch.equal(body(tokens, places), expected)


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="this torch knows no GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_on_a_gpu_types_and_shapes_fit_by_the_rules_of_its_operations(dtype: torch.dtype) -> None:
    """No numbers, and no GPU: tensors know where they would be, what they would be, and what may be done with them."""
    config, plan = SIZES["grouped"], layout(9, [4, 3])
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        with torch.device("cuda"):
            body = llm.LlamaDecoder(config).eval()
            weights = {name: weight.to(dtype) for name, weight in body.layers.state_dict().items()}
            body.layers.load_state_dict(weights, assign=True)
            tokens = torch.empty(2, 16, config.dim)
        places = body.places(plan.mask, plan.positions, plan.causal)
        kept = body.cache(tokens[:1])
        states = body(tokens[:1], places, kept=kept)
        behind = body.places(plan.mask[5:], plan.positions[5:], 0, plan.last - 5)
        read = body(tokens[:, 5:], behind, kept[..., :5, :])
    assert states.shape == (1, 16, config.dim) and read.shape == (2, 2, config.dim)
    assert {states.dtype, read.dtype} == {torch.float32} and kept.dtype == places.bias.dtype == dtype
    assert {one.device.type for one in (states, read, kept, places.bias, places.turns)} == {"cuda"}


def test_behind_what_is_known_states_are_those_of_the_whole(tmp_path: Path) -> None:
    config = SIZES["grouped"]
    stored(config, tmp_path / "it.safetensors")
    body = load_llm(config, tmp_path / "it.safetensors", CPU, torch.float32)
    plan, tokens = layout(12, []), torch.randn(3, 12, config.dim)
    tokens[:, :7] = tokens[:1, :7]  # the part that is shared
    with torch.inference_mode():
        whole = body(tokens, body.places(plan.mask, plan.positions))
        kept = body.cache(tokens[:1, :7])
        first = body(tokens[:1, :7], body.places(plan.mask[:7, :7], plan.positions[:7]), kept=kept)
        for n in (7, 4):
            places = body.places(plan.mask[n:], plan.positions[n:])
            rest = body(tokens[:, n:], places, kept[..., :n, :])
            assert torch.allclose(rest, whole[:, n:], atol=1e-5)
            last = body(tokens[:, n:], dataclasses.replace(places, wanted=torch.tensor([11 - n])), kept[..., :n, :])
            assert torch.allclose(last, whole[:, 11:], atol=1e-5)
    assert torch.allclose(first[0], whole[0, :7], atol=1e-5) and len(kept) == config.depth


@pytest.mark.parametrize("count", [15, 2 * ROWS + 9])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-8)], ids=str)
def test_norms_are_rms_norms(count: int, dtype: torch.dtype, tolerance: float) -> None:
    with torch.inference_mode():
        rows = torch.randn(count, 64) * torch.tensor([1e-3, 1.0, 300.0] * (count // 3 + 1))[:count, None]
        rows[7] = 0  # others next to epsilon, and far from it
        given = rows.clone()
        found = normed(rows, 1e-3, torch.full_like(rows, torch.nan, dtype=dtype))
        expected = rows.double() * (rows.double().square().mean(-1, keepdim=True) + 1e-3).rsqrt()
    assert torch.equal(rows, given) and found.dtype == dtype
    assert torch.allclose(found.double(), expected, rtol=tolerance, atol=1e-9)
    assert found[7].abs().max() == 0


@pytest.mark.parametrize("change", ["self_attn.k_proj", "input_layernorm", "mlp.up_proj", "left over"])
def test_a_file_that_does_not_fit_is_refused(change: str, tmp_path: Path) -> None:
    config, path = SIZES["grouped"], tmp_path / "it.safetensors"
    weights = {k: v for k, v in stored(config, path).state_dict().items() if k != "embed_tokens.weight"}
    if change == "left over":
        weights["layers.2.mlp.up_proj.weight"] = torch.zeros(2)
    else:
        del weights[f"layers.1.{change}.weight"]
    save_file(weights, path)
    with pytest.raises(RuntimeError, match=r"Missing key|Unexpected key"):
        load_llm(config, path, CPU, torch.float32)
