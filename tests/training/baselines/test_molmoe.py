"""MolmoE loaded from the published layout computes the published model and is tuned like the other VLMs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sf_ros.core.cues import TASKS
from sf_ros.core.fields import NotAvailable
from tests.training.baselines.trials import sample
from training.baselines.miniature import SMALL, molmoe
from training.baselines.molmoe import MolmoE, configurations
from training.baselines.registry import load_vlm
from training.baselines.vlm import Vlm, VlmConfig

Weights = dict[str, torch.Tensor]
# allenai/MolmoE-1B-0924: OLMoE-1B-7B's sizes, CLIP ViT-L/14-336 without its last block.
PUBLISHED = {
    "d_model": 2048, "n_heads": 16, "n_layers": 16, "mlp_ratio": 1, "embedding_size": 50_304,
    "additional_vocab_size": 128, "layer_norm_eps": 1e-5, "rope_theta": 10_000.0, "moe_num_experts": 64, "moe_top_k": 8,
    "vision_backbone": {
        "image_emb_dim": 1024, "image_mlp_dim": 4096, "image_num_layers": 23, "image_num_heads": 16,
        "image_default_input_size": [336, 336], "image_patch_size": 14, "image_norm_eps": 1e-5,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=["llama", "cockatoo"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Weights, str]:
    folder = tmp_path_factory.mktemp("molmoe")
    return folder, molmoe(folder, request.param), request.param


@pytest.fixture
def vlm(published: tuple[Path, Weights, str]) -> Vlm:
    torch.manual_seed(2)
    return load_vlm(str(published[0]), SMALL)


def linear(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool = False) -> torch.Tensor:
    """(B, T, 32) each, two heads -> (B, T, 32)."""
    query, key, value = (x.unflatten(2, (2, 16)).transpose(1, 2) for x in (query, key, value))
    scores = query @ key.transpose(2, 3) / 4
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[2:]).triu(1).bool(), -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


def images_by_hand(weights: Weights, pixels: torch.Tensor) -> torch.Tensor:
    """Tower, two of its layers side by side, pooling queried by the mean, gated projector."""
    prefix = "model.vision_backbone."
    w = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    patches = pixels.unflatten(2, (4, 14)).unflatten(4, (4, 14))  # (P, 3, rows, 14, columns, 14)
    patches = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # pixels by row, column, colour
    x = patches @ w["image_vit.patch_embedding.weight"].T
    first = w["image_vit.class_embedding"].expand(len(x), 1, -1)
    x = torch.cat([first, x], dim=1) + w["image_vit.positional_embedding"]
    x = F.layer_norm(x, (32,), w["image_vit.pre_ln.weight"], w["image_vit.pre_ln.bias"])
    states = []
    for i in range(3):
        b = f"image_vit.transformer.resblocks.{i}."
        h = F.layer_norm(x, (32,), w[f"{b}attention_norm.weight"], w[f"{b}attention_norm.bias"])
        heads = attended(*(linear(h, w, f"{b}attention.w{kind}") for kind in "qkv"))
        x = x + linear(heads, w, f"{b}attention.wo")
        h = F.layer_norm(x, (32,), w[f"{b}ffn_norm.weight"], w[f"{b}ffn_norm.bias"])
        h = linear(h, w, f"{b}feed_forward.w1")
        x = x + linear(h * torch.sigmoid(1.702 * h), w, f"{b}feed_forward.w2")
        states.append(x[:, 1:])
    features = torch.cat([states[-1], states[-3]], dim=-1).unflatten(1, (4, 4))
    groups = torch.stack([features[:, r::2, c::2] for r in (0, 1) for c in (0, 1)], dim=3).reshape(-1, 4, 64)
    query = linear(groups.mean(1, keepdim=True), w, "image_pooling_2d.wq")
    pooled = attended(query, linear(groups, w, "image_pooling_2d.wk"), linear(groups, w, "image_pooling_2d.wv"))
    pooled = linear(pooled[:, 0], w, "image_pooling_2d.wo")
    gated = F.silu(linear(pooled, w, "image_projector.w1")) * linear(pooled, w, "image_projector.w3")
    return linear(gated, w, "image_projector.w2").unflatten(0, (-1, 4))


def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight


def rotated(x: torch.Tensor, rope: str) -> torch.Tensor:
    """Rotary positions of (B, T, 32), two heads: pairs half a head apart (llama) or neighbours (cockatoo)."""
    x = x.unflatten(2, (2, 16))
    pairs = (x[..., :8], x[..., 8:]) if rope == "llama" else (x[..., 0::2], x[..., 1::2])
    turned = torch.complex(*pairs) * torch.polar(
        torch.ones(x.shape[1], 1, 8), torch.arange(x.shape[1]).view(-1, 1, 1) * 10_000.0 ** (-torch.arange(8.0) / 8)
    )
    both = (turned.real, turned.imag)
    return (torch.cat(both, dim=-1) if rope == "llama" else torch.stack(both, dim=-1).flatten(-2)).flatten(2)


def logits_by_hand(weights: Weights, x: torch.Tensor, rope: str) -> torch.Tensor:
    """OLMoE from its embedded input: normed queries and keys, two of four experts by unnormalised softmax."""
    for i in range(2):
        prefix = f"model.transformer.blocks.{i}."
        w = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        query, key, value = linear(rms(x, w["attn.attn_norm.weight"]), w, "attn.att_proj").chunk(3, dim=2)
        query, key = rms(query, w["attn.q_norm.weight"]), rms(key, w["attn.k_norm.weight"])
        x = x + linear(attended(rotated(query, rope), rotated(key, rope), value, causal=True), w, "attn.attn_out")
        h = rms(x, w["mlp.ff_norm.weight"])
        shares = linear(h, w, "mlp.gate").softmax(-1)
        shares = shares * (shares >= shares.topk(2).values[..., -1:])
        out = torch.zeros_like(x)
        for j in range(4):
            e = f"mlp.experts.{j}."
            gated = F.silu(linear(h, w, f"{e}gate_proj")) * linear(h, w, f"{e}up_proj")
            out = out + shares[..., j : j + 1] * linear(gated, w, f"{e}down_proj")
        x = x + out
    return linear(rms(x, weights["model.transformer.ln_f.weight"]), weights, "lm_head")


@torch.no_grad()
def test_logits_equal_the_published_computation(vlm: Vlm, published: tuple[Path, Weights, str]) -> None:
    _, weights, rope = published
    inputs = vlm._read(sample("relation"))
    tokens = images_by_hand(weights, inputs["pixel_values"])
    assert torch.allclose(vlm.model.eval().image_tokens(inputs["pixel_values"])[0, :4], tokens[0], rtol=1e-3)
    words = torch.cat([weights[f"model.transformer.wte.{part}"] for part in ("embedding", "new_embedding")])
    x = words[inputs["input_ids"]]
    x[inputs["input_ids"] == vlm.model.image_token] += tokens[0].repeat(2, 1)  # overview and detail
    expected = logits_by_hand(weights, x, rope)
    logits = vlm.model(**inputs).logits
    assert logits.shape == expected.shape == (1, inputs["input_ids"].shape[1], 1024)
    assert torch.allclose(logits, expected, rtol=1e-3, atol=2e-3) and expected.abs().max() > 1


def test_prompt_is_the_token_grid_twice_and_the_text(vlm: Vlm) -> None:
    text = vlm.reader.tokenizer.decode(vlm._read(sample("expression"))["input_ids"][0])
    grid = "<im_start>" + ("<im_patch>" * 2 + "<im_col>") * 2 + "<im_end>"
    assert text == f"<|im_end|>{grid}{grid} User: {TASKS['expression'].prompt} Assistant:"


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_answered(vlm: Vlm, task: str) -> None:
    answers = [vlm.answer(sample(task, seed)) for seed in (0, 1)]
    if TASKS[task].kind == "heatmap":
        assert all(answer.heatmap.shape == (1000, 1000) for answer in answers) and vlm.written == 2
    else:
        assert np.abs(answers[0].probabilities - answers[1].probabilities).max() > 1e-6  # the image is seen


def test_adapters_learn_labels_and_points(vlm: Vlm) -> None:
    trained = {name: tuple(weight.shape) for name, weight in vlm.named_parameters() if weight.requires_grad}
    assert all("language_model.model.layers" in name and "lora_" in name for name in trained)
    assert len(trained) == 2 * (4 + 1 + 2) * 2  # attention, router, stacked experts
    experts = "model.language_model.model.layers.0.mlp.experts."
    assert trained[f"{experts}base_layer.lora_A.default.weight"] == (4 * 2 * 4, 32)  # experts x gate and up x rank
    assert trained[f"{experts}lora_A.default.weight"] == (4 * 4, 24)  # down
    batch = [sample("looking_at_me", 1), sample("gaze", 3)]
    optimizer = torch.optim.Adam([p for p in vlm.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    frozen = {name: weight.clone() for name, weight in vlm.named_parameters() if not weight.requires_grad}
    for _ in range(120):
        optimizer.zero_grad()
        loss = sum(vlm.loss(batch).values())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.02 * losses[0]
    assert all(torch.equal(weight, frozen[name]) for name, weight in vlm.named_parameters() if name in frozen)
    peak = np.unravel_index(vlm.answer(batch[1]).heatmap.argmax(), (1000, 1000))
    assert peak == (600, 300) and vlm.malformed == 0  # written by generate and parsed


@torch.no_grad()
def test_generation_is_greedy_on_the_whole_text(vlm: Vlm) -> None:
    inputs = vlm._read(sample("gaze"))
    ids, prompt = inputs["input_ids"], inputs["input_ids"].shape[1]
    written = vlm.eval()._write(inputs)
    for _ in range(6):
        logits = vlm.model(ids, torch.ones_like(ids), inputs["pixel_values"]).logits[0, -1]
        ids = torch.cat([ids, logits.argmax().view(1, 1)], dim=1)
    expected = vlm.reader.tokenizer.decode(ids[0, prompt:], skip_special_tokens=True)
    assert expected and written.startswith(expected)


def test_batch_loss_is_the_mean_of_single_losses(vlm: Vlm) -> None:
    samples = [sample("gesture"), sample("gaze"), sample("domain")]
    alone = [sum(vlm.loss([one]).values()).item() for one in samples]
    assert sum(vlm.loss(samples).values()).item() == pytest.approx(sum(alone) / 3, rel=1e-3)


def test_other_image_sizes_and_molmos_are_refused(tmp_path: Path) -> None:
    molmoe(tmp_path, "llama")
    with pytest.raises(ValueError, match="The image has 448 px, expected 56 for MolmoE's encoder"):
        load_vlm(str(tmp_path)).answer(sample("domain"))
    facts = json.loads((tmp_path / "config.json").read_text()) | {"image_pooling_2d": "attention_2wide"}
    (tmp_path / "config.json").write_text(json.dumps(facts))
    with pytest.raises(NotAvailable, match="image_pooling_2d='attention_2wide'"):
        load_vlm(str(tmp_path), SMALL)


def test_real_size_has_seven_billion_weights(vlm: Vlm) -> None:
    with torch.device("meta"):
        vision, llm = configurations(PUBLISHED)
        model = MolmoE(vision, llm, rows=50_304 + 128, image_token=0, layers=(-2, -9))

    def count(*parts: torch.nn.Module) -> int:
        return sum(p.numel() for part in parts for p in part.parameters())

    layer = 4 * 2048**2 + 4 * 2048 + 64 * 2048 + 64 * 3 * 2048 * 1024  # attention, norms, router, experts
    assert count(model.language_model) == 16 * layer + 2048 + (50_304 + 50_432) * 2048
    block = 4 * (1024**2 + 1024) + 2 * 1024 * 4096 + 4096 + 1024 + 4 * 1024
    assert count(model.vision_model) == 23 * block + 588 * 1024 + 1024 + 577 * 1024 + 2 * 1024
    pooling = 3 * (2048 + 1) * 1024 + (1024 + 1) * 1024
    assert count(model.pooling, model.projector) == pooling + 2 * 1024 * 1024 + 1024 * 2048
    assert 4 * count(model) == pytest.approx(28.9e9, rel=2e-3)  # bytes of the published float32 file
    with torch.device("meta"):
        tuned = Vlm(model, model.language_model.model, vlm.reader, VlmConfig())
    attention, router, expert = 4 * (2048 + 2048), 2048 + 64, 3 * (2048 + 1024)
    gate_and_up = 2048  # one pair of factors of twice the rank, not two pairs
    per_layer = 32 * (attention + router + 64 * (expert + gate_and_up))
    assert sum(p.numel() for p in tuned.parameters() if p.requires_grad) == 16 * per_layer == 378_568_704
