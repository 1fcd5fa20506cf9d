"""Each option of ModelConfig has its own effect and no other."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytest.importorskip("transformers")

from sf_ros.core.config import MODELS, ModelConfig  # noqa: E402
from sf_ros.core.cues import MAX_BOXES, TASKS  # noqa: E402
from sf_ros.model.connector import BoxTokens, Connector, box_shares, pool  # noqa: E402
from sf_ros.model.fusion import FusedModel  # noqa: E402
from sf_ros.model.heads import HeatmapHead  # noqa: E402
from sf_ros.model.sequence import attention_bias, visible  # noqa: E402
from tests.tiny_models import CONFIG, fused_model, queries, word_tokenizer  # noqa: E402

LABELLED = [name for name, spec in TASKS.items() if spec.kind == "label"]
CHOICES = {
    "attention": ("causal", "full"),
    "order": ("visual_first", "prompt_first"),
    "boxes": ("patch", "token"),
    "prompt_style": ("text", "learned"),
    "pooling": (1, 2),
}
COMBINATIONS = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]
P = CONFIG.encoder.grid**2
BOXES = torch.tensor([[[0.1, 0.2, 0.4, 0.7], [0.5, 0.1, 0.9, 0.8]]])
OTHER_BOXES = torch.tensor([[[0.3, 0.3, 0.6, 0.9], [0.0, 0.1, 0.2, 0.5]]])


def model_with(**choices: object) -> FusedModel:
    return fused_model(dataclasses.replace(CONFIG, **choices))


def features(count: int = 1) -> torch.Tensor:
    return torch.randn(count, P, CONFIG.encoder.dim)


def whole(model: FusedModel, features: torch.Tensor, task: str, mask: torch.Tensor | None = None,
          boxes: torch.Tensor | None = None) -> torch.Tensor:  # fmt: skip
    """The states (1, L, D) of a task's whole sequence."""
    tokens, visual = model.sequence(queries(features, mask, boxes), task)
    bias = attention_bias(visible(tokens.shape[1], visual), tokens) if model.config.attention == "full" else None
    return model.llm(inputs_embeds=tokens, attention_mask=bias, use_cache=False).last_hidden_state


def marked(*patches: int) -> torch.Tensor:
    mask = torch.zeros(1, P, dtype=torch.bool)
    mask[0, list(patches)] = True
    return mask


def changed(first: torch.Tensor, second: torch.Tensor) -> list[bool]:
    """Which tokens of two sequences (1, L, D) differ."""
    return ((first - second)[0].abs().amax(-1) > 1e-3).tolist()


@pytest.mark.parametrize("choices", COMBINATIONS, ids=lambda c: "-".join(map(str, c.values())))
@torch.no_grad()
def test_every_combination_answers_a_mixed_batch_as_one_by_one(choices: dict[str, object]) -> None:
    model = model_with(**choices)
    tasks = LABELLED[::-1] + LABELLED[:2]
    asked = queries(
        features(len(tasks)),
        torch.rand(len(tasks), P) < 0.3,
        torch.rand(len(tasks), MAX_BOXES, 4),
    )
    together, maps = model.next_token_logits(model.states(asked, tasks)), model.heatmap_logits(asked)
    model.llm.set_attn_implementation("eager")  # the other attention must agree
    for row, task in enumerate(tasks):
        one = asked.rows([row])
        assert torch.allclose(together[row], model.next_token_logits(model.states(one, [task]))[0], atol=1e-3), task
        assert torch.allclose(maps[row], model.heatmap_logits(one)[0], atol=1e-3)
        assert model.sequence(one, task)[0].shape[1] == model.length(task)


@pytest.mark.parametrize(("attention", "before"), [("causal", False), ("full", True)])
@torch.no_grad()
def test_only_full_attention_shows_a_box_to_earlier_patches(attention: str, before: bool) -> None:
    model, seen = model_with(attention=attention), features()
    plain, boxed = (whole(model, seen, "gaze", mask) for mask in (marked(), marked(9)))
    assert changed(plain, boxed) == [before] * 9 + [True] * (P - 9)


@pytest.mark.parametrize("attention", CHOICES["attention"])
@torch.no_grad()
def test_text_is_causal_and_sees_the_whole_image(attention: str) -> None:
    model, seen = model_with(attention=attention), features()
    states, place_of_visual = whole(model, seen, "relation"), model.sequence(queries(seen), "relation")[1]
    ids = model.prompt_ids["relation"]
    place = len(ids) // 2
    model.prompt_ids["relation"] = torch.cat([ids[:place], ids[place : place + 1] + 1, ids[place + 1 :]])
    behind = [False] * (P + place) + [True] * (len(ids) - place)
    assert place_of_visual == slice(0, P) and changed(states, whole(model, seen, "relation")) == behind
    model.prompt_ids["relation"] = ids
    seen[:, P - 1] += 1.0
    moved = changed(states, whole(model, seen, "relation"))
    assert all(moved[P:]) and moved[0] == (attention == "full")


@torch.no_grad()
def test_visual_tokens_see_a_prompt_that_comes_first() -> None:
    last, first = model_with(), model_with(order="prompt_first")
    assert (first.prompts["gaze"], last.prompts["gaze"]) == (TASKS["gaze"].lead, "") and TASKS["gaze"].lead
    assert len(first.prompt("gaze")) > 0 == len(last.prompt("gaze"))
    assert all(first.prompts[name] == TASKS[name].prompt for name in LABELLED)
    asked = queries(features())
    before = first.heatmap_logits(asked)
    first.prompt_ids["gaze"] = first.prompt_ids["gaze"].flip(0)
    assert (first.heatmap_logits(asked) - before).abs().max() > 1e-3


@pytest.mark.parametrize("attention", CHOICES["attention"])
@torch.no_grad()
def test_with_prompts_first_answers_are_read_at_the_last_token(attention: str) -> None:
    model = model_with(order="prompt_first", attention=attention)
    seen = features()
    states, start = whole(model, seen, "domain"), len(model.prompt_ids["domain"])
    assert model.sequence(queries(seen), "domain")[1] == slice(start, start + P) and states.shape[1] == start + P
    expected = states[:, start + P - 1] @ model.output_rows.T
    assert torch.allclose(model.next_token_logits(model.states(queries(seen), ["domain"])), expected, atol=1e-5)
    seen[:, P - 1] += 1.0
    moved = changed(states, whole(model, seen, "domain"))
    assert not any(moved[:start]) and moved[start:] == [attention == "full"] * (P - 1) + [True]


@torch.no_grad()
def test_pooled_tokens_are_means_of_four_neighbours() -> None:
    grid = torch.arange(16.0).reshape(1, 16, 1)  # 4 x 4, raster order
    assert pool(grid, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert torch.equal(pool(grid, 1), grid)


@torch.no_grad()
def test_boxes_are_marked_on_patches_before_pooling() -> None:
    model, seen = model_with(pooling=2), features()
    mask = marked(5, 6)  # in the first and the second block of the first row
    plain, boxed = (model.connector(seen, m) for m in (marked(), marked(*range(P))))
    patches = torch.where(mask[..., None], boxed, plain)[0].reshape(2, 2, 2, 2, -1)  # row, its half, column, its half
    expected = patches.mean((1, 3)).reshape(1, 4, -1)
    assert torch.allclose(model.visual(seen, mask), expected, atol=1e-6)
    assert changed(model.visual(seen), model.visual(seen, mask)) == [True, True, False, False]


@torch.no_grad()
def test_a_pooled_state_changes_its_own_place_in_the_heatmap() -> None:
    head = HeatmapHead(dataclasses.replace(CONFIG, pooling=2))  # 2 x 2 states to 16 x 16 cells
    states, last = torch.zeros(1, 4, CONFIG.llm.dim), torch.zeros(1, CONFIG.llm.dim)
    lower_left = states.clone()
    lower_left[0, 2] = 1.0
    rows, columns = torch.nonzero((head(lower_left, last) - head(states, last))[0].abs() > 1e-7, as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7, 15, 0, 8)  # 8..15 by 0..7, blurred by one


@pytest.mark.parametrize("attention", CHOICES["attention"])
@torch.no_grad()
def test_box_tokens_change_answers_but_no_visual_state(attention: str) -> None:
    model, seen = model_with(boxes="token", attention=attention), features()
    assert model.visual(seen, boxes=BOXES).shape == (1, P + MAX_BOXES, CONFIG.llm.dim)
    states = whole(model, seen, "domain", boxes=BOXES)
    length = len(model.prompt_ids["domain"]) + 2
    assert changed(states, whole(model, seen, "domain", boxes=OTHER_BOXES)) == [False] * P + [True] * length
    first, second = queries(seen, boxes=BOXES), queries(seen, boxes=OTHER_BOXES)
    assert (model.label_logits(first, "domain") - model.label_logits(second, "domain")).abs().max() > 1e-3
    assert (model.heatmap_logits(first) - model.heatmap_logits(second)).abs().max() > 1e-3


@torch.no_grad()
def test_a_task_reads_its_own_box_tokens_only() -> None:
    model, seen = model_with(boxes="token"), features()
    visual, other = queries(seen, boxes=BOXES), queries(seen, boxes=OTHER_BOXES)
    assert torch.equal(model.label_logits(visual, "expression"), model.label_logits(other, "expression"))
    half = queries(seen, boxes=torch.cat([BOXES[:, :1], OTHER_BOXES[:, 1:]], dim=1))
    assert torch.equal(model.heatmap_logits(visual), model.heatmap_logits(half))
    assert (model.label_logits(visual, "relation") - model.label_logits(half, "relation")).abs().max() > 1e-3
    assert model.length("gaze") == P + 1 and model.length("relation") == P + 2 + len(model.prompt_ids["relation"])


@torch.no_grad()
def test_box_features_are_sines_and_cosines_of_corners() -> None:
    encoded = BoxTokens(6).features(torch.tensor([[[0.5, 0.0, 1.0, 0.25]]]))[0, 0]
    assert encoded.shape == (64,)
    sines, cosines = encoded[:32].reshape(4, 8), encoded[32:].reshape(4, 8)
    assert sines[:, 0].tolist() == pytest.approx([1.0, 0.0, 0.0, math.sqrt(0.5)], abs=1e-6)  # half a turn in all
    assert cosines[:, 1].tolist() == pytest.approx([-1.0, 1.0, 1.0, 0.0], abs=1e-6)  # a whole turn


@torch.no_grad()
def test_a_box_token_has_the_mean_of_the_visual_tokens_in_the_box() -> None:
    module, visual = BoxTokens(6), torch.randn(1, 4, 6)  # a grid of 2 x 2
    boxes = torch.tensor([[[0.5, 0.0, 1.0, 0.5], [0.25, 0.5, 0.75, 1.0], [0.4, 0.2, 0.8, 0.9], [0.0] * 4]])
    shares = box_shares(boxes, 2)[0]
    expected = [[0, 1, 0, 0], [0, 0, 0.5, 0.5], [0.25 * 3 / 7, 0.75 * 3 / 7, 0.25 * 4 / 7, 0.75 * 4 / 7], [0] * 4]
    assert torch.allclose(shares, torch.tensor(expected), atol=1e-6)
    there = module.layers(module.features(boxes))
    assert torch.allclose(module(boxes, visual) - there, module.content(shares @ visual[0]), atol=1e-6)
    both = module(boxes.repeat(2, 1, 1), torch.cat([visual, visual + 1]))
    assert torch.allclose(both[0], module(boxes, visual)[0], atol=1e-6) and not torch.allclose(both[0, 0], both[1, 0])


@torch.no_grad()
def test_the_query_multiplies_every_channel_of_the_heatmap() -> None:
    head = HeatmapHead(dataclasses.replace(CONFIG, boxes="token"))
    states, last = torch.randn(1, P, CONFIG.llm.dim), torch.randn(1, CONFIG.llm.dim)
    head.query.bias.zero_()
    flat = head(states, torch.zeros_like(last))
    assert torch.allclose(flat, head.upscale.bias.expand_as(flat))
    assert torch.allclose(head(states, 2 * last) - flat, 2 * (head(states, last) - flat), atol=1e-5)


@torch.no_grad()
def test_learned_prompts_replace_the_text() -> None:
    model = model_with(prompt_style="learned", learned_prompts=3)
    assert {name: vectors.shape for name, vectors in model.learned_prompts.vectors.items()} == dict.fromkeys(
        LABELLED, (3, CONFIG.llm.dim)
    )
    visual = queries(features())
    before = {name: model.label_logits(visual, name) for name in LABELLED}
    model.prompt_ids = {name: ids.flip(0) for name, ids in model.prompt_ids.items()}
    assert all(torch.equal(model.label_logits(visual, name), before[name]) for name in LABELLED)
    model.learned_prompts.vectors["domain"][0] += 1.0
    after = {name: model.label_logits(visual, name) for name in LABELLED}
    assert [name for name in LABELLED if not torch.equal(after[name], before[name])] == ["domain"]
    first = model_with(prompt_style="learned", order="prompt_first")
    assert set(first.learned_prompts.vectors) == set(TASKS)


@pytest.mark.parametrize(
    ("choices", "more"),
    [
        ({}, 0),
        ({"attention": "full"}, 0),
        ({"order": "prompt_first"}, 0),
        ({"pooling": 2}, 256 * (4 * 4 - 2 * 2)),  # as many cells of the heatmap from a quarter of the tokens
        ({"prompt_style": "learned"}, 5 * 8 * 2048),
        # Two layers for a box's place, one for its content and one for the query; no vector that marks patches.
        ({"boxes": "token"}, (64 * 2048 + 2048) + 2 * (2048 * 2048 + 2048) + (2048 * 256 + 256) - 1024),
    ],
    ids=str,
)
def test_options_add_the_weights_worked_by_hand(choices: dict[str, object], more: int) -> None:
    def size(config: ModelConfig) -> int:
        with torch.device("meta"):
            model = FusedModel(config, word_tokenizer())
        return sum(p.numel() for name, part in model.parts().items() if name != "encoder" for p in part.parameters())

    paper = 29_370_368 + 1024 + (2048 * 256 + 256) + (256 * 2 * 2 + 1)
    assert size(dataclasses.replace(MODELS["paper"], **choices)) == paper + more


@torch.no_grad()
def test_a_connector_without_marks_ignores_masks() -> None:
    connector = Connector(8, 16, 12, marks=False)
    seen = torch.randn(1, 4, 8)
    assert "box_embedding" not in connector.state_dict()
    assert torch.equal(connector(seen, torch.ones(1, 4, dtype=torch.bool)), connector(seen))
