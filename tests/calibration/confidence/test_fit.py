"""The command on files of answers: it changes a bundle's manifest, and the engine applies it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from calibration.confidence import fit, reliability, scores
from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import Manifest, VectorScaling
from sf_ros.core.config import MODELS, RuntimeConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.demo import demo_file
from sf_ros.core.prompts import load_prompts
from sf_ros.core.types import Box
from sf_ros.engines.base import Query

SHARPENED = {"expression": 2.5, "relation": 1.5}  # task -> factor on its calibrated logits
TWO = ("expression", "relation")


DRAW = reliability.draw


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are tested in test_scores, and one test draws the plot."""
    monkeypatch.setattr(scores, "RESAMPLES", 20)
    monkeypatch.setattr(reliability, "draw", lambda tasks, path, title: path.touch())


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with dummy weights."""
    root = tmp_path / "bundle"
    for name in (bundles.VISION, *bundles.REQUIRED):
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_bytes(name.encode())
    bundles.save(root, MODELS["tiny"], load_prompts(None), {}, {"gaze": 0.0}, {})
    return root


def manifest(root: Path) -> Manifest:
    return bundles.load(root).manifest


def store(root: Path, split: str, *, count: int = 3000, seed: int = 0, **changes: object) -> Path:
    """Write a bundle's answers: true labels are drawn from calibrated logits, which are then sharpened."""
    rng = np.random.default_rng([seed, len(split)])
    arrays: dict[str, object] = {"about": json.dumps({"weights": manifest(root).weights, "data": f"made/{split}"})}
    for name in TWO:
        calibrated = 1.5 * rng.normal(size=(count, len(TASKS[name].labels)))
        labels = (softmax(calibrated, axis=1).cumsum(1) > rng.random((count, 1))).argmax(1)
        arrays[f"{name}/log_probabilities"] = log_softmax(SHARPENED[name] * calibrated, axis=1).astype(np.float32)
        arrays[f"{name}/labels"] = labels
        arrays[f"{name}/keys"] = np.array([f"{split}/{index}" for index in range(count)])
    file = root.parent / f"{split}.npz"
    np.savez(file, **(arrays | changes))  # type: ignore[arg-type]
    return file


def command(root: Path, *options: str) -> list[str]:
    fit, test = (root.parent / f"{split}.npz" for split in ("val", "test"))
    return [str(root), "--fit", str(fit), "--test", str(test), "--out", str(root.parent / "out"), *options]


@pytest.fixture
def answered(bundle: Path) -> Path:
    """The same with answers to both splits."""
    store(bundle, "val")
    store(bundle, "test")
    return bundle


def result_of(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refusal(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    assert fit.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_temperatures_are_recovered_written_and_measured(answered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = manifest(answered)
    assert fit.main(command(answered)) == 0
    result = result_of(capsys)
    after = manifest(answered)
    assert after.temperatures == pytest.approx(SHARPENED, rel=0.1)
    assert set(after.operating_points) == set(TWO) and after.vector_scaling == {}
    assert after.files == before.files and after.weights == before.weights
    assert result["written"] and result["left_out"] == ["gesture", "gaze", "looking_at_me", "domain"]
    for name, figures in result["tasks"].items():
        assert figures["temperature"] == pytest.approx(after.temperatures[name], abs=1e-4)
        assert figures["after"]["accuracy"] == figures["before"]["accuracy"]
        assert figures["after"]["ece"]["value"] < 0.035 < 0.07 < figures["before"]["ece"]["value"]
        assert figures["after"]["nll"]["value"] < figures["before"]["nll"]["value"] - 0.03
        assert 0 <= figures["after"]["ece"]["low"] < figures["after"]["ece"]["high"] < figures["before"]["ece"]["low"]
        assert figures["operating_point"]["threshold"] == pytest.approx(
            after.operating_points[name].threshold, abs=1e-4
        )
        assert figures["operating_point"]["measured"]["precision"] == pytest.approx(0.9, abs=0.05)


def test_a_plot_a_report_and_parameters_are_written(
    answered: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reliability, "draw", DRAW)
    assert fit.main(command(answered)) == 0
    result = result_of(capsys)
    plot, report, parameters = map(Path, result["files"])
    image = cv2.imread(str(plot))
    assert image is not None and image.std() > 10
    assert json.loads(report.read_text()) == result
    assert "expression.min_confidence" in parameters.read_text()


def test_vector_scaling_is_written_instead_of_a_temperature(answered: Path) -> None:
    assert fit.main(command(answered, "--tasks", "relation")) == 0
    assert fit.main(command(answered, "--method", "vector", "--replace")) == 0
    changed = manifest(answered)
    assert changed.temperatures == {} and set(changed.vector_scaling) == set(TWO)
    assert changed.vector_scaling["relation"].scale == pytest.approx([1 / SHARPENED["relation"]] * 6, abs=0.12)


def test_other_tasks_keep_their_calibration(answered: Path) -> None:
    assert fit.main(command(answered)) == 0
    old = manifest(answered)
    store(answered, "val", count=500, seed=1)
    assert fit.main(command(answered, "--tasks", "relation", "--false-alarm-rate", "0.01", "--replace")) == 0
    new = manifest(answered)
    assert new.temperatures["expression"] == old.temperatures["expression"]
    assert new.temperatures["relation"] != old.temperatures["relation"]
    assert new.operating_points["relation"].wanted == {"false_alarm_rate": 0.01}
    assert new.operating_points["relation"].fitted["false_alarm_rate"] <= 0.01
    assert new.operating_points["expression"] == old.operating_points["expression"]


def test_a_second_calibration_gives_the_same_result(answered: Path) -> None:
    assert fit.main(command(answered)) == 0
    first = manifest(answered)
    assert fit.main(command(answered, "--replace")) == 0
    assert manifest(answered) == first


def test_no_write_leaves_the_manifest_unchanged(answered: Path) -> None:
    before = (answered / bundles.MANIFEST).read_bytes()
    assert fit.main(command(answered, "--no-write")) == 0
    assert (answered / bundles.MANIFEST).read_bytes() == before


def test_a_task_without_wrong_answers_is_unchanged(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.arange(200) % 6
    perfect = {
        "relation/log_probabilities": log_softmax(9.0 * np.eye(6)[labels], axis=1),
        "relation/labels": labels,
        "relation/keys": np.array([f"a{index}" for index in range(200)]),
    }
    store(bundle, "val", **perfect)
    store(bundle, "test")
    assert fit.main(command(bundle, "--tasks", "relation")) == 0
    result = result_of(capsys)
    assert "all answers of --fit are right" in result["warnings"][0] and len(result["warnings"]) == 1
    assert manifest(bundle).temperatures == manifest(bundle).operating_points == {}
    store(bundle, "val")
    assert fit.main(command(bundle, "--tasks", "relation", "--replace")) == 0
    calibrated = manifest(bundle)
    store(bundle, "val", **perfect)
    assert fit.main(command(bundle, "--tasks", "relation", "--replace")) == 0
    assert manifest(bundle) == calibrated


def test_a_worse_nll_on_test_is_warned_of(answered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(store(answered, "test")) as stored:
        calibrated = log_softmax(stored["relation/log_probabilities"] / 4, axis=1)
    store(answered, "val", **{"relation/log_probabilities": calibrated})
    assert fit.main(command(answered, "--tasks", "relation")) == 0
    assert "NLL on --test got worse" in result_of(capsys)["warnings"][-1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--tasks", "relation,gaze"], "'gaze' is not answered in both files. Tasks in both: expression, relation"),
        (["--precision", "1.2"], "--precision is 1.2; it must be above 0 and at most 1"),
        (["--false-alarm-rate", "1"], "--false-alarm-rate is 1; it must be at least 0 and below 1"),
        (["--precision", "0.9", "--false-alarm-rate", "0.1"], "give only one of them"),
        (["--test", "nowhere.npz"], "nowhere.npz: no such file. Make it with: python -m training.evaluate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_options_are_refused(
    answered: Path, options: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in refusal(capsys, command(answered, *options))
    assert not (answered.parent / "out").exists()


def test_results_are_only_overwritten_with_replace(answered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit.main(command(answered)) == 0
    capsys.readouterr()
    assert "--replace" in refusal(capsys, command(answered))


def test_files_that_share_samples_are_refused(answered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(answered.parent / "val.npz", answered.parent / "test.npz")
    assert "3000 samples of 'expression' are in both files" in refusal(capsys, command(answered))


def test_answers_of_other_weights_are_refused(answered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (answered / bundles.LLM).write_bytes(b"trained again")
    bundles.save(answered, MODELS["tiny"], load_prompts(None), {}, {"gaze": 0.0}, {})
    assert "Make them again with this bundle" in refusal(capsys, command(answered))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"relation/log_probabilities": np.zeros((3000, 5))}, "has log-probabilities (3000, 5) for 3000 samples"),
        ({"relation/labels": np.full(3000, 6)}, "labels that do not exist"),
        ({"relation/log_probabilities": np.full((3000, 6), np.nan)}, "not finite"),
        ({"about": "{}"}, "not a file of answers ('data')"),
        ({"about": "no JSON"}, "not a file of answers"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_broken_answers_are_refused_by_name(
    answered: Path, changes: dict, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store(answered, "val", **changes)
    error = refusal(capsys, command(answered))
    assert "val.npz" in error and expected in error


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY", b"PK\x03\x04cut off"])
def test_another_file_is_refused_by_name(answered: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (answered.parent / "val.npz").write_bytes(content)
    error = refusal(capsys, command(answered))
    assert "val.npz: not a file of answers" in error and "pickle" not in error


def test_too_few_answers_are_refused(answered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(answered, "test", count=99)
    assert "99 answers to 'expression' about made/test are too few; at least 100 are needed" in refusal(
        capsys, command(answered)
    )


def test_the_engine_applies_the_manifests_calibration(tmp_path: Path) -> None:
    """A temperature flattens and keeps the winner; vector scaling acts on log-probabilities."""
    from sf_ros.engines.fused.engine import FusedEngine

    shutil.copytree(demo_file("bundle"), tmp_path / "bundle")
    loaded, config = bundles.load(tmp_path / "bundle"), RuntimeConfig(device="cpu", threads=1)
    image = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    box = Box(40, 30, 220, 200)
    person, face = ("gesture",), ("expression", "looking_at_me")
    queries = [Query("person", (box,), person, (1,)), Query("face", (box,), face, (1,))]

    def probabilities(changed: Manifest) -> list[np.ndarray]:
        bundles.write(tmp_path / "bundle", changed)
        by_query = FusedEngine(bundles.load(tmp_path / "bundle"), config).answer(image, queries)
        answers = by_query[0] | by_query[1]
        return [np.asarray(answers[task].probabilities) for task in person + face]

    raw = probabilities(loaded.manifest.uncalibrated)
    scaling = VectorScaling((0.5, *[1.0] * 7), (0.0, 3.0, *[0.0] * 6))
    changed = Manifest(
        **{**vars(loaded.manifest), "temperatures": {"gesture": 2.0}, "vector_scaling": {"expression": scaling}}
    )
    gesture, expression, looking = probabilities(changed)
    assert gesture == pytest.approx(softmax(np.log(raw[0]) / 2.0), abs=1e-5)
    assert gesture.argmax() == raw[0].argmax() and gesture.max() < raw[0].max()
    scaled = np.array(scaling.scale) * np.log(raw[1]) + np.array(scaling.bias)
    assert expression == pytest.approx(softmax(scaled), abs=1e-5)
    assert np.abs(expression - raw[1]).max() > 0.01
    assert looking == pytest.approx(raw[2], abs=1e-6)
