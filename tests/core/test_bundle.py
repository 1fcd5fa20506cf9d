"""A bundle that is incomplete, altered or made for other tasks is refused; the error names file and remedy."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError, OperatingPoint, VectorScaling
from sf_ros.core.config import MODELS
from sf_ros.core.cues import CUES, TASKS, fingerprint
from sf_ros.core.prompts import load_prompts
from tests.manifests import edit

FILES = {
    bundles.VISION: b"an encoder",
    bundles.LLM: b"a decoder",
    bundles.ANSWERS: b"yes or no",
    bundles.DETECTOR: b"",
}
PARITY = {"gaze": {"max_difference": 1e-3}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of a valid bundle."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    save(tmp_path)
    return tmp_path


def save(root: Path, **changes: object) -> bundles.Manifest:
    arguments = {
        "model": MODELS["tiny"],
        "prompts": load_prompts(None),
        "precision": {"llm": "float16"},
        "parity": PARITY,
        "provenance": {"commit": "abc"},
        **changes,
    }
    return bundles.save(root, **arguments)  # type: ignore[arg-type]


def refusal(root: Path, **arguments: bool) -> str:
    with pytest.raises(BundleError) as error:
        bundles.load(root, **arguments)
    return str(error.value)


def test_load_returns_what_was_saved(root: Path) -> None:
    manifest = save(root, provenance={"commit": "abc", "steps": 3000})
    loaded = bundles.load(root)
    assert loaded.manifest == manifest
    assert loaded.manifest.model == MODELS["tiny"]
    assert set(loaded.manifest.files) == set(FILES)
    assert loaded.path(bundles.VISION).read_bytes() == FILES[bundles.VISION]


def test_temperatures_added_later_are_loaded(root: Path) -> None:
    edit(root, lambda data: data.update(temperatures={"gesture": 1.5}))
    assert bundles.load(root).manifest.temperatures == {"gesture": 1.5}


def test_a_calibration_survives_writing_and_loading(root: Path) -> None:
    point = OperatingPoint(0.7, {"precision": 0.9}, {"precision": 0.9, "coverage": 0.5}, {"precision": None})
    calibrated = dataclasses.replace(
        bundles.load(root).manifest,
        temperatures={"gesture": 1.5},
        vector_scaling={"domain": VectorScaling((1.0, 0.9, 1.1), (0.0, 0.25, -0.5))},
        operating_points={"gesture": point},
    )
    bundles.write(root, calibrated)
    assert bundles.load(root).manifest == calibrated
    assert calibrated.uncalibrated == dataclasses.replace(
        calibrated, temperatures={}, vector_scaling={}, operating_points={}
    )
    assert sorted(path.name for path in root.iterdir() if path.is_file()) == sorted(
        [bundles.MANIFEST, bundles.VISION, bundles.ANSWERS, bundles.DETECTOR]
    )


def test_a_manifest_without_calibration_loads(root: Path) -> None:
    for name in ("temperatures", "vector_scaling", "operating_points"):
        edit(root, lambda data, name=name: data.pop(name))
    manifest = bundles.load(root).manifest
    assert manifest == manifest.uncalibrated


def test_the_weights_hash_ignores_detector_and_calibration(root: Path) -> None:
    before = bundles.load(root).manifest.weights
    edit(root, lambda data: data.update(temperatures={"gesture": 1.5}))
    (root / bundles.DETECTOR).write_bytes(b"another")
    assert save(root).weights == before
    (root / bundles.LLM).write_bytes(b"another decoder")
    assert save(root).weights != before


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("temperatures", {"gestures": 1.0}, "Did you mean 'gesture'"),
        ("temperatures", {"gaze": 1.0}, "'gaze' has no labels"),
        ("temperatures", {"gesture": 0.0}, "must lie in 0.001..1000"),
        ("temperatures", {"gesture": float("nan")}, "'NaN' is no finite number"),
        ("vector_scaling", {"domain": {"scale": [1, 1], "bias": [0, 0]}}, "2 scales and 2 biases for 3 labels"),
        ("vector_scaling", {"domain": {"scale": [1, 1, 1], "bias": [0, 0, float("inf")]}}, "no finite number"),
        ("vector_scaling", {"domain": {"scale": [1, 1, 1], "bias": [0, 0, 1e5]}}, "must lie in -10000..10000"),
        ("vector_scaling", {"domain": {"scale": [1, 1, 1]}}, "bias"),
        ("operating_points", {"domain": {"threshold": 0.5}}, "wanted"),
    ],
)
def test_a_calibration_without_valid_probabilities_is_refused(
    root: Path, field: str, value: dict, message: str
) -> None:
    edit(root, lambda data: data.update({field: value}))
    assert message in refusal(root)


def test_two_calibrations_of_one_task_are_refused(root: Path) -> None:
    scaling = {"domain": {"scale": [1, 1, 1], "bias": [0, 0, 0]}}
    edit(root, lambda data: data.update(temperatures={"domain": 2.0}, vector_scaling=scaling))
    assert "has a temperature and a vector scaling" in refusal(root)


def test_the_manifest_does_not_list_itself(root: Path) -> None:
    assert bundles.MANIFEST not in save(root).files


def test_long_files_are_hashed_completely(tmp_path: Path) -> None:
    file = tmp_path / "abc"
    file.write_bytes(b"abc")  # the first example of FIPS 180-2
    assert bundles.sha256(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    file.write_bytes(bytes(3 << 20))
    long = bundles.sha256(file)
    file.write_bytes(bytes((3 << 20) - 1) + b"\x01")
    assert bundles.sha256(file) != long


@pytest.mark.parametrize("name", [bundles.VISION, bundles.LLM, bundles.ANSWERS])
def test_one_flipped_bit_is_refused(root: Path, name: str) -> None:
    expected = bundles.sha256(root / name)
    content = bytearray(FILES[name])
    content[3] ^= 1
    (root / name).write_bytes(content)
    message = refusal(root)
    assert str(root / name) in message
    assert f"{bundles.sha256(root / name)[:12]}... found, {expected[:12]}... expected" in message
    assert "Copy the bundle again" in message


def test_verify_false_skips_the_hashes_only(root: Path) -> None:
    (root / bundles.VISION).write_bytes(b"AN encoder")
    assert bundles.load(root, verify=False).root == root
    (root / bundles.VISION).write_bytes(b"another encoder")
    assert "15 bytes found, 10 expected" in refusal(root, verify=False)
    (root / bundles.VISION).unlink()
    assert "missing" in refusal(root, verify=False)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(root: Path, name: str) -> None:
    (root / name).unlink()
    assert re.search(f"{re.escape(str(root / name))}: missing. Copy the bundle again", refusal(root))


@pytest.mark.parametrize("name", [bundles.VISION, bundles.LLM, bundles.ANSWERS])
def test_a_manifest_without_a_required_file_is_refused(root: Path, name: str) -> None:
    edit(root, lambda data: data["files"].pop(name))
    message = refusal(root)
    assert f"lists no '{name}'" in message and "Export the checkpoint again" in message


@pytest.mark.parametrize(("folder", "problem"), [("", "no manifest.json here"), ("nowhere", "no such folder")])
def test_a_folder_without_a_manifest_names_the_export_command(root: Path, folder: str, problem: str) -> None:
    (root / bundles.MANIFEST).unlink()
    message = refusal(root / folder)
    assert (
        f"{problem}, so this is not a bundle" in message
        and f"python -m export.bundle CHECKPOINT {root / folder}" in message
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "null", '{"format": 2}', '{"format": 2, "model": {}, "surprise": 1}', "\x00\xff"]
)
def test_an_unreadable_manifest_is_refused(root: Path, text: str) -> None:
    (root / bundles.MANIFEST).write_bytes(text.encode("latin-1"))
    message = refusal(root)
    assert str(root / bundles.MANIFEST) in message
    assert "Export the checkpoint again" in message or "python -m export.upgrade" in message


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (1, "python -m export.upgrade {root}"),
        (2, "python -m export.upgrade {root}"),
        (4, "Export the checkpoint again"),
    ],
)
def test_another_format_is_refused_with_a_remedy(root: Path, number: int, remedy: str) -> None:
    edit(root, lambda data: data.update(format=number))
    message = refusal(root)
    assert f"format {number}, this version reads format 3" in message and remedy.format(root=root) in message


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "llm/../../outside", "vision.onnx/", "notes.txt", ""])
def test_a_file_that_no_bundle_has_is_refused(root: Path, name: str) -> None:
    edit(root, lambda data: data["files"].update({name: {"sha256": "0" * 64, "bytes": 0}}))
    assert f"Unknown file of a bundle '{name}'" in refusal(root, verify=False)


def test_an_unknown_model_field_is_named(root: Path) -> None:
    edit(root, lambda data: data["model"].update(colour="red"))
    assert "Unknown field of ModelConfig 'colour'" in refusal(root)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "change",
    [{"labels": ("up", "down"), "answers": ("a", "b"), "event": ""}, {"lead": "?", "prompt": "?"}, {"margin": 1.5}],
    ids=str,
)
def test_a_task_with_another_fingerprint_is_named(
    root: Path, task: str, change: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = bundles.load(root).manifest.tasks[task]
    monkeypatch.setitem(TASKS, task, dataclasses.replace(TASKS[task], **change))
    message = refusal(root)
    assert f"task '{task}' was trained as {trained}, installed is " in message
    assert "prompt, labels or view differ" in message


def test_tasks_that_are_not_installed_are_reported(root: Path) -> None:
    edit(root, lambda data: data["tasks"].update(hand_raised="0123456789abcdef"))
    edit(root, lambda data: data.update(temperatures={"hand_raised": 1.5}))
    bundle = bundles.load(root)
    assert bundle.unknown_tasks == ("hand_raised",)
    assert (bundle.tasks, bundle.cues) == (tuple(TASKS), tuple(CUES))


def test_a_bundle_of_some_tasks_has_the_cues_they_complete(root: Path) -> None:
    prompts = load_prompts(None)
    save(root, prompts={name: prompts[name] for name in ("relation", "gaze")})
    bundle = bundles.load(root)
    assert (bundle.tasks, bundle.cues, bundle.unknown_tasks) == (("gaze", "relation"), ("gaze",), ())


def test_a_bundle_without_tasks_is_refused(root: Path) -> None:
    edit(root, lambda data: data.update(tasks={}))
    assert "names no task" in refusal(root)


def test_a_prompts_file_travels_with_its_bundle(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = dataclasses.replace(MODELS["tiny"], prompts_file="my.json")
    save(root, model=model, prompts=load_prompts(None) | {"domain": "How near?\n"})
    manifest = bundles.load(root).manifest
    assert manifest.tasks["domain"] == fingerprint(TASKS["domain"], "How near?\n")
    expression = TASKS["expression"]
    monkeypatch.setitem(TASKS, "expression", dataclasses.replace(expression, labels=expression.labels[::-1]))
    assert "task 'expression' was trained as" in refusal(root)


def test_a_prompts_file_must_have_every_task_of_its_bundle(root: Path) -> None:
    save(root, model=dataclasses.replace(MODELS["tiny"], prompts_file="my.json"))
    edit(root, lambda data: data["prompts"].pop("relation"))
    assert "task 'relation' was trained as" in refusal(root)


def test_gaze_has_a_prompt_in_models_trained_prompt_first(root: Path) -> None:
    model = dataclasses.replace(MODELS["tiny"], order="prompt_first")
    save(root, model=model, prompts=load_prompts(None, "prompt_first"))
    assert bundles.load(root).manifest.prompts["gaze"] == TASKS["gaze"].lead
    save(root, model=model)
    assert "task 'gaze' was trained as" in refusal(root)


def test_other_prompts_without_a_prompts_file_are_refused(root: Path) -> None:
    save(root, prompts=load_prompts(None) | {"domain": "How near?\n"})
    assert "task 'domain' was trained as" in refusal(root)


def test_no_manifest_is_written_without_parity(root: Path) -> None:
    (root / bundles.MANIFEST).unlink()
    with pytest.raises(BundleError, match="no parity result"):
        save(root, parity={})
    assert not (root / bundles.MANIFEST).exists()


def test_no_manifest_is_written_without_a_required_file(root: Path) -> None:
    (root / bundles.MANIFEST).unlink()
    (root / bundles.LLM).unlink()
    with pytest.raises(BundleError, match=f"cannot write the manifest, '{bundles.LLM}' missing"):
        save(root)
    assert not (root / bundles.MANIFEST).exists()


def test_one_vision_file_is_enough_and_none_is_an_error(root: Path) -> None:
    (root / bundles.MANIFEST).unlink()
    (root / bundles.VISION).rename(root / bundles.VISION_TORCH)
    save(root)
    assert bundles.load(root).path(bundles.VISION_TORCH).is_file()
    (root / bundles.VISION_TORCH).unlink()
    with pytest.raises(BundleError, match=r"cannot write the manifest, 'vision.onnx' or .* missing"):
        save(root)


def test_a_path_outside_the_manifest_is_refused(root: Path) -> None:
    with pytest.raises(BundleError, match=r"has no 'vision\.trt'; its files are"):
        bundles.load(root).path("vision.trt")
