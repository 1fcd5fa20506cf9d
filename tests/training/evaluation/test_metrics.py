"""The benchmarks' metrics, worked by hand and compared with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score

from sf_ros.core.cues import TASKS
from training.evaluation import metrics

RANDOM = np.random.default_rng(3)


def test_accuracy_is_the_share_of_correct_samples() -> None:
    probabilities = np.array([[0.6, 0.4], [0.2, 0.8], [0.9, 0.1], [0.3, 0.7]])
    assert metrics.accuracy(probabilities, np.array([0, 1, 1, 1])) == 0.75


def test_accuracy_agrees_with_scikit_learn() -> None:
    probabilities, labels = RANDOM.dirichlet(np.ones(5), 60), RANDOM.integers(0, 5, 60)
    assert metrics.accuracy(probabilities, labels) == pytest.approx(accuracy_score(labels, probabilities.argmax(1)))


def test_voc_precision_is_made_monotone() -> None:
    truth, scores = np.array([False, True, True, False]), np.array([0.9, 0.8, 0.7, 0.6])
    # After each hit: precision 1/2 at recall 1/2, 2/3 at recall 1. VOC lifts the first to 2/3; scikit-learn does not.
    assert metrics.voc_average_precision(truth, scores) == pytest.approx(2 / 3)
    assert average_precision_score(truth, scores) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_voc_agrees_with_scikit_learn_on_falling_precision() -> None:
    truth, scores = np.array([True, True, False, True, False, False]), np.linspace(0.9, 0.1, 6)
    assert metrics.voc_average_precision(truth, scores) == pytest.approx(average_precision_score(truth, scores))
    assert metrics.voc_average_precision(truth, scores) == pytest.approx((1 + 1 + 3 / 4) / 3)


def test_voc_precision_is_never_below_scikit_learns() -> None:
    for _ in range(20):
        truth, scores = RANDOM.random(30) < 0.4, RANDOM.permutation(30) / 30
        assert metrics.voc_average_precision(truth, scores) >= average_precision_score(truth, scores) - 1e-12


def test_equal_scores_are_one_threshold_in_any_order() -> None:
    truth, scores = np.array([True, False, False, True, False]), np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    # One hit of one, then two of four: (1 + 1/2) / 2, wherever the hit stands among the three equal scores.
    for _ in range(10):
        order = RANDOM.permutation(5)
        assert metrics.voc_average_precision(truth[order], scores[order]) == pytest.approx(0.75)
    assert average_precision_score(truth, scores) == pytest.approx(0.75)
    assert metrics.voc_average_precision(truth, np.full(5, 0.3)) == pytest.approx(2 / 5)


@pytest.mark.parametrize("task", [name for name, spec in TASKS.items() if spec.kind == "label"])
def test_scores_do_not_depend_on_the_order_of_rows(task: str) -> None:
    classes = len(TASKS[task].labels)
    probabilities, labels = RANDOM.integers(1, 3, (60, classes)) / 4, RANDOM.integers(0, classes, 60)
    figures = metrics.label_metrics(task, probabilities, labels)
    for _ in range(5):
        order = RANDOM.permutation(60)
        assert metrics.label_metrics(task, probabilities[order], labels[order]) == pytest.approx(figures)


def test_small_probabilities_stay_apart_in_both_answers() -> None:
    truth, yes = np.array([True, False, False]), np.array([3e-10, 2e-10, 1e-10], np.float32)
    assert metrics.yes_no_map(yes, truth) == 1.0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_not_finite_is_named(value: float) -> None:
    probabilities = np.full((3, 2), 0.5)
    probabilities[1, 0] = value
    with pytest.raises(ValueError, match="'looking_at_me': 1 of 3 answers, the first of sample 1, are not finite"):
        metrics.label_metrics("looking_at_me", probabilities, np.array([0, 1, 0]))


def test_no_positive_sample_gives_zero_precision() -> None:
    assert metrics.voc_average_precision(np.array([False, False]), np.array([0.1, 0.9])) == 0.0


def test_yes_no_map_is_the_mean_over_both_answers() -> None:
    truth, yes = np.array([False, True, True, False]), np.array([0.9, 0.8, 0.7, 0.6])
    # "No" by 1 - score: the order is 4, 3, 2, 1, so hits at ranks 1 and 4: (1 + 1/2) / 2.
    assert metrics.yes_no_map(yes, truth) == pytest.approx((2 / 3 + 3 / 4) / 2)


def test_macro_precision_ignores_absent_classes() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    labels = np.array([0, 1, 1])  # class 2 does not occur; class 0 at rank 1, class 1 at ranks 1 and 2
    assert metrics.macro_average_precision(probabilities, labels) == 1.0
    labels = np.array([1, 0, 1])  # class 0 at rank 2; class 1 at ranks 1 and 3
    assert metrics.macro_average_precision(probabilities, labels) == pytest.approx((1 / 2 + (1 + 2 / 3) / 2) / 2)


def test_macro_precision_agrees_with_scikit_learn() -> None:
    probabilities, labels = RANDOM.dirichlet(np.ones(4), 80), RANDOM.integers(0, 4, 80)
    expected = average_precision_score(np.eye(4)[labels], probabilities, average="macro")
    assert metrics.macro_average_precision(probabilities, labels) == pytest.approx(expected)


def test_a_peak_on_the_annotation_has_auc_one() -> None:
    heatmap = np.zeros((64, 64), np.float32)
    heatmap[16, 48] = 1.0  # the cell's centre is (48.5, 16.5) / 64 of the image
    assert metrics.gaze_auc(heatmap, np.array([[48.5 / 64, 16.5 / 64]]), 640, 480) > 0.9999


def test_a_flat_heatmap_has_auc_one_half() -> None:
    assert metrics.gaze_auc(np.full((64, 64), 0.3, np.float32), np.array([[0.2, 0.9]]), 640, 480) == 0.5


def test_a_minimum_on_the_annotation_has_auc_zero() -> None:
    heatmap = np.ones((64, 64), np.float32)
    heatmap[16, 48] = 0.0
    assert metrics.gaze_auc(heatmap, np.array([[48.5 / 64, 16.5 / 64]]), 640, 480) < 1e-4


def test_auc_counts_pixels_of_the_image() -> None:
    heatmap = np.array([[0.0, 1.0]], np.float32)
    # Four pixels wide, bilinear: 0, 1/4, 3/4, 1. The third pixel beats two of the three others.
    assert metrics.gaze_auc(heatmap, np.array([[0.6, 0.5]]), 4, 1) == pytest.approx(2 / 3)


def test_auc_with_several_annotators_and_edge_points() -> None:
    heatmap = np.array([[0.0, 1.0]], np.float32)
    points = np.array([[0.6, 0.5], [1.0, 1.0]])  # third and fourth pixel: both beat both others
    assert metrics.gaze_auc(heatmap, points, 4, 1) == 1.0
    assert metrics.gaze_auc(heatmap, np.array([[0.0, 0.5], [1.0, 0.5]]), 4, 1) == pytest.approx(
        roc_auc_score([1, 0, 0, 1], [0, 0.25, 0.75, 1])
    )


def test_the_point_is_the_corner_of_the_highest_cell() -> None:
    heatmap = np.zeros((64, 64))
    heatmap[16, 48] = 1
    assert metrics.gaze_point(heatmap).tolist() == [0.75, 0.25]


def test_distances_to_nearest_and_mean_annotation() -> None:
    heatmap = np.zeros((10, 10))
    heatmap[0, 0] = 1  # predicted: (0, 0)
    distances = metrics.gaze_distances(heatmap, np.array([[0.3, 0.4], [0.9, 0.4]]))
    assert distances["min_L2"] == pytest.approx(0.5)
    assert distances["avg_L2"] == pytest.approx(np.hypot(0.6, 0.4))
    assert distances["avg_L2_each"] == pytest.approx((0.5 + np.hypot(0.9, 0.4)) / 2)  # 0.74 where avg_L2 is 0.72


def test_opposite_annotations_have_zero_average_distance() -> None:
    heatmap = np.zeros((10, 10))
    heatmap[5, 5] = 1
    distances = metrics.gaze_distances(heatmap, np.array([[0.2, 0.5], [0.8, 0.5]]))
    assert distances == pytest.approx({"min_L2": 0.3, "avg_L2": 0.0, "avg_L2_each": 0.3})


def test_yes_no_tasks_are_scored_by_the_yes_probability() -> None:
    yes = TASKS["looking_at_me"].labels.index("yes")
    labels = np.array([yes, 1 - yes, yes])
    probabilities = np.full((3, 2), 0.5)
    probabilities[:, yes] = [0.9, 0.1, 0.8]
    probabilities[:, 1 - yes] = 1 - probabilities[:, yes]
    assert metrics.label_metrics("looking_at_me", probabilities, labels) == {"mAP": 1.0, "accuracy": 1.0}
    assert metrics.label_metrics("looking_at_me", probabilities, 1 - labels)["accuracy"] == 0.0


@pytest.mark.parametrize("task", [name for name, spec in TASKS.items() if spec.kind == "label"])
def test_every_label_task_has_two_metrics_with_chance(task: str) -> None:
    classes = len(TASKS[task].labels)
    labels = np.arange(40) % classes
    figures = metrics.label_metrics(task, np.eye(classes)[labels], labels)
    assert figures == {"mAP": 1.0, "accuracy": 1.0}
    assert set(metrics.label_chance(labels, classes)) == set(figures)


def test_chance_from_class_shares() -> None:
    chance = metrics.label_chance(np.array([0, 0, 0, 1]), classes=3)
    assert chance == {"mAP": 0.5, "accuracy": 0.75}  # shares 3/4 and 1/4; the absent class counts for nothing


def test_random_scores_reach_chance() -> None:
    labels = RANDOM.choice(3, 6000, p=[0.6, 0.3, 0.1])
    precision = metrics.macro_average_precision(RANDOM.random((6000, 3)), labels)
    assert precision == pytest.approx(metrics.label_chance(labels, 3)["mAP"], abs=0.03)
