"""The rows from the paper's layout to the edge layout, and the operations of a frame."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import pytest

from sf_ros.core.config import edge
from sf_ros.core.demo import demo_file
from tests.tiny_models import CONFIG, fused_model
from training.config import preset
from training.overrides import with_fields
from training.studies import layouts
from training.studies.measures.frame_flops import frame_flops

ARGUMENTS = layouts.Arguments("tiny", "scenes", Path("out"))


def config(row: str) -> object:
    fields = [text.format(**layouts.sizes(ARGUMENTS)) for text in layouts.changes(row)]
    return with_fields(preset("tiny"), fields)


def test_the_first_row_is_the_preset_and_the_last_step_the_edge_layout() -> None:
    assert config("paper") == preset("tiny")
    assert config("edge").model == preset("tiny-edge").model == edge(preset("tiny").model, crop_size=96)


def test_every_step_adds_one_choice() -> None:
    rows = list(layouts.STEPS)
    for before, after in itertools.pairwise(rows):
        first, second = (dataclasses.asdict(config(row).model) for row in (before, after))
        changed = {name for name in first if first[name] != second[name]} - {"learned_prompts"}
        assert len(changed) == 1, after


def test_rows_behind_edge_change_the_edge_layout() -> None:
    whole = config("edge")
    for row in layouts.CHANGES:
        changed = config(row)
        assert changed != whole and changed.model.shared_prefix
    assert config("edge: thinned").model.pooled == "random"
    assert config("edge: smaller crops").model.crop_size == 72
    assert config("edge: crops of full size").model.crop_encoder == whole.model.encoder
    assert [config(f"edge: {share} of the layers").llm_layers for share in ("3/4", "1/2")] == [3, 2]


def test_operations_are_those_of_the_tokens_that_are_read() -> None:
    llm = CONFIG.llm
    weights = llm.depth * (llm.dim * (2 * llm.heads + 2 * llm.kv_heads) * llm.dim // llm.heads + 3 * llm.dim * llm.mlp)
    model = fused_model(dataclasses.replace(CONFIG, boxes="token", pooling=2, prompt_style="learned",
                                            learned_prompts=3, shared_prefix=True, crop_size=24))  # fmt: skip

    def tokens(count: int, context: int) -> float:
        return count * (2 * weights + 4 * llm.depth * llm.dim * context)

    # Behind 4 tokens of a frame: gaze 1 + 3; a face 1 + 1 + 2 x 3; a person 1 + 1 + 3; a pair 2 + 2 x 3.
    expected = tokens(4, 4) + 2 * (tokens(4, 8) + tokens(8, 12) + tokens(5, 9)) + tokens(8, 12)
    one_frame, four_crops = 16, 4 * 4
    connector = 2 * sum(w.numel() for w in model.connector.parameters() if w.ndim == 2) * (one_frame + four_crops)
    vision = frame_flops(model, 2) - expected - connector
    assert 0 < vision < frame_flops(model, 2)
    assert frame_flops(model, 3) - frame_flops(model, 2) == pytest.approx(
        (vision_of_crop := frame_flops(model, 2) - frame_flops(model, 1) - tokens(8, 12)) + 2 * tokens(8, 12)
    )
    assert vision_of_crop > tokens(4, 8) + tokens(8, 12) + tokens(5, 9)


def test_the_papers_layout_costs_several_times_as_much() -> None:
    paper = fused_model()
    assert frame_flops(paper, 8) > 4 * frame_flops(fused_model(edge(CONFIG, crop_size=24)), 8)


@pytest.mark.slow
def test_a_smoke_run_scores_each_row_beside_its_operations(shared: Path, tmp_path: Path) -> None:
    arguments = layouts.Arguments(
        "smoke", "scenes", tmp_path, start=shared, seeds="0", samples=6, rows="paper,edge,edge: distilled",
        set=("joint.steps=2", "shared_scenes=4"), teacher=demo_file("bundle"),
    )  # fmt: skip
    assert layouts.run(arguments)["failed"] == {}
    lines = (tmp_path / "table.md").read_text().splitlines()[4:]
    assert "GFLOP, 8 people" in lines[0] and [line.split("|")[1].strip() for line in lines[2:]] == [
        "paper", "edge", "edge: distilled", "chance",
    ]  # fmt: skip
    records = [
        json.loads((tmp_path / f"{row}-seed0" / "result.json").read_text()) for row in ("edge", "edge-distilled")
    ]
    assert records[0]["training"]["loss"] != records[1]["training"]["loss"]


def test_a_distilled_row_needs_a_teacher_and_changes_with_it(tmp_path: Path) -> None:
    assert layouts.DISTILLED not in ARGUMENTS.chosen and len(ARGUMENTS.chosen) == len(layouts.ROWS) - 1
    with pytest.raises(ValueError, match="needs --teacher"):
        dataclasses.replace(ARGUMENTS, rows=layouts.DISTILLED).chosen  # noqa: B018
    settings = []
    for words in ("one", "two"):
        (tmp_path / "weights").write_text(words)
        taught = dataclasses.replace(ARGUMENTS, teacher=tmp_path)
        settings.append([layouts.cell(taught, row, 0).settings for row in taught.chosen])
    differing = [row for row, one, two in zip(layouts.ROWS, *settings, strict=True) if one != two]
    assert differing == [layouts.DISTILLED]
