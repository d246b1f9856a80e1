"""MATLAB's ``.mat`` up to version 7, read by :func:`scipy.io.loadmat`.

scipy believes the sizes that a file declares. They are checked here first: every element must lie within
the one around it, and every array must have the bytes that its dimensions ask for. Variables of classes
that hold no arrays (functions, objects, tables, sparse matrices) are left out, by name.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from .arrays import NUMERIC, Allowance, Arrays, decoding, inflate, to_tensor

MARKS = (b"\x00\x01IM", b"\x01\x00MI")
HEADER = 128
INT8, INT32, UINT32, MATRIX, PACKED, UTF8, LAST_TYPE = 1, 5, 6, 14, 15, 16, 18
#: Bytes of one stored number, by type of element; numbers may be stored shorter than their class.
STORED = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, UTF8: 1, 17: 2, 18: 4}
CELL, STRUCT, CHAR, COMPLEX = 1, 2, 4, 0x0800
#: Bytes of one number, by class.
ITEMSIZE = {6: 8, 7: 4, 8: 1, 9: 1, 10: 2, 11: 2, 12: 4, 13: 4, 14: 8, 15: 8}
DEEPEST = 16


def is_matlab5(head: bytes, path: Path) -> bool:
    """By version and byte order at the header's end."""
    return head[124:128] in MARKS


def read_matlab5(path: Path) -> Arrays:
    """Variables by name; ``s.field`` of structs, ``c{3}`` of cell arrays, as MATLAB would write it."""
    allowance = Allowance(path)
    with decoding(path, "MATLAB"):
        content = path.read_bytes()
        order = "<" if content[126:128] == b"IM" else ">"
        sound, left_out = [content[:HEADER]], []
        for kind, payload in _elements(memoryview(content)[HEADER:], order):
            for matrix in _unpacked(kind, payload, order, allowance):
                if _readable(matrix, order, allowance):
                    sound += [struct.pack(order + "II", MATRIX, len(matrix)), bytes(matrix)]
                else:
                    left_out.append(_name(matrix, order))
        del content
        variables = loadmat(BytesIO(b"".join(sound)))
        arrays, facts = {}, {"left out": left_out} if left_out else {}
        for name, value in variables.items():
            if not name.startswith("__"):
                for place, leaf in leaves(name, value):
                    _sort(place, leaf, arrays, facts)
    return Arrays(arrays, facts)


def leaves(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """What structs and cells hold, by MATLAB's expression for it."""
    if value.dtype.names:
        items = value.ravel(order="F")
        for i, item in enumerate(items, 1):
            for key in value.dtype.names:
                yield from leaves(f"{name}.{key}" if len(items) == 1 else f"{name}({i}).{key}", item[key])
    elif value.dtype == object:
        for i, item in enumerate(value.ravel(order="F"), 1):
            yield from leaves(f"{name}{{{i}}}", item)
    else:
        yield name, value


def _sort(name: str, value: np.ndarray, arrays: dict, facts: dict) -> None:
    """Numbers to the arrays, text to the facts."""
    if value.dtype.kind in NUMERIC:
        arrays[name] = to_tensor(value)
    elif value.dtype.kind == "U":
        facts[name] = " ".join(map(str, value.ravel()))


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and payload of each element; small ones keep theirs inside the tag."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError("an element's tag is cut short")
        kind, size = struct.unpack_from(order + "II", data, at)
        begin, end, small = at + 8, at + 8 + size, kind >> 16
        if small:
            kind, size, begin, end = kind & 0xFFFF, small, at + 4, at + 4 + small
        at = at + 8 if small else end if kind == PACKED else end + -size % 8
        if end > len(data) or small > 4 or not 0 < kind <= LAST_TYPE:
            raise ValueError(f"an element of type {kind} declares {size} bytes, {len(data) - begin} are left")
        yield kind, data[begin:end]


def _unpacked(kind: int, payload: memoryview, order: str, allowance: Allowance) -> Iterator[memoryview]:
    """The matrices in a top-level element."""
    if kind == PACKED:
        inner, _ = inflate(payload, allowance)
        for kind, part in _elements(memoryview(inner), order):
            yield from _unpacked(kind if kind != PACKED else 0, part, order, allowance)
    elif kind == MATRIX:
        yield payload
    else:
        raise ValueError(f"an element of type {kind} outside any variable")


def _readable(matrix: memoryview, order: str, allowance: Allowance, depth: int = 0) -> bool:
    """Whether a variable holds only numbers, text, cells and structs.

    :raises ValueError: if its sizes contradict each other.
    """
    if not len(matrix):
        return depth > 0
    if depth > DEEPEST:
        raise ValueError(f"cells more than {DEEPEST} deep")
    elements = list(_elements(matrix, order))
    types, parts = [kind for kind, _ in elements], [payload for _, payload in elements]
    if types[:1] != [UINT32] or len(parts[0]) != 8:
        raise ValueError("a variable without class")
    flags = struct.unpack_from(order + "I", parts[0])[0]
    kind = flags & 0xFF
    if kind not in (CELL, STRUCT, CHAR, *ITEMSIZE):
        return False
    if types[1:3] != [INT32, INT8]:
        raise ValueError("a variable without dimensions and name")
    shape = _shape(parts[1], order)
    if kind in (CELL, STRUCT):
        first, fields = (3, 1) if kind == CELL else (5, _field_count(types, parts, order))
        return _readable_cells(types[first:], parts[first:], (*shape, fields), order, allowance, depth)
    count = 2 if flags & COMPLEX and kind != CHAR else 1
    _check_numbers(types[3:], parts[3:], (count, *shape), ITEMSIZE.get(kind, 4), allowance)
    return True


def _readable_cells(
    types: list[int], parts: list[memoryview], shape: tuple[int, ...], order: str, allowance: Allowance, depth: int
) -> bool:
    """Whether all cells, or fields of structs, are readable; each is checked."""
    allowance.take("cells", shape, 8)
    if len(parts) != math.prod(shape) or set(types) - {MATRIX}:
        raise ValueError(f"{len(parts)} cells, the dimensions expect {math.prod(shape)}")
    checked = [_readable(part, order, allowance, depth + 1) for part in parts]
    return all(checked)


def _check_numbers(
    types: list[int], parts: list[memoryview], shape: tuple[int, ...], itemsize: int, allowance: Allowance
) -> None:
    """One part of numbers or text, two of complex ones; each with as many as the dimensions expect."""
    allowance.take("array", shape, itemsize)
    count = math.prod(shape[1:])
    if len(parts) != shape[0] or set(types) - set(STORED):
        raise ValueError(f"{len(parts)} parts of types {types}, expected {shape[0]} of numbers")
    if any(len(part) != count * STORED[kind] for kind, part in zip(types, parts, strict=True) if kind != UTF8):
        raise ValueError(f"an array of shape {shape[1:]} has {[len(p) for p in parts]} bytes of data")


def _shape(dimensions: memoryview, order: str) -> tuple[int, ...]:
    shape = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions[: len(dimensions) // 4 * 4])
    if not 2 <= len(shape) <= 32 or min(shape) < 0:
        raise ValueError(f"a variable of {len(shape)} dimensions, or of negative ones")
    return shape


def _field_count(types: list[int], parts: list[memoryview], order: str) -> int:
    if types[3:5] != [INT32, INT8] or len(parts[3]) < 4:
        raise ValueError("a struct without fields")
    length = struct.unpack_from(order + "i", parts[3])[0]
    if length < 1 or len(parts[4]) % length:
        raise ValueError(f"field names of {length} bytes in {len(parts[4])}")
    return len(parts[4]) // length


def _name(matrix: memoryview, order: str) -> str:
    parts = [payload for _, payload in _elements(matrix, order)]
    return bytes(parts[2]).decode("latin1") if len(parts) > 2 else ""
