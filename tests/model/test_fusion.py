"""The fused model answers every task, alone or in a mixed batch, and sees marks where causality allows."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytest.importorskip("transformers")

from sf_ros.core.config import MODELS  # noqa: E402
from sf_ros.core.cues import TASKS  # noqa: E402
from sf_ros.model.fusion import FusedModel, build_llm, label_tokens  # noqa: E402
from sf_ros.model.heads import HeatmapHead  # noqa: E402
from tests.tiny_models import CONFIG, letter_tokenizer, queries, word_tokenizer  # noqa: E402

LABELLED = [name for name, spec in TASKS.items() if spec.kind == "label"]
N, D, DIM = CONFIG.visual_tokens, CONFIG.llm.dim, CONFIG.encoder.dim


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_papers_llm_has_the_size_of_llama_3_2_1b() -> None:
    with torch.device("meta"):
        llm = build_llm(MODELS["paper"].llm)
    attention, mlp, norms = 2 * 2048 * 2048 + 2 * 2048 * 512, 3 * 2048 * 8192, 2 * 2048
    layers = 16 * (attention + mlp + norms) + 2048
    assert parameters(llm) - parameters(llm.embed_tokens) == layers == 973_146_112
    assert parameters(llm) == layers + 128_256 * 2048 == 1_235_814_400  # the published "1.23 B"


def test_the_papers_rotary_embedding_is_scaled_as_in_llama_3_2() -> None:
    frequencies = build_llm(dataclasses.replace(MODELS["paper"].llm, depth=1, mlp=8, vocabulary=8)).rotary_emb
    head = 2048 // 32
    plain = 500_000.0 ** (-torch.arange(0, head, 2) / head)
    assert torch.allclose(frequencies.inv_freq[:4], plain[:4])  # high frequencies stay
    assert torch.allclose(frequencies.inv_freq[-4:], plain[-4:] / 32)  # low ones are divided by the factor


@torch.no_grad()
def test_the_llm_is_causal(fused: FusedModel) -> None:
    states = torch.randn(1, 10, D)
    changed = states.clone()
    changed[:, 6] += 1
    before, after = (fused.llm(inputs_embeds=s, use_cache=False).last_hidden_state for s in (states, changed))
    assert torch.allclose(before[:, :6], after[:, :6], atol=1e-6)
    assert ((before - after)[:, 6:].abs().amax(-1) > 1e-3).all()


@pytest.mark.parametrize("task", LABELLED)
@torch.no_grad()
def test_label_logits_depend_on_the_image(fused: FusedModel, task: str) -> None:
    images = torch.randn(2, 3, 48, 48)
    logits = fused.label_logits(queries(fused.encode(images)), task)
    assert logits.shape == (2, len(TASKS[task].labels))
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@pytest.mark.parametrize("task", LABELLED)
def test_label_logits_are_columns_of_the_next_token_logits(fused: FusedModel, task: str) -> None:
    asked = queries(torch.randn(1, N, DIM))
    tokens = word_tokenizer()
    columns = [tokens.encode(answer, add_special_tokens=False)[0] for answer in TASKS[task].answers]
    expected = fused.next_token_logits(fused.states(asked, [task]))[:, columns]
    assert torch.equal(fused.label_logits(asked, task), expected)


@torch.no_grad()
def test_next_token_logits_are_read_at_the_sequences_end(fused: FusedModel) -> None:
    features = torch.randn(1, N, DIM)
    prompt = torch.tensor(word_tokenizer().encode(TASKS["relation"].prompt, add_special_tokens=False))
    sequence = torch.cat([fused.visual(features), fused.llm.embed_tokens(prompt)[None]], dim=1)
    last = fused.llm(inputs_embeds=sequence).last_hidden_state[:, -1]
    expected = last @ fused.llm.embed_tokens.weight.T
    logits = fused.next_token_logits(fused.states(queries(features), ["relation"]))
    assert torch.allclose(logits, expected, atol=1e-5)


@torch.no_grad()
def test_a_mixed_batch_answers_as_one_by_one(fused: FusedModel) -> None:
    tasks = [*LABELLED, *LABELLED[::-1]]
    assert len({len(fused.prompt_ids[name]) for name in tasks}) > 2, "prompts must differ in length"
    asked = queries(torch.randn(len(tasks), N, DIM))
    together = fused.next_token_logits(fused.states(asked, tasks))
    for row, task in enumerate(tasks):
        alone = fused.next_token_logits(fused.states(asked.rows([row]), [task]))[0]
        assert torch.allclose(together[row], alone, atol=1e-5, rtol=1e-5), task


@torch.no_grad()
def test_different_tasks_get_different_answers(fused: FusedModel) -> None:
    asked = queries(torch.randn(1, N, DIM).expand(2, -1, -1))
    first, second = fused.next_token_logits(fused.states(asked, ["domain", "relation"]))
    assert (first - second).abs().max() > 1e-2


@pytest.mark.parametrize("size", [8, 16, 64])
def test_a_heatmap_has_the_configured_size(size: int) -> None:
    head = HeatmapHead(dataclasses.replace(CONFIG, heatmap_size=size))
    assert head(torch.randn(3, N, D), torch.randn(3, D)).shape == (3, size, size)


@torch.no_grad()
def test_a_state_changes_its_own_place_in_the_heatmap() -> None:
    head = HeatmapHead(CONFIG)  # 4 x 4 patches to 16 x 16 cells
    states, last = torch.zeros(1, N, D), torch.zeros(1, D)
    changed = states.clone()
    changed[0, 1 * 4 + 3] = 1.0
    rows, columns = torch.nonzero((head(changed, last) - head(states, last))[0].abs() > 1e-7, as_tuple=True)
    # The patch is cells 4..7 by 12..15; bilinear interpolation between half patches reaches one cell further.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 8, 11, 15)


@torch.no_grad()
def test_the_marked_head_changes_the_heatmap(fused: FusedModel) -> None:
    features = fused.encode(torch.randn(1, 3, 48, 48))
    mask = torch.zeros(1, N, dtype=torch.bool)
    mask[0, 5] = True
    plain, marked = fused.heatmap_logits(queries(features)), fused.heatmap_logits(queries(features, mask))
    assert marked.shape == (1, 16, 16)
    assert (plain - marked).abs().max() > 1e-3


@torch.no_grad()
def test_visual_states_before_the_marked_head_ignore_it(fused: FusedModel) -> None:
    features = fused.encode(torch.randn(1, 3, 48, 48))
    mask = torch.zeros(1, N, dtype=torch.bool)
    mask[0, 9] = True
    plain, marked = (
        fused.llm(inputs_embeds=visual).last_hidden_state
        for visual in (fused.visual(features), fused.visual(features, mask))
    )
    difference = (plain - marked)[0].abs().amax(-1)
    assert difference[:9].max() < 1e-5
    assert difference[9:].min() > 1e-3


def test_no_gradient_reaches_the_encoder(fused: FusedModel) -> None:
    assert not fused.encode(torch.randn(1, 3, 48, 48, requires_grad=True)).requires_grad


def test_a_label_of_two_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="Label 'aa' of 'gesture' is 2 tokens in tokenizer 'letters'") as error:
        FusedModel(CONFIG, letter_tokenizer())
    assert "Use another tokenizer, or other letters" in str(error.value)


def test_two_labels_with_one_token_are_refused() -> None:
    tokens = word_tokenizer()
    unknown = tokens.backend_tokenizer  # every unknown word is "?"
    unknown.model = type(unknown.model)({"?": 0}, unk_token="?")
    same = type(tokens)(tokenizer_object=unknown, name_or_path="same")
    with pytest.raises(ValueError, match="Two labels of 'looking_at_me' share a token in tokenizer 'same'"):
        label_tokens("looking_at_me", same)


def test_prompts_come_from_the_configured_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"relation": "What are the two people?"}))
    model: Any = FusedModel(dataclasses.replace(CONFIG, prompts_file=str(path)), word_tokenizer())
    assert model.prompts["relation"] == "What are the two people?"
    assert len(model.prompt_ids["relation"]) == 6
    assert model.prompts["domain"] == TASKS["domain"].prompt


def test_a_model_may_have_some_of_the_tasks() -> None:
    model = FusedModel(CONFIG, word_tokenizer(), tasks=("relation", "gaze"))
    assert model.tasks == ("gaze", "relation") == tuple(model.prompts)
    assert model.prompted == ("relation",) == tuple(model.prompt_ids) == tuple(model.answer_ids)
    assert model.heatmap_logits(queries(torch.randn(1, N, DIM))).shape == (1, 16, 16)
    with pytest.raises(ValueError, match="Unknown task 'relations'"):
        FusedModel(CONFIG, word_tokenizer(), tasks=("relations",))
