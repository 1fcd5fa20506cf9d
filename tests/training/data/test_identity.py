"""What a cache holds is what the dataset says now: labels, points, boxes, images, root and layout."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from sf_ros.core.config import EncoderConfig, ModelConfig
from sf_ros.core.cues import TASKS
from tests.training import published
from training import train
from training.config import preset
from training.data import cache
from training.data.files import FileDataset, read_rgb
from training.data.source import open_dataset
from training.studies import conflict, probes
from training.studies.grid.arguments import TrainingArguments
from training.studies.grid.cells import Cell, run_grid
from training.studies.grid.fused_cells import fused_cell
from training.studies.grid.vlm_cells import vlm_cell
from training.trainer.validation import Spread

MODEL = ModelConfig(encoder=EncoderConfig(image_size=24, dim=8, depth=1, heads=1))


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads instead of processes, which take seconds to start."""
    monkeypatch.setattr(cache, "worker_pool", ThreadPoolExecutor)


def edited(file: Path, change: Callable) -> None:
    """Change the content of a JSON file in place."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def relabel_hagrid(folder: Path) -> None:
    file = folder / "hagrid_annotations" / "train" / "call.json"
    edited(file, lambda entries: entries["train-call-0"].update(labels=["like"]))


def relabel_gazefollow(folder: Path) -> None:
    file = folder / "train_annotations_release.txt"
    file.write_text(file.read_text().replace(",0.75,0.6,", ",0.76,0.6,", 1))


def relabel_affectnet(folder: Path) -> None:
    if (folder / "train_set").exists():
        np.save(folder / "train_set" / "annotations" / "train00_exp.npy", np.array("5"))
    elif (folder / "human_annotated").exists():
        annotation = folder / "human_annotated" / "train_set" / "annotations" / "train00.json"
        edited(annotation, lambda content: content.update({"Human-Label": 5}))
    else:
        file = folder / "Manually_Annotated_file_lists" / "training.csv"
        file.write_text(file.read_text().replace(",1;2;3,0,", ",1;2;3,5,", 1))


def relabel_ego4d(folder: Path) -> None:
    edited(folder / "result_LAM" / "clip-a.json", lambda segments: segments[0].update(start_frame=1))


def relabel_pisc(folder: Path) -> None:
    edited(folder / "relationship.json", lambda pairs: pairs["1"].update({"1 2": 1}))


DATASETS: dict[str, tuple[str, Callable[[Path], Path], Callable[[Path], None]]] = {  # name -> task, writer, new labels
    "hagrid": ("gesture", lambda root: published.hagrid(root, ("train",), 1), relabel_hagrid),
    "gazefollow": ("gaze", published.gazefollow, relabel_gazefollow),
    "affectnet": ("expression", lambda root: published.affectnet(root, "original", 1), relabel_affectnet),
    "affectnet-8": ("expression", lambda root: published.affectnet(root, "release", 1), relabel_affectnet),
    "affectnet+": ("expression", lambda root: published.affectnet(root, "plus", 1), relabel_affectnet),
    "ego4d": ("looking_at_me", published.ego4d, relabel_ego4d),
    "pisc": ("relation", published.pisc, relabel_pisc),
}
every_dataset = pytest.mark.parametrize("name", DATASETS)


def cached(root: Path, task: str, folder: Path) -> cache.CachedData:
    """The dataset's views as training caches them: in a folder named by what they depend on."""
    dataset = open_dataset(root, task, "train")
    return cache.load_or_build(dataset, MODEL, folder / cache.views_key(dataset, MODEL))


def truth(data: cache.CachedData) -> list[object]:
    return [data.labels.tolist(), np.nan_to_num(data.points).tolist()]


@every_dataset
def test_an_unchanged_dataset_is_cached_once(name: str, tmp_path: Path) -> None:
    task, write, _ = DATASETS[name]
    write(tmp_path)
    for _ in range(2):
        cached(tmp_path, task, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1


@every_dataset
def test_new_labels_are_trained_on(name: str, tmp_path: Path) -> None:
    task, write, relabel = DATASETS[name]
    folder = write(tmp_path)
    before = cached(tmp_path, task, tmp_path / "cache")
    relabel(folder)
    after = cached(tmp_path, task, tmp_path / "cache")
    assert [tag["key"] for tag in after.tags] == [tag["key"] for tag in before.tags]
    assert truth(after) != truth(before)


@every_dataset
def test_a_replaced_image_is_seen(name: str, tmp_path: Path) -> None:
    task, write, _ = DATASETS[name]
    write(tmp_path)
    before = cached(tmp_path, task, tmp_path / "cache")
    path = open_dataset(tmp_path, task, "train").listing.records[0].path
    height, width = read_rgb(path).shape[:2]
    age, size = path.stat().st_mtime_ns, path.stat().st_size
    published.image(path, width, height, seed=99)
    if path.stat().st_size < size:  # of the same size and age, as a copy tool may leave it
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    os.utime(path, ns=(age, age))
    after = cached(tmp_path, task, tmp_path / "cache")
    assert truth(after) == truth(before) and not np.array_equal(after.views[0], before.views[0])


@every_dataset
def test_another_root_has_a_cache_of_its_own(name: str, tmp_path: Path) -> None:
    """Even a copy to the nanosecond: which of two roots a cache was made of is never a guess."""
    task, write, _ = DATASETS[name]
    write(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    for root in ("one", "two"):
        cached(tmp_path / root, task, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_one_root_by_two_paths_has_one_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published.pisc(tmp_path / "data")
    (tmp_path / "link").symlink_to("data")
    monkeypatch.chdir(tmp_path)
    paths = (tmp_path / "data", tmp_path / "link", Path("data"), Path("link/../data"))
    assert len({open_dataset(path, "relation", "train").identity for path in paths}) == 1


def test_a_link_to_another_root_has_another_cache(tmp_path: Path) -> None:
    link, keys = tmp_path / "link", set()
    for name in ("one", "two"):
        published.pisc(tmp_path / name)
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        keys.add(open_dataset(link, "relation", "train").identity)
    assert len(keys) == 2


def test_full_size_and_512_px_images_have_caches_of_their_own(tmp_path: Path) -> None:
    folder = published.hagrid(tmp_path, ("train",), 1)
    before = open_dataset(tmp_path, "gesture", "train")
    (folder / "hagrid_dataset").rename(folder / "HaGRIDv2_dataset_512")
    after = open_dataset(tmp_path, "gesture", "train")
    assert [record.key for record in after.listing.records] == [record.key for record in before.listing.records]
    assert before.identity != after.identity


def test_a_moved_box_is_another_dataset(tmp_path: Path) -> None:
    folder = published.pisc(tmp_path)
    before = open_dataset(tmp_path, "relation", "train").identity
    edited(folder / "annotation_image_info.json", lambda images: images[0]["bbox"].__setitem__(0, [3, 4, 20, 40]))
    assert open_dataset(tmp_path, "relation", "train").identity != before


def test_an_image_with_another_time_is_another_dataset(tmp_path: Path) -> None:
    published.ego4d(tmp_path)
    before = open_dataset(tmp_path, "looking_at_me", "train", 3)
    moment, _ = before.listing.records[1].moments[0]
    identity = before.identity
    os.utime(moment, ns=(1, 1))
    again = open_dataset(tmp_path, "looking_at_me", "train", 3)
    assert again.identity != identity
    assert open_dataset(tmp_path, "looking_at_me", "train").identity not in (identity, again.identity)


def test_a_part_of_a_dataset_follows_its_identity(tmp_path: Path) -> None:
    folder = published.pisc(tmp_path)
    before = Spread(open_dataset(tmp_path, "relation", "train"), 2).identity
    relabel_pisc(folder)
    assert Spread(open_dataset(tmp_path, "relation", "train"), 2).identity != before


def test_images_are_not_examined_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published.pisc(tmp_path)
    monkeypatch.setattr(FileDataset, "identity", property(lambda dataset: pytest.fail("examined")))
    Spread(open_dataset(tmp_path, "relation", "train"), 2)[1]


# --- results that outlive a change of the annotations


def test_a_study_refuses_cells_of_other_annotations(tmp_path: Path) -> None:
    folder = published.pisc(tmp_path / "data")
    data = {"data": str(tmp_path / "data")}
    cell = Cell("relation", data, lambda folder: {"value": 1}, reads=(("relation", "train"),))
    silent = Console(file=io.StringIO())
    for _ in range(2):
        assert run_grid("study", [cell], tmp_path / "out", silent)[0].facts == {"value": 1}
    published.image(folder / "image" / "00001.jpg", seed=5)  # results stay: a copy of the images is no other dataset
    run_grid("study", [cell], tmp_path / "out", silent)
    relabel_pisc(folder)
    with pytest.raises(ValueError, match=r"made with other settings, annotations\.relation train is"):
        run_grid("study", [cell], tmp_path / "out", silent)


def test_every_trained_cell_names_what_it_reads(tmp_path: Path) -> None:
    """A cell without its samples would be served after they were relabelled."""
    probe = probes.Arguments("smoke", "ROOT", tmp_path, split="test")
    cells = {
        "fused": fused_cell("a", TrainingArguments("smoke", "ROOT", tmp_path), ("gaze", "domain"), 0),
        "probe": probes.probe_cell("b", "domain", 0, probe, preset("smoke")),
        "vlm": vlm_cell("c", "molmoe", TrainingArguments("smoke", "ROOT", tmp_path), ("gaze",), 0, {}),
        "conflict": conflict.conflict_cell("d", conflict.Arguments("smoke", "ROOT", tmp_path), preset("smoke"), None),
    }
    assert cells["fused"].reads == (("gaze", "train"), ("gaze", "val"), ("domain", "train"), ("domain", "val"))
    assert cells["probe"].reads == (("domain", "train"), ("domain", "val"), ("domain", "test"))
    assert cells["vlm"].reads == (("gaze", "train"), ("gaze", "val"))
    assert cells["conflict"].reads == tuple((task, "train") for task in TASKS)


def test_a_run_is_not_resumed_on_other_annotations(tmp_path: Path) -> None:
    folder = published.pisc(tmp_path / "data")
    state = tmp_path / "joint" / "state"

    def claim() -> None:
        train.claim_annotations(tmp_path / "joint", {"relation": open_dataset(tmp_path / "data", "relation", "train")})

    claim()
    relabel_pisc(folder)
    claim()  # nothing was trained yet
    state.mkdir()
    claim()
    edited(folder / "relationship.json", lambda pairs: pairs["1"].update({"1 2": 3}))
    with pytest.raises(ValueError, match="begun on other annotations of 'relation'"):
        claim()
