"""A bundle's weights behind its vision, for every layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import REEXPORT, Bundle, BundleError
from sf_ros.core.cues import TASKS
from sf_ros.engines.fused.llm import LlamaDecoder, load_llm
from sf_ros.engines.fused.tensors import check_tensors
from sf_ros.model.published import WeightsError
from sf_ros.model.weights import fill, read_weights

Tensors = dict[str, Tensor]  # by task


def labelled(bundle: Bundle) -> list[str]:
    """The bundle's tasks that answer with labels."""
    return [name for name in bundle.tasks if TASKS[name].kind == "label"]


def load_parts(
    bundle: Bundle, modules: Mapping[str, nn.Module], prompted: Sequence[str], device: torch.device, dtype: torch.dtype
) -> tuple[LlamaDecoder, Tensors, Tensors]:
    """The LLM in `dtype`, prompts (T, D) of the tasks `prompted`, and label rows (labels, D), in float32.

    modules: filled in float32, by the prefix of their weights; they may be on the meta device. BundleError when weights
    do not fit the manifest's model.
    """
    path = bundle.path(bundles.ANSWERS)
    check_tensors(bundle, modules)
    try:
        llm = load_llm(bundle.manifest.model.llm, bundle.path(bundles.LLM), device, dtype)
        for name, module in modules.items():
            fill(module, path, device, torch.float32, f"{name}.")
        tensors = read_weights(path, device, torch.float32)
        prompts = {name: tensors[f"prompt.{name}"] for name in prompted}
        label_rows = {name: tensors[f"rows.{name}"] for name in labelled(bundle)}
    except (KeyError, RuntimeError, WeightsError) as error:
        raise BundleError(f"{bundle.root}: weights do not fit the manifest's model ({error}). {REEXPORT}") from error
    return llm, prompts, label_rows
