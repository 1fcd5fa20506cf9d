"""EmotiEffLib, Gaze-LLE and CLIP run on networks of the published inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sf_ros.core.bundle import BundleError
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from sf_ros.engines.base import Query
from sf_ros.engines.people import clip, emotieff, gaze_lle
from sf_ros.engines.people.engine import PeopleEngine
from sf_ros.engines.people.scene import Networks, Scene
from tests.engines.people.tiny import bundle_of, constant_network, linear_network

IMAGE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
HSEMOTION = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")


def networks(root: Path, task: str, method: str) -> Networks:
    return Networks(bundle_of(root, {task: method}), threads=1, device="cpu")


@pytest.mark.parametrize("outputs", [8, 10])  # the multi-task models add valence and arousal
@pytest.mark.parametrize("name", HSEMOTION)
def test_expressions_are_in_our_order(tmp_path: Path, name: str, outputs: int) -> None:
    logits = np.zeros((1, outputs), np.float32)
    logits[0, HSEMOTION.index(name)] = 3.0
    logits[0, 8:] = 9.0
    constant_network(tmp_path / emotieff.FILE, {"input": [1, 3, 224, 224]}, {"logits": logits})
    opened = networks(tmp_path, "expression", "emotieff")
    query = Query("face", (Box(10, 10, 30, 35),), ("expression",), (1,))
    answer = emotieff.EmotiEff(opened)(Scene(IMAGE, [query]), query, "expression")
    assert TASKS["expression"].labels[int(answer.argmax())] == name
    assert answer.sum() == pytest.approx(1) and answer.max() == pytest.approx(np.exp(3) / (np.exp(3) + 7))


def test_the_expression_network_sees_the_tight_face(tmp_path: Path) -> None:
    linear_network(tmp_path / emotieff.FILE, [1, 3, 224, 224], np.eye(3, 8))
    image = np.zeros((48, 64, 3), np.uint8)
    image[10:30, 20:40] = 255
    opened = networks(tmp_path, "expression", "emotieff")
    method = emotieff.EmotiEff(opened)
    for box in (Box(20, 10, 40, 30), Box(0, 0, 20, 10), Box(-5, -5, 0.5, 0.5), Box(60, 44, 90, 90)):
        query = Query("face", (box,), ("expression",), (1,))
        answer = method(Scene(image, [query]), query, "expression")
        white = answer[6] > answer[0]  # anger is the first logit: the mean of standardised red
        assert white == (box == Box(20, 10, 40, 30))


def test_another_number_of_expressions_is_refused(tmp_path: Path) -> None:
    constant_network(tmp_path / emotieff.FILE, {"input": [1, 3, 224, 224]}, {"logits": np.zeros((1, 7), np.float32)})
    with pytest.raises(BundleError, match="7 outputs found, 8 expected"):
        emotieff.EmotiEff(networks(tmp_path, "expression", "emotieff"))


def test_all_heads_of_a_call_share_one_run(tmp_path: Path) -> None:
    heat = np.stack([np.full((64, 64), 0.5), np.full((64, 64), 0.9)]).astype(np.float32)
    outputs = {"heatmap": heat, "inside": np.array([1.0, 0.5], np.float32)}
    constant_network(tmp_path / gaze_lle.FILE, {"image": [1, 3, 28, 28], "heads": ["heads", 4, 4]}, outputs)
    opened = networks(tmp_path, "gaze", "gaze_lle")
    method = gaze_lle.GazeLle(opened)
    queries = [Query("frame", (Box(x, 5, x + 10, 15),), ("gaze",), (x,)) for x in (5, 40)]
    scene = Scene(IMAGE, queries)
    first, second = (method(scene, query, "gaze") for query in queries)
    np.testing.assert_allclose(first, 0.5)
    np.testing.assert_allclose(second, 0.45)  # times the probability that the target is in the image


def test_a_head_is_larger_than_its_face_and_marked_on_the_grid() -> None:
    head = gaze_lle.head_box(Box(100, 100, 140, 150))
    assert head == Box(92, 82.5, 148, 152.5)
    mask = gaze_lle.head_mask(Box(0, 0, 50, 100), (100, 200), 4)
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_a_pair_is_compared_with_the_sentences(tmp_path: Path) -> None:
    linear_network(tmp_path / clip.FILE, ["pairs", 3, 8, 8], np.eye(3))
    sentences = {
        "domain": np.eye(3, dtype=np.float32),
        "relation": np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32),
    }
    save_file(sentences, tmp_path / clip.SENTENCES)
    opened = networks(tmp_path, "relation", "clip")
    image = np.full((48, 64, 3), 20, np.uint8)
    image[:, :, 1] = 250  # green: the second direction
    query = Query("frame", (Box(10, 10, 20, 40), Box(30, 10, 40, 40)), ("domain", "relation"), (1, 2))
    scene, method = Scene(image, [query]), clip.Clip(opened)
    for task in query.tasks:
        answer = method(scene, query, task)
        assert answer.argmax() == 1 and answer.sum() == pytest.approx(1) and len(answer) == len(TASKS[task].labels)


def test_sentences_for_other_labels_are_refused(tmp_path: Path) -> None:
    linear_network(tmp_path / clip.FILE, ["pairs", 3, 8, 8], np.eye(3))
    save_file({"relation": np.eye(3, dtype=np.float32)}, tmp_path / clip.SENTENCES)
    with pytest.raises(BundleError, match="3 vectors for the 6 labels of 'relation'"):
        clip.Clip(networks(tmp_path, "relation", "clip"))


def test_without_a_gpu_what_needs_one_is_off(tmp_path: Path) -> None:
    constant_network(tmp_path / emotieff.FILE, {"input": [1, 3, 224, 224]}, {"logits": np.zeros((1, 8), np.float32)})
    engine = PeopleEngine(bundle_of(tmp_path, {"expression": "emotieff", "domain": "clip", "relation": "clip"}))
    assert engine.tasks == ("expression",)
    assert set(engine.off) == {"domain", "relation"} and "needs a GPU" in engine.off["relation"]


def test_an_unknown_method_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "any.onnx").write_bytes(b"x")
    with pytest.raises(BundleError, match="the method 'guess' is unknown to this version; it knows hand_joints"):
        PeopleEngine(bundle_of(tmp_path, {"gesture": "guess"}))
