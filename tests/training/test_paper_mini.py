"""The paper's preset at toy size from the command line: published weights, five datasets, kills, scores."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sf_ros.core.cues import TASKS
from tests.training import miniature, published
from training import evaluate, train
from training.config import preset
from training.evaluation import score
from training.trainer import checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights and datasets, named by miniature.options."""
    root = tmp_path_factory.mktemp("world")
    miniature.write_all(root)
    return root


def command(world: Path, out: Path, *more: str) -> list[str]:
    return ["paper-mini", *miniature.options(world), "--out", str(out), "--workers", "0", *more]


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken run."""
    out = tmp_path_factory.mktemp("unbroken") / "run"
    assert train.main(command(world, out)) == 0
    return out


def history(out: Path) -> list[dict[str, float]]:
    return json.loads((out / "joint" / "state" / "history.json").read_text())


def test_frozen_weights_are_not_copied(run: Path, world: Path) -> None:
    names = {path.name for path in (run / "checkpoint").glob("*.safetensors")}
    assert names == {"adapters.safetensors", "connector.safetensors", "heatmap.safetensors"}
    facts = json.loads((run / "checkpoint" / "config.json").read_text())
    assert facts["train"]["weights"] == {"encoder": [str(world / "clip")], "llm": str(world / "llama")}
    state = load_file(run / "joint" / "state" / "model.safetensors")
    model, _, _ = checkpoint.load(run / "checkpoint")
    assert set(state) == {f"trained.{name}" for name, weight in model.named_parameters() if weight.requires_grad}


def test_a_checkpoint_loads_published_and_trained_weights(run: Path, world: Path) -> None:
    model, tokenizer, config = checkpoint.load(run / "checkpoint")
    llm = load_file(world / "llama" / "model.safetensors")
    assert llm["model.embed_tokens.weight"].dtype == torch.bfloat16
    frozen = checkpoint.frozen_weights(model)["llm"]
    assert all(torch.equal(frozen[key.removeprefix("model.")], value.float()) for key, value in llm.items())
    encoder = load_file(world / "clip" / "model.safetensors")["vision_model.pre_layrnorm.weight"]
    assert torch.equal(model.encoder.tower.pre_layrnorm.weight, encoder)
    state = load_file(run / "joint" / "state" / "model.safetensors")
    assert all(
        torch.equal(weight, state[f"trained.{n}"]) for n, weight in model.named_parameters() if weight.requires_grad
    )
    assert config.model.llm.dim == miniature.SIZES["hidden_size"] and len(tokenizer) == len(
        llm["model.embed_tokens.weight"]
    )


def test_other_frozen_weights_are_an_error(run: Path, world: Path, tmp_path: Path) -> None:
    moved, folder = tmp_path / "llama", tmp_path / "checkpoint"
    shutil.copytree(run / "checkpoint", folder)
    shutil.copytree(world / "llama", moved)
    facts = json.loads((folder / "config.json").read_text())
    facts["train"]["weights"]["llm"] = str(moved)
    (folder / "config.json").write_text(json.dumps(facts))
    checkpoint.load(folder)  # the same weights in another place
    weights = load_file(moved / "model.safetensors")
    save_file(weights | {"model.norm.weight": weights["model.norm.weight"] + 1}, moved / "model.safetensors")
    with pytest.raises(ValueError, match=r"a frozen 'llm' of hash \w{12}; the one found now has \w{12}"):
        checkpoint.load(folder)
    shutil.rmtree(moved)
    with pytest.raises(ValueError, match=r"llama: no such file or folder.*train\.weights: enter their new location"):
        checkpoint.load(folder)


def test_validation_scores_are_in_the_history(run: Path) -> None:
    steps = history(run)
    scored = [number for number, entry in enumerate(steps) if any(key.startswith("val/") for key in entry)]
    assert len(steps) == 8 and scored == [3, 7]
    tasks = {key.split()[0].removeprefix("val/") for key in steps[3] if key.startswith("val/")}
    assert tasks == set(TASKS)
    assert (run / "curves.png").exists()


@pytest.mark.slow
@pytest.mark.timeout(4600)
def test_a_run_killed_twice_equals_an_unbroken_one(run: Path, world: Path, tmp_path: Path) -> None:
    """SIGKILL after the second and the fifth state."""
    out, kills = tmp_path / "run", 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    for steps in (2, 5, None):
        process = subprocess.Popen(
            [sys.executable, "-m", "training.train", *command(world, out, "--resume")],
            cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        while steps is not None and process.poll() is None and _steps(out) < steps:
            time.sleep(0.005)
        if steps is not None and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        _, errors = process.communicate(timeout=1500)
        assert process.returncode in (0, -signal.SIGKILL), errors[-2000:]
    assert kills == 2
    assert history(out) == history(run)
    for path in (run / "checkpoint").glob("*.safetensors"):
        assert (out / "checkpoint" / path.name).read_bytes() == path.read_bytes()


def _steps(out: Path) -> int:
    try:
        return len(history(out))
    except (OSError, ValueError):  # between two renames
        return 0


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_prints_the_papers_table(
    split: str, run: Path, world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(score, "worker_pool", lambda workers: ThreadPoolExecutor(1))  # processes take seconds
    assert evaluate.main([str(run / "checkpoint"), "--data", str(world / "data"), "--split", split]) == 0
    shown = capsys.readouterr()
    results = json.loads(shown.out.splitlines()[-1])
    hidden = {"looking_at_me"} if split == "test" else set()
    assert set(results) == set(TASKS) - hidden
    assert ("'looking_at_me' is skipped" in shown.err) == bool(hidden)
    line = next(line for line in shown.out.splitlines() if "GazeFollow Min L2" in line)
    assert f"{results['gaze']['metrics']['min_L2']:.3f}" in line and "0.065" in line, "not beside the paper's"
    assert "this run" in shown.out and ("Table 7" if split == "test" else "Table 1") in shown.out
    assert "Avg L2 is to the mean annotation" in shown.out


def test_damaged_datasets_train_and_report_losses(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = published.everything(tmp_path / "data")
    annotations = data / "hagridv2" / "hagrid_annotations" / "train"
    (annotations / "call.json").write_text((annotations / "call.json").read_text()[:40])
    (annotations / "like.json").unlink()
    shutil.rmtree(data / "hagridv2" / "hagrid_dataset" / "peace")
    for part in ("gazefollow/train", "pisc/image", "affectnet/train_set/images"):
        for path in sorted((data / part).rglob("*.jpg"))[::2]:
            published.truncated(path)
    shutil.rmtree(data / "ego4d" / "split")
    (data / "ego4d" / "split").mkdir()
    (data / "ego4d" / "split" / "train.list").write_text("clip-a\n")  # and no validation
    options = command(world, tmp_path / "run", "--steps", "24")
    options[options.index("--data") + 1] = str(data)
    assert train.main(options) == 0
    shown = capsys.readouterr()
    result = json.loads(shown.out.splitlines()[-1])
    reasons = {"unreadable annotations": 1, "annotations of a class missing": 1}
    assert result["left_out"]["gesture"] == {**reasons, "images of a class missing": 1}
    assert result["left_out"]["gaze"] == {"unreadable image": 2}
    assert {name for name in ("pisc", "affectnet") for text in result["broken"] if f"/{name}/" in text} == {
        "pisc",
        "affectnet",
    }
    assert "no validation of 'looking_at_me'" in shown.err
    assert not any("looking_at_me" in key for key in result["validation"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: shutil.rmtree(data / "hagridv2"), "hagridv2: no such folder, needed for 'gesture'. How to"),
        (lambda data: (data / "pisc" / "domain.json").write_text('{"1": '), "domain.json: not valid JSON"),
        (lambda data: [p.unlink() for p in (data / "pisc" / "image").iterdir()], "6 x image missing"),
        (lambda data: [published.truncated(p) for p in data.rglob("gazefollow/**/*.jpg")], "unreadable image"),
    ],
    ids=["no folder", "truncated JSON", "no images", "truncated images"],
)  # fmt: skip
def test_an_unusable_dataset_is_a_one_line_error(
    damage, message: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = published.everything(tmp_path / "data")
    damage(data)
    options = command(world, tmp_path / "run", "--preset.validate-every", "0")
    options[options.index("--data") + 1] = str(data)
    assert train.main(options) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_missing_weights_are_an_error_with_a_remedy(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(world / "data"), "--out", str(tmp_path / "run")]
    assert train.main(["paper", *options]) == 2
    assert "hf download meta-llama/Llama-3.2-1B" in capsys.readouterr().err
    assert train.main(["paper", *options, "--llm", str(world / "llama")]) == 2
    assert "hf download openai/clip-vit-large-patch14-336" in capsys.readouterr().err
    assert train.main(["smoke", *options, "--llm", str(world / "llama")]) == 2
    assert "preset 'smoke' trains its own encoder and LLM" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_random_weights_measure_a_step(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", str(world / "data"), "--out", str(tmp_path), "--workers", "0", "--steps", "1", "--random"]
    small = ("dim=32", "depth=2", "heads=2", "kv-heads=1", "mlp=48", "vocabulary=1024")
    sizes = [f"--preset.model.llm.{field}" for field in small]
    assert train.main(["paper-mini", *options, *sizes]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["steps"] == 1 and result["seconds_per_step"] > 0 and result["peak_memory_gb"] > 0
    assert "checkpoint" not in result and not (tmp_path / "checkpoint").exists() and result["validation"] == {}


def test_paper_mini_differs_from_paper_in_sizes_only() -> None:
    mini, paper = preset("paper-mini").to_dict(), preset("paper").to_dict()
    other = {key for key in paper if paper[key] != mini[key]}
    assert other == {"name", "model", "weights", "joint", "lora_rank", "lora_alpha", "compile", "save_every",
                     "validate_every", "validate_samples"}  # fmt: skip
    stages = paper["joint"], mini["joint"]
    assert {key for key in stages[0] if stages[0][key] != stages[1][key]} == {"steps", "batch_size", "warmup"}
