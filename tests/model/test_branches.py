"""Queries behind a shared prefix: each has the answer of its frame and its branch alone."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from sf_ros.core.cues import MAX_BOXES, TASKS  # noqa: E402
from sf_ros.model.branches import Branches, frame_sequences  # noqa: E402
from sf_ros.model.fusion import FusedModel, QueryFeatures, States  # noqa: E402
from sf_ros.model.sequence import attention_bias  # noqa: E402
from tests.tiny_models import CONFIG, fused_model  # noqa: E402

SHARED = dataclasses.replace(CONFIG, boxes="token", shared_prefix=True, crop_size=24)  # 16 patches and 4 of a crop
ATTENTION, PROMPTS, POOLING = ("causal", "full"), ("text", "learned"), (1, 2)
# Three frames in mixed order, one of them with every task; repeated tasks on one frame and on others.
TASK_OF = (*TASKS, "gaze", "expression", "relation", "gaze", "expression")
FRAME_OF = (*([1] * len(TASKS)), 1, 0, 2, 2, 1)


def model_with(**choices: object) -> FusedModel:
    return fused_model(dataclasses.replace(SHARED, learned_prompts=3, **choices))


def asked(tasks: tuple[str, ...] = TASK_OF, frame_of: tuple[int, ...] = FRAME_OF) -> QueryFeatures:
    generator = torch.Generator().manual_seed(3)
    crops = [number for number, task in enumerate(tasks) if TASKS[task].view != "frame"]
    return QueryFeatures(
        torch.randn(max(frame_of) + 1, 16, CONFIG.encoder.dim, generator=generator),
        torch.randn(len(crops), 4, CONFIG.encoder.dim, generator=generator),
        frame_of,
        tuple(crops.index(number) if number in crops else -1 for number in range(len(tasks))),
        torch.zeros(len(tasks), 16, dtype=torch.bool),
        torch.rand(len(tasks), MAX_BOXES, 4, generator=generator),
    )


def hidden_alone(model: FusedModel, features: QueryFeatures, row: int, task: str) -> torch.Tensor:
    """The states (L, D) of the sequence [frame ; boxes ; crop ; prompt] of one query, masked by hand."""
    one, spec, full = features.rows([row]), TASKS[task], model.config.attention == "full"
    frame = model.visual(one.of_frames())
    boxes = model.box_tokens(one.boxes[:, : max(spec.boxes, 1)], frame)
    crop = boxes[:, :0] if spec.view == "frame" else model.visual(one.of_crops())
    tokens = torch.cat([frame, boxes, crop, model.prompt(task)[None]], dim=1)
    mask = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).tril()
    if full:
        first = frame.shape[1] + boxes.shape[1]
        for place in (slice(0, frame.shape[1]), slice(first, first + crop.shape[1])):
            mask[place, place] = True
    return model.llm(inputs_embeds=tokens, attention_mask=attention_bias(mask, tokens)).last_hidden_state[0]


@pytest.mark.parametrize(("attention", "style", "pooling"), itertools.product(ATTENTION, PROMPTS, POOLING))
@torch.no_grad()
def test_a_query_has_the_answer_of_its_frame_and_branch_alone(attention: str, style: str, pooling: int) -> None:
    model, features = model_with(attention=attention, prompt_style=style, pooling=pooling), asked()
    gaze = [row for row, task in enumerate(TASK_OF) if task == "gaze"]
    for order in (list(range(len(TASK_OF))), list(range(len(TASK_OF)))[::-1]):
        states = model.states(features.rows(order), [TASK_OF[row] for row in order])
        heatmaps = iter(states.visual)
        for place, row in enumerate(order):
            alone = hidden_alone(model, features, row, TASK_OF[row])
            assert torch.allclose(states.last[place], alone[-1], atol=1e-3), TASK_OF[row]
            if row in gaze:
                assert torch.allclose(next(heatmaps), alone[: model.config.visual_tokens], atol=1e-3)
        assert next(heatmaps, None) is None


def changed(first: States, second: States) -> list[int]:
    return torch.nonzero((first.last - second.last).abs().amax(1) > 1e-4).flatten().tolist()


@pytest.mark.parametrize("attention", ATTENTION)
@torch.no_grad()
def test_branches_see_neither_one_another_nor_the_prefix_them(attention: str) -> None:
    model, features = model_with(attention=attention), asked()
    before = model.states(features, TASK_OF)
    for row in range(len(TASK_OF)):
        boxes, crops = features.boxes.clone(), features.crops.clone()
        boxes[row] = boxes[row].flip(-1)
        if features.crop_of[row] >= 0:
            crops[features.crop_of[row]] += 1.0
        after = model.states(dataclasses.replace(features, boxes=boxes, crops=crops), TASK_OF)
        assert changed(before, after) == [row], TASK_OF[row]
        assert torch.allclose(before.visual, after.visual, atol=1e-5)


@torch.no_grad()
def test_a_frame_changes_the_answers_about_it_only() -> None:
    model, features = model_with(), asked()
    frames = features.frames.clone()
    frames[1] += 1.0
    after = model.states(dataclasses.replace(features, frames=frames), TASK_OF)
    assert changed(model.states(features, TASK_OF), after) == [row for row, frame in enumerate(FRAME_OF) if frame == 1]


@pytest.mark.parametrize(("attention", "both_ways"), [("causal", False), ("full", True)])
@torch.no_grad()
def test_crop_tokens_see_one_another_both_ways_only_with_full_attention(attention: str, both_ways: bool) -> None:
    model, features, found = model_with(attention=attention), asked(("expression",), (0,)), []
    handle = model.llm.register_forward_hook(lambda module, arguments, out: found.append(out.last_hidden_state[0]))
    model.states(features, ["expression"])
    crops = features.crops.clone()
    crops[0, -1] += 1.0
    model.states(dataclasses.replace(features, crops=crops), ["expression"])
    handle.remove()
    moved = ((found[0] - found[1]).abs().amax(1) > 1e-6).tolist()
    text = len(model.prompt("expression"))
    assert moved == [False] * (16 + 1) + [both_ways] * 3 + [True] * (1 + text)


@pytest.mark.parametrize(("style", "pooling"), itertools.product(PROMPTS, POOLING))
@torch.no_grad()
def test_a_branch_is_as_long_as_length_says(style: str, pooling: int) -> None:
    model, features = model_with(prompt_style=style, pooling=pooling), asked()
    for row, task in enumerate(TASK_OF):
        branch = model.branches(features.rows([row]), task, model.frame_tokens(features.frames)).tokens
        assert branch.shape[1] == model.length(task), task
    assert len(model.prompt("gaze")) == (3 if style == "learned" else 0)


def test_positions_restart_behind_the_frame() -> None:
    frames = torch.zeros(2, 2, 1)  # two frames of two tokens
    long = Branches(torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]), (0, 0))
    short = Branches(torch.tensor([[[5.0]], [[6.0]]]), (1, 0))
    packed = frame_sequences(frames, [long, short], full=False)
    assert packed.tokens[..., 0].tolist() == [[0, 0, 1, 2, 3, 4, 6], [0, 0, 5, 0, 0, 0, 0]]
    assert [start.tolist() for start in packed.starts] == [[2, 4], [2, 6]]
    assert packed.positions[0].tolist() == [0, 1, 2, 3, 2, 3, 2] and packed.positions[1, :3].tolist() == [0, 1, 2]
    assert packed.mask[0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0],
        [1, 1, 0, 0, 1, 1, 0],
        [1, 1, 0, 0, 0, 0, 1],
    ]


def test_only_the_named_ranges_are_read_both_ways() -> None:
    branch = Branches(torch.zeros(1, 4, 1), (0,), full=(1, 3))
    mask = frame_sequences(torch.zeros(1, 2, 1), [branch], full=True).mask[0].int()
    assert torch.triu(mask, 1).nonzero().tolist() == [[0, 1], [3, 4]]


@torch.no_grad()
def test_random_pooling_answers_in_a_batch_as_alone() -> None:
    model, features = model_with(pooling=2, pooled="random"), asked()
    together = model.states(features, TASK_OF).last
    for row, task in enumerate(TASK_OF):
        one = dataclasses.replace(
            features.rows([row]), frames=features.frames[[FRAME_OF[row]]], frame_of=(0,),
        )  # fmt: skip
        if features.crop_of[row] >= 0:
            one = dataclasses.replace(one, crops=features.crops[[features.crop_of[row]]], crop_of=(0,))
        assert torch.allclose(model.states(one, [task]).last[0], together[row], atol=1e-3), task
