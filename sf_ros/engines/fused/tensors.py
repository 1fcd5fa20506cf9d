"""Names, shapes and dtypes of a bundle's tensors against its model, before any of them is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import nn

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import Bundle, BundleError
from sf_ros.core.config import LlmConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.text import printable

Shape = tuple[int, ...]
DTYPES = ("F16", "BF16", "F32")  # safetensors' names
MAX_PROMPT_TOKENS = 1024  # of one task


def check_tensors(bundle: Bundle, modules: Mapping[str, nn.Module]) -> None:
    """BundleError unless LLM and answers have the tensors of the manifest's model and tasks.

    Prompts and label rows of other tasks may be there.

    modules: by the prefix of their weights among the answers; they may be on the meta device.
    """
    manifest = bundle.manifest
    compare(bundle.path(bundles.LLM), llm_shapes(manifest.model.llm))
    path, model = bundle.path(bundles.ANSWERS), manifest.model
    expected = module_shapes(modules)
    found = shapes(path)
    learned, lengths = model.prompt_style == "learned", {}
    for name in manifest.tasks:
        if name in TASKS and TASKS[name].kind == "label":
            expected[f"rows.{name}"] = (len(TASKS[name].labels), model.llm.dim)
    for key, shape in found.items():
        part, _, name = key.partition(".")
        if part == "prompt":
            lengths[name] = model.learned_prompts if learned else (*shape, 0)[0]
            expected[key] = (lengths[name], model.llm.dim)
        elif part == "rows" and key not in expected:  # of a task that is not the manifest's, or not installed
            expected[key] = ((*shape, 0)[0], model.llm.dim)
    _compare(path, found, expected)
    together: dict[object, int] = {}
    for name, length in lengths.items():
        if not 1 <= length <= MAX_PROMPT_TOKENS:
            raise _misfit(path, f"prompt.{printable(name[:60])} has {length} tokens", f"1..{MAX_PROMPT_TOKENS}")
        kind = TASKS[name].view_key if name in TASKS else name
        together[kind] = together.get(kind, model.visual_tokens) + length
    if together and (longest := max(together.values())) > model.llm.context:
        raise _misfit(path, f"{longest} visual tokens and prompts", f"{model.llm.context}, the LLM's context, or fewer")


def llm_shapes(config: LlmConfig) -> dict[str, Shape]:
    """The shapes of an LLM's weights by transformers' names, without vocabulary."""
    dim, size = config.dim, config.dim // config.heads
    layer: dict[str, Shape] = {
        "input_layernorm": (dim,),
        "post_attention_layernorm": (dim,),
        "self_attn.q_proj": (dim, dim),
        "self_attn.k_proj": (config.kv_heads * size, dim),
        "self_attn.v_proj": (config.kv_heads * size, dim),
        "self_attn.o_proj": (dim, dim),
        "mlp.gate_proj": (config.mlp, dim),
        "mlp.up_proj": (config.mlp, dim),
        "mlp.down_proj": (dim, config.mlp),
    }
    layers = {f"layers.{i}.{name}.weight": shape for i in range(config.depth) for name, shape in layer.items()}
    return {**layers, "norm.weight": (dim,)}


def module_shapes(modules: Mapping[str, nn.Module]) -> dict[str, Shape]:
    """The shapes of modules' weights, each under a prefix."""
    return {
        f"{prefix}.{name}": tuple(weight.shape)
        for prefix, module in modules.items()
        for name, weight in module.state_dict().items()
    }


def shapes(path: Path) -> dict[str, Shape]:
    """The shapes in a safetensors file, read from its header. BundleError when it is damaged, or for other dtypes."""
    try:
        with safe_open(path, "pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
            found = {key: tuple(one.get_shape()) for key, one in slices.items()}
            dtypes = {key: one.get_dtype() for key, one in slices.items()}
    except (OSError, SafetensorError) as error:
        raise _misfit(path, f"a damaged file ({str(error).splitlines()[0][:100]})", "safetensors") from error
    for key, dtype in dtypes.items():
        if dtype not in DTYPES:
            raise _misfit(path, f"{key[:60]!a} in {dtype}", " or ".join(DTYPES))
    return found


def compare(path: Path, expected: Mapping[str, Shape]) -> None:
    """BundleError unless a file has exactly these tensors."""
    _compare(path, shapes(path), expected)


def _compare(path: Path, found: Mapping[str, Shape], expected: Mapping[str, Shape]) -> None:
    for key, shape in expected.items():
        if key not in found:
            raise _misfit(path, f"no {key}", str(shape))
        if found[key] != shape:
            raise _misfit(path, f"{printable(key[:60])} of {found[key]}", str(shape))
    for key in found.keys() - expected.keys():
        raise _misfit(path, f"{key[:60]!a}", "no such tensor")


def _misfit(path: Path, found: str, expected: str) -> BundleError:
    return BundleError(
        f"{path}: weights do not fit the manifest's model: {found} found, {expected} expected. {bundles.REEXPORT}"
    )
