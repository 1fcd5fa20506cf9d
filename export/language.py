"""The language side of a bundle: the LoRA-merged body, embedded prompts, label rows, heatmap head."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from sf_ros.core.bundle import ANSWERS, LANGUAGE
from sf_ros.model.fusion import FusedModel

PRECISION = torch.float16


def export_language(merged: FusedModel, root: Path) -> None:
    """Write body and answers in float16; no tokenizer and no vocabulary matrix travels along.

    `merged` is a model without adapters (training.lora.merge).
    """
    body = {k: v.to(PRECISION).contiguous() for k, v in merged.body.state_dict().items() if k != "embed_tokens.weight"}
    (root / LANGUAGE).parent.mkdir(parents=True, exist_ok=True)
    save_file(body, root / LANGUAGE)
    answers = {}
    for name, ids in merged.answer_ids.items():
        answers[f"prompt.{name}"] = merged.prompt(name).detach().to(PRECISION).contiguous()
        answers[f"rows.{name}"] = merged.output_rows.detach()[ids].to(PRECISION).contiguous()
    for key, value in merged.heatmap.state_dict().items():
        answers[f"heatmap.{key}"] = value.to(PRECISION).contiguous()
    save_file(answers, root / ANSWERS)
