"""Memory of the LLM against the causal LM it was taken from:  python -m export.benchmark.memory [--measure]

A bundle's llm has no vocabulary: neither the embedding nor the output layer, but the embedded prompts and a few label
rows. Parameters are counted on the meta device. --measure writes weights of zeros of both into a temporary folder
(paper: 4.4 GB) and loads each in a process of its own: ours as the robot does, the whole as transformers does. The last
line of stdout is one JSON object.
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

from sf_ros.core.config import MODELS, LlmConfig, known
from sf_ros.engines.fused.llm import load_llm
from sf_ros.model.fusion import build_llm, llama_config

STORED = torch.float16  # as in a bundle
PRECISIONS = ("float32", "bfloat16", "float16")
BODY, CAUSAL_LM = "llm", "causal_lm"
BODY_FILE = "llm.safetensors"
CHILD = "import sys; from export.benchmark.memory import loading; loading(*sys.argv[1:])"


def shapes(config: LlmConfig) -> dict[str, dict[str, torch.Size]]:
    """Stored tensors of the llm without vocabulary and of the causal LM: name -> shape."""
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        llm, whole = build_llm(config).state_dict(), LlamaForCausalLM(llama_config(config)).state_dict()
    llm.pop("embed_tokens.weight")
    if config.tied:
        whole.pop("lm_head.weight")  # the embedding itself
    kinds = {BODY: llm, CAUSAL_LM: whole}
    return {kind: {name: tensor.shape for name, tensor in tensors.items()} for kind, tensors in kinds.items()}


def counted(config: LlmConfig, precision: str) -> dict[str, Any]:
    """Parameters and bytes of each, and which share of the bytes the llm saves."""
    parameters = {kind: sum(shape.numel() for shape in found.values()) for kind, found in shapes(config).items()}
    size = getattr(torch, precision).itemsize
    return {
        "parameters": parameters,
        "bytes": {kind: number * size for kind, number in parameters.items()},
        "saved": round(1 - parameters[BODY] / parameters[CAUSAL_LM], 4),
    }


def measured(config: LlmConfig, precision: str, folder: Path) -> dict[str, Any]:
    """The most that loading each takes beyond Python and its packages, and the share that the llm saves."""
    for kind, tensors in shapes(config).items():
        weights = {name: torch.zeros(shape, dtype=STORED) for name, shape in tensors.items()}
        name = BODY_FILE if kind == BODY else "model.safetensors"
        save_file(weights, folder / name, metadata={"format": "pt"})
    del weights
    llama_config(config).save_pretrained(folder)
    peaks = {}
    for kind in (BODY, CAUSAL_LM):
        told = [kind, json.dumps(dataclasses.asdict(config)), precision, str(folder)]
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *told],
            cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise OSError(f"loading the {kind} ended with status {done.returncode}: {done.stderr[-2000:]}")
        peaks[kind] = int(done.stdout.splitlines()[-1])
    return {"peak_bytes": peaks, "saved": round(1 - peaks[BODY] / peaks[CAUSAL_LM], 4)}


def loading(kind: str, config: str, precision: str, folder: str) -> None:
    """Load one of what `measured` wrote, and print what the peak of this process grew by: run in a process of its own.

    Every parameter is read once, as a pass would: transformers may have mapped it from the file and not more.
    """
    from transformers import LlamaForCausalLM

    llm, dtype, cpu = LlmConfig(**json.loads(config)), getattr(torch, precision), torch.device("cpu")
    before = _memory_bytes("VmRSS")
    if kind == BODY:
        module = load_llm(llm, Path(folder) / BODY_FILE, cpu, dtype)
    else:
        module = LlamaForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    with torch.inference_mode():
        for parameter in module.parameters():
            parameter.max()
    print(_memory_bytes("VmHWM") - before)


def table(result: dict[str, Any]) -> Table:
    """For people to read."""
    shown = Table("", "parameters", "MB", *(["MB at the peak of loading"] if result["measured"] else []))
    for kind, name in ((BODY, "our llm"), (CAUSAL_LM, "the causal LM")):
        row = [name, f"{result['counted']['parameters'][kind]:,}", f"{result['counted']['bytes'][kind] / 1e6:,.1f}"]
        shown.add_row(*row, *([f"{result['measured']['peak_bytes'][kind] / 1e6:,.1f}"] if result["measured"] else []))
    peaks = [f"{result['measured']['saved']:.1%}"] if result["measured"] else []
    shown.add_row("saved", "", f"{result['counted']['saved']:.1%}", *peaks)
    return shown


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m export.benchmark.memory", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--preset", default="paper", help=f"one of {', '.join(MODELS)} (default: %(default)s)")
    parser.add_argument("--precision", default="bfloat16", help=f"{', '.join(PRECISIONS)} (default: %(default)s)")
    parser.add_argument("--measure", action="store_true", help="load both, too")
    options = parser.parse_args(argv)
    try:
        config = MODELS[known(options.preset, MODELS, "preset")].llm
        precision = known(options.precision, PRECISIONS, "precision")
        with tempfile.TemporaryDirectory() as folder:
            found = measured(config, precision, Path(folder)) if options.measure else None
    except (ValueError, OSError) as error:
        print(f"export.benchmark.memory: error: {error}", file=sys.stderr)
        return 2
    result = {
        "preset": options.preset, "precision": precision, "counted": counted(config, precision), "measured": found,
    }  # fmt: skip
    Console().print(table(result))
    print(json.dumps(result))
    return 0


def _memory_bytes(name: str) -> int:
    """VmRSS, what this process has in memory, or VmHWM, the most it has had since it began (proc_pid_status(5)).

    resource.getrusage would also count what the process had that started this one.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}; expected Linux's.")


if __name__ == "__main__":
    sys.exit(main())
