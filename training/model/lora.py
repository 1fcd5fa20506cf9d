"""LoRA on the LLM (Hu et al. 2022): `attach` adapters, `merge` them; merging leaves the answers unchanged."""

from __future__ import annotations

import warnings

from peft import LoraConfig, PeftModel, get_peft_model

from sf_ros.model.fusion import FusedModel


def attach(model: FusedModel, rank: int, alpha: int) -> FusedModel:
    """Freeze encoder and LLM, and put adapters on every linear layer of the LLM, in place.

    Only the LLM is wrapped: on the whole model peft's `all-linear` would include the connector. Trainable parts are
    connector, box embedding, heatmap head and adapters (paper section 3.4).
    """
    model.encoder.requires_grad_(False).eval()
    model.llm.requires_grad_(False)
    if model.output is not None:
        model.output.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft 0.21 reads an attribute that transformers 5 renames
        model.llm = get_peft_model(model.llm, LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear"))
    return model


def merge(model: FusedModel) -> FusedModel:
    """Fold the adapters into the weights of the LLM, in place."""
    if not isinstance(model.llm, PeftModel):
        raise ValueError("merge: the LLM has no adapters; call attach() first.")
    model.llm = model.llm.merge_and_unload()
    return model.eval()
