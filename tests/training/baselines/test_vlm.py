"""VLMs in the published layouts are loaded, prompted as text, tuned by LoRA alone, and scored like every model."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    InternVLConfig,
    InternVLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from sf_ros.core.cues import TASKS
from sf_ros.core.fields import NotAvailable
from sf_ros.core.types import Box
from tests.training.baselines.trials import adam, sample, trained
from training.baselines.interface import load_trained, save_trained
from training.baselines.miniature import SMALL, internvl, qwen2_vl
from training.baselines.registry import load_vlm
from training.baselines.vlm import IGNORED, Vlm, VlmConfig, collate
from training.evaluation.score import score_heatmaps, score_labels

BOXES = (Box(3, 4, 20, 30), Box(30, 8, 44, 40))
QWEN_TEXT = {  # Qwen2.5-1.5B, the LLM of Qwen2-VL-2B and InternVL3-2B except for the vocabulary
    "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
    "num_key_value_heads": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def qwen2_vl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen2_vl(tmp_path_factory.mktemp("qwen2_vl"))


@pytest.fixture(scope="module")
def internvl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return internvl(tmp_path_factory.mktemp("internvl"))


@pytest.fixture(scope="module", params=["qwen2_vl", "internvl"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"{request.param}_folder")


@pytest.fixture
def vlm(folder: Path) -> Vlm:
    torch.manual_seed(2)
    return load_vlm(str(folder), SMALL)


def randomise_adapters(vlm: Vlm) -> Vlm:
    """Give the adapters an effect, as after training."""
    for name, weight in vlm.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return vlm


def test_only_language_adapters_are_trainable(vlm: Vlm) -> None:
    names = {name for name, weight in vlm.named_parameters() if weight.requires_grad}
    assert all("language_model.layers" in name and "lora_" in name for name in names)
    assert len(names) == 2 * 7 * 2  # two layers, seven linear layers each, A and B


@pytest.mark.parametrize("task", TASKS)
def test_answers_depend_on_the_image(vlm: Vlm, task: str) -> None:
    answers = [vlm.answer(sample(task, seed)) for seed in (0, 1)]
    if TASKS[task].kind == "heatmap":
        assert all(answer.heatmap.shape == (1000, 1000) and answer.heatmap.max() == 1 for answer in answers)
        return
    first, second = (answer.probabilities for answer in answers)
    assert first.shape == (len(TASKS[task].labels),) and first.sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(first - second).max() > 1e-6


def test_probabilities_are_softmax_over_label_tokens(vlm: Vlm) -> None:
    asked = sample("relation")
    inputs = vlm._read(asked)
    text = vlm.reader.tokenizer.decode(inputs["input_ids"][0])
    assert text.startswith("<|im_start|>user\n") and text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert "Marked people: (46,83),(312,625) and (468,166),(687,833)\n" in text and TASKS["relation"].prompt in text
    with torch.no_grad():
        logits = vlm.model.eval()(**inputs).logits[0, -1]
    letters = [vlm.reader.tokenizer.convert_tokens_to_ids(letter) for letter in TASKS["relation"].answers]
    assert np.allclose(vlm.answer(asked).probabilities, logits[letters].softmax(-1).numpy(), atol=1e-6)


def test_marked_boxes_change_the_answer(vlm: Vlm) -> None:
    asked = sample("relation")
    moved = dataclasses.replace(asked, boxes=(BOXES[0], Box(40, 2, 60, 40)))
    assert np.abs(vlm.answer(asked).probabilities - vlm.answer(moved).probabilities).max() > 1e-7


def test_padded_batch_loss_is_the_mean_of_single_losses(vlm: Vlm) -> None:
    randomise_adapters(vlm)
    samples = [sample("gesture"), sample("gaze"), sample("looking_at_me"), sample("gaze", 3)]
    alone = [sum(vlm.loss([one]).values()).item() for one in samples]
    together = vlm.loss(samples)
    assert together["text"].item() == pytest.approx((alone[0] + alone[2]) / 4, rel=1e-4)
    assert together["gaze"].item() == pytest.approx((alone[1] + alone[3]) / 4, rel=1e-4)
    assert set(vlm.loss(samples[:1])) == {"text"} and set(vlm.loss(samples[1:2])) == {"gaze"}


def test_label_loss_is_over_the_whole_vocabulary(vlm: Vlm) -> None:
    asked = sample("domain")
    with torch.no_grad():
        logits = vlm.model(**vlm._read(asked)).logits[0, -1]
    token = vlm.reader.tokenizer.convert_tokens_to_ids(TASKS["domain"].answers[asked.label])
    assert vlm.loss([asked])["text"].item() == pytest.approx(-logits.log_softmax(-1)[token].item(), rel=1e-4)


def test_training_teaches_answers_and_keeps_frozen_weights(vlm: Vlm) -> None:
    batch = [sample("looking_at_me", 1), sample("relation", 2), sample("gaze", 3)]
    frozen = {name: weight.clone() for name, weight in vlm.named_parameters() if not weight.requires_grad}
    losses = trained(vlm, batch, 100, adam(vlm, 1e-2))
    assert losses[-1] < 0.02 * losses[0]
    assert all(torch.equal(weight, frozen[name]) for name, weight in vlm.named_parameters() if name in frozen)
    for learned in batch[:2]:
        assert vlm.answer(learned).probabilities.argmax() == learned.label
    scores = score_heatmaps("gaze", vlm.answer, iter(batch[2:]))
    assert scores["metrics"]["min_L2"] < 2e-3 and (vlm.written, vlm.malformed) == (1, 0)
    assert score_labels("relation", vlm.answer, iter(batch[1:2]))["metrics"]["accuracy"] == 1


@pytest.mark.parametrize(
    ("text", "point", "malformed"), [("(250,750)", (0.25, 0.75), 0), ("over there", (0.5, 0.5), 1)]
)
def test_heatmap_peaks_at_the_written_point(
    vlm: Vlm, monkeypatch: pytest.MonkeyPatch, text: str, point: tuple[float, float], malformed: int
) -> None:
    monkeypatch.setattr(vlm, "_write", lambda inputs: text)
    scores = score_heatmaps("gaze", vlm.answer, iter([dataclasses.replace(sample("gaze"), points_norm=(point,))]))
    assert scores["metrics"]["min_L2"] == pytest.approx(0, abs=1e-9)
    assert (vlm.written, vlm.malformed) == (1, malformed)


def test_adapters_are_saved_and_loaded(vlm: Vlm, folder: Path, tmp_path: Path) -> None:
    plain = vlm.answer(sample("relation")).probabilities
    save_trained(randomise_adapters(vlm), tmp_path / "adapters.safetensors")
    adapted = vlm.answer(sample("relation")).probabilities
    assert np.abs(adapted - plain).max() > 1e-3
    fresh = load_vlm(str(folder), SMALL)
    assert np.allclose(fresh.answer(sample("relation")).probabilities, plain, atol=1e-6)
    load_trained(fresh, tmp_path / "adapters.safetensors")
    assert np.allclose(fresh.answer(sample("relation")).probabilities, adapted, atol=1e-6)


def test_bfloat16_weights_have_float32_adapters(folder: Path) -> None:
    vlm = load_vlm(str(folder), dataclasses.replace(SMALL, dtype="bfloat16"))
    kinds = {(weight.requires_grad, weight.dtype) for weight in vlm.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    loss = sum(vlm.loss([sample("domain"), sample("gaze")]).values())
    loss.backward()
    assert torch.isfinite(loss) and vlm.answer(sample("domain")).probabilities.dtype == np.float32


def test_older_hub_layout_gives_the_same_answers(qwen2_vl_folder: Path, tmp_path: Path) -> None:
    """Qwen2-VL-2B-Instruct has its text sizes at the top of config.json and a preprocessor_config.json."""
    folder = shutil.copytree(qwen2_vl_folder, tmp_path / "model")
    expected = load_vlm(str(folder), SMALL).answer(sample("relation")).probabilities
    facts = json.loads((folder / "config.json").read_text())
    text = facts.pop("text_config")
    rope = text.pop("rope_parameters")
    for key in ("model_type", "dtype", "layer_types"):
        text.pop(key, None)
    scaling = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    vision = {k: facts["vision_config"][k] for k in ("depth", "embed_dim", "hidden_size", "num_heads", "mlp_ratio")}
    vision |= {"in_chans": 3, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14}
    facts |= text | {"rope_scaling": scaling, "rope_theta": rope["rope_theta"], "vision_config": vision}
    (folder / "config.json").write_text(json.dumps(facts))
    images = {
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2VLProcessor", "min_pixels": 3136,
        "max_pixels": 12_845_056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    (folder / "processor_config.json").unlink()
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    probabilities = load_vlm(str(folder), SMALL).answer(sample("relation")).probabilities
    assert np.allclose(probabilities, expected, atol=1e-6)


def test_collate_puts_answers_at_the_end() -> None:
    rows = [
        ({"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.ones(1, 2).long()}, torch.tensor([7])),
        ({"input_ids": torch.tensor([[8]]), "attention_mask": torch.ones(1, 1).long()}, torch.tensor([9, 10, 11])),
    ]
    inputs, targets = collate(rows, pad=0)
    assert inputs["input_ids"].tolist() == [[0, 5, 6, 7], [8, 9, 10, 11]]
    assert inputs["attention_mask"].tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]
    assert targets.tolist() == [[IGNORED, IGNORED, 7], [9, 10, 11]]


def test_a_tokenizer_that_splits_a_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Label 'aa' of 'gesture' is 2 tokens"):
        load_vlm(str(qwen2_vl(tmp_path, vocabulary=258)), SMALL)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"model_type": "internvl_chat", "architectures": ["InternVLChatModel"]}, "ends in -hf"),
        ({"model_type": "llava"}, "'llava' is not supported; expected one of qwen2_vl, internvl"),
    ],
)
def test_unsupported_models_are_refused(facts: dict, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(facts))
    with pytest.raises(NotAvailable, match=message):
        load_vlm(str(tmp_path), SMALL)


def test_a_model_without_chat_template_is_refused(qwen2_vl_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(qwen2_vl_folder, tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="no chat template"):
        load_vlm(str(folder), SMALL)


def _qwen2_vl_2b() -> torch.nn.Module:
    """Qwen/Qwen2-VL-2B-Instruct's config.json."""
    rope = {"type": "mrope", "mrope_section": [16, 24, 24]}
    vision = {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "mlp_ratio": 4, "num_heads": 16}
    config = Qwen2VLConfig(
        **QWEN_TEXT, vocab_size=151_936, rope_scaling=rope, vision_config=vision, tie_word_embeddings=True
    )
    return Qwen2VLForConditionalGeneration(config)


def _internvl3_2b() -> torch.nn.Module:
    """OpenGVLab/InternVL3-2B-hf's config.json; its output layer is not tied."""
    text = {**QWEN_TEXT, "model_type": "qwen2", "vocab_size": 151_674}
    config = InternVLConfig(text_config=text, vision_config={"attention_bias": True}, tie_word_embeddings=False)
    return InternVLForConditionalGeneration(config)


@pytest.mark.parametrize(
    ("build", "total"), [(_qwen2_vl_2b, 2_208_985_600), (_internvl3_2b, 2_088_957_440)], ids=["Qwen2-VL", "InternVL3"]
)
def test_real_sizes_have_the_published_number_of_weights(
    build: Callable[[], torch.nn.Module], total: int, qwen2_vl_folder: Path
) -> None:
    class TokenizerOnly:
        def __init__(self) -> None:
            self.tokenizer = AutoTokenizer.from_pretrained(qwen2_vl_folder)

        def read(self, image: np.ndarray, prompt: str) -> dict[str, torch.Tensor]:
            raise AssertionError

    with torch.device("meta"):
        model = build()
        assert sum(p.numel() for p in model.parameters()) == total
        vlm = Vlm(model, model.model.language_model, TokenizerOnly(), VlmConfig())
    per_layer = 2 * (1536 + 1536) + 2 * (1536 + 256) + 3 * (1536 + 8960)  # query output, key value, gate up down
    assert sum(p.numel() for p in vlm.parameters() if p.requires_grad) == 28 * 32 * per_layer == 36_929_536
