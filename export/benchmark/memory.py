"""Memory of the LLM without vocabulary against its causal LM:  python -m export.benchmark.memory [--measure]

A bundle's LLM has neither embedding nor output layer, only the embedded prompts and a few label rows. Parameters are
counted on the meta device. --measure writes zero weights of both to a temporary folder (paper: 4.4 GB) and loads each
in its own process: ours as the robot does, the causal LM with transformers. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from sf_ros.core.config import MODELS, LlmConfig
from sf_ros.core.fields import known
from sf_ros.core.text import command_line
from sf_ros.engines.fused.llm import load_llm
from sf_ros.model.fusion import build_llm, llama_config

STORED = torch.float16  # as in a bundle
PRECISIONS = ("float32", "bfloat16", "float16")
LLM, CAUSAL_LM = "llm", "causal_lm"
LLM_FILE = "llm.safetensors"
CHILD = "import sys; from export.benchmark.memory import load; load(*sys.argv[1:])"


def shapes(config: LlmConfig) -> dict[str, dict[str, torch.Size]]:
    """Stored tensors of the LLM without vocabulary and of the causal LM: name -> shape."""
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        llm, whole = build_llm(config).state_dict(), LlamaForCausalLM(llama_config(config)).state_dict()
    llm.pop("embed_tokens.weight")
    if config.tied:
        whole.pop("lm_head.weight")  # the same tensor as the embedding
    models = {LLM: llm, CAUSAL_LM: whole}
    return {name: {key: tensor.shape for key, tensor in tensors.items()} for name, tensors in models.items()}


def counted(config: LlmConfig, precision: str) -> dict[str, Any]:
    """Parameters and bytes of both models, and the share of bytes saved."""
    parameters = {name: sum(shape.numel() for shape in tensors.values()) for name, tensors in shapes(config).items()}
    size = getattr(torch, precision).itemsize
    return {
        "parameters": parameters,
        "bytes": {name: number * size for name, number in parameters.items()},
        "saved": round(1 - parameters[LLM] / parameters[CAUSAL_LM], 4),
    }


def measured(config: LlmConfig, precision: str, folder: Path) -> dict[str, Any]:
    """Peak growth in bytes of a process that loads each model, and the share saved. `folder` takes the weights."""
    for name, tensors in shapes(config).items():
        weights = {key: torch.zeros(shape, dtype=STORED) for key, shape in tensors.items()}
        save_file(weights, folder / (LLM_FILE if name == LLM else "model.safetensors"), metadata={"format": "pt"})
    del weights
    llama_config(config).save_pretrained(folder)
    peaks = {}
    for name in (LLM, CAUSAL_LM):
        words = [name, json.dumps(dataclasses.asdict(config)), precision, str(folder)]
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *words],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise OSError(f"loading the {name} ended with status {done.returncode}: {done.stderr[-2000:]}")
        peaks[name] = int(done.stdout.splitlines()[-1])
    return {"peak_bytes": peaks, "saved": round(1 - peaks[LLM] / peaks[CAUSAL_LM], 4)}


def load(name: str, config: str, precision: str, folder: str) -> None:
    """Load a model that `measured` wrote and print by how much the peak of this process grew.

    Every parameter is read once, as a forward pass would: transformers may only have mapped the file.
    """
    from transformers import LlamaForCausalLM

    llm, dtype, cpu = LlmConfig(**json.loads(config)), getattr(torch, precision), torch.device("cpu")
    before = _memory_bytes("VmRSS")
    if name == LLM:
        module = load_llm(llm, Path(folder) / LLM_FILE, cpu, dtype)
    else:
        module = LlamaForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    with torch.inference_mode():
        for parameter in module.parameters():
            parameter.max()
    print(_memory_bytes("VmHWM") - before)


def table(result: dict[str, Any]) -> Table:
    """Both models with parameters, MB and, where measured, MB at the peak of loading."""
    shown = Table("", "parameters", "MB", *(["MB at the peak of loading"] if result["measured"] else []))
    for key, name in ((LLM, "LLM without vocabulary"), (CAUSAL_LM, "causal LM")):
        row = [name, f"{result['counted']['parameters'][key]:,}", f"{result['counted']['bytes'][key] / 1e6:,.1f}"]
        shown.add_row(*row, *([f"{result['measured']['peak_bytes'][key] / 1e6:,.1f}"] if result["measured"] else []))
    peaks = [f"{result['measured']['saved']:.1%}"] if result["measured"] else []
    shown.add_row("saved", "", f"{result['counted']['saved']:.1%}", *peaks)
    return shown


@command_line
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m export.benchmark.memory", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--preset", default="paper", help=f"one of {', '.join(MODELS)} (default: %(default)s)")
    parser.add_argument("--precision", default="bfloat16", help=f"{', '.join(PRECISIONS)} (default: %(default)s)")
    parser.add_argument("--measure", action="store_true", help="also load both and report the peak of each process")
    options = parser.parse_args(argv)
    try:
        config = MODELS[known(options.preset, MODELS, "preset")].llm
        precision = known(options.precision, PRECISIONS, "precision")
        with tempfile.TemporaryDirectory() as folder:
            peaks = measured(config, precision, Path(folder)) if options.measure else None
    except (ValueError, OSError) as error:
        print(f"export.benchmark.memory: error: {error}", file=sys.stderr)
        return 2
    result = {
        "preset": options.preset, "precision": precision, "counted": counted(config, precision), "measured": peaks,
    }  # fmt: skip
    Console().print(table(result))
    print(json.dumps(result))
    return 0


def _memory_bytes(name: str) -> int:
    """VmRSS, the resident size of this process, or VmHWM, its peak (proc_pid_status(5)).

    resource.getrusage would include the peak of the parent process.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}; expected Linux's.")


if __name__ == "__main__":
    sys.exit(main())
