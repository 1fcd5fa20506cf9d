"""Memory of the LLM without vocabulary: counted at paper size, loaded in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.benchmark.memory import CAUSAL_LM, LLM, counted, main, measured, shapes
from sf_ros.core.config import MODELS, LlmConfig

VOCABULARY = 128_256 * 2048  # Llama-3.2-1B: embedding and output layer share it
LAYER = 2 * 2048**2 + 2 * 2048 * 512 + 3 * 2048 * 8192 + 2 * 2048  # attention, MLP and two norms


def test_a_fifth_is_saved_at_paper_size() -> None:
    count = counted(MODELS["paper"].llm, "bfloat16")
    assert count["parameters"] == {LLM: 16 * LAYER + 2048, CAUSAL_LM: 16 * LAYER + 2048 + VOCABULARY}
    assert count["parameters"][LLM] == 973_146_112 and count["bytes"][CAUSAL_LM] == 2 * 1_235_814_400
    assert count["saved"] == 0.2125  # 262,668,288 of 1,235,814,400


def test_an_untied_output_layer_is_saved_too() -> None:
    tensors = shapes(LlmConfig(dim=8, depth=1, heads=2, kv_heads=1, mlp=16, vocabulary=100, tied=False))
    vocabulary = {"lm_head.weight", "model.embed_tokens.weight"}
    assert set(tensors[CAUSAL_LM]) - {f"model.{name}" for name in tensors[LLM]} == vocabulary


def test_loading_needs_less_memory_by_the_vocabulary(tmp_path: Path) -> None:
    config = LlmConfig(dim=512, depth=2, heads=8, kv_heads=4, mlp=1024, vocabulary=80_000)
    size = counted(config, "float32")["bytes"]
    result = measured(config, "float32", tmp_path)
    peaks = result["peak_bytes"]
    assert size[LLM] == pytest.approx(19e6, rel=0.05) and size[CAUSAL_LM] == pytest.approx(183e6, rel=0.01)
    assert peaks[LLM] >= size[LLM] and peaks[CAUSAL_LM] >= size[CAUSAL_LM]  # all weights were in memory
    assert peaks[LLM] < size[LLM] + 40e6 and result["saved"] > 0.6


def test_last_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--precision", "float16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[-1])
    assert result["precision"] == "float16" and result["measured"] is None
    assert result["counted"] == counted(MODELS["paper"].llm, "float16")
    assert any("21.2%" in line or "21.3%" in line for line in lines[:-1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--preset", "papper"], "Did you mean 'paper'"), (["--precision", "float61"], "'float16'")],
)
def test_unknown_names_are_refused_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
