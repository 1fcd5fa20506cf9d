"""Datasets as they lie on disks: folders as archives unpack, any extension, text files of any editor."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from tests.training import published
from training.data.files import DatasetError, Listing, read_json, read_lines, read_rows
from training.data.published import affectnet, gazefollow, hagrid
from training.data.source import open_dataset

GESTURES = ("call", "holy", "no_gesture")
LAYOUTS: dict[str, tuple[str, Callable[[Path], Path]]] = {  # name -> task, writer
    **{
        f"hagrid {name}": ("gesture", lambda root, name=name: published.hagrid(root, layout=name, classes=GESTURES))
        for name in published.HAGRID
    },
    "gazefollow": ("gaze", published.gazefollow),
    "gazefollow packed": ("gaze", published.gazefollow_packed),
    **{
        f"affectnet {name}": ("expression", lambda root, name=name: published.affectnet(root, name, 1))
        for name in ("original", "release", "plus")
    },
    "ego4d": ("looking_at_me", published.ego4d),
    "ego4d data": ("looking_at_me", lambda root: published.ego4d(root, below="data")),
    "pisc domain": ("domain", published.pisc),
    "pisc": ("relation", published.pisc),
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
TEXTS = {".json", ".txt", ".csv", ".list"}


def with_blank_lines(data: bytes) -> bytes:
    return b"\n\n" + data.rstrip(b"\n").replace(b"\n", b"\n\n  \n") + b"\n\n\n"


QUIRKS: dict[str, Callable[[bytes], bytes]] = {
    "byte-order mark": lambda data: codecs.BOM_UTF8 + data,
    "CRLF": lambda data: data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
    "CR": lambda data: data.replace(b"\r\n", b"\n").replace(b"\n", b"\r"),
    "blank lines": with_blank_lines,
    "mark and CRLF": lambda data: codecs.BOM_UTF8 + data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
    "UTF-16": lambda data: data.decode().encode("utf-16"),
}


def records(root: Path, task: str, split: str = "train") -> list:
    """The records of a miniature, which drops people who look out of the image and lacks most gestures."""
    listing = open_dataset(root, task, split).listing
    assert set(listing.dropped) <= {"target outside the image", "annotations of a class missing"}
    return listing.records


@every_layout
def test_a_published_layout_is_read_whole(layout: str, tmp_path: Path) -> None:
    task, write = LAYOUTS[layout]
    write(tmp_path)
    counts = {"hagrid": 4, "gazefollow": 4, "gazefollow packed": 2, "affectnet": 8, "ego4d": 3, "pisc": 6}
    expected = counts.get(layout, counts[layout.split()[0]])
    for split in ("train", "val"):
        assert len(records(tmp_path, task, split)) == expected
    if task != "gesture" and task != "gaze":
        assert {record.label for record in records(tmp_path, task)} <= set(range(len(TASKS[task].labels)))


@every_layout
@pytest.mark.parametrize("quirk", QUIRKS)
def test_text_files_of_any_editor_read_the_same(layout: str, quirk: str, tmp_path: Path) -> None:
    task, write = LAYOUTS[layout]
    folder = write(tmp_path)
    before = records(tmp_path, task)
    for file in folder.rglob("*"):
        if file.suffix in TEXTS:
            file.write_bytes(QUIRKS[quirk](file.read_bytes()))
    assert records(tmp_path, task) == before


@every_layout
@pytest.mark.parametrize("extension", [".JPG", ".jpeg", ".png", ".PNG"])
def test_images_may_have_any_extension(layout: str, extension: str, tmp_path: Path) -> None:
    task, write = LAYOUTS[layout]
    folder = write(tmp_path)
    before = records(tmp_path, task)
    for file in list(folder.rglob("*.jpg")):
        file.rename(file.with_suffix(extension))
    after = records(tmp_path, task)
    assert [record.path.suffix for record in after] == [extension] * len(before)
    assert [(r.key, r.label, r.boxes, r.points_norm) for r in after] == [
        (r.key, r.label, r.boxes, r.points_norm) for r in before
    ]
    assert open_dataset(tmp_path, task, "train")[0].image.ndim == 3


@every_layout
def test_a_dataset_may_lie_in_the_folders_of_its_archive(layout: str, tmp_path: Path) -> None:
    task, write = LAYOUTS[layout]
    folder = write(tmp_path)
    before = [(record.key, record.label, record.boxes, record.points_norm) for record in records(tmp_path, task)]
    folder.rename(tmp_path / "unpacked")
    folder.mkdir()
    (tmp_path / "unpacked").rename(folder / "unpacked")
    after = [(record.key, record.label, record.boxes, record.points_norm) for record in records(tmp_path, task)]
    assert after == before


@every_layout
def test_files_that_a_mac_adds_are_no_samples(layout: str, tmp_path: Path) -> None:
    task, write = LAYOUTS[layout]
    folder = write(tmp_path)
    before = records(tmp_path, task)
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        beside = file.with_name(f"._{file.name}")
        apart = folder / "__MACOSX" / beside.relative_to(folder)
        apart.parent.mkdir(parents=True, exist_ok=True)
        for added in (beside, apart):
            added.write_bytes(b"\0\5\x16\7")
    assert records(tmp_path, task) == before
    if task == "looking_at_me":
        assert len(records(tmp_path, task, "test")) == 1


# --- images


def test_images_are_read_as_they_were_annotated(tmp_path: Path) -> None:
    """Boxes are of the pixels as stored, whatever the EXIF says; 16-bit grey is neither white nor black."""
    published.affectnet(tmp_path, "original", 1)
    path = open_dataset(tmp_path, "expression", "train").listing.records[0].path
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (64, 48), (200, 40, 40)).save(path, exif=exif)
    sample = open_dataset(tmp_path, "expression", "train")[0]
    assert sample.image.shape == (48, 64, 3) and sample.boxes == (Box(8, 6, 48, 42),)
    path.unlink()
    grey = np.linspace(0, 4095, 64 * 48).reshape(48, 64).astype(np.uint16)  # 12 bits
    Image.fromarray(grey).save(path.with_suffix(".png"))
    sample = open_dataset(tmp_path, "expression", "train")[0]
    assert sample.image.shape == (48, 64, 3) and 100 < sample.image.mean() < 155


# --- text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_names_survive_any_encoding(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes('"Zürich/é.jpg",1\n'.encode(encoding))
    assert list(read_rows(path)) == [(1, ["Zürich/é.jpg", "1"])]
    path.write_bytes('{"user": "Zürich"}'.encode(encoding))
    assert read_json(path) == {"user": "Zürich"}


def test_rows_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'\xef\xbb\xbfa, 1\r\n\r\n,,\r\nb,"2, 3"\r\nc,"4\r\nd,5,\r\n')
    assert list(read_rows(path)) == [(1, ["a", "1"]), (4, ["b", "2, 3"]), (5, ["c", "4"]), (6, ["d", "5", ""])]
    path.write_bytes(b"a,1\r\rb,2")
    assert list(read_lines(path)) == [(1, "a,1"), (3, "b,2")]


def test_a_latin_1_line_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("Zürich,1\n".encode() + "Genève,2\n".encode("latin-1"))
    assert [row[0] for _, row in read_rows(path)] == ["Zürich", "Genève"]


@pytest.mark.parametrize(
    ("content", "problem"), [("", "it is empty"), ("[1", "not valid JSON"), ("[" * 100_000, "JSON")]
)
def test_broken_json_is_one_line(content: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=problem) as error:
        read_json(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    for read in (read_json, lambda path: list(read_rows(path))):
        with pytest.raises(DatasetError, match=r"a folder; expected a file"):
            read(tmp_path)


# --- HaGRIDv2


def test_full_size_images_come_before_those_of_512_px(tmp_path: Path) -> None:
    for layout in ("512", "full"):
        published.hagrid(tmp_path, ("train",), 1, layout, GESTURES)
    folders = {record.path.parents[1].name for record in records(tmp_path, "gesture")}
    assert folders == {"hagrid_dataset"}


def test_archives_unpacked_into_the_dataset_itself_are_found(tmp_path: Path) -> None:
    folder = published.hagrid(tmp_path, ("train",), 1, "512", GESTURES)
    for part in ("HaGRIDv2_dataset_512", "annotations"):
        for inner in (folder / part).iterdir():
            inner.rename(folder / inner.name)
    assert len(records(tmp_path, "gesture")) == 2


@pytest.mark.parametrize(
    ("entry", "labels"),
    [
        ({"labels": ["call"]}, ["call"]),
        ({"labels": ["no_gesture", "call"]}, ["call"]),
        ({"labels": ["like", "no_gesture", "call"]}, ["like", "call"]),
        ({"labels": ["no_gesture", "no_gesture"], "united_label": ["holy"]}, ["holy"]),
        ({"labels": ["no_gesture", "no_gesture"], "united_label": [None, "holy"]}, ["holy"]),
        ({"labels": [], "united_label": "hands_heart2"}, ["hand_heart2"]),
        ({"labels": "call"}, ["call"]),
        ({"labels": ["no_gesture"], "united_label": None}, []),
    ],
)
def test_the_labels_of_several_hands(entry: dict, labels: list[str]) -> None:
    assert hagrid.labels_of(entry) == labels


# --- GazeFollow


def test_a_persons_annotators_are_found_wherever_they_stand(tmp_path: Path) -> None:
    folder = published.gazefollow(tmp_path)
    together = records(tmp_path, "gaze", "test")
    file = folder / "test_annotations_release.txt"
    rows = file.read_text().splitlines()
    file.write_text("\n".join(rows[start + 3 * person] for start in range(3) for person in range(4)))
    assert records(tmp_path, "gaze", "test") == together and [len(r.points_norm) for r in together] == [3] * 4


def test_people_of_one_image_are_told_apart_by_the_eye(tmp_path: Path) -> None:
    folder = published.gazefollow(tmp_path, people=1)
    file = folder / "test_annotations_release.txt"
    rows = [row.split(",") for row in file.read_text().splitlines()]
    for row, eye in zip(rows, ("0.30", "0.4", "0.3"), strict=True):
        row[6] = eye
    file.write_text("\n".join(",".join(row) for row in rows))
    points = [record.points_norm for record in records(tmp_path, "gaze", "test")]
    assert points == [((0.7, 0.6), (0.8, 0.55)), ((0.75, 0.65),)]


def gaze_rows(folder: Path, change: Callable[[list[str]], list[str]]) -> Listing:
    """The test people after a change of the file's rows."""
    file = folder / "test_annotations_release.txt"
    file.write_text("\n".join(change(file.read_text().splitlines())))
    return gazefollow.listing(folder, "gaze", "test")


def test_rows_of_other_lengths_are_read_or_counted(tmp_path: Path) -> None:
    folder = published.gazefollow(tmp_path)
    listing = gaze_rows(folder, lambda rows: [rows[0] + ",", rows[1] + ",more,cells", rows[2][:40], *rows[3:]])
    assert [len(record.points_norm) for record in listing.records] == [2, 3, 3, 3]
    assert dict(listing.dropped) == {"unreadable row": 1}
    assert listing.examples["unreadable row"].startswith(f"{folder / 'test_annotations_release.txt'}, row 3: ")


def test_an_annotator_outside_the_image_is_counted(tmp_path: Path) -> None:
    folder = published.gazefollow(tmp_path)
    listing = gaze_rows(folder, lambda rows: [rows[0].replace(",0.7,", ",1.2,"), *rows[1:]])
    assert [len(record.points_norm) for record in listing.records] == [2, 3, 3, 3]
    reason = "annotator's point outside the image"
    assert listing.dropped == {reason: 1} and listing.examples[reason].endswith("row 1")


def test_a_shifted_row_is_counted(tmp_path: Path) -> None:
    listing = gaze_rows(published.gazefollow(tmp_path), lambda rows: [rows[0].replace(",0.7,", ",,0.7,"), *rows[1:]])
    assert dict(listing.dropped) == {"unreadable row": 1} and len(listing.records) == 4


def test_paths_may_be_written_on_windows(tmp_path: Path) -> None:
    for write, task, name in (
        (published.gazefollow, "gaze", "gazefollow/train_annotations_release.txt"),
        (
            lambda root: published.affectnet(root, "original", 1),
            "expression",
            "affectnet/Manually_Annotated_file_lists/training.csv",
        ),
    ):
        write(tmp_path)
        before = records(tmp_path, task)
        (tmp_path / name).write_text((tmp_path / name).read_text().replace("/", "\\"))
        assert [(r.path, r.label) for r in records(tmp_path, task)] == [(r.path, r.label) for r in before]


# --- AffectNet


def test_columns_are_found_by_the_header(tmp_path: Path) -> None:
    folder = published.affectnet(tmp_path, "original", 1)
    before = records(tmp_path, "expression")
    file = folder / "Manually_Annotated_file_lists" / "training.csv"
    header, *rows = file.read_text().splitlines()
    file.write_text("\n".join([f",{header}", *(f"{number},{row}" for number, row in enumerate(rows))]))
    assert records(tmp_path, "expression") == before
    file.write_text("\n".join([header.replace("face_x", "left"), *rows]))
    with pytest.raises(DatasetError, match="the header has no column face_x"):
        affectnet.listing(folder, "expression", "train")


@pytest.mark.parametrize("value", ["3", 3, 3.0, b"3", "3.0", np.int64(3)])
def test_classes_of_the_release_come_in_any_type(value: object, tmp_path: Path) -> None:
    folder = published.affectnet(tmp_path, "release", 1)
    np.save(folder / "train_set" / "annotations" / "train00_exp.npy", np.array(value))
    assert records(tmp_path, "expression")[0].label == 3


# --- boxes


def test_a_face_outside_its_image_is_no_sample(tmp_path: Path) -> None:
    folder = published.affectnet(tmp_path, "original", 1)
    file = folder / "Manually_Annotated_file_lists" / "training.csv"
    file.write_text(file.read_text().replace(",8,6,40,36,", ",80,6,40,36,", 1))
    listing = affectnet.listing(folder, "expression", "train")
    assert listing.dropped == {"face box outside the image": 1} and len(listing.records) == 7


def test_a_box_outside_the_image_that_is_read_is_an_error(tmp_path: Path) -> None:
    """PISC's annotations state a size of their own, which a smaller copy of the image does not have."""
    folder = published.pisc(tmp_path)
    published.image(folder / "image" / "00001.jpg", 20, 30)
    dataset = open_dataset(tmp_path, "relation", "train")
    with pytest.raises(OSError, match=r"00001\.jpg: the box 22, 4, 40, 44 lies outside the image of 20 x 30 px"):
        dataset[0]
    assert dataset[2].boxes[0] == Box(2, 4, 20, 40)


@pytest.mark.parametrize(("name", "value"), [("x", 900), ("x", -900), ("y", 48), ("width", 1e300)])
def test_tracked_faces_outside_the_frame_are_counted(name: str, value: float, tmp_path: Path) -> None:
    folder = published.ego4d(tmp_path)
    file = folder / "json_original" / "clip-a" / "track0.json"
    track = json.loads(file.read_text())
    track[0][name] = value
    file.write_text(json.dumps(track))
    listing = open_dataset(tmp_path, "looking_at_me", "train").listing
    reason = "face outside the image"
    assert listing.dropped == {reason: 1} and listing.examples[reason] == "ego4d/clip-a/track0/1"
    assert [record.key for record in listing.records] == ["ego4d/clip-a/track0/14", "ego4d/clip-a/track0/27"]
