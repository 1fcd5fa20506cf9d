"""Export of the LLM: LoRA-merged weights, embedded prompts, label rows, heatmap head and box tokens."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from sf_ros.core.bundle import ANSWERS, LLM
from sf_ros.model.fusion import FusedModel

PRECISION = torch.float16


def export_llm(merged: FusedModel, root: Path) -> None:
    """Write LLM and ANSWERS in float16, without tokenizer and vocabulary matrix.

    `merged`: a model without adapters (training.model.lora.merge).
    """
    weights = merged.llm.state_dict()
    del weights["embed_tokens.weight"]
    llm = {name: weight.to(PRECISION).contiguous() for name, weight in weights.items()}
    (root / LLM).parent.mkdir(parents=True, exist_ok=True)
    save_file(llm, root / LLM)
    answers = {}
    for name in merged.prompted:
        answers[f"prompt.{name}"] = merged.prompt(name).detach().to(PRECISION).contiguous()
    for name, ids in merged.answer_ids.items():
        answers[f"rows.{name}"] = merged.output_rows.detach()[ids].to(PRECISION).contiguous()
    parts = {"heatmap": merged.heatmap, "box_tokens": merged.box_tokens}
    for part, module in parts.items():
        for key, value in {} if module is None else module.state_dict().items():
            answers[f"{part}.{key}"] = value.to(PRECISION).contiguous()
    save_file(answers, root / ANSWERS)
