"""Count the work of a frame:  python -m export.benchmark.work [--preset paper|tiny] [--people 1,2,4,8] [--sizes 224,336,448]

Floating-point operations and passes per stage, without running anything: torch's counter watches the robot's own calls
on the meta device, where tensors have shapes and no numbers. It counts products of matrices and convolutions (a
multiplication with its addition is two), also those scores of an attention that its mask then hides, since they are
computed too. It does not count norms, activations, softmax, rotary positions, resizing and the detector. Three crowds
or more also make a law of growth with people and pairs; three --sizes of a picture, one with its visual tokens. The
last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from rich import box
from rich.console import Console
from rich.table import Column, Table
from torch.utils.flop_counter import FlopCounterMode

from export.benchmark import crowd, growth
from sf_ros.core.config import MODELS, ModelConfig, RuntimeConfig
from sf_ros.core.cues import MAX_BOXES, TASKS
from sf_ros.core.fields import known
from sf_ros.engines.fused.answers import AnswerReader
from sf_ros.engines.fused.batches import Pass, looks, marks, plan
from sf_ros.engines.fused.llm import LlamaDecoder
from sf_ros.engines.fused.vision import VisualTokens
from sf_ros.model.connector import BoxTokens, Connector
from sf_ros.model.encoders import build_encoder
from sf_ros.model.fusion import HeatmapHead

# Tokens of the paper's prompts (Appendix D: words x 1.35). Gaze has none where visual tokens come first.
PROMPT_TOKENS = {"looking_at_me": 99, "expression": 103, "gesture": 563, "domain": 100, "relation": 101}
GAZE_TOKENS = 146  # of its prompt where prompts come first
CHOICES = {"boxes": ("patch", "token"), "order": ("visual_first", "prompt_first"), "attention": ("causal", "full")}
METHODS = ("naive", "once", "packed", "packed+reuse")


@dataclass(frozen=True)
class Work:
    """Passes through a part of the model, and the floating-point operations of all of them together."""

    passes: int = 0
    flops: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.passes + other.passes, self.flops + other.flops)

    def __mul__(self, times: int) -> Work:
        return Work(self.passes * times, self.flops * times)


class Counter:
    """The parts of a model without numbers, and the work of a call of each. Equal calls are counted once.

    encoder(pictures), connector(pictures): one pass over a batch of them.
    language(planned, looks): reading so many looks in a tuple of passes.
    """

    def __init__(self, model: ModelConfig, prompt_tokens: Mapping[str, int]) -> None:
        self.model = model
        dim = model.llm.dim
        with torch.device("meta"):
            self._encoder = build_encoder(model.encoder).eval()
            self._connector = Connector(model.encoder.dim, model.connector_hidden, dim, marks=model.boxes == "patch")
            self._language = AnswerReader(
                model,
                LlamaDecoder(model.llm).eval(),
                HeatmapHead(model),
                {name: torch.empty(length, dim) for name, length in prompt_tokens.items()},
                {name: torch.empty(len(spec.labels), dim) for name, spec in TASKS.items() if spec.labels},
                temperatures={},
                box_tokens=BoxTokens(dim) if model.boxes == "token" else None,
            )
        self.encoder = functools.cache(self._encode)
        self.connector = functools.cache(self._connect)
        self.llm = functools.cache(self._read)

    def _encode(self, pictures: int) -> Work:
        size = self.model.encoder.image_size
        images = torch.empty(pictures, 3, size, size, device="meta")
        return Work(1, _flops(lambda: self._encoder(images)))

    def _connect(self, pictures: int) -> Work:
        features = torch.empty(pictures, self.model.encoder.grid**2, self.model.encoder.dim, device="meta")
        return Work(1, _flops(lambda: self._connector(features)))

    def _read(self, planned: tuple[Pass, ...], looks: int) -> Work:
        patches, dim = self.model.encoder.grid**2, self.model.llm.dim
        with torch.device("meta"):
            marked = torch.empty(looks, patches, dtype=torch.bool)
            plain, special, boxes = (
                torch.empty(1, patches, dim),
                torch.empty(patches, dim),
                torch.empty(looks, MAX_BOXES, 4),
            )
            banks = VisualTokens(plain, special, [0] * looks, marked, self.model, boxes)
        shared = any(one.reused for one in planned)  # then the frame has a pass of its own
        return Work(len(planned) + shared, _flops(lambda: self._language.read(planned, banks)))


def frame(counter: Counter, people: int, method: str) -> dict[str, Work]:
    """Work by stage of every question about the first `people` of the crowd.

    naive: a pass of every part per question. once: pictures are encoded once and together, and a look's tokens are made
    once, but every question has a language pass. packed, packed+reuse: what the robot's engine does with prefix_reuse
    off, and with its default.
    """
    asked = looks(crowd.questions(people))
    pictures = 1 + sum(look.view != "frame" for look in asked)
    alone = [counter.llm((Pass((name,), (0,)),), 1) for look in asked for name in look.questions]
    if method == "naive":
        encoder, connector = (stage(1) * len(alone) for stage in (counter.encoder, counter.connector))
        return {"encoder": encoder, "connector": connector, "llm": total(alone)}
    encoder = counter.encoder(pictures)
    if method == "once":
        return {"encoder": encoder, "connector": counter.connector(1) * len(asked), "llm": total(alone)}
    marked = marks(asked, crowd.WIDTH, crowd.HEIGHT, counter.model.encoder.grid)
    planned = plan(asked, marked, counter.model, "off" if method == "packed" else RuntimeConfig.prefix_reuse)
    language = counter.llm(tuple(planned), len(asked))
    banks = counter.connector(pictures) + counter.connector(1) * (counter.model.boxes == "patch")
    return {"encoder": encoder, "connector": banks, "llm": language}


def total(parts: Iterable[Work]) -> Work:
    """The sum."""
    return sum(parts, Work())


def count(model: ModelConfig, crowds: Sequence[int]) -> dict[int, dict[str, dict[str, Work]]]:
    """Work by number of people, method and stage."""
    counter = Counter(model, prompt_tokens(model))
    return {people: {method: frame(counter, people, method) for method in METHODS} for people in crowds}


def prompt_tokens(model: ModelConfig) -> dict[str, int]:
    """Tokens by question. Those that come first are read once, when a bundle is loaded, and are in no count."""
    return PROMPT_TOKENS | ({"gaze": GAZE_TOKENS} if model.order == "prompt_first" else {})


def laws(counted: Mapping[int, Mapping[str, Mapping[str, Work]]]) -> dict[str, growth.Law]:
    """How the operations of each method grow with people and pairs; empty for fewer than three crowds."""
    flops = {m: {n: total(methods[m].values()).flops for n, methods in counted.items()} for m in METHODS}
    found = {method: growth.by_crowd(values) for method, values in flops.items()}
    return {method: law for method, law in found.items() if law is not None}


def resolution(model: ModelConfig, sizes: Sequence[int], people: int = 1) -> growth.Law | None:
    """How the operations of a packed frame grow with visual tokens, other pictures' sides being `sizes` pixels."""
    flops = {}
    for size in sizes:
        other = dataclasses.replace(model, encoder=dataclasses.replace(model.encoder, image_size=size))
        counter = Counter(other, prompt_tokens(other))
        flops[other.visual_tokens] = total(frame(counter, people, "packed").values()).flops
    return growth.by_tokens(flops)


def table(counted: Mapping[int, Mapping[str, Mapping[str, Work]]]) -> Table:
    """For people to read, 80 columns wide: 1e9 operations and passes, and how much more naive and once take."""
    method_column = Column("method", no_wrap=True)
    shown = Table("people", method_column, "encoder", "connector", "llm", "all", "naive", "once", box=box.SIMPLE)
    for people, methods in counted.items():
        flops = {method: total(stages.values()).flops for method, stages in methods.items()}
        for method, stages in methods.items():
            shown.add_row(
                str(people),
                method,
                *(f"{work.flops / 1e9:,.1f}\nin {work.passes}" for work in stages.values()),
                f"{flops[method] / 1e9:,.1f}",
                *(f"{flops[other] / flops[method]:.2f}x" for other in ("naive", "once")),
                end_section=method == METHODS[-1],
            )
    return shown


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m export.benchmark.work", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--preset", default="paper", help=f"one of {', '.join(MODELS)}")
    for field, choices in CHOICES.items():
        parser.add_argument(f"--{field}", choices=choices, help="of the model (default: the preset's)")
    parser.add_argument("--people", default="1,2,4,8", help="numbers of people, separated by commas")
    parser.add_argument("--sizes", help="sides of a picture in pixels, separated by commas, for the law of resolution")
    options = parser.parse_args(argv)
    try:
        chosen = {field: value for field in CHOICES if (value := getattr(options, field)) is not None}
        model = dataclasses.replace(MODELS[known(options.preset, MODELS, "preset")], **chosen)
        counted = count(model, [int(number) for number in options.people.split(",")])
        sizes = [int(number) for number in options.sizes.split(",")] if options.sizes else []
        tokens = resolution(model, sizes)
    except ValueError as error:
        print(f"export.benchmark.work: error: {error}", file=sys.stderr)
        return 2
    console = Console()
    console.print(table(counted))
    console.print("1e9 operations in so many passes, and how many times as many naive and once take.")
    found = laws(counted)
    for method, law in found.items():
        console.print(f"{method}: {growth.sentence(law, 1e9)}")
    if tokens is not None:
        console.print(f"one person, packed: {growth.sentence(tokens, 1e9)}")
    by_people = {
        people: {method: {stage: asdict(work) for stage, work in stages.items()} for method, stages in methods.items()}
        for people, methods in counted.items()
    }
    result = {"preset": options.preset, **chosen, "prompt_tokens": prompt_tokens(model), "people": by_people}
    result["growth"] = {method: asdict(law) for method, law in found.items()}
    result["resolution"] = asdict(tokens) if tokens is not None else None
    print(json.dumps(result))
    return 0


def _flops(call: Callable[[], object]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


if __name__ == "__main__":
    sys.exit(main())
