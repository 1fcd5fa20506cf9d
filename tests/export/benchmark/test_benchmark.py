"""The benchmark on the smallest bundle: that its figures belong together, not how large they are."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from export.benchmark import crowd, measure, others, report
from export.benchmark.__main__ import main
from export.benchmark.measure import STAGES, TURNS, Crowd, overhead_ms
from export.benchmark.methods import METHODS, each_alone, largest_difference, planned
from export.benchmark.work import PROMPT_TOKENS, total
from sf_ros.core import bundle as bundles
from sf_ros.core.config import EncoderConfig, RuntimeConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Frame
from sf_ros.engines.base import Answer, Question
from sf_ros.engines.fused.batches import looks, marks
from sf_ros.engines.fused.engine import FusedEngine


@pytest.fixture(scope="module")
def engine(smoke_bundle: Path) -> FusedEngine:
    return FusedEngine(bundles.load(smoke_bundle), RuntimeConfig(device="cpu", threads=1))


@pytest.fixture(scope="module")
def result(smoke_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """What the command says of two crowds, and the folder it wrote into."""
    out = tmp_path_factory.mktemp("benchmark")
    command = ["--bundle", str(smoke_bundle), "--people", "1,2", "--repeats", "2", "--threads", "1", "--device", "cpu"]
    assert main([*command, "--out", str(out)]) == 0
    return json.loads((out / "benchmark.json").read_text()), out


@pytest.mark.parametrize("people", [1, 3])
def test_every_method_answers_every_question_alike(engine: FusedEngine, people: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (crowd.HEIGHT, crowd.WIDTH, 3), np.uint8)
    asked = crowd.questions(people)
    ours = METHODS["ours"](engine).answer(image, asked)
    for name in ("packed", "eager", "once", "naive"):
        found = METHODS[name](engine).answer(image, asked)
        assert len(found) == len(asked) and largest_difference(ours, found) < 1e-4, name


def test_other_methods_leave_the_engine_as_it_is(engine: FusedEngine) -> None:
    before = engine.planner
    assert planned(engine, each_alone).planner is each_alone and engine.planner is before


def test_once_reads_every_question_in_a_pass_of_its_own(engine: FusedEngine) -> None:
    asked = looks(crowd.questions(2))
    passes = each_alone(asked, marks(asked, crowd.WIDTH, crowd.HEIGHT, engine.model.encoder.grid))
    assert len(passes) == len(crowd.questions(2)) and all(len(one.looks) == 1 and not one.reused for one in passes)


def test_a_difference_is_the_largest_of_any_answer() -> None:
    one = [Answer(probabilities=np.array([0.5, 0.5])), Answer(heatmap=np.zeros((2, 2)))]
    other = [Answer(probabilities=np.array([0.4, 0.6])), Answer(heatmap=np.eye(2) * 0.3)]
    assert largest_difference(one, other) == pytest.approx(0.3)


def test_a_report_has_every_method_stage_and_percentile(result: tuple[dict, Path]) -> None:
    found, _ = result
    assert [one["people"] for one in found["crowds"]] == [1, 2]
    for one in found["crowds"]:
        assert one["questions"] == len(crowd.questions(one["people"]))
        assert list(one["methods"]) == ["ours", "packed", "once", "naive"]
        assert list(one["stages_ms"]) == list(STAGES)
        for summary in (*one["stages_ms"].values(), *one["methods"]["naive"]["ms"].values()):
            assert 0 <= summary["median"] <= summary["p95"] <= summary["p99"] and summary["repeats"] == 2
        frame_ms = sum(summary["median"] for summary in one["stages_ms"].values())
        assert one["Mean End-to-End Latency (ms)"] == pytest.approx(frame_ms, rel=0.5)
        assert one["Mean Frame Rate (fps)"] == pytest.approx(1e3 / one["Mean End-to-End Latency (ms)"], rel=1e-2)
    assert found["vision"] == "onnxruntime CPU float32" and found["llm"] == "float32"
    assert found["machine"]["threads"] == 1 and found["machine"]["torch"] == version("torch")
    assert found["growth"] == {}  # two crowds make no law
    assert found["peak_memory_mb"] > 100 and found["copy_bytes_per_s"] > 1e8


def test_counted_work_is_that_of_the_bundles_own_prompts(result: tuple[dict, Path], engine: FusedEngine) -> None:
    from export.benchmark.work import Counter, frame

    counter = Counter(engine.model, {name: len(prompt) for name, prompt in engine.llm.prompts.items()})
    found, _ = result
    for one in found["crowds"]:
        naive = total(frame(counter, one["people"], "naive").values()).flops
        assert one["methods"]["naive"]["flops"]["all"] == naive
        ours = one["methods"]["ours"]["flops"]["all"]
        assert one["methods"]["naive"]["counted_times_ours"] == pytest.approx(naive / ours, abs=1e-3)
        share = one["roofline"]["llm"]
        assert share["share"] == pytest.approx(share["achieved_flops_per_s"] / share["products_flops_per_s"], abs=1e-3)


def test_growth_is_a_law_of_what_was_measured() -> None:
    def one(people: int) -> Crowd:
        times = {"ours": [{"all": 4.0 + 2.0 * people + math.comb(people, 2)}] * 2}
        return Crowd(people, 4, times, {"ours": {"vision": 10 * people, "llm": 5}}, {}, {}, {})

    law = report.laws([one(people) for people in (1, 2, 4, 8)])["ours"]
    assert law["ms"].coefficients == pytest.approx({"frame": 4.0, "person": 2.0, "pair": 1.0})
    assert law["flops"].coefficients == pytest.approx({"frame": 5, "person": 10, "pair": 0}, abs=1e-6)
    assert report.laws([one(1), one(2)]) == {}


def test_a_report_has_the_stream_that_is_asked_in_turn(result: tuple[dict, Path]) -> None:
    for found in result[0]["crowds"]:
        turn = found["in_turn"]
        assert turn["overhead_ms"]["repeats"] == TURNS * found["overhead_ms"]["repeats"]
        assert set(turn["stages_ms"]) == set(STAGES)


class Counting:
    """An engine and a detector that take no time, and note how often every question was asked."""

    def __init__(self) -> None:
        self.timings_ms = dict.fromkeys(("views", "vision", "llm"), 0.0)
        self.frames: list[int] = []
        self.asked: Counter[str] = Counter()

    def answer(self, image: np.ndarray, questions: Sequence[Question]) -> list[Answer]:
        self.frames.append(len(questions))
        self.asked.update(question.task for question in questions)
        labels = [len(TASKS[question.task].labels) for question in questions]
        return [
            Answer(probabilities=np.full(n, 1 / n, np.float32)) if n else Answer(heatmap=np.eye(4, dtype=np.float32))
            for n in labels
        ]

    def find(self, frame: Frame) -> None:
        """What is found does not count: the crowd is followed."""


def test_single_frames_ask_everything_and_a_stream_what_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure._Clock, "note", lambda clock, stage: clock.spent.update({stage: 0.0}))
    everything, single, stream = crowd.questions(3), Counting(), Counting()
    measure.whole_frames(single, single, 3, 4, 0)
    assert single.frames == [len(everything)] * 4
    measure.whole_frames(stream, stream, 3, 60, 0, in_turn=True)  # four seconds of a camera
    of_each = Counter(question.task for question in everything)
    for task in of_each:
        period = RuntimeConfig().cue("relation" if TASKS[task].boxes == 2 else task).period_s
        assert 0.6 * 4 / period < stream.asked[task] / of_each[task] <= 1.5 * 4 / period, task  # some come along early


def test_pictures_are_drawn(result: tuple[dict, Path]) -> None:
    _, out = result
    for name in ("latency.png", "stages.png", "roofline.png"):
        image = cv2.imread(str(out / name))
        assert image is not None and image.std() > 5


def test_overhead_is_what_is_left_outside_the_models() -> None:
    times = dict.fromkeys(STAGES, 1.0) | {"decode": 7.0, "detect": 30.0, "vision": 100.0, "llm": 200.0}
    assert overhead_ms(times) == len(STAGES) - 4


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (["--people", "0"], "0 people; expected 1 to 8"),
        (["--people", "two"], "invalid literal"),
        (["--against", "naif"], "Did you mean 'naive'"),
        (["--repeats", "0"], "--repeats 0: expected 1 or more"),
        (["--bundle", "nowhere"], "nowhere: no manifest.json here"),
        (["--vision", "torch"], "vision is 'torch', which runs vision.safetensors; the bundle has vision.onnx"),
        (["--device", "cuda:9"], "cuda:9"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused_in_one_line(
    command: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and error in said and said.count("\n") == 1


VISION = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2, "num_heads": 2}
TEXT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT |= {"num_key_value_heads": 2, "vocab_size": 512, "bos_token_id": 0, "eos_token_id": 1}


def tiny_qwen2_vl() -> nn.Module:
    rope = {"type": "mrope", "mrope_section": [2, 3, 3]}
    config = Qwen2VLConfig(**TEXT, rope_scaling=rope, vision_config=VISION, tie_word_embeddings=True)
    return Qwen2VLForConditionalGeneration(config)


def tiny_internvl() -> nn.Module:
    vision = {"attention_bias": True, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = InternVLConfig(
        text_config={**TEXT, "model_type": "qwen2"}, vision_config=vision, tie_word_embeddings=False
    )
    return InternVLForConditionalGeneration(config)


@pytest.mark.parametrize(
    ("make", "encode"),
    [(tiny_qwen2_vl, others.encode_qwen2_vl), (tiny_internvl, others.encode_internvl)],
    ids=["Qwen2-VL", "InternVL3"],
)
def test_models_that_write_are_asked_everything_in_batches(make: Any, encode: Any) -> None:
    image = np.zeros((crowd.HEIGHT, crowd.WIDTH, 3), np.uint8)
    other = others.Generate(make(), encode)
    assert encode(other.model, torch.zeros(3, 3, others.SIDE, others.SIDE)).shape == (3, 256, 64)
    spent = other.frame(image, 2)
    asked = crowd.questions(2)
    texts = sum(
        others.TEMPLATE_TOKENS + PROMPT_TOKENS.get(q.task, others.GAZE_PROMPT_TOKENS)
        + others.BOX_TOKENS * TASKS[q.task].boxes
        for q in asked
    )  # fmt: skip
    assert spent == {"read": 256 * len(asked) + texts, "written": len(asked) - 2 + 2 * others.POINT_TOKENS}


def test_other_architectures_are_timed_in_the_same_turns_and_told_apart(
    smoke_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = EncoderConfig(name="dinov2-l-14", image_size=28, patch_size=14, dim=32, depth=1, heads=2)
    monkeypatch.setitem(others.ENCODERS, "dinov2-l-14", small)
    monkeypatch.setattr(others, "SIDE", 56)
    command = ["--bundle", str(smoke_bundle), "--people", "2", "--repeats", "1", "--threads", "1", "--device", "cpu"]
    assert main([*command, "--against", "gaze-lle"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["crowds"][0]["methods"]
    assert list(found) == ["ours", "gaze-lle", "ours-gaze"]
    assert found["gaze-lle"]["flops"]["all"] > 0 and found["ours-gaze"]["tokens"]["written"] == 0
    assert found["ours-gaze"]["flops"]["all"] < found["ours"]["flops"]["all"]
    assert "largest_difference" not in found["gaze-lle"]
