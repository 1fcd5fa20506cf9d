"""A trained model on disk: configuration, tokenizer and weights as safetensors; every load is strict.

Frozen weights that were pre-trained here are in the folder. Published ones (2.5 GB of Llama in the paper's preset) are
not: the folder names their source and a hash of their values, which loading compares.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import PartialState
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from sf_ros.model.fusion import FusedModel
from sf_ros.model.published import WeightsError
from training.config import TrainConfig
from training.data.cache import tensors_key
from training.model.lora import attach
from training.model.published import published_model
from training.pretraining.tokenizer import load_tokenizer
from training.trainer.folder import damaged, hashes, saving, swap
from training.trainer.state import whole

CONFIG = "config.json"
FROZEN = ("encoder", "llm", "output")  # parts that are never trained


def save(
    model: FusedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: TrainConfig,
    out: Path,
    notes: dict | None = None,
) -> None:
    """Write a checkpoint folder; the adapters stay separate from the LLM.

    An earlier checkpoint is replaced as a whole. Every process must call it, since weights may be sharded; the main one
    writes. OSError in one line where the disk is full.
    """
    frozen = frozen_weights(model)
    parts = {"adapters": get_peft_model_state_dict(model.llm)}
    parts |= {name: part.state_dict() for name, part in model.parts().items() if name not in FROZEN}
    keys: dict[str, str] = {}
    if config.weights is None:
        parts |= frozen
    else:
        keys = {name: tensors_key(_gathered(tensors)) for name, tensors in frozen.items()}
    fresh = _fresh(out)
    if PartialState().is_main_process:
        shutil.rmtree(fresh, ignore_errors=True)
    with saving(fresh, "Free some space, then resume the run."):
        for name, tensors in parts.items():
            _write(tensors, fresh / f"{name}.safetensors")
        if PartialState().is_main_process:
            tokenizer.save_pretrained(fresh / "tokenizer")
            facts = {"train": config.to_dict(), "tasks": list(model.tasks), "frozen": keys, "notes": notes or {}}
            facts["hashes"] = hashes(fresh)
            (fresh / CONFIG).write_text(json.dumps(facts, indent=2) + "\n")
            old = out.with_name(f"{out.name}.old")
            swap(fresh, out, old)
            shutil.rmtree(old, ignore_errors=True)


def load(path: str | Path) -> tuple[FusedModel, PreTrainedTokenizerBase, TrainConfig]:
    """The model of a checkpoint with adapters attached, in float32 and evaluation mode.

    ValueError when the folder is no checkpoint or damaged, or when the frozen weights it refers to are missing or
    differ.
    """
    path = Path(path)
    if not (path / CONFIG).is_file():
        remedy = "Make one with: python -m training.train tiny --data scenes --out DIR"
        if (_fresh(path) / CONFIG).is_file():
            remedy = f"{_fresh(path)} is whole, but its writing was interrupted: rename it to {path.name}."
        raise ValueError(f"{path}: not a checkpoint, it has no {CONFIG}. {remedy}")
    facts = json.loads((path / CONFIG).read_text())
    if name := damaged(path, facts.get("hashes", {})):  # checkpoints of earlier versions have none
        raise ValueError(
            f"{path / name}: damaged (it has changed since it was written). Copy the checkpoint again, or resume its "
            "training."
        )
    config = TrainConfig.from_dict(facts["train"])
    tokenizer = load_tokenizer(path / "tokenizer")
    if config.weights is None:
        model = FusedModel(config.model, tokenizer, tasks=facts["tasks"])
        stored = [*model.parts(), "llm"]
    else:
        model = _on_published(path, config, facts["tasks"], facts["frozen"])
        stored = [name for name in model.parts() if name not in FROZEN]
    for name, part in {**model.parts(), "llm": model.llm}.items():
        if name in stored:
            load_module(part, path / f"{name}.safetensors")
    attach(model, config.lora_rank, config.lora_alpha)
    result = set_peft_model_state_dict(model.llm, read_weights(path / "adapters.safetensors"))
    missing = [k for k in result.missing_keys if "lora_" in k]
    if missing or result.unexpected_keys:
        raise ValueError(
            f"{path / 'adapters.safetensors'}: missing {missing[:3]}, unexpected {result.unexpected_keys[:3]}."
        )
    return model.float().eval(), tokenizer, config


def _fresh(path: Path) -> Path:
    """Where a checkpoint is written before it takes the place of an earlier one."""
    return path.with_name(f"{path.name}.new")


def _on_published(path: Path, config: TrainConfig, tasks: list[str], keys: Mapping[str, str]) -> FusedModel:
    """The model on the published weights that a checkpoint refers to. WeightsError if their values differ."""
    hint = f"The frozen weights are not copied into the checkpoint; {path / CONFIG} names them under train.weights"
    try:
        model, _, _ = published_model(config, tasks)
    except WeightsError as error:
        raise WeightsError(f"{error} {hint}: enter their new location there.") from error
    for name, tensors in frozen_weights(model).items():
        if (key := tensors_key(tensors)) != keys[name]:
            raise WeightsError(
                f"{path}: was trained on a frozen '{name}' of hash {keys[name]}; the one found now has {key}. "
                f"{hint}: enter the location of the same ones."
            )
    return model


def frozen_weights(model: FusedModel) -> dict[str, dict[str, Tensor]]:
    """Weights that are never trained, by part; those of the LLM by their plain names, with or without adapters."""
    frozen = {name: part.state_dict() for name, part in model.parts().items() if name in FROZEN}
    llm = model.llm.base_model.model if isinstance(model.llm, PeftModel) else model.llm
    plain = {key.replace(".base_layer", ""): value for key, value in llm.state_dict().items() if "lora_" not in key}
    return {**frozen, "llm": plain}


def tasks(path: str | Path) -> tuple[str, ...]:
    """The tasks that a checkpoint was trained for."""
    return tuple(json.loads((Path(path) / CONFIG).read_text())["tasks"])


def notes(path: str | Path) -> dict:
    """The facts of the training run."""
    return json.loads((Path(path) / CONFIG).read_text())["notes"]


def save_module(module: nn.Module, path: Path) -> None:
    """A module's weights as safetensors."""
    _write(module.state_dict(), path)


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, gathered if sharded; the main process writes."""
    gathered = _gathered(tensors)
    if PartialState().is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(gathered, path)


def _gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: whole(tensor).contiguous() for name, tensor in tensors.items()}


def load_module(module: nn.Module, path: Path) -> None:
    """Load weights written by save_module. ValueError unless the file has exactly the module's keys."""
    try:
        module.load_state_dict(read_weights(path), strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path}: not the weights of this model ({' '.join(str(error).split())}).") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; ValueError when it is damaged."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged ({error}). Copy the checkpoint again, or resume its training.") from error


def trainable_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def versions() -> dict[str, str]:
    """Versions of the libraries that results depend on."""
    import peft
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}


def commit() -> str:
    """The commit of the working tree, 'unknown' outside a repository."""
    process = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return process.stdout.strip() or "unknown"
