"""What an ONNX file asks of a runtime, read from its bytes before the runtime sees it.

Only the structure is read, not the weights. The robot does not have the package onnx: this reads the few fields of
onnx.proto3 that matter (their numbers are in FIELDS), and refuses what protobuf readers could understand differently.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Collection, Iterator
from pathlib import Path

# Of the messages ModelProto, OperatorSetIdProto, GraphProto, NodeProto, AttributeProto, TensorProto and
# StringStringEntryProto.
OPSETS, GRAPH, TRAINING, FUNCTIONS = 8, 7, 20, 25
OPSET_DOMAIN = 1
NODES, INITIALIZERS, SPARSE_INITIALIZERS = 1, 5, 15
OPERATOR, ATTRIBUTES, NODE_DOMAIN = 4, 5, 7
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS, SPARSE, SPARSES = 5, 6, 10, 11, 22, 23
DIMS, DATA_TYPE, RAW, EXTERNAL, LOCATION, INT64_DATA = 1, 2, 9, 13, 14, 7
KEY, VALUE = 1, 2

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
INT64 = 7  # of TensorProto.DataType
ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
DOMAINS = ("", "ai.onnx")
MAX_NODES = 100_000
MAX_FIELDS = 1_000_000  # of a message
# A constant shape asks for at most this many numbers: 16 GB of float32 would be 4 times as many.
MAX_NUMBERS = 1 << 30
END = (1 << 31) - 1  # and larger: "to the end", of a slice
# Operators without control flow, random numbers, text and sequences. VISION is what export writes for encoders.
_VISION = """
    Add AveragePool Cast Concat Constant Conv Cos Div Erf Expand Flatten Gather Gelu Gemm Identity IsNaN
    LayerNormalization MatMul Mul Neg Pad Pow ReduceMean Relu Reshape Shape Sigmoid Sin Slice Softmax Split Sqrt
    Squeeze Sub Tanh Transpose Unsqueeze Where
"""
_OTHERS = """
    Abs And ArgMax ArgMin BatchNormalization CastLike Ceil Clip ConstantOfShape ConvTranspose CumSum DepthToSpace
    Dropout Einsum Elu Equal Exp Floor GatherElements GatherND GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual
    HardSigmoid HardSwish InstanceNormalization LeakyRelu Less LessOrEqual Log Max MaxPool Min Mish Mod
    NonMaxSuppression NonZero Not Or PRelu Range Reciprocal ReduceL2 ReduceMax ReduceMin ReduceProd ReduceSum Resize
    Round ScatterElements ScatterND Sign Softplus SpaceToDepth Tile TopK Upsample
"""
VISION = frozenset(_VISION.split())
PUBLIC = VISION | frozenset(_OTHERS.split())  # and of detectors and public models

Value = int | memoryview


def check_onnx(path: Path, operators: Collection[str], data_file: str = "") -> None:
    """ValueError unless an ONNX file has only these operators, and constants that are as large as they say.

    data_file: the file beside it that may hold constants; none by default. OSError.
    """
    with path.open("rb") as stream:
        try:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)  # unmapped with the last view of it
        except ValueError:
            raise ValueError("an empty file") from None
    _Check(path, operators, data_file).model(memoryview(mapped))


class _Check:
    """The checks of one file."""

    def __init__(self, path: Path, operators: Collection[str], data_file: str) -> None:
        self.operators, self.data_file, self.nodes = operators, data_file, 0
        beside = path.with_name(data_file) if data_file else path
        self.data_bytes = beside.stat().st_size if data_file and beside.is_file() else 0

    def model(self, content: memoryview) -> None:
        graphs = []
        for number, value in fields(content):
            if number in (TRAINING, FUNCTIONS):
                raise ValueError("it holds functions or training, which export writes never")
            if number == OPSETS and (domain := _text(_only(value, OPSET_DOMAIN))) not in DOMAINS:
                raise ValueError(f"operators of '{domain[:40]}'; expected those of ONNX itself")
            if number == GRAPH:
                graphs.append(value)
        if len(graphs) != 1:
            raise ValueError(f"{len(graphs)} graphs; expected one")
        for number, value in fields(_message(graphs[0])):
            if number == NODES:
                self.node(_message(value))
            elif number == INITIALIZERS:
                self.tensor(_message(value))
            elif number == SPARSE_INITIALIZERS:
                raise ValueError("it holds sparse constants, which export writes never")

    def node(self, content: memoryview) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} operators")
        domain, operator = _text(_only(content, NODE_DOMAIN)), _text(_only(content, OPERATOR))
        if domain not in DOMAINS or operator not in self.operators:
            raise ValueError(f"the operator '{domain[:40]}{':' * bool(domain)}{operator[:40]}' is not allowed")
        for number, value in fields(content):
            if number == ATTRIBUTES:
                self.attribute(_message(value))

    def attribute(self, content: memoryview) -> None:
        for number, value in fields(content):
            if number in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS, SPARSE, SPARSES):
                raise ValueError("an operator holds a graph or sparse constants, which export writes never")
            if number in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
                self.tensor(_message(value))

    def tensor(self, content: memoryview) -> None:
        dims, external, raw, data, stored = [], {}, None, 0, False
        for number, value in fields(content):
            if number == DIMS:
                dims += [value] if isinstance(value, int) else list(varints(value))
            elif number == LOCATION:
                stored = value == 1
            elif number == EXTERNAL:
                external[_text(_only(value, KEY))] = _text(_only(value, VALUE))
            elif isinstance(value, memoryview):
                raw, data = (value if number == RAW else raw), data + len(value)
        kind = _only(content, DATA_TYPE)
        if any(dim >= 1 << 40 for dim in dims):  # negative numbers are large here
            raise ValueError(f"a constant of the shape {dims[:6]}")
        expected = math.prod(dims) * ITEM_BYTES.get(kind if isinstance(kind, int) else 0, 1)
        if stored or external:
            self.external(external, expected)
        elif raw is not None and len(raw) != expected:
            raise ValueError(f"a constant of {len(raw)} bytes; its shape {dims[:6]} needs {expected}")
        elif math.prod(dims) > data:
            raise ValueError(f"a constant of the shape {dims[:6]} has no data")
        if kind == INT64 and math.prod(dims) <= 8 and not stored:
            self.shape(content, raw, dims)

    def external(self, entries: dict[str, str], expected: int) -> None:
        name = entries.get("location", "")
        if not self.data_file or name != self.data_file:
            raise ValueError(f"a constant lies in '{name[:60]}', which is none of the bundle's files for it")
        try:
            offset, length = int(entries.get("offset", "0")[:20]), int(entries.get("length", str(expected))[:20])
        except ValueError:
            raise ValueError("a constant has no place in its file") from None
        if not (offset >= 0 and length == expected and offset + length <= self.data_bytes):
            raise ValueError(f"a constant of {expected} bytes does not fit into {name}, at {offset}")

    def shape(self, content: memoryview, raw: memoryview | None, dims: list[int]) -> None:
        """A short list of whole numbers may be the shape of something: its product is limited."""
        if raw is not None:
            numbers = list(struct.unpack(f"<{len(raw) // 8}q", raw[: len(raw) // 8 * 8]))
        else:
            values = [value for number, value in fields(content) if number == INT64_DATA]
            numbers = [one for value in values for one in ([value] if isinstance(value, int) else varints(value))]
        sizes = [one for one in numbers if 1 < one < END]
        if math.prod(sizes) > MAX_NUMBERS:
            raise ValueError(f"a shape of {numbers[:6]}, more than {MAX_NUMBERS} numbers")


def fields(content: Value) -> Iterator[tuple[int, Value]]:
    """Number and value of each field of a message. ValueError for what is none."""
    data, position, count = _message(content), 0, 0
    while position < len(data):
        count += 1
        if count > MAX_FIELDS:
            raise ValueError(f"more than {MAX_FIELDS} fields in one message")
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == BYTES:
            length, position = _varint(data, position)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise ValueError("not an ONNX file")
        if not number or position + length > len(data):
            raise ValueError("not an ONNX file, or cut off")
        yield number, data[position : position + length]
        position += length


def varints(content: Value) -> Iterator[int]:
    """The numbers of a packed field."""
    data, position = _message(content), 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("not an ONNX file, or cut off")


def _only(content: Value, wanted: int) -> Value:
    """The value of a field that a message has at most once; 0 without it."""
    values = [value for number, value in fields(content) if number == wanted]
    if len(values) > 1:
        raise ValueError("a field twice, not an ONNX file of an exporter")
    return values[0] if values else 0


def _message(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("not an ONNX file")
    return value


def _text(value: Value) -> str:
    return "" if isinstance(value, int) else bytes(value[:200]).decode("utf-8", "replace")
