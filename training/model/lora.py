"""LoRA on the LLM (Hu et al. 2022): `attach` and `merge` are an inverse pair on the answers."""

from __future__ import annotations

from peft import LoraConfig, PeftModel, get_peft_model

from sf_ros.model.fusion import FusedModel


def attach(model: FusedModel, rank: int, alpha: int) -> FusedModel:
    """Freeze encoder and llm, and put adapters on every linear layer of the llm, in place.

    Only the llm is wrapped: on the whole model peft's `all-linear` would take the connector too. What stays trainable
    is the connector, the box embedding, the heatmap head and the adapters (paper section 3.4).
    """
    model.encoder.requires_grad_(False).eval()
    model.llm.requires_grad_(False)
    if model.output is not None:
        model.output.requires_grad_(False)
    model.llm = get_peft_model(model.llm, LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear"))
    return model


def merge(model: FusedModel) -> FusedModel:
    """The same model whose llm has the adapters folded into its weights, in place: a plain Llama llm again."""
    if not isinstance(model.llm, PeftModel):
        raise ValueError("merge: the LLM carries no adapters; attach() comes first.")
    model.llm = model.llm.merge_and_unload()
    return model.eval()
