"""SAIL-VL loaded from the published layout computes the published model and is tuned like the other VLMs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import Aimv2VisionConfig, Qwen2Config

from sf_ros.core.cues import TASKS
from sf_ros.core.fields import NotAvailable
from tests.training.baselines.trials import adam, sample, trained
from training.baselines.miniature import SMALL, sail_vl
from training.baselines.registry import load_vlm
from training.baselines.sail_vl import SailVl, merge_patches
from training.baselines.vlm import Vlm, VlmConfig

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Weights]:
    folder = tmp_path_factory.mktemp("sail")
    return folder, sail_vl(folder, tied=request.param)


@pytest.fixture
def vlm(published: tuple[Path, Weights]) -> Vlm:
    torch.manual_seed(2)
    return load_vlm(str(published[0]), SMALL)


def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight


def tower_by_hand(weights: Weights, pixels: torch.Tensor) -> torch.Tensor:
    """AIMv2 (Fini et al. 2024) from its published tensors: RMS norms, joint qkv, SwiGLU with fc1 as its gate."""
    w = {name.removeprefix("vision_model."): value for name, value in weights.items()}
    x = F.conv2d(pixels, w["preprocessor.patchifier.proj.weight"], w["preprocessor.patchifier.proj.bias"], stride=14)
    x = rms(x.flatten(2).transpose(1, 2), w["preprocessor.patchifier.norm.weight"]) + w["preprocessor.pos_embed"]
    for i in range(2):
        block = {k.removeprefix(f"trunk.blocks.{i}."): v for k, v in w.items() if k.startswith(f"trunk.blocks.{i}.")}
        qkv = rms(x, block["norm_1.weight"]) @ block["attn.qkv.weight"].T
        query, key, value = (part.unflatten(2, (2, 16)).transpose(1, 2) for part in qkv.chunk(3, dim=2))
        attended = torch.softmax(query @ key.transpose(2, 3) / 4, dim=-1) @ value
        x = x + attended.transpose(1, 2).flatten(2) @ block["attn.proj.weight"].T
        h = rms(x, block["norm_2.weight"])
        x = x + (F.silu(h @ block["mlp.fc1.weight"].T) * (h @ block["mlp.fc3.weight"].T)) @ block["mlp.fc2.weight"].T
    return rms(x, w["trunk.post_trunk_norm.weight"])


def test_image_tokens_equal_the_published_computation(vlm: Vlm, published: tuple[Path, Weights]) -> None:
    weights, pixels = published[1], torch.randn(2, 3, 56, 56)
    x = tower_by_hand(weights, pixels).unflatten(1, (4, 4))  # (2, rows, columns, 32)
    blocks = torch.cat([x[:, 0::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 0::2], x[:, 1::2, 1::2]], dim=-1).flatten(1, 2)
    h = F.layer_norm(blocks, (128,), weights["mlp1.0.weight"], weights["mlp1.0.bias"])
    h = h @ weights["mlp1.1.weight"].T + weights["mlp1.1.bias"]
    h = h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
    expected = h @ weights["mlp1.3.weight"].T + weights["mlp1.3.bias"]
    with torch.no_grad():
        tokens = vlm.model.eval().image_tokens(pixels)
    assert tokens.shape == (2, 4, 32) and torch.allclose(tokens, expected, atol=1e-4)


def test_neighbours_are_merged_row_by_row() -> None:
    patches = torch.arange(16.0).view(1, 16, 1)
    assert merge_patches(patches)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_language_model_has_the_published_tensors(vlm: Vlm, published: tuple[Path, Weights]) -> None:
    tensors = {k.replace(".base_layer", ""): v for k, v in vlm.model.state_dict().items() if "lora_" not in k}
    for name, value in published[1].items():
        if not name.startswith("vision_model."):
            assert torch.equal(tensors[name], value), name
    if "language_model.lm_head.weight" not in published[1]:
        llm = vlm.model.language_model
        assert llm.lm_head.weight is llm.model.embed_tokens.weight


def test_prompt_is_one_chat_turn_with_image_tokens(vlm: Vlm) -> None:
    inputs = vlm._read(sample("expression"))
    text = vlm.reader.tokenizer.decode(inputs["input_ids"][0])
    assert text == (
        "<|im_start|>user\n<img>" + "<IMG_CONTEXT>" * 4 + f"</img>\n{TASKS['expression'].prompt}"
        "<|im_end|><|im_start|>assistant\n"
    )


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_answered(vlm: Vlm, task: str) -> None:
    answers = [vlm.answer(sample(task, seed)) for seed in (0, 1)]
    if TASKS[task].kind == "heatmap":
        assert all(answer.heatmap.shape == (1000, 1000) for answer in answers) and vlm.written == 2
    else:
        assert np.abs(answers[0].probabilities - answers[1].probabilities).max() > 1e-6  # the image is seen


def test_adapters_learn_labels_and_points(vlm: Vlm) -> None:
    names = {name for name, weight in vlm.named_parameters() if weight.requires_grad}
    assert len(names) == 2 * 7 * 2 and all("language_model.model.layers" in name for name in names)
    batch = [sample("looking_at_me", 1), sample("gaze", 3)]
    losses = trained(vlm, batch, 100, adam(vlm, 1e-2))
    assert losses[-1] < 0.02 * losses[0]
    peak = np.unravel_index(vlm.answer(batch[1]).heatmap.argmax(), (1000, 1000))
    assert peak == (600, 300) and vlm.malformed == 0  # written by generate and parsed


def test_batch_loss_is_the_mean_of_single_losses(vlm: Vlm) -> None:
    samples = [sample("gesture"), sample("gaze"), sample("domain")]
    alone = [sum(vlm.loss([one]).values()).item() for one in samples]
    together = vlm.loss(samples)
    assert sum(together.values()).item() == pytest.approx(sum(alone) / 3, rel=1e-4)


def test_bfloat16_weights_have_float32_adapters(published: tuple[Path, Weights]) -> None:
    vlm = load_vlm(str(published[0]), VlmConfig(image_size=56, lora_rank=4, dtype="bfloat16"))
    kinds = {(weight.requires_grad, weight.dtype) for weight in vlm.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    assert torch.isfinite(sum(vlm.loss([sample("domain"), sample("gaze")]).values()))
    assert vlm.answer(sample("domain")).probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_missing_weights_and_other_image_sizes_are_refused(tmp_path: Path) -> None:
    sail_vl(tmp_path)
    with pytest.raises(ValueError, match="The image has 448 px, expected 56 for SAIL-VL's encoder"):
        load_vlm(str(tmp_path)).answer(sample("domain"))
    shard = tmp_path / "model-00001-of-00002.safetensors"
    weights = load_file(shard)
    del weights["mlp1.0.bias"]
    save_file(weights, shard)
    with pytest.raises(ValueError, match=r"model-00001-of-00002\.safetensors: .*mlp1\.0\.bias"):
        load_vlm(str(tmp_path), SMALL)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    del content["weight_map"]["mlp1.0.bias"]
    index.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"not the weights of this model.*mlp1\.0\.bias"):
        load_vlm(str(tmp_path), SMALL)
    for file in tmp_path.glob("model*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"no weights here; expected \*\.safetensors"):
        load_vlm(str(tmp_path), SMALL)


def test_other_sail_vls_are_refused(tmp_path: Path) -> None:
    sail_vl(tmp_path)
    facts = json.loads((tmp_path / "config.json").read_text()) | {"select_layer": -4}
    (tmp_path / "config.json").write_text(json.dumps(facts))
    with pytest.raises(NotAvailable, match="select_layer=-4 is not supported"):
        load_vlm(str(tmp_path), SMALL)


def test_image_tokens_must_match_the_text(vlm: Vlm) -> None:
    inputs = vlm._read(sample("domain"))
    with pytest.raises(ValueError, match="The images have 8 tokens, expected 4 as in the text"):
        vlm.model(**inputs | {"pixel_values": inputs["pixel_values"].repeat(2, 1, 1, 1)})


def test_real_size_has_the_published_number_of_weights() -> None:
    vision = Aimv2VisionConfig(
        hidden_size=1536, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=12, image_size=448,
        use_head=False,
    )  # fmt: skip
    llm = Qwen2Config(
        vocab_size=151_674, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device("meta"):
        model = SailVl(vision, llm, image_token=151_667)

    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    block = 4 * 1536**2 + 3 * 1536 * 4096 + 2 * 1536
    assert count(model.vision_model) == 24 * block + (3 * 14**2 + 1) * 1536 + 1024 * 1536 + 2 * 1536 == 682_031_616
    assert count(model.mlp1) == 2 * 6144 + (6144 + 1) * 1536 + (1536 + 1) * 1536
    assert count(model.language_model) == 1_543_714_304 - (151_936 - 151_674) * 1536  # Qwen2.5-1.5B with fewer words
