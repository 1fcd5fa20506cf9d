"""JSON of strangers is read within limits, and a changed digit is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sf_ros.core.untrusted import plain
from sf_ros.core.untrusted.plain import check_digest, digest, read_plain, with_digest


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "list of 0 found, an object expected"),
        ('"' + "x" * 100 + '"', "found, an object expected"),
        ('{"a": NaN}', "'NaN' is no finite number"),
        ('{"a": -Infinity}', "'-Infinity' is no finite number"),
        ('{"a": 1e999}', "'1e999' is no finite number"),
        ('{"a": ' + "1" * 100_000 + "}", "more than 18 digits"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' twice in one object"),
        ('{"a": ' + "[" * 200_000 + "]" * 200_000 + "}", "16 deep"),
        ('{"a": ' * 40 + "1" + "}" * 40, "16 deep"),
        ('{"a": ["' + "x" * 10_001 + '"]}', "has 10001 characters; 10000 are allowed"),
        ('{"' + "x" * 201 + '": 1}', "has 201 characters; 200 are allowed"),
        ('{"a": "\\ud800"}', "surrogates not allowed"),
        ('{"a": [' + "1," * 100_000 + "1]}", "more than 100000 values"),
        (" " * (4 << 20) + "{}", "more than 4 MB"),
        ("{", "Expecting property name"),
    ],
    ids=range(15),
)
def test_what_is_no_plain_object_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        read_plain(tmp_path / "a.json")
    assert len(str(error.value)) < 200


def test_plain_data_is_read_as_it_was_written(tmp_path: Path) -> None:
    data = {"a": [1, 2.5, True, None, "人"], "b": {"c": {"d": -(10**17)}}}
    (tmp_path / "a.json").write_text(json.dumps(data))
    assert read_plain(tmp_path / "a.json") == data


def test_the_digest_is_of_the_content_whatever_the_layout() -> None:
    data = {"b": [1.5, "人"], "a": {"x": 1}}
    # printf '{"a":{"x":1},"b":[1.5,"\\u4eba"]}' | sha256sum
    assert digest(data) == "cabb53376fd996fe241c3d2ef1d41218f95418d5a5337c48ee526d38e1ccf46a"
    check_digest(json.loads(json.dumps(with_digest(data), indent=4)))
    check_digest(dict(reversed(with_digest(data).items())))
    assert with_digest(with_digest(data)) == with_digest(data)


@pytest.mark.parametrize("change", [{"b": 2}, {"b": 1.0}, {"c": None}, {"sha256": None}, {"sha256": "0" * 64}])
def test_a_changed_value_is_found(change: dict) -> None:
    with pytest.raises(ValueError, match="sha256 of the other fields is"):
        check_digest(with_digest({"a": 1, "b": 1}) | change)


def test_a_value_in_a_message_is_short() -> None:
    assert plain.shown("x" * 1000) == "'" + "x" * 59 + "..."
    assert plain.shown([[1] * 1000] * 1000) == "list of 1000" and plain.shown("a\nb") == r"'a\nb'"
