"""A trained model on disk: configuration, tokenizer and weights, as safetensors; every load is strict."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from sf_ros.model.fusion import FusedModel
from training.config import TrainConfig
from training.lora import attach
from training.pretraining.tokenizer import load_tokenizer

CONFIG = "config.json"


def save(
    model: FusedModel, tokenizer: PreTrainedTokenizerFast, config: TrainConfig, out: Path, notes: dict | None = None
) -> None:
    """Write a checkpoint folder; the adapters stay separate from the body they were trained on."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(out / "tokenizer")
    for name, part in model.parts().items():
        save_module(part, out / f"{name}.safetensors")
    adapters = get_peft_model_state_dict(model.body)
    save_file({k: v.contiguous() for k, v in adapters.items()}, out / "adapters.safetensors")
    base = {k: v for k, v in model.body.base_model.model.state_dict().items() if "lora_" not in k}
    save_file({k.replace(".base_layer", ""): v.contiguous() for k, v in base.items()}, out / "body.safetensors")
    (out / CONFIG).write_text(json.dumps({"train": config.to_dict(), "notes": notes or {}}, indent=2) + "\n")


def load(path: str | Path) -> tuple[FusedModel, PreTrainedTokenizerFast, TrainConfig]:
    """A checkpoint with adapters attached, in evaluation mode. ValueError when the folder is not one."""
    path = Path(path)
    if not (path / CONFIG).is_file():
        raise ValueError(
            f"{path}: no {CONFIG} here, so this is not a checkpoint. "
            "Make one with: python -m training.train tiny --data scenes --out DIR"
        )
    config = TrainConfig.from_dict(json.loads((path / CONFIG).read_text())["train"])
    tokenizer = load_tokenizer(path / "tokenizer")
    model = FusedModel(config.model, tokenizer)
    for name, part in {**model.parts(), "body": model.body}.items():
        load_module(part, path / f"{name}.safetensors")
    attach(model, config.lora_rank, config.lora_alpha)
    result = set_peft_model_state_dict(model.body, read_weights(path / "adapters.safetensors"))
    missing = [k for k in result.missing_keys if "lora_" in k]
    if missing or result.unexpected_keys:
        raise ValueError(
            f"{path / 'adapters.safetensors'}: missing {missing[:3]}, unexpected {result.unexpected_keys[:3]}."
        )
    return model.eval(), tokenizer, config


def notes(path: str | Path) -> dict:
    """What training wrote down about itself."""
    return json.loads((Path(path) / CONFIG).read_text())["notes"]


def save_module(module: nn.Module, path: Path) -> None:
    """A module's weights as safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}, path)


def load_module(module: nn.Module, path: Path) -> None:
    """Load weights written by save_module; every key must be there and no other. ValueError otherwise."""
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
    """How many weights the optimiser may change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    import peft
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}


def commit() -> str:
    """The checkout's commit, 'unknown' outside a repository."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return done.stdout.strip() or "unknown"
