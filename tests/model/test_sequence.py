"""Who sees whom in a sequence, worked by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from sf_ros.model.sequence import attention_bias, layout, visible  # noqa: E402


def rows(*lines: str) -> torch.Tensor:
    return torch.tensor([[c == "#" for c in line] for line in lines])


def test_two_questions_behind_two_visual_tokens_are_laid_out_as_by_hand() -> None:
    plan = layout(2, [2, 3])
    assert torch.equal(
        plan.mask,
        rows(
            "#......",  # V
            "##.....",
            "###....",  # T1 sees V and itself
            "####...",
            "##..#..",  # T2 sees V and itself, not T1
            "##..##.",
            "##..###",
        ),
    )
    assert plan.positions.tolist() == [0, 1, 2, 3, 2, 3, 4]
    assert plan.last.tolist() == [3, 6]


def test_one_question_is_laid_out_causally_and_none_is_the_picture_alone() -> None:
    plan = layout(2, [3])
    assert torch.equal(plan.mask, torch.ones(5, 5).tril().bool())
    assert (plan.positions.tolist(), plan.last.tolist()) == ([0, 1, 2, 3, 4], [4])
    plan = layout(3, [])
    assert torch.equal(plan.mask, torch.ones(3, 3).tril().bool()) and plan.last.tolist() == [2]


@pytest.mark.parametrize("lengths", [[1], [4, 1], [2, 5, 3], [1, 1, 1, 1]])
def test_every_question_sees_what_it_would_see_alone(lengths: list[int]) -> None:
    plan, start = layout(3, lengths), 3
    for index, length in enumerate(lengths):
        own = [*range(3), *range(start, start + length)]
        alone = layout(3, [length])
        assert torch.equal(plan.mask[own][:, own], alone.mask)
        assert torch.equal(plan.positions[own], alone.positions)
        assert plan.mask[own].sum() == alone.mask.sum(), "it sees something else besides"
        start += length
        assert plan.last[index] == start - 1
    causal = 3 + lengths[0]  # the second question sees nothing of the first
    assert plan.causal == causal and torch.equal(plan.mask[:causal, :causal], torch.ones(causal, causal).tril().bool())
    assert not plan.mask[:causal, causal:].any()


def test_with_full_attention_the_picture_sees_itself_both_ways_and_text_stays_causal() -> None:
    assert torch.equal(
        layout(2, [2, 1], full=True).mask,
        rows(
            "##...",  # V, both ways, but no text
            "##...",
            "###..",  # T1 sees V and, causally, itself
            "####.",
            "##..#",  # T2 sees V and itself, not T1
        ),
    )


def test_a_picture_behind_its_prompt_sees_the_prompt_and_itself_and_what_follows_sees_all() -> None:
    assert torch.equal(visible(5, slice(2, 4)), rows("#....", "##...", "####.", "####.", "#####"))
    assert torch.equal(visible(3), rows("#..", "##.", "###"))


def test_a_bias_is_zero_where_a_token_sees_and_takes_all_weight_where_it_does_not() -> None:
    bias = attention_bias(visible(2), torch.zeros(1, dtype=torch.bfloat16))
    assert bias.shape == (1, 1, 2, 2) and bias.dtype == torch.bfloat16
    assert bias[0, 0].tolist() == [[0.0, -torch.inf], [0.0, 0.0]]


def test_a_prompt_may_lead_and_boxes_follow_the_picture() -> None:
    plan = layout(2, [], lead=3, boxes=1)
    assert torch.equal(plan.mask, torch.ones(6, 6).tril().bool())
    assert (plan.positions.tolist(), plan.last.tolist()) == ([0, 1, 2, 3, 4, 5], [5])
    plan = layout(2, [1, 2], full=True, boxes=1)
    expected = [[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 1, 0]]
    assert torch.equal(plan.mask, torch.tensor([*expected, [1, 1, 1, 0, 1, 1]]).bool())
    assert (plan.positions.tolist(), plan.last.tolist()) == ([0, 1, 2, 3, 3, 4], [3, 5])
    led = layout(2, [], full=True, lead=1).mask
    assert torch.equal(led, torch.tensor([[1, 0, 0], [1, 1, 1], [1, 1, 1]]).bool())
