"""perceive with the bundle of public models, from weights to results: needs SF_ROS_PEOPLE."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.people_bundle import FOLDER_VARIABLE
from sf_ros.perception.pipeline import load_pipeline

ROOT = Path(__file__).resolve().parents[1]

# Runs perceive in a new interpreter in which AGPL code cannot be imported, nor torch.
PROBE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ultralytics", "ultralytics_thop", "torch", "torchvision"}:
            raise ModuleNotFoundError(f"{name} is hidden by the test", name=name)

sys.meta_path.insert(0, Hidden())
from sf_ros.perceive import main
status = main(sys.argv[1:])
assert not {name.partition(".")[0] for name in sys.modules} & {"ultralytics", "torch"}
sys.exit(status)
"""


def perceive(*arguments: str, bundle: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **({FOLDER_VARIABLE: str(bundle)} if bundle else {})}
    command = [sys.executable, "-c", PROBE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)


def test_without_the_bundle_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    done = perceive("demo", "--bundle", "people", "--out", str(tmp_path / "out"), bundle=tmp_path / "people")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"sf_ros.perceive: error: {tmp_path / 'people'}: the bundle 'people' is not here yet. "
        f"Fetch it (15 MB): python -m export.people {tmp_path / 'people'}"
    ]


@pytest.mark.people
def test_a_clip_is_read_without_agpl_code_and_without_torch(light_bundle: Path, real: Path, tmp_path: Path) -> None:
    clip, out = str(real / "clips" / "scene_03.mp4"), tmp_path / "out"
    done = perceive(clip, "--bundle", "people", "--out", str(out), "--max-frames", "8", bundle=light_bundle)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["frames"] == 8 and result["persons"] >= 6
    assert set(result["off"]) == {"relation"}
    lines = [json.loads(line) for line in (out / "cues.jsonl").read_text(encoding="utf-8").splitlines()]
    last = lines[-1]["people"]
    assert sum(person["gaze"] is not None for person in last) >= 2
    assert (out / "annotated.mkv").stat().st_size > 10_000


@pytest.mark.people
def test_a_photograph_is_asked_everything(light_bundle: Path, real: Path, tmp_path: Path) -> None:
    photograph = str(real / "photos" / "groups" / "group_0.jpg")
    done = perceive(photograph, "--bundle", str(light_bundle), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "out" / "cues.jsonl").read_text(encoding="utf-8").splitlines()
    people = json.loads(line)["people"]
    assert len(people) == 3
    assert [person["expression"]["label"] for person in people].count("happiness") >= 2
    assert sum(person["looking_at_me"]["label"] == "yes" for person in people) >= 2


@pytest.mark.people
def test_the_set_says_what_it_answers_and_what_is_off(light_bundle: Path) -> None:
    pipeline = load_pipeline(light_bundle, RuntimeConfig())
    assert pipeline.cues == ("gaze", "looking_at_me", "expression", "gesture")
    assert pipeline.off == {"relation": "the bundle does not answer domain, relation"}
    assert set(pipeline.thresholds) == {"gaze", "looking_at_me", "expression", "gesture"}
