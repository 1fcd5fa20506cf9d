"""Scenes become YOLO files; a miniature run trains a detector that the robot loads."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Frame
from sf_ros.perception.detectors.yolo import YoloDetector
from training.data.scenes.render import Annotation, PersonAnnotation
from training.tools import detector

MINIATURE = ("--images", "8", "--val-images", "3", "--epochs", "1", "--size", "64", "--width", "0.125", "--batch", "4")


def person(track_id: int = 1, **changes: object) -> PersonAnnotation:
    fields: dict[str, object] = dict.fromkeys((field.name for field in dataclasses.fields(PersonAnnotation)), None)
    fields |= {"track_id": track_id, "body": (100.0, 0.0, 300.0, 480.0), "face": (160.0, 48.0, 224.0, 144.0)}
    fields |= {"visibility": 1.0}
    return PersonAnnotation(**(fields | changes))  # type: ignore[arg-type]


def annotation(*people: PersonAnnotation) -> Annotation:
    return Annotation(640, 480, people, ())


def test_labels_are_class_centre_and_size_in_unit_coordinates() -> None:
    assert list(detector.labels(annotation(person()))) == [
        "0 0.312500 0.500000 0.312500 1.000000",
        "1 0.300000 0.200000 0.100000 0.200000",
    ]


def test_hardly_visible_people_are_not_labelled() -> None:
    hidden, turned = person(1, face=None, visibility=0.2), person(2, face=None, visibility=0.3)
    assert [line[0] for line in detector.labels(annotation(hidden, turned))] == ["0"]


def test_a_face_is_always_labelled_with_its_person() -> None:
    assert [line[0] for line in detector.labels(annotation(person(visibility=0.1)))] == ["0", "1"]


def test_scenes_depend_on_their_number_and_split_only() -> None:
    image, truth, quality = detector.scene("train", 3, 0)
    again, same, quality_again = detector.scene("train", 3, 0)
    assert (image == again).all() and truth == same and quality == quality_again
    other, *_ = detector.scene("val", 3, 0)
    assert other.shape == image.shape and (other != image).any()


def test_scenes_show_one_to_four_people_near_far_and_sitting() -> None:
    people = [detector.scene("train", number, 1)[1].people for number in range(9)]
    assert {1, 2, 3, 4} <= {len(group) for group in people}
    heights = [p.body[3] - p.body[1] for group in people for p in group]
    assert min(heights) < 200 and max(heights) > 400
    assert any(p.sitting for group in people for p in group)


def test_existing_images_stay_and_missing_ones_are_rendered(tmp_path: Path) -> None:
    existing = detector.image_path(tmp_path, "train", 1)
    existing.parent.mkdir(parents=True)
    existing.write_bytes(b"existing")
    detector.write_images(tmp_path, "train", 3, seed=0, workers=1)
    assert existing.read_bytes() == b"existing"
    for number in (0, 2):
        image = cv2.imread(str(detector.image_path(tmp_path, "train", number)))
        assert image.shape == (480, 640, 3)
        lines = (tmp_path / "labels" / "train" / f"{number:05}.txt").read_text().splitlines()
        assert lines == list(detector.labels(detector.scene("train", number, 0)[1]))
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(("option", "value"), [("--images", "0"), ("--size", "100"), ("--width", "2")])
def test_a_bad_option_exits_with_2_and_writes_nothing(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        detector.main(["--out", str(tmp_path / "run"), option, value])
    assert end.value.code == 2
    assert option[2:] in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_of_another_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"images": 3}))
    assert detector.main(["--out", str(tmp_path), *MINIATURE]) == 2
    assert "--resume" in capsys.readouterr().err
    assert detector.main(["--out", str(tmp_path), *MINIATURE, "--resume"]) == 2
    assert "Name another --out" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_miniature_run_trains_a_loadable_detector_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert detector.main(["--out", str(out), "--workers", "1", *MINIATURE]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["megabytes"] < 6 and set(result["map50"]) == {"person", "face"}
    config = RuntimeConfig(device="cpu", person_score=0.0, face_score=0.0)
    image = cv2.imread(str(detector.image_path(out / "data", "train", 0)))[..., ::-1]
    loaded = YoloDetector(Path(result["detector"]), config)
    loaded.track(Frame(image, 0.0, 0))
    loaded.track(Frame(np.ascontiguousarray(image[:, :200]), 0.1, 1))  # any shape
    written = (out / "detector.onnx").stat().st_mtime_ns
    assert detector.main(["--out", str(out), "--workers", "1", *MINIATURE, "--resume"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == result
    assert (out / "detector.onnx").stat().st_mtime_ns == written
