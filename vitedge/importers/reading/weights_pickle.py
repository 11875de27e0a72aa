"""The pickle inside a torch checkpoint, read without Python's unpickler.

A pickle is a program. It may name any function on this machine and have it called, which is how
malicious checkpoints work; five bytes of it make Python's unpickler allocate gigabytes, and a key
of nested tuples keeps it hashing for years. This interpreter knows the opcodes of plain values and
the handful of names that a dictionary of tensors needs. It calls nothing: what stands for those
names are inert marks, and whatever any other name would make (training scripts keep their
``argparse.Namespace`` beside the weights) is a ``Foreign`` that holds its name alone. Its memory
and time grow with the pickle's length alone.

The opcodes: https://github.com/python/cpython/blob/main/Lib/pickletools.py.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

BFLOAT16, FLOAT8_E4M3, FLOAT8_E5M2 = "bfloat16", "float8_e4m3fn", "float8_e5m2"
_DTYPES = {
    FLOAT8_E4M3: FLOAT8_E4M3,
    FLOAT8_E5M2: FLOAT8_E5M2,
    "uint16": "<u2",
    "uint32": "<u4",
    "uint64": "<u8",
}
"""Types that have no storage class of their own; torch names them with the tensor."""
_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
_PLAIN_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
_MOST_AXES = 32  # of NumPy before version 2
_LARGEST_SIZE = 2**48  # of an axis, a stride or an offset; far beyond any file
_LONGEST_KEY = 10_000


class _Mark(Enum):
    """The stand-in for a name that a dictionary of tensors needs."""

    DICTIONARY = "collections.OrderedDict"
    TENSOR = "torch._utils._rebuild_tensor_v2"
    TYPED_TENSOR = "torch._utils._rebuild_tensor_v3"
    PARAMETER = "torch._utils._rebuild_parameter"
    PARAMETER_WITH_STATE = "torch._utils._rebuild_parameter_with_state"
    WITH_ATTRIBUTES = "torch._tensor._rebuild_from_type_v2"
    BYTES = "torch.storage.UntypedStorage"


@dataclass(frozen=True)
class Foreign:
    """The stand-in for an object of any other class: the name of its maker, and nothing else."""

    name: str


@dataclass(frozen=True)
class _DType:
    """An element type that a pickle names."""

    dtype: str


@dataclass(frozen=True)
class _StorageClass:
    """A torch storage class."""

    dtype: str


@dataclass(frozen=True)
class _Storage:
    """Raw values in the archive."""

    record: str
    dtype: str


@dataclass(frozen=True)
class TensorPlace:
    """The place of a tensor in the archive; offset and strides in elements."""

    record: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_weights_pickle(content: bytes) -> object:
    """The plain values, dictionaries and tensors of a pickle; of tensors, their places.

    Whatever else it holds is a ``Foreign``.

    Raises:
        pickle.UnpicklingError: The pickle is damaged, or does what a checkpoint does not need.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                return machine.pop()
            machine.run(opcode.name, argument)
    except (ValueError, IndexError, TypeError, OverflowError, EOFError) as error:
        raise pickle.UnpicklingError(str(error) or "its pickle is damaged") from error
    raise pickle.UnpicklingError("its pickle has no end")


class _Machine:
    """Stack and memo of a pickle."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        """Obeys one opcode."""
        if name in _VALUES:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _OPERATIONS:
            _OPERATIONS[name](self, argument)
        elif name not in _IGNORED:
            raise pickle.UnpicklingError(f"the opcode {name}, which no dictionary of tensors needs")

    def pop(self) -> Any:
        """Takes the topmost value; a mark is not a value."""
        if self._marks and self._marks[-1] >= len(self._stack):
            raise pickle.UnpicklingError("a mark in place of a value")
        return self._stack.pop()

    def _top(self, kind: type[Any]) -> Any:
        if not self._stack or not isinstance(self._stack[-1], kind):
            raise pickle.UnpicklingError(f"no {kind.__name__} where one is needed")
        return self._stack[-1]

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _drop(self, _: Any) -> None:
        if self._marks and self._marks[-1] >= len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def _drop_to_mark(self, _: Any) -> None:
        self._since_mark()

    def _memoize(self, index: int | None) -> None:
        # A dictionary: the index alone, unlike the table of Python's unpickler, takes no memory.
        self._memo[len(self._memo) if index is None else index] = self._top(object)

    def _recall(self, index: int) -> None:
        if index not in self._memo:
            raise pickle.UnpicklingError(f"the memo has no {index}")
        self._stack.append(self._memo[index])

    def _duplicate(self, _: Any) -> None:
        self._stack.append(self._top(object))

    def _append(self, _: Any) -> None:
        value = self.pop()
        if not self._is_foreign():
            self._top(list).append(value)

    def _extend(self, _: Any) -> None:
        values = self._since_mark()
        if not self._is_foreign():
            self._top(list).extend(values)

    def _is_foreign(self) -> bool:
        """Whether what is filled is foreign, so that what goes in is dropped."""
        return bool(self._stack) and isinstance(self._stack[-1], Foreign)

    def _add_to_set(self, _: Any) -> None:
        self._since_mark()
        self._top(Foreign)

    def _make_frozen_set(self, _: Any) -> None:
        self._since_mark()
        self._stack.append(_SET)

    def _make_list(self, _: Any) -> None:
        self._stack.append(self._since_mark())

    def _make_tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _make_short_tuple(self, length: int) -> None:
        values = [self.pop() for _ in range(length)]
        self._stack.append(tuple(reversed(values)))

    def _make_dictionary(self, _: Any) -> None:
        self._stack.append(_filled({}, _pairs(self._since_mark())))

    def _set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        if not self._is_foreign():
            _filled(self._top(dict), [(key, value)])

    def _set_items(self, _: Any) -> None:
        pairs = _pairs(self._since_mark())
        if not self._is_foreign():
            _filled(self._top(dict), pairs)

    def _name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(_named(module, name))

    def _name_from_stack(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise pickle.UnpicklingError("a name that is not text")
        self._stack.append(_named(module, name))

    def _call(self, _: Any) -> None:
        arguments, called = self.pop(), self.pop()
        self._stack.append(_result(called, arguments))

    def _call_with_keywords(self, _: Any) -> None:
        self.pop()
        self._call(_)

    def _call_since_mark(self, _: Any) -> None:
        called, *arguments = self._since_mark()
        self._stack.append(_result(called, tuple(arguments)))

    def _name_and_call(self, argument: str) -> None:
        arguments = tuple(self._since_mark())
        module, _, name = argument.partition(" ")
        self._stack.append(_result(_named(module, name), arguments))

    def _build(self, _: Any) -> None:
        # Modules attach a `_metadata` attribute to their dictionary, which is dropped.
        self.pop()
        if not self._is_foreign():
            self._top(dict)

    def _storage(self, _: Any) -> None:
        kind, storage, record, *_ = self.pop()
        if isinstance(storage, Foreign):
            self._stack.append(storage)
            return
        if storage is _Mark.BYTES:
            storage = _StorageClass("|u1")
        if kind != "storage" or not isinstance(storage, _StorageClass):
            raise pickle.UnpicklingError("a persistent value that is not a storage")
        self._stack.append(_Storage(_text(record), storage.dtype))


_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "POP": _Machine._drop,
    "POP_MARK": _Machine._drop_to_mark,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine._memoize),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine._recall),
    "APPEND": _Machine._append,
    "APPENDS": _Machine._extend,
    "DUP": _Machine._duplicate,
    "ADDITEMS": _Machine._add_to_set,
    "FROZENSET": _Machine._make_frozen_set,
    "LIST": _Machine._make_list,
    "TUPLE": _Machine._make_tuple,
    "TUPLE1": lambda machine, _: machine._make_short_tuple(1),
    "TUPLE2": lambda machine, _: machine._make_short_tuple(2),
    "TUPLE3": lambda machine, _: machine._make_short_tuple(3),
    "DICT": _Machine._make_dictionary,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "GLOBAL": _Machine._name,
    "STACK_GLOBAL": _Machine._name_from_stack,
    "REDUCE": _Machine._call,
    "NEWOBJ": _Machine._call,
    "NEWOBJ_EX": _Machine._call_with_keywords,
    "OBJ": _Machine._call_since_mark,
    "INST": _Machine._name_and_call,
    "BUILD": _Machine._build,
    "BINPERSID": _Machine._storage,
}

# Opcodes whose argument is their value.
_VALUES = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BYTEARRAY8"),
    )
)
_SET = Foreign("builtins.set")
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: _SET,
}
_IGNORED = ("PROTO", "FRAME")


def _named(module: str, name: str) -> _Mark | _StorageClass | _DType | Foreign:
    if module == "torch" and name in _STORAGES:
        return _StorageClass(_STORAGES[name])
    if module == "torch" and name in _DTYPES:
        return _DType(_DTYPES[name])
    try:
        return _Mark(f"{module}.{name}")
    except ValueError:
        return Foreign(f"{module}.{name}"[:200])


def _result(called: object, arguments: object) -> Any:
    """The results of torch's functions; gradients, hooks and requirements are dropped."""
    if not isinstance(arguments, tuple):
        raise pickle.UnpicklingError("arguments that are not a tuple")
    if isinstance(called, Foreign):
        return called
    match called, arguments:
        case _Mark.DICTIONARY, ():
            return {}
        case _Mark.DICTIONARY, (list() as pairs,):
            if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
                raise pickle.UnpicklingError("a dictionary of something else than pairs")
            return _filled({}, pairs)
        case (
            (_Mark.PARAMETER | _Mark.PARAMETER_WITH_STATE),
            (
                (TensorPlace() | Foreign()) as tensor,
                *_,
            ),
        ):
            return tensor
        case _Mark.WITH_ATTRIBUTES, (made_by, Foreign(name=kind), tuple() as inner, *_):
            # Of a tensor with attributes of Python's; subclasses may mean anything by its values.
            return _result(made_by, inner) if kind in _PLAIN_CLASSES else Foreign(kind)
        case ((_Mark.TENSOR | _Mark.TYPED_TENSOR), (Foreign() as storage, *_)):
            return storage
        case _Mark.TYPED_TENSOR, (_Storage(), _, _, _, _, _, Foreign() as dtype, *_):
            return dtype
        case _Mark.TYPED_TENSOR, (_Storage() as storage, offset, shape, strides, _, _, dtype, *_):
            if isinstance(dtype, _DType):
                return _place(storage.record, dtype.dtype, offset, shape, strides)
        case _Mark.TENSOR, (_Storage() as storage, offset, shape, strides, *_):
            return _place(storage.record, storage.dtype, offset, shape, strides)
    raise pickle.UnpicklingError("a call of something that cannot be called so")


def _place(record: str, dtype: str, offset: object, shape: object, strides: object) -> TensorPlace:
    sizes = _sizes(shape), _sizes(strides)
    if len(sizes[0]) != len(sizes[1]):
        raise pickle.UnpicklingError("a tensor whose shape and strides differ in length")
    return TensorPlace(record, dtype, _sizes((offset,))[0], *sizes)


def _sizes(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or len(values) > _MOST_AXES:
        raise pickle.UnpicklingError("a shape that is none")
    for value in values:
        if type(value) is not int or not 0 <= value <= _LARGEST_SIZE:
            raise pickle.UnpicklingError("a shape of something else than whole numbers")
    return tuple(values)


def _text(value: object) -> str:
    if isinstance(value, str) and len(value) <= _LONGEST_KEY:
        return value
    if type(value) is int and 0 <= value <= _LARGEST_SIZE:
        return str(value)
    raise pickle.UnpicklingError("the name of a record that is none")


def _pairs(values: list[Any]) -> Iterable[tuple[Any, Any]]:
    if len(values) % 2:
        raise pickle.UnpicklingError("a key without its value")
    return zip(values[::2], values[1::2], strict=True)


def _filled(target: dict[Any, Any], pairs: Iterable[Any]) -> dict[Any, Any]:
    """Fills a dictionary; what lies under keys that name no tensor is dropped."""
    for key, value in pairs:
        # Hashing nested tuples takes exponential time, and great integers can be made to collide.
        is_number = type(key) is int and abs(key) <= _LARGEST_SIZE
        if is_number or type(key) is str or key is None:
            target[key] = value
    return target
