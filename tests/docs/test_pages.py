"""The worked examples of the documentation are carried out in a copy of the repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
STEP = re.compile(r"<!-- (?P<step>[^>]+) -->\n```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)
COPIED = ("sf_ros", "training", "export", "calibration", "examples")
PAGES = ("add-a-cue", "add-a-detector", "add-a-message", "add-an-encoder", "python-api")


@dataclass(frozen=True)
class Step:
    """One code block with the comment above it: run | file PATH | insert PATH at the end of NAME | ..."""

    step: str
    language: str
    text: str


def steps(page: str) -> list[Step]:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return [Step(**match.groupdict()) for match in STEP.finditer(text)]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the code without build outputs."""
    for folder in COPIED:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "demo"))
    (tmp_path / "sf_ros" / "demo").symlink_to(ROOT / "sf_ros" / "demo")  # 23 MB that no page changes
    return tmp_path


def run(copy: Path, command: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def carry_out(copy: Path, step: Step) -> list[str]:
    """Do one step in the copy; the outputs of the commands it runs."""
    if step.step == "run" and step.language == "python":
        return [run(copy, [sys.executable, "-c", step.text])]
    if step.step == "run":
        lines = step.text.strip().splitlines()
        return [run(copy, [sys.executable, *line.split()[1:]]) for line in lines]
    action, _, target = step.step.partition(" ")
    if action == "file":
        (copy / target).write_text(step.text, encoding="utf-8")
    elif action == "insert":
        path, _, table = target.partition(" at the end of ")
        insert_at_end(copy / path, table, step.text)
    elif action == "replace":
        path, _, line = target.partition(": ")
        text = (copy / path).read_text(encoding="utf-8")
        assert text.count(line + "\n") == 1, f"{line!r} in {path}"
        (copy / path).write_text(text.replace(line + "\n", step.text), encoding="utf-8")
    elif action == "same":
        assert step.text == (ROOT / target.removeprefix("as ")).read_text(encoding="utf-8")
    else:
        raise AssertionError(f"unknown step {step.step!r}")
    return []


def insert_at_end(path: Path, table: str, text: str) -> None:
    """Add lines as the last entry of a module-level table: a dict, or a call with an entry per argument."""
    source = path.read_text(encoding="utf-8")
    end = re.compile(r"\n[})]\n").search(source, source.index(f"\n{table}: "))
    assert end is not None
    entry = textwrap.indent(text.rstrip(), " " * 4) + ",\n"
    path.write_text(source[: end.start() + 1] + entry + source[end.start() + 1 :], encoding="utf-8")


@pytest.mark.parametrize("page", [page for page in PAGES if page != "add-a-cue"])
def test_the_examples_of_a_page_run(page: str, copy: Path) -> None:
    page_steps = steps(page)
    assert page_steps
    for step in page_steps:
        carry_out(copy, step)


def test_every_page_with_steps_is_tested() -> None:
    with_steps = {path.stem for path in (ROOT / "docs").glob("*.md") if STEP.search(path.read_text(encoding="utf-8"))}
    assert with_steps == set(PAGES)


def test_the_example_script_prints_a_line_per_frame(tmp_path: Path) -> None:
    clip = str(tmp_path / "clip.mp4")
    writer = cv2.VideoWriter(clip, cv2.VideoWriter.fourcc(*"mp4v"), 10, (320, 240))
    for _ in range(4):
        writer.write(np.zeros((240, 320, 3), np.uint8))
    writer.release()
    output = run(ROOT, [sys.executable, "examples/perceive_video.py", clip])
    assert output.count("people, looking at the camera: ") == 4


def test_a_cue_is_one_table_entry_and_one_reader(copy: Path) -> None:
    for folder in ("training", "export"):
        for package in ("peft", "onnxscript", "tokenizers"):
            pytest.importorskip(package, reason=f"{folder} is for the workstation")
    outputs = [output for step in steps("add-a-cue") for output in carry_out(copy, step)]
    before, _, scores, _, after = (json.loads(output.strip().splitlines()[-1]) for output in outputs)
    assert before["persons"] and "hand_raised" not in before["age_ms"]
    assert "hand_raised" in after["age_ms"]
    frames = [json.loads(line) for line in (copy / "out/hand/cues.jsonl").read_text().splitlines()]
    labels = [person["hand_raised"] for frame in frames for person in frame["people"]]
    assert {label["label"] for label in labels if label} <= {"yes", "no"} and any(labels)
    assert topics(copy / "out/hand/bag") >= {"/sf_ros/raised_hands", "/sf_ros/labels/hand_raised"}
    changed = changed_files(copy)
    assert changed == {"sf_ros/core/cues.py", "training/data/raised_hands.py"}, changed
    assert scores["hand_raised"]["metrics"]["mAP"] > scores["hand_raised"]["chance"]["mAP"] + 0.05


def topics(bag: Path) -> set[str]:
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    with AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        return {connection.topic for connection in reader.connections}


def changed_files(copy: Path) -> set[str]:
    """Source files of the copy that the repository lacks or that differ."""
    changed = set()
    for folder in COPIED:
        for path in (copy / folder).rglob("*.py"):
            name = path.relative_to(copy).as_posix()
            if not (ROOT / name).is_file() or path.read_bytes() != (ROOT / name).read_bytes():
                changed.add(name)
    return changed
