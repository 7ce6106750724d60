"""Matrix products by the ggml libraries that llama-cpp-python installs, as the figures to compare with.

Through ggml's public C interface, so this finds the kernels that llama.cpp itself would use: the plain ones, and
the repacked ones where ggml has them for the type and the processor. The bare dot product of the plain ones is called
as well, row by row: it has neither a graph nor a thread pool around it.
"""

from __future__ import annotations

import ctypes as c
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halo import _native

_POINTERS = {
    "ggml_init", "ggml_new_tensor_2d", "ggml_mul_mat", "ggml_new_graph_custom", "ggml_backend_cpu_init",
    "ggml_backend_cpu_buffer_type", "ggml_backend_alloc_ctx_tensors_from_buft", "ggml_backend_cpu_reg",
    "ggml_backend_reg_dev_get", "ggml_backend_reg_get_proc_address", "ggml_get_type_traits_cpu",
}  # fmt: skip
_F32 = 0
_VERSIONS = ("0.25.",)  # whose `ggml_type_traits_cpu` is as below


class _InitParams(c.Structure):
    _fields_ = (("mem_size", c.c_size_t), ("mem_buffer", c.c_void_p), ("no_alloc", c.c_bool))


class _TypeTraits(c.Structure):
    """`ggml_type_traits_cpu` of ggml-cpu.h."""

    _fields_ = (
        ("from_float", c.c_void_p),
        ("vec_dot", c.c_void_p),
        ("vec_dot_type", c.c_int),
        ("nrows", c.c_int64),
    )


class Ggml:
    """The libraries, with every function that returns a pointer declared to do so."""

    def __init__(self, folder: Path) -> None:
        self._libraries = [
            c.CDLL(str(folder / f"lib{name}.so"), mode=c.RTLD_GLOBAL) for name in ("ggml-base", "ggml-cpu")
        ]
        self._quiet = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)(lambda level, text, data: None)
        self.ggml_log_set(self._quiet, None)
        self.ggml_backend_dev_supports_op.restype = c.c_bool
        self.backend = self.ggml_backend_cpu_init()
        self.ggml_backend_cpu_set_n_threads(c.c_void_p(self.backend), 1)

    def __getattr__(self, name: str) -> Any:
        for library in self._libraries:
            if hasattr(library, name):
                function = getattr(library, name)
                if name in _POINTERS:
                    function.restype = c.c_void_p
                setattr(self, name, function)
                return function
        raise AttributeError(name)

    def has_known_traits(self) -> bool:
        """Whether this is a version whose `ggml_type_traits_cpu` is the one known here."""
        self.ggml_version.restype = c.c_char_p
        return str(self.ggml_version().decode()).startswith(_VERSIONS)

    def repacked_buffer_type(self) -> int | None:
        """The buffer type whose weights ggml repacks, if this build has it."""
        register = c.c_void_p(self.ggml_backend_cpu_reg())
        found = self.ggml_backend_reg_get_proc_address(register, b"ggml_backend_dev_get_extra_bufts")
        if not found:
            return None
        list_types = c.CFUNCTYPE(c.POINTER(c.c_void_p), c.c_void_p)(found)
        self.ggml_backend_buft_name.restype = c.c_char_p
        types = list_types(self.ggml_backend_reg_dev_get(register, c.c_size_t(0)))
        for kind in iter(types) if types else ():
            if not kind:
                break
            if b"REPACK" in self.ggml_backend_buft_name(c.c_void_p(kind)):
                return int(kind)
        return None


class Products:
    """y_i = W_i x for some matrices of one type and one x, as one graph on one thread."""

    def __init__(
        self,
        ggml: Ggml,
        buffer_type: int,
        kind: int,
        rows: int,
        data: Sequence[bytes],
        x: NDArray[np.float32],
    ) -> None:
        self._ggml, n, columns = ggml, len(data), x.shape[1]
        self._weights = self._context(n + 8)
        self._rest = self._context(2 * n + 64, graph=True)
        extents = c.c_int64(columns), c.c_int64(rows)
        weights = [c.c_void_p(ggml.ggml_new_tensor_2d(self._weights, kind, *extents)) for _ in range(n)]
        ggml.ggml_backend_alloc_ctx_tensors_from_buft(self._weights, c.c_void_p(buffer_type))
        given = c.c_void_p(ggml.ggml_new_tensor_2d(self._rest, _F32, c.c_int64(columns), c.c_int64(len(x))))
        self._graph = c.c_void_p(ggml.ggml_new_graph_custom(self._rest, c.c_size_t(max(2 * n, 64)), c.c_bool(False)))
        nodes = [c.c_void_p(ggml.ggml_mul_mat(self._rest, w, given)) for w in weights]
        device = c.c_void_p(ggml.ggml_backend_reg_dev_get(c.c_void_p(ggml.ggml_backend_cpu_reg()), c.c_size_t(0)))
        self.supported = bool(ggml.ggml_backend_dev_supports_op(device, nodes[0]))
        if not self.supported:
            return
        plain = c.c_void_p(ggml.ggml_backend_cpu_buffer_type())
        ggml.ggml_backend_alloc_ctx_tensors_from_buft(self._rest, plain)
        for tensor, values in zip(weights, data, strict=True):
            ggml.ggml_backend_tensor_set(tensor, values, c.c_size_t(0), c.c_size_t(len(values)))
        ggml.ggml_backend_tensor_set(given, x.ctypes.data_as(c.c_void_p), c.c_size_t(0), c.c_size_t(x.nbytes))
        for node in nodes:
            ggml.ggml_build_forward_expand(self._graph, node)
        self._last, self._shape = nodes[-1], (len(x), rows)

    def _context(self, tensors: int, graph: bool = False) -> c.c_void_p:
        size = tensors * 512 + (1 << 20 if graph else 0)
        return c.c_void_p(self._ggml.ggml_init(_InitParams(size, None, True)))

    def run(self) -> None:
        self._ggml.ggml_backend_graph_compute(c.c_void_p(self._ggml.backend), self._graph)

    def result(self) -> NDArray[np.float32]:
        """The last product, (T, rows)."""
        y = np.zeros(self._shape, np.float32)
        self._ggml.ggml_backend_tensor_get(
            self._last, y.ctypes.data_as(c.c_void_p), c.c_size_t(0), c.c_size_t(y.nbytes)
        )
        return y


def aligned(n: int, values: bytes = b"") -> NDArray[np.uint8]:
    """`n` bytes from a cache line's start on, beginning with `values`. (numpy asks for huge pages, as HALO does.)"""
    whole = np.zeros(n + 64, np.uint8)
    start = -whole.ctypes.data % 64
    whole[start : start + len(values)] = np.frombuffer(values, np.uint8)
    return whole[start : start + n]


class BareDots:
    """The same as `Products` by the type's `vec_dot`, after `from_float` of x: what ggml's graphs are made of."""

    def __init__(self, ggml: Ggml, kind: int, rows: int, data: Sequence[bytes], x: NDArray[np.float32]) -> None:
        traits = _TypeTraits.from_address(ggml.ggml_get_type_traits_cpu(kind))
        self._dot = traits.vec_dot
        self._from_float = c.CFUNCTYPE(None, c.c_void_p, c.c_void_p, c.c_int64)(traits.from_float)
        self._weights = [aligned(len(values), values) for values in data]
        self._x = x
        ggml.ggml_row_size.restype = c.c_size_t
        row = int(ggml.ggml_row_size(traits.vec_dot_type, c.c_int64(x.shape[1])))
        self._quantised = aligned(row * len(x)).reshape(len(x), row)
        self._y = np.zeros((len(x), rows), np.float32)

    def run(self) -> None:
        n = self._x.shape[1]
        for weights in self._weights:
            for row, out in zip(self._x, self._quantised, strict=True):
                self._from_float(row.ctypes.data, out.ctypes.data, n)
            _native.vec_dots(self._dot, n, weights, self._quantised, self._y)

    def result(self) -> NDArray[np.float32]:
        """The last product, (T, rows)."""
        return self._y


def load_ggml() -> Ggml | None:
    """ggml as llama-cpp-python brought it; None where it is not installed, or is another build than expected."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "lib"
    try:
        return Ggml(folder)
    except (OSError, AttributeError):
        return None
