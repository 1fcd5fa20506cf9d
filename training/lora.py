"""LoRA on the language body (Hu et al. 2022): `attach` and `merge` are an inverse pair on the answers."""

from __future__ import annotations

from peft import LoraConfig, PeftModel, get_peft_model

from sf_ros.model.fusion import FusedModel


def attach(model: FusedModel, rank: int, alpha: int) -> FusedModel:
    """Freeze encoder and body, and put adapters on every linear layer of the body, in place.

    Only the body is wrapped: on the whole model peft's `all-linear` would take the connector too. What stays trainable
    is the connector, the box embedding, the heatmap head and the adapters (paper section 3.4).
    """
    model.encoder.requires_grad_(False).eval()
    model.body.requires_grad_(False)
    if model.output is not None:
        model.output.requires_grad_(False)
    model.body = get_peft_model(model.body, LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear"))
    return model


def merge(model: FusedModel) -> FusedModel:
    """The same model whose body has the adapters folded into its weights, in place: a plain Llama body again."""
    if not isinstance(model.body, PeftModel):
        raise ValueError("merge: the language body carries no adapters; attach() comes first.")
    model.body = model.body.merge_and_unload()
    return model.eval()
