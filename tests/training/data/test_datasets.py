"""Readers of the published datasets: layouts, quirks, faults."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from sf_ros.core.views import square
from tests.training import published
from training.data import check
from training.data.files import DatasetError, FileDataset, around, read_rgb
from training.data.published import affectnet, ego4d, gazefollow, hagrid, pisc
from training.data.source import SPLITS, open_dataset, published_readers, reader_of, tasks_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return published.everything(tmp_path)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_every_task_reads_every_split(root: Path, task: str, split: str) -> None:
    dataset = open_dataset(root, task, split)
    assert len(dataset) > 0 and not dataset.listing.dropped
    sample = dataset[0]
    spec = TASKS[task]
    assert sample.task == task and sample.image.dtype == np.uint8 and sample.image.shape[2] == 3
    assert len(sample.boxes) == max(spec.boxes, 1)
    if spec.kind == "heatmap":
        assert sample.points_norm and sample.label is None
    elif (task, split) == ("looking_at_me", "test"):
        assert sample.label is None  # hidden
    else:
        assert sample.label in range(len(spec.labels))
    assert len({record.key for record in dataset.listing.records}) == len(dataset)


def test_readers_are_found_by_dataset_name() -> None:
    assert reader_of("domain") is reader_of("relation") is published_readers()["pisc"] is pisc
    assert tasks_of(pisc) == ("domain", "relation")
    with pytest.raises(ValueError, match="gesture"):
        reader_of("gestures")


# --- HaGRIDv2


def test_hagrid_has_the_papers_classes_in_both_spellings(tmp_path: Path) -> None:
    folder = published.hagrid(tmp_path)
    listing = hagrid.listing(folder, "gesture", "train")
    assert set(listing.class_counts(TASKS["gesture"].labels).values()) == {2}
    heart = TASKS["gesture"].labels.index("hand_heart2")
    assert {r.path.parent.name for r in listing.records if r.label == heart} == {"hands_heart2"}
    assert not [r for r in listing.records if "no_gesture" in str(r.path)]


def test_an_image_has_the_label_of_its_first_busy_hand(tmp_path: Path) -> None:
    folder = published.hagrid(tmp_path, ("train",))
    file = folder / "hagrid_annotations" / "train" / "holy.json"
    entries = json.loads(file.read_text())
    first, second = entries.values()
    first["labels"], first["united_label"] = ["no_gesture", "no_gesture"], "holy"
    second["labels"] = ["no_gesture", "like", "holy"]  # as the authors' code reads it, whatever its folder
    for uuid, labels in {"idle": ["no_gesture"], "wave": ["wave"], "absent": ["holy"]}.items():
        entries[uuid] = {**second, "labels": labels}
        if uuid != "absent":
            published.image(folder / "hagrid_dataset" / "holy" / f"{uuid}.jpg")
    file.write_text(json.dumps(entries))
    listing = hagrid.listing(folder, "gesture", "train")
    counts = listing.class_counts(TASKS["gesture"].labels)
    assert (counts["holy"], counts["like"]) == (1, 3)
    reasons = {"only idle hands": 1, "unknown label": 1, "image missing": 1}
    assert dict(listing.dropped) == reasons


def test_missing_classes_and_truncated_files_are_counted(tmp_path: Path) -> None:
    folder = published.hagrid(tmp_path, ("val",))
    part = folder / "hagrid_annotations" / "val"
    (part / "call.json").unlink()
    (part / "like.json").write_text('{"a": {"labels"')
    listing = hagrid.listing(folder, "gesture", "val")
    assert listing.dropped == {"annotations of a class missing": 1, "unreadable annotations": 1}
    assert "like.json" in listing.examples["unreadable annotations"]
    with pytest.raises(DatasetError, match="annotations"):
        hagrid.listing(folder, "gesture", "test")


def test_a_whole_image_is_not_cropped() -> None:
    """In a portrait image hands may be anywhere, so the upper-body square must not crop it."""
    for shape in ((96, 64, 3), (48, 96, 3)):
        box = around(np.zeros(shape, np.uint8))
        region = square(box, TASKS["gesture"])
        assert region.x1 <= 0 and region.y1 <= 0 and region.x2 >= shape[1] and region.y2 >= shape[0]


def test_faces_have_one_scale_in_datasets_and_on_the_robot() -> None:
    """A face that fills its image (AffectNet's crops) and the robot's face box give views of one scale."""
    face = Box(100, 80, 148, 128)
    robot = square(face, TASKS["expression"]).width / face.width
    crop = square(around(np.zeros((48, 48, 3), np.uint8)), TASKS["expression"]).width / 48
    assert robot == pytest.approx(crop)


# --- GazeFollow


def test_gaze_heads_have_ordered_corners_and_all_points(tmp_path: Path) -> None:
    folder = published.gazefollow(tmp_path)
    train, test = (gazefollow.listing(folder, "gaze", split).records for split in ("train", "test"))
    assert {record.boxes for record in (*train, *test)} == {(Box(10, 5, 30, 20),)}
    assert [len(record.points_norm) for record in train] == [1] * 4
    assert [len(record.points_norm) for record in test] == [3] * 4
    assert train[0].tags == {"target": "after"}


def test_targets_outside_and_invalid_rows_are_left_out(tmp_path: Path) -> None:
    folder = published.gazefollow(tmp_path)
    file = folder / "train_annotations_release.txt"
    rows = file.read_text().splitlines()
    for i, inout in ((0, "0"), (1, "-1")):
        cells = rows[i].split(",")
        cells[14] = inout
        rows[i] = ",".join(cells)
    cells = rows[2].split(",")
    cells[8] = "-1"
    rows[2] = ",".join(cells)
    file.write_text("\n".join(rows))
    listing = gazefollow.listing(folder, "gaze", "train")
    reasons = {"target outside the image": 1, "marked as invalid": 1, "no point in the image": 1}
    assert len(listing.records) == 1 and dict(listing.dropped) == reasons


def test_json_and_text_annotations_agree(tmp_path: Path) -> None:
    folder = published.gazefollow(tmp_path)
    for part, split in (("train", "train"), ("test", "test")):
        text = gazefollow.listing(folder, "gaze", split).records
        entries = []
        for record in text:
            xs, ys = zip(*record.points_norm, strict=True)
            head = {"bbox": record.boxes[0].as_tuple(), "gazex_norm": xs, "gazey_norm": ys, "inout": 1, "head_id": 0}
            path = str(record.path.relative_to(folder))
            entries.append({"path": path, "width": 64, "height": 48, "num_heads": 1, "heads": [head]})
        published.write_json(folder / f"{part}_preprocessed.json", entries)
        packed = gazefollow.listing(folder, "gaze", split).records
        assert [(r.path, r.boxes, r.points_norm) for r in packed] == [(r.path, r.boxes, r.points_norm) for r in text]


def test_a_dataset_without_usable_rows_is_an_error_with_the_first(tmp_path: Path) -> None:
    folder = published.gazefollow(tmp_path)
    (folder / "test_annotations_release.txt").write_text("a.jpg,1,2,3\n")
    with pytest.raises(DatasetError, match=r"1 x unreadable row, first: .*release\.txt, row 1: 4 columns, expected 14"):
        open_dataset(tmp_path, "gaze", "test")


# --- AffectNet


@pytest.mark.parametrize("layout", ["original", "release", "plus"])
def test_affectnets_three_layouts_agree(tmp_path: Path, layout: str) -> None:
    folder = published.affectnet(tmp_path, layout)
    for split in SPLITS:
        listing = affectnet.listing(folder, "expression", split)
        assert set(listing.class_counts(TASKS["expression"].labels).values()) == {2} and not listing.dropped
        boxes = {record.boxes for record in listing.records}
        assert boxes == ({(Box(8, 6, 48, 42),)} if layout == "original" else {()})


def test_faces_of_other_expressions_are_left_out(tmp_path: Path) -> None:
    folder = published.affectnet(tmp_path, "original")
    file = folder / "Manually_Annotated_file_lists" / "validation.csv"
    name = "0/val00.jpg"
    extra = [[name, 8, 6, 40, 36, "", label, 0, 0] for label in (8, 9, 10, 11)] + [[name, "", "", "", "", "", 1, 0, 0]]
    file.write_text(
        file.read_text() + "\n".join(",".join(map(str, row)) for row in extra) + f"\n{name},8,6,0,36,,2,0,0\n"
    )
    listing = affectnet.listing(folder, "expression", "val")
    reasons = ("no expression", "uncertain", "no face", "unknown label", "unreadable row", "empty face box")
    assert dict(listing.dropped) == dict.fromkeys(reasons, 1)


def test_broken_annotations_of_a_face_are_counted(tmp_path: Path) -> None:
    folder = published.affectnet(tmp_path, "release")
    (folder / "val_set" / "annotations" / "val00_exp.npy").write_bytes(b"\x93NUMPY")
    listing = affectnet.listing(folder, "expression", "val")
    assert listing.dropped == {"unreadable annotation": 1} and len(listing.records) == 15


# --- Ego4D


def test_gaps_are_interpolated_and_segments_inclusive(tmp_path: Path) -> None:
    folder = published.ego4d(tmp_path)
    listing = ego4d.listing(folder, "looking_at_me", "train")
    frames = {int(record.key.rsplit("/", 1)[1]): record for record in listing.records}
    assert list(frames) == [1, 14, 27]  # every 13th
    assert frames[14].boxes == (Box(18, 5, 34, 25),)  # between frames 11 and 17
    labels = [frames[number].label for number in (1, 14, 27)]
    assert labels == [ego4d.NO, ego4d.YES, ego4d.NO]  # frame 14 ends the segment; 27 is another person's
    assert {record.path.name for record in listing.records} == {"img_00001.jpg", "img_00014.jpg", "img_00027.jpg"}


def test_boxes_without_size_frame_or_person_are_left_out(tmp_path: Path) -> None:
    folder = published.ego4d(tmp_path)
    file = folder / "json_original" / "clip-a" / "track0.json"
    track = json.loads(file.read_text())
    track[0]["width"], track[1]["Person ID"] = 0, ""
    track.append({**track[2], "frameNumber": 0})
    track[2]["x"] = -3.0
    file.write_text(json.dumps(track))
    listing = ego4d.listing(folder, "looking_at_me", "train")
    assert listing.dropped == {"box without person, frame or size": 3}
    assert listing.records[0].boxes[0].x1 == 0


def test_truncated_annotations_cost_one_clip(tmp_path: Path) -> None:
    folder = published.ego4d(tmp_path)
    (folder / "split" / "train.list").write_text("clip-a\nclip-b\n")
    (folder / "result_LAM" / "clip-a.json").write_text("[{")
    listing = ego4d.listing(folder, "looking_at_me", "train")
    assert listing.dropped == {"clip with unreadable annotations": 1} and listing.records


def test_the_submission_has_the_challenges_format(tmp_path: Path) -> None:
    folder = published.ego4d(tmp_path)
    keys = [record.key for record in ego4d.listing(folder, "looking_at_me", "test").records]
    (row,) = json.loads(ego4d.submission(keys, [0.25]))["results"]
    assert row == {"video_id": "video-1", "unique_id": "abc", "track_id": "7", "label": 1, "score": 0.25}


# --- PISC


def test_pisc_counts_people_from_one(tmp_path: Path) -> None:
    folder = published.pisc(tmp_path)
    listing = pisc.listing(folder, "relation", "train")
    first, second = listing.records[:2]
    assert first.boxes == (Box(2, 4, 20, 40), Box(22, 4, 40, 44)) and first.label == 1
    assert second.boxes[1] == Box(42, 6, 64, 48) and second.label == 5  # clipped; label 6 is no relation
    assert {record.path.name for record in listing.records} == {"00001.jpg", "00002.jpg", "3.jpg"}


def test_invalid_pairs_are_left_out(tmp_path: Path) -> None:
    folder = published.pisc(tmp_path)
    file = folder / "domain.json"
    pairs = json.loads(file.read_text())
    pairs["1"] = {"0 1": 1, "1 4": 1, "1 1": 1, "1 2": 4}
    del pairs["2"]
    file.write_text(json.dumps(pairs))
    listing = pisc.listing(folder, "domain", "val")
    reasons = {"nonexistent person number or box": 3, "unknown label": 1, "image without annotations": 1}
    assert dict(listing.dropped) == reasons and len(listing.records) == 2


# --- faults of any dataset


@pytest.mark.parametrize("task", TASKS)
def test_a_missing_dataset_says_how_to_get_it(tmp_path: Path, task: str) -> None:
    with pytest.raises(DatasetError, match="How to get it: "):
        open_dataset(tmp_path, task, "train")
    (tmp_path / reader_of(task).FOLDER).mkdir()
    with pytest.raises(DatasetError, match=str(tmp_path)):
        open_dataset(tmp_path, task, "train")


def test_a_truncated_image_is_an_error_with_its_path(root: Path) -> None:
    dataset = open_dataset(root, "gaze", "train")
    published.truncated(dataset.listing.records[0].path)
    with pytest.raises(OSError, match=r"00000000\.jpg: cannot be read"):
        dataset[0]
    assert dataset[1].image.shape == (48, 64, 3)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_16_bit_grey_image_keeps_its_brightness(tmp_path: Path, bits: int) -> None:
    ramp = np.linspace(0, 255, 64 * 48).reshape(48, 64)
    Image.fromarray((ramp * (2**bits - 1) / 255).astype(np.uint16)).save(tmp_path / "a.png")
    assert np.abs(read_rgb(tmp_path / "a.png").astype(int) - ramp[..., None].astype(int)).max() <= 1


def test_missing_images_are_an_error_with_the_reason(tmp_path: Path) -> None:
    folder = published.pisc(tmp_path)
    for path in (folder / "image").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="6 x image missing"):
        open_dataset(tmp_path, "domain", "train")


def test_check_reports_every_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published.pisc(tmp_path)
    published.truncated(tmp_path / "pisc" / "image" / "00001.jpg")
    (tmp_path / "pisc" / "relationship.json").write_text('{"1": ')
    assert check.main([str(tmp_path), "--images"]) == 0
    output = capsys.readouterr().out
    result = json.loads(output.splitlines()[-1])
    part = result["datasets"]["pisc"]["domain/train"]
    assert part["samples"] == 4 and part["dropped"] == {"unreadable image": 2}
    assert "not valid JSON" in result["datasets"]["pisc"]["relation/test"]["error"]
    assert "hagridv2: not found" in output and "zenodo" in output
    assert result["samples"] == 12 and result["datasets"]["ego4d"] == {}
    assert check.main([str(tmp_path / "empty")]) == 1


def test_datasets_can_be_pickled(root: Path) -> None:
    import pickle

    dataset = open_dataset(root, "relation", "val")
    again = pickle.loads(pickle.dumps(dataset))
    assert isinstance(again, FileDataset) and again[0].key == dataset[0].key
