"""Epochs: balanced tasks, batches of gaze alone, mixed batches of label tasks."""

from __future__ import annotations

import pytest

from training.data.mixture import Batch, epoch_batches

SIZES = {"gesture": 40, "gaze": 24, "expression": 20, "looking_at_me": 31, "domain": 20, "relation": 20}


def drawn(batches: list[Batch]) -> dict[str, list[int]]:
    return {name: sorted(i for batch in batches for task, i in batch if task == name) for name in SIZES}


def test_every_dataset_is_undersampled_to_the_smallest() -> None:
    for name, indices in drawn(epoch_batches(SIZES, 4, epoch=0, seed=1)).items():
        assert len(indices) == len(set(indices)) == 20
        assert indices[0] >= 0 and indices[-1] < SIZES[name]


def test_epochs_draw_other_samples() -> None:
    first, second = (drawn(epoch_batches(SIZES, 4, epoch, seed=1)) for epoch in (0, 1))
    assert first["gesture"] != second["gesture"]
    seen = {i for epoch in range(12) for i in drawn(epoch_batches(SIZES, 4, epoch, seed=1))["gesture"]}
    assert seen == set(range(40))
    assert first["relation"] == second["relation"] == list(range(20))  # the smallest dataset is always complete


def test_an_epoch_is_a_function_of_its_arguments() -> None:
    epoch_batches(SIZES, 4, 0, 1)
    again = epoch_batches(SIZES, 4, epoch=3, seed=1)
    assert again == epoch_batches(dict(SIZES), 4, epoch=3, seed=1)
    assert again != epoch_batches(SIZES, 4, epoch=3, seed=2)
    assert again != epoch_batches(SIZES, 4, epoch=4, seed=1)


def test_gaze_batches_are_pure_and_text_batches_mixed() -> None:
    batches = epoch_batches(SIZES, 8, epoch=0, seed=1)
    kinds = [{task for task, _ in batch} for batch in batches]
    assert all(kind == {"gaze"} or "gaze" not in kind for kind in kinds)
    text = [kind for kind in kinds if kind != {"gaze"}]
    assert len(text) == 5 * 20 // 8 and sum(len(kind) > 2 for kind in text) > len(text) / 2


def test_gaze_batches_are_spread_over_the_epoch() -> None:
    orders = {tuple(batch[0][0] == "gaze" for batch in epoch_batches(SIZES, 4, epoch, seed=1)) for epoch in range(5)}
    assert len(orders) > 1
    assert all(sum(order) == 5 for order in orders)
    assert any(not all(order[-5:]) for order in orders)


def test_incomplete_batches_are_dropped_unless_alone() -> None:
    assert {len(batch) for batch in epoch_batches({"gesture": 10, "domain": 10}, 8, 0, 0)} == {8}
    assert [len(batch) for batch in epoch_batches({"gesture": 3, "gaze": 5}, 8, 0, 0)] == [3, 3]


@pytest.mark.parametrize("task", ["gaze", "gesture"])
def test_a_factor_enlarges_a_tasks_share(task: str) -> None:
    sizes = {"gesture": 20, "gaze": 20, "expression": 20} | {task: 70}

    def drawn(batch_size: int, factor: int) -> list[tuple[str, int]]:
        return [item for batch in epoch_batches(sizes, batch_size, 0, 0, {task: factor}) for item in batch]

    indices = [i for name, i in drawn(4, 3) if name == task]
    assert len(indices) == len(set(indices)) == 60
    assert len(drawn(4, 3)) == 60 + 2 * 20
    assert sorted(i for name, i in drawn(2, 9) if name == task) == list(range(70))


@pytest.mark.parametrize("task", ["gaze", "expression"])
def test_one_task_alone_is_a_mixture(task: str) -> None:
    batches = epoch_batches({task: 12}, 4, 0, 0)
    assert sorted(i for batch in batches for _, i in batch) == list(range(12))
