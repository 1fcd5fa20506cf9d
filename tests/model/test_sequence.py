"""Attention masks, positions and read-out of sequences, worked by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")

from sf_ros.model.sequence import attention_bias, packed_layout, visible  # noqa: E402

if TYPE_CHECKING:
    from sf_ros.model.fusion import FusedModel


def rows(*lines: str) -> torch.Tensor:
    return torch.tensor([[c == "#" for c in line] for line in lines])


def test_two_prompts_behind_two_visual_tokens() -> None:
    packed = packed_layout(2, [2, 3])
    assert torch.equal(
        packed.mask,
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
    assert packed.positions.tolist() == [0, 1, 2, 3, 2, 3, 4]
    assert packed.last.tolist() == [3, 6]
    assert packed.causal == 4


def test_no_prompt_leaves_the_visual_tokens_alone() -> None:
    packed = packed_layout(3, [])
    assert torch.equal(packed.mask, torch.ones(3, 3).tril().bool())
    assert (packed.positions.tolist(), packed.last.tolist(), packed.causal) == ([0, 1, 2], [2], 3)


@pytest.mark.parametrize("lengths", [[1], [4, 1], [2, 5, 3], [1, 1, 1, 1]])
def test_every_packed_prompt_sees_what_it_sees_alone(lengths: list[int]) -> None:
    packed, start = packed_layout(3, lengths), 3
    for index, length in enumerate(lengths):
        members = [*range(3), *range(start, start + length)]
        alone = packed_layout(3, [length])
        assert torch.equal(packed.mask[members][:, members], alone.mask)
        assert torch.equal(packed.positions[members], alone.positions)
        assert packed.mask[members].sum() == alone.mask.sum(), "it also sees another prompt"
        start += length
        assert packed.last[index] == start - 1
    causal = packed.causal
    assert torch.equal(packed.mask[:causal, :causal], torch.ones(causal, causal).tril().bool())
    assert not packed.mask[:causal, causal:].any()


@torch.no_grad()
def test_packed_prompts_need_the_explicit_mask(fused: FusedModel) -> None:
    # A plain causal mask changes the second answer.
    first, second = (fused.prompt(name) for name in ("expression", "looking_at_me"))
    visual = torch.randn(16, fused.config.llm.dim)
    layout = packed_layout(16, [len(first), len(second)])
    packed, alone = torch.cat([visual, first, second])[None], torch.cat([visual, second])[None]

    def last_state(mask: torch.Tensor) -> torch.Tensor:
        return fused.llm(
            inputs_embeds=packed, attention_mask=mask[None, None], position_ids=layout.positions[None], use_cache=False
        ).last_hidden_state[0, -1]

    expected = fused.llm(inputs_embeds=alone, use_cache=False).last_hidden_state[0, -1]
    assert (last_state(layout.mask) - expected).abs().max() < 1e-5
    assert (last_state(torch.ones_like(layout.mask).tril()) - expected).abs().max() > 1e-3


def test_full_attention_goes_both_ways_inside_its_range() -> None:
    assert torch.equal(visible(5, slice(2, 4)), rows("#....", "##...", "####.", "####.", "#####"))
    assert torch.equal(visible(3), rows("#..", "##.", "###"))


def test_a_bias_is_zero_where_seen_and_minus_infinity_elsewhere() -> None:
    bias = attention_bias(visible(2), torch.zeros(1, dtype=torch.bfloat16))
    assert bias.shape == (1, 1, 2, 2) and bias.dtype == torch.bfloat16
    assert bias[0, 0].tolist() == [[0.0, -torch.inf], [0.0, 0.0]]
