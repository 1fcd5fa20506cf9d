"""A YOLO file in any of its forms gives bodies and faces, through real ultralytics."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Frame, Person
from sf_ros.perception.detectors.base import DetectorError
from sf_ros.perception.detectors.yolo import YoloDetector
from sf_ros.perception.people import PeopleTracker

SIZE = 96  # px, of the model's input
CONFIG = RuntimeConfig(device="cpu", detector_size=SIZE)


def write_yolo(path: Path, rows: np.ndarray, names: dict[int, str], task: str = "detect") -> Path:
    """An ONNX file with the same output for every image: rows (N, 4 + classes [+ 51]), cx, cy, w, h in input px."""
    rows = np.concatenate([rows, np.zeros((20, rows.shape[1]))]).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["zeros"]),
        helper.make_node("Add", ["rows", "zeros"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, rows.shape[1], len(rows)])],
        [numpy_helper.from_array(rows.T[None], "rows"), numpy_helper.from_array(np.float32(0), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    metadata = {"task": task, "names": str(names), "imgsz": str([SIZE, SIZE]), "stride": "32", "batch": "1"}
    metadata |= {"channels": "3", "end2end": "False", "args": "{}", "kpt_shape": "[17, 3]" if task == "pose" else ""}
    helper.set_model_props(model, {key: value for key, value in metadata.items() if value})
    onnx.save(model, path)
    return path


def frame(width: int = 192, height: int = 192) -> Frame:
    return Frame(np.zeros((height, width, 3), np.uint8), 0.0, 0)


def people_in(path: Path, image: Frame) -> tuple[Person, ...]:
    """The people of one frame: detected, and matched with their faces."""
    return PeopleTracker(CONFIG).update(YoloDetector(path, CONFIG).detect(image), image)


PERSONS_AND_FACES = np.array(
    [
        # cx, cy, w, h, person, face, in pixels of the 96 px input
        [24, 56, 30, 70, 0.9, 0.0],
        [72, 56, 30, 70, 0.8, 0.0],
        [24, 30, 10, 12, 0.0, 0.7],
        [72, 30, 10, 12, 0.0, 0.6],
        [48, 8, 8, 8, 0.0, 0.9],  # without a body
        [72, 34, 12, 12, 0.0, 0.2],  # below face_score
    ]
)


def test_bodies_and_faces_are_in_frame_pixels_by_score(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "detector.onnx", PERSONS_AND_FACES, {0: "person", 1: "face"})
    detections = YoloDetector(path, CONFIG).detect(frame())
    assert detections.bodies == pytest.approx(np.array([[18, 42, 78, 182], [114, 42, 174, 182]]), abs=0.5)
    assert detections.scores == pytest.approx([0.9, 0.8], abs=1e-3)  # 192 px are read as 96
    assert [score for _, score in detections.faces] == pytest.approx([0.9, 0.7, 0.6], abs=1e-3)
    assert detections.faces[1][0].as_tuple() == pytest.approx((38, 48, 58, 72), abs=0.5)
    assert detections.owners == ()


def test_people_get_their_faces(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "detector.onnx", PERSONS_AND_FACES, {0: "person", 1: "face"})
    left, right = sorted(people_in(path, frame()), key=lambda person: person.body.x1)
    assert left.face is not None and left.face.center[0] == pytest.approx(48, abs=0.5)
    assert right.face is not None and right.face.center[0] == pytest.approx(144, abs=0.5)


@pytest.mark.parametrize(
    ("second", "count"),
    [
        ([39, 50, 58, 80, 0.6, 0.0], 1),  # IoU 0.69: the same person with an outstretched arm
        ([46, 50, 72, 80, 0.6, 0.0], 1),  # IoU 0.56: both arms of one person
        ([46, 50, 40, 80, 0.6, 0.0], 2),  # IoU 0.43: a person half behind
    ],
)
def test_a_duplicate_goes_and_a_person_half_behind_stays(tmp_path: Path, second: list[float], count: int) -> None:
    rows = np.array([[30, 50, 40, 80, 0.9, 0.0], second])
    path = write_yolo(tmp_path / "detector.onnx", rows, {0: "person", 1: "face"})
    assert len(people_in(path, frame())) == count


def test_embracing_people_are_separated_by_their_faces(tmp_path: Path) -> None:
    bodies = [[30, 50, 40, 80, 0.9, 0.0], [40, 50, 42, 80, 0.8, 0.0]]  # IoU 0.61
    faces = [
        [22, 20, 12, 14, 0.0, 0.7],
        [22, 21, 12, 17, 0.0, 0.6],
        [52, 20, 12, 14, 0.0, 0.7],
    ]  # the second is a duplicate
    for number, count in ((2, 1), (3, 2)):
        path = write_yolo(tmp_path / f"{number}.onnx", np.array(bodies + faces[:number]), {0: "person", 1: "face"})
        people = people_in(path, frame())
        assert len(people) == sum(person.face is not None for person in people) == count


def test_a_wide_frame_is_letterboxed_not_stretched(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "detector.onnx", np.array([[48, 48, 20, 40, 0.9, 0]]), {0: "person", 1: "face"})
    (person,) = people_in(path, frame(width=384, height=192))
    assert person.body.as_tuple() == pytest.approx((152, 16, 232, 176), abs=1)


def test_boxes_are_clipped_to_the_frame(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "detector.onnx", np.array([[5, 48, 40, 80, 0.9, 0]]), {0: "person", 1: "face"})
    (person,) = people_in(path, frame())
    assert person.body.x1 == 0


def test_a_head_class_counts_as_face_in_any_class_order(tmp_path: Path) -> None:
    rows = PERSONS_AND_FACES[:, [0, 1, 2, 3, 5, 4]]
    path = write_yolo(tmp_path / "detector.onnx", rows, {0: "Head", 1: "Person"})
    people = people_in(path, frame())
    assert len(people) == 2
    assert all(person.face for person in people)


def test_a_pose_model_gives_faces_from_keypoints(tmp_path: Path) -> None:
    points = np.zeros((17, 3))
    points[:5] = [(24, 30, 0.9), (26, 28, 0.9), (22, 28, 0.9), (29, 29, 0.9), (19, 29, 0.9)]
    rows = np.concatenate([[24, 56, 30, 70, 0.9], points.ravel()])[None]
    path = write_yolo(tmp_path / "pose.onnx", rows, {0: "person"}, task="pose")
    (person,) = people_in(path, frame())
    assert person.face is not None
    assert person.face.center == pytest.approx((48, 58), abs=4)
    assert person.face.height == pytest.approx(2 * 1.35 * 10, abs=1)


def test_a_duplicate_pose_takes_no_face_away(tmp_path: Path) -> None:
    points = np.zeros((17, 3))
    points[:5] = [(24, 30, 0.8), (26, 28, 0.8), (22, 28, 0.8), (29, 29, 0.8), (19, 29, 0.8)]
    stronger = points * [1, 1, 1.2]  # the weaker box shows the same face with more confidence
    rows = np.array([[24, 56, 30, 70, 0.9, *points.ravel()], [26, 56, 46, 70, 0.6, *stronger.ravel()]])
    path = write_yolo(tmp_path / "pose.onnx", rows, {0: "person"}, task="pose")
    (person,) = people_in(path, frame())
    assert person.score == pytest.approx(0.9, abs=1e-3) and person.face is not None


def test_loading_keeps_the_number_of_torch_threads(tmp_path: Path) -> None:
    import torch

    path = write_yolo(tmp_path / "detector.onnx", PERSONS_AND_FACES, {0: "person", 1: "face"})
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(7)  # ultralytics would set the number of cores less one
        YoloDetector(path, CONFIG)
        assert torch.get_num_threads() == 7
    finally:
        torch.set_num_threads(before)


def test_the_session_has_the_threads_and_spinning_configured(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "detector.onnx", PERSONS_AND_FACES, {0: "person", 1: "face"})
    detector = YoloDetector(path, RuntimeConfig(device="cpu", threads=3))
    options = detector._yolo.predictor.model.backend.session.get_session_options()
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_an_untrained_yolo_exported_by_ultralytics_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    from ultralytics import YOLO

    yolo = YOLO("yolo11n.yaml", verbose=False)
    yolo.model.names = {0: "person", 1: "face", **{i: f"c{i}" for i in range(2, 80)}}
    exported = Path(yolo.export(format="onnx", imgsz=64, verbose=False))
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    before = sorted(tmp_path.iterdir())
    detector = YoloDetector(exported, RuntimeConfig(device="cpu", detector_size=320))  # the file's own 64 px counts
    detections = detector.detect(Frame(noise, 0.0, 0))
    assert detections.bodies.shape == (len(detections.scores), 4)
    assert all(face.clipped(160, 120) == face for face, _ in detections.faces)
    assert sorted(tmp_path.iterdir()) == before  # nothing is written


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.onnx", None, "no such file"),
        ("detector.txt", b"x", "Expected .onnx, .engine or .pt"),
        ("empty.onnx", b"", "not a detector that ultralytics can run"),
        ("broken.onnx", b"garbage" * 20, "not a detector that ultralytics can run"),
        ("broken.engine", b"garbage" * 20, "not a detector that ultralytics can run"),
        ("detector.pt", b"x", "can run code"),
    ],
)
def test_an_unusable_file_is_named_with_a_remedy(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DetectorError, match=message) as error:
        YoloDetector(tmp_path / name, CONFIG)
    assert name in str(error.value)


def test_a_pickle_is_opened_only_when_the_user_names_it(tmp_path: Path) -> None:
    path = tmp_path / "broken.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(DetectorError, match="can run code"):
        YoloDetector(path, RuntimeConfig(device="cpu", detector=str(tmp_path / "other.pt")))
    with pytest.raises(DetectorError, match="not a detector"):
        YoloDetector(path, RuntimeConfig(device="cpu", detector=str(path)))


def test_a_missing_gpu_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    path = write_yolo(tmp_path / "detector.onnx", PERSONS_AND_FACES, {0: "person", 1: "face"})
    with pytest.raises(DetectorError, match="no CUDA device"):
        YoloDetector(path, RuntimeConfig(device="cuda:0", detector_size=SIZE))


def test_missing_persons_are_an_error_and_missing_faces_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = np.array([[48, 48, 20, 40, 0.9, 0]])
    with pytest.raises(DetectorError, match="no class 'person' among cat, dog"):
        YoloDetector(write_yolo(tmp_path / "pets.onnx", rows, {0: "cat", 1: "dog"}), CONFIG)
    path = write_yolo(tmp_path / "coco.onnx", rows, {0: "person", 1: "bicycle"})
    (person,) = people_in(path, frame())
    assert person.face is None
    assert "detects no faces" in caplog.text


def test_an_onnx_file_of_another_origin_is_refused(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "detector.onnx", PERSONS_AND_FACES, {0: "person", 1: "face"})
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(DetectorError, match="lacks imgsz, names, task"):
        YoloDetector(path, CONFIG)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"imgsz": "[1000000, 1000000]"}, "its imgsz is [1000000, 1000000]; 32..2048 is expected"),
        ({"imgsz": "[]"}, "its imgsz is []"),
        ({"imgsz": "[96.0, 96.0]"}, "its imgsz is [96.0, 96.0]"),
        ({"imgsz": "open('x')"}, "malformed node"),
        ({"imgsz": "(" * 10_000}, "not a detector that ultralytics can run"),
        ({"stride": "0"}, "its stride is [0]; 1..256 is expected"),
        ({"stride": "None"}, "its stride is [None]"),
        ({"channels": "4"}, "its channels is [4]"),
        ({"names": "['person']"}, "its names are no table of numbers and words"),
        ({"names": "{0: None}"}, "its names are no table of numbers and words"),
        ({"task": "segment"}, "its task is 'segment'; detect or pose is expected"),
        ({"session": "x"}, "its metadata names 'session', which 'yolo export' does not write"),
        ({"args": "x" * 200_000}, "its metadata has more than 100000 characters"),
    ],
    ids=range(13),
)
def test_metadata_that_no_export_writes_is_refused(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    path = write_yolo(tmp_path / "detector.onnx", PERSONS_AND_FACES, {0: "person", 1: "face"})
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props} | changes
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    with pytest.raises(DetectorError) as error:
        YoloDetector(path, CONFIG)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_detector_that_loops_is_refused(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "detector.onnx", PERSONS_AND_FACES, {0: "person", 1: "face"})
    model = onnx.load(path)
    model.graph.node[0].op_type = "Loop"
    onnx.save(model, path)
    with pytest.raises(DetectorError, match="the operator 'Loop' is not allowed"):
        YoloDetector(path, CONFIG)


def test_an_engine_header_is_read_like_onnx_metadata(tmp_path: Path) -> None:
    from sf_ros.perception.detectors.yolo import _metadata

    header = json.dumps({"task": "pose", "names": {"0": "person"}, "imgsz": [320, 320]}).encode()
    (tmp_path / "d.engine").write_bytes(len(header).to_bytes(4, "little") + header + b"engine")
    assert _metadata(tmp_path / "d.engine", None)["task"] == "pose"


def test_without_ultralytics_the_error_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_yolo(tmp_path / "detector.onnx", PERSONS_AND_FACES, {0: "person", 1: "face"})
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    monkeypatch.setitem(sys.modules, "ultralytics.utils", None)
    with pytest.raises(DetectorError, match=r"ultralytics.*pip install 'sf_ros\[cpu,yolo\]'.*'yolox'"):
        YoloDetector(path, CONFIG)
