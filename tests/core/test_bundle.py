"""A bundle that is not whole, not itself or not for these questions is refused, with file, found and remedy."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sf_ros.core import bundle as bundles
from sf_ros.core import tasks
from sf_ros.core.bundle import BundleError, OperatingPoint, VectorScaling
from sf_ros.core.config import MODELS
from sf_ros.core.tasks import TASKS

FILES = {
    bundles.VISION: b"a picture goes in",
    bundles.LLM: b"words come out",
    bundles.ANSWERS: b"yes or no",
    bundles.DETECTOR: b"",
}
PARITY = {"gaze": {"max_difference": 1e-3}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that holds a whole bundle."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    sign(tmp_path)
    return tmp_path


def sign(root: Path, **changes: object) -> bundles.Manifest:
    arguments = {
        "model": MODELS["tiny"],
        "prompts": tasks.load_prompts(None),
        "precision": {"llm": "float16"},
        "parity": PARITY,
        "provenance": {"commit": "abc"},
        **changes,
    }
    return bundles.save(root, **arguments)  # type: ignore[arg-type]


def edit(root: Path, change: Callable[[dict], object]) -> None:
    """Change the manifest on disk."""
    data = json.loads((root / bundles.MANIFEST).read_text())
    change(data)
    (root / bundles.MANIFEST).write_text(json.dumps(data))


def refusal(root: Path, **arguments: bool) -> str:
    with pytest.raises(BundleError) as error:
        bundles.load(root, **arguments)
    return str(error.value)


def test_what_was_saved_is_loaded(root: Path) -> None:
    manifest = sign(root, provenance={"commit": "abc", "steps": 3000})
    loaded = bundles.load(root)
    assert loaded.manifest == manifest
    assert loaded.manifest.model == MODELS["tiny"]
    assert set(loaded.manifest.files) == set(FILES)
    assert loaded.path(bundles.VISION).read_bytes() == FILES[bundles.VISION]


def test_temperatures_written_later_are_loaded(root: Path) -> None:
    edit(root, lambda data: data.update(temperatures={"gesture": 1.5}))
    assert bundles.load(root).manifest.temperatures == {"gesture": 1.5}


def test_a_calibration_is_written_and_loaded_as_it_was(root: Path) -> None:
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


def test_a_manifest_from_before_calibration_is_loaded_without_one(root: Path) -> None:
    for name in ("temperatures", "vector_scaling", "operating_points"):
        edit(root, lambda data, name=name: data.pop(name))
    manifest = bundles.load(root).manifest
    assert manifest == manifest.uncalibrated


def test_weights_are_the_same_with_another_detector_or_calibration_only(root: Path) -> None:
    before = bundles.load(root).manifest.weights
    edit(root, lambda data: data.update(temperatures={"gesture": 1.5}))
    (root / bundles.DETECTOR).write_bytes(b"another")
    assert sign(root).weights == before
    (root / bundles.LLM).write_bytes(b"other words")
    assert sign(root).weights != before


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("temperatures", {"gestures": 1.0}, "Did you mean 'gesture'"),
        ("temperatures", {"gaze": 1.0}, "'gaze' has no labels"),
        ("temperatures", {"gesture": 0.0}, "must be above 0"),
        ("temperatures", {"gesture": float("nan")}, "must be above 0"),
        ("vector_scaling", {"domain": {"scale": [1, 1], "bias": [0, 0]}}, "2 scales and 2 biases for 3 labels"),
        ("vector_scaling", {"domain": {"scale": [1, 1, 1], "bias": [0, 0, float("inf")]}}, "not finite"),
        ("vector_scaling", {"domain": {"scale": [1, 1, 1]}}, "bias"),
        ("operating_points", {"domain": {"threshold": 0.5}}, "wanted"),
    ],
)
def test_a_calibration_that_makes_no_probabilities_is_refused(root: Path, field: str, value: dict, said: str) -> None:
    edit(root, lambda data: data.update({field: value}))
    assert said in refusal(root)


def test_two_calibrations_of_one_question_are_refused(root: Path) -> None:
    scaling = {"domain": {"scale": [1, 1, 1], "bias": [0, 0, 0]}}
    edit(root, lambda data: data.update(temperatures={"domain": 2.0}, vector_scaling=scaling))
    assert "one of them must go" in refusal(root)


def test_signing_again_does_not_sign_the_manifest_itself(root: Path) -> None:
    assert bundles.MANIFEST not in sign(root).files


def test_a_file_longer_than_one_piece_is_hashed_as_a_whole(tmp_path: Path) -> None:
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


def test_without_verification_the_hashes_alone_are_skipped(root: Path) -> None:
    (root / bundles.VISION).write_bytes(b"another picture")
    assert bundles.load(root, verify=False).root == root
    (root / bundles.VISION).unlink()
    assert "missing" in refusal(root, verify=False)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(root: Path, name: str) -> None:
    (root / name).unlink()
    assert re.search(f"{re.escape(str(root / name))}: missing. Copy the bundle again", refusal(root))


@pytest.mark.parametrize("name", [bundles.VISION, bundles.LLM, bundles.ANSWERS])
def test_a_manifest_that_leaves_out_a_required_file_is_refused(root: Path, name: str) -> None:
    edit(root, lambda data: data["files"].pop(name))
    message = refusal(root)
    assert f"lists no '{name}'" in message and "Export the checkpoint again" in message


@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_a_folder_without_a_manifest_is_no_bundle_and_the_command_that_makes_one_is_named(
    root: Path, folder: str
) -> None:
    (root / bundles.MANIFEST).unlink()
    message = refusal(root / folder)
    assert "no manifest.json here" in message and f"python -m export.bundle CHECKPOINT {root / folder}" in message


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "null", '{"format": 1}', '{"format": 1, "model": {}, "surprise": 1}', "\x00\xff"]
)
def test_a_manifest_that_cannot_be_read_is_refused(root: Path, text: str) -> None:
    (root / bundles.MANIFEST).write_bytes(text.encode("latin-1"))
    message = refusal(root)
    assert str(root / bundles.MANIFEST) in message and "Export the checkpoint again" in message


def test_another_format_is_refused_with_both_numbers(root: Path) -> None:
    edit(root, lambda data: data.update(format=2))
    message = refusal(root)
    assert "format 2, this version reads format 1" in message and "Export the checkpoint again" in message


def test_a_model_field_of_another_version_is_refused_by_name(root: Path) -> None:
    edit(root, lambda data: data["model"].update(colour="red"))
    assert "Unknown field of ModelConfig 'colour'" in refusal(root)


@pytest.mark.parametrize(
    "change",
    [{"labels": TASKS["expression"].labels[::-1]}, {"prompt": "How does it feel?\n"}, {"margin": 1.5}],
    ids=lambda change: next(iter(change)),
)
def test_a_bundle_for_other_questions_is_refused(root: Path, change: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = tasks.fingerprint()
    monkeypatch.setitem(TASKS, "expression", dataclasses.replace(TASKS["expression"], **change))
    message = refusal(root)
    assert f"trained for questions {trained}, installed are {tasks.fingerprint()}" in message
    assert "Install the version it was exported with, or export it again" in message


def test_a_prompts_file_travels_with_its_bundle(root: Path) -> None:
    model = dataclasses.replace(MODELS["tiny"], prompts_file="my.json")
    prompts = tasks.load_prompts(None) | {"domain": "How near?\n"}
    sign(root, model=model, prompts=prompts)
    assert bundles.load(root).manifest.prompts["domain"] == "How near?\n"


def test_labels_are_compared_also_where_the_prompts_are_the_bundles_own(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = dataclasses.replace(MODELS["tiny"], prompts_file="my.json")
    sign(root, model=model, prompts=tasks.load_prompts(None) | {"domain": "How near?\n"})
    spec = TASKS["expression"]
    monkeypatch.setitem(TASKS, "expression", dataclasses.replace(spec, labels=spec.labels[::-1]))
    assert "prompts, labels or views differ" in refusal(root)


def test_a_bundle_whose_own_prompts_lack_an_installed_question_is_refused(root: Path) -> None:
    sign(root, model=dataclasses.replace(MODELS["tiny"], prompts_file="my.json"))
    edit(root, lambda data: data["prompts"].pop("relation"))
    assert str(root / bundles.MANIFEST) in refusal(root)


def test_a_model_whose_prompts_come_first_is_asked_for_gaze_too(root: Path) -> None:
    model = dataclasses.replace(MODELS["tiny"], order="prompt_first")
    sign(root, model=model, prompts=tasks.load_prompts(None, "prompt_first"))
    assert bundles.load(root).manifest.prompts["gaze"] == TASKS["gaze"].lead
    sign(root, model=model)
    assert "prompts, labels or views differ" in refusal(root)


def test_prompts_that_differ_without_a_prompts_file_are_refused(root: Path) -> None:
    sign(root, prompts=tasks.load_prompts(None) | {"domain": "How near?\n"})
    assert "prompts, labels or views differ" in refusal(root)


def test_nothing_is_signed_without_parity(root: Path) -> None:
    (root / bundles.MANIFEST).unlink()
    with pytest.raises(BundleError, match="no parity result"):
        sign(root, parity={})
    assert not (root / bundles.MANIFEST).exists()


def test_nothing_is_signed_while_a_required_file_is_missing(root: Path) -> None:
    (root / bundles.MANIFEST).unlink()
    (root / bundles.LLM).unlink()
    with pytest.raises(BundleError, match=f"cannot write the manifest, '{bundles.LLM}' missing"):
        sign(root)
    assert not (root / bundles.MANIFEST).exists()


def test_one_form_of_vision_is_enough_and_none_is_too_few(root: Path) -> None:
    (root / bundles.MANIFEST).unlink()
    (root / bundles.VISION).rename(root / bundles.VISION_TORCH)
    sign(root)
    assert bundles.load(root).path(bundles.VISION_TORCH).is_file()
    (root / bundles.VISION_TORCH).unlink()
    with pytest.raises(BundleError, match=r"cannot write the manifest, 'vision.onnx' or .* missing"):
        sign(root)


def test_a_path_the_manifest_does_not_list_is_refused(root: Path) -> None:
    with pytest.raises(BundleError, match=r"has no 'vision\.trt'; its files are"):
        bundles.load(root).path("vision.trt")
