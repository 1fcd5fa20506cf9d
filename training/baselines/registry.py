"""Loading of VLMs by hub id or local folder."""

from __future__ import annotations

from transformers import AutoProcessor, InternVLForConditionalGeneration, Qwen2VLForConditionalGeneration

from sf_ros.core.fields import NotAvailable
from training.baselines.assembled import read_config
from training.baselines.molmoe import load_molmoe
from training.baselines.sail_vl import load_sail_vl
from training.baselines.vlm import ProcessorReader, Vlm, VlmConfig

# model_type -> class of transformers that loads the published layout
KINDS = {"qwen2_vl": Qwen2VLForConditionalGeneration, "internvl": InternVLForConditionalGeneration}


def load_vlm(name: str, config: VlmConfig | None = None) -> Vlm:
    """A VLM by hub id or local folder, with fresh adapters.

    Supported: Qwen2-VL (Qwen/Qwen2-VL-2B-Instruct), InternVL3 (OpenGVLab/InternVL3-2B-hf), SAIL-VL
    (BytedanceDouyinContent/SAIL-VL-1d5-2B) and MolmoE (allenai/MolmoE-1B-0924, with image_size 336). NotAvailable for
    other models.
    """
    config = config or VlmConfig()
    facts = read_config(name)
    kind, architectures = facts.get("model_type"), facts.get("architectures") or ()
    if "SailVLModel" in architectures:
        return load_sail_vl(name, facts, config)
    if kind == "molmo" and "moe_num_experts" in facts:
        return load_molmoe(name, facts, config)
    if kind not in KINDS:
        hint = " Use the model whose name ends in -hf." if "InternVLChatModel" in architectures else ""
        raise NotAvailable(f"{name}: model type '{kind}' is not supported; expected one of {', '.join(KINDS)}.{hint}")
    model = KINDS[kind].from_pretrained(name, dtype=config.dtype)
    return Vlm(model, model.model.language_model, ProcessorReader(AutoProcessor.from_pretrained(name)), config)
