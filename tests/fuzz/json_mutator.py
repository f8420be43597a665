"""Changes JSON in the way of its tree: signed, canonical documents are out of reach for changes of single bytes."""

import copy
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**53, 2**53 - 1, -(2**53), 2**64, 1.5, float("nan")),
    *("", "a", "A" * 300, "\x00", "\x7f", "é", "\U0001f600", "\ud800", "-", "=", "..", "null", "1"),
    *([], {}, [[]], [{}], {"": 0}, ["a", "a"], [1, "1", None]),
)
_BYTES_SHARE = 0.25
_CHANGES_MAX = 3
_DEEP = 40

Slot = tuple[Any, Any]
"""A list or dict and a key in it."""


class JsonMutator:
    """A custom mutator for libFuzzer: sometimes its own changes of bytes, mostly changes of the tree."""

    def __init__(self, mutate_bytes: Callable[[bytes, int], bytes], words: Sequence[bytes] = ()) -> None:
        self._mutate_bytes = mutate_bytes
        self._words = [word.decode("utf-8", "replace") for word in words]

    def __call__(self, data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)  # noqa: S311  # to be repeated, not to be guessed
        changed = None if random.random() < _BYTES_SHARE else self._changed(data, random)
        if changed is None or len(changed) > max_size:
            return self._mutate_bytes(data, max_size)
        return changed

    def _changed(self, data: bytes, random: Random) -> bytes | None:
        try:
            root = [json.loads(data)]
            for _ in range(random.randint(1, _CHANGES_MAX)):
                self._change(root, random)
            return _encoded(root[0])
        except (ValueError, RecursionError, IndexError):
            return None

    def _change(self, root: list[Any], random: Random) -> None:
        slots = _slots(root)
        holder, key = random.choice(slots)
        kind = random.choice(("odd", "word", "text", "number", "drop", "add", "copy", "swap", "nest"))
        if kind == "odd":
            holder[key] = copy.deepcopy(random.choice(_ODD))
        elif kind == "word" and self._words:
            holder[key] = random.choice(self._words)
        elif kind == "drop" and holder is not root:
            del holder[key]
        elif kind == "add":
            _add(holder[key], random, [*self._words, "a", ""])
        elif kind in {"copy", "swap"}:
            other, place = random.choice(slots)
            found = copy.deepcopy(other[place])
            if kind == "swap":
                other[place] = copy.deepcopy(holder[key])
            holder[key] = found
        elif kind == "nest":
            holder[key] = _nested(holder[key], random)
        else:
            holder[key] = self._altered(holder[key], random)

    def _altered(self, value: Any, random: Random) -> Any:
        if type(value) is int:
            return value + random.choice((-1, 1, 60, -3600, 2**31))
        if not isinstance(value, str):
            return value
        raw = value.encode("utf-8", "surrogatepass")
        return self._mutate_bytes(raw, len(raw) + 16).decode("utf-8", "replace")


def _slots(root: list[Any]) -> list[Slot]:
    found: list[Slot] = []
    open_ones: list[Any] = [root]
    while open_ones:
        holder = open_ones.pop()
        for key in holder if isinstance(holder, dict) else range(len(holder)):
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                open_ones.append(holder[key])
    return found


def _add(value: Any, random: Random, names: Sequence[str]) -> None:
    what = copy.deepcopy(random.choice(_ODD))
    if isinstance(value, dict):
        value[random.choice(names)] = what
    elif isinstance(value, list):
        value.insert(random.randint(0, len(value)), copy.deepcopy(random.choice(value)) if value else what)


def _nested(value: Any, random: Random) -> Any:
    for _ in range(random.choice((1, 2, _DEEP))):
        value = [value] if random.random() < 0.5 else {"a": value}
    return value


def _encoded(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")
