"""Full and causal attention are compared on gaze, with targets before and after the head apart."""

from __future__ import annotations

from pathlib import Path

from training.studies import attention


def test_each_seed_trains_gaze_with_both_kinds_of_attention() -> None:
    cells = attention.grid(attention.Arguments("smoke", "scenes", Path("out"), seeds="0,1"))
    kinds = [(cell.settings["config"]["model"]["attention"], cell.settings["seed"]) for cell in cells]
    assert kinds == [("causal", 0), ("full", 0), ("causal", 1), ("full", 1)]
    assert all(cell.settings["tasks"] == ["gaze"] for cell in cells)


def test_smoke_run_scores_target_positions_separately(shared: Path, tmp_path: Path) -> None:
    arguments = attention.Arguments(
        "smoke", "scenes", tmp_path, start=shared, seeds="0", samples=12, set=("joint.steps=2",)
    )
    summary = attention.run(arguments)
    assert summary["failed"] == {} and summary["cells"] == 2
    header, _, causal, full, chance = (tmp_path / "table.md").read_text().splitlines()[4:]
    assert "gaze before head min_L2" in header and "gaze after head AUC" in header
    assert causal.startswith("| causal") and full.startswith("| full") and chance.startswith("| chance")
    assert "–" not in causal + full
