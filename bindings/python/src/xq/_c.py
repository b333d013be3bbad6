"""The C interface, include/xq/xq.h, declared for ctypes: its constants, structs and functions, under their C names.
tests/bindings/test_python_header.py compares this file with the header.

The library is the file that the environment variable XQ_LIBRARY names, if it is set; else the file that the wheel
carries, in lib/ beside this file; else SONAME on the loader's search path.
"""

from __future__ import annotations

import ctypes
import enum
import os
import pathlib
from ctypes import CFUNCTYPE, POINTER, c_char, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint8, \
    c_uint64, c_void_p
from typing import Any, ClassVar, Dict, List, Tuple, Type

VERSION_MAJOR = 0


class Status(enum.IntEnum):
    """Why a call failed (xq_status). Values never change their meaning; newer libraries may add some."""

    OK = 0
    ERROR_ARGUMENT = 1
    ERROR_SPEC = 2
    ERROR_UNSUPPORTED = 3
    ERROR_TEMPLATE = 4
    ERROR_COMPILE = 5
    ERROR_NO_DEVICE = 6
    ERROR_NO_TOOLCHAIN = 7
    ERROR_DEVICE = 8
    ERROR_MEMORY = 9
    ERROR_DEVICE_MEMORY = 10
    ERROR_IO = 11
    ERROR_FORMAT = 12
    ERROR_INTERNAL = 13


class LogLevel(enum.IntEnum):
    """xq_log_level."""

    DEBUG = 0
    INFO = 1
    WARNING = 2


class Implementation(enum.IntEnum):
    """How attention is computed (xq_implementation)."""

    FUSED = 0
    UNFUSED = 1
    FP16_KV = 2
    FP8_KV = 3


class ParametersFrom(enum.IntEnum):
    """The source of the parameters of a plan's attention kernels (xq_parameters_from)."""

    DEFAULT = 0
    SPEC = 1
    DEVICE = 2
    CAPABILITY = 3
    FAMILY = 4


class Descriptor(ctypes.Structure):
    """A struct of the interface. Fields that are not given are those of DEFAULTS, or 0. struct_size is set if it is
    there."""

    DEFAULTS: ClassVar[Dict[str, int]] = {}

    def __init__(self, **fields: Any) -> None:
        super().__init__(**{**self.DEFAULTS, **fields})
        if self._fields_[0][0] == "struct_size":
            self.struct_size = ctypes.sizeof(self)


LogCallback = CFUNCTYPE(None, c_void_p, c_int, c_char_p)


class xq_error_detail(Descriptor):
    _fields_ = [("struct_size", c_size_t), ("status", c_int), ("stage", c_char_p), ("message", c_char_p), ("field", c_char_p),
                ("file", c_char_p), ("line", c_int), ("log", c_char_p)]


class xq_context_options(Descriptor):
    _fields_ = [("struct_size", c_size_t), ("device", c_char_p), ("cache_dir", c_char_p), ("template_dir", c_char_p),
                ("log", LogCallback), ("log_user", c_void_p), ("kernels", c_char_p), ("no_compile", c_int32)]


class xq_device_info(Descriptor):
    _fields_ = [("struct_size", c_size_t), ("name", c_char * 128), ("arch", c_char * 16), ("is_sim", c_int32),
                ("driver", c_int32), ("nvrtc", c_int32), ("sm_count", c_int32), ("memory_bytes", c_size_t),
                ("l2_bytes", c_size_t), ("shared_bytes_per_block", c_size_t), ("ordinal", c_int32)]


class xq_plan_options(Descriptor):
    DEFAULTS = {"max_batch": 1, "max_tokens": 4096, "max_append": 1, "max_queries": 1}
    _fields_ = [("struct_size", c_size_t), ("spec_json", c_char_p), ("implementation", c_int), ("max_batch", c_int32),
                ("max_tokens", c_int64), ("max_pages", c_int64), ("max_append", c_int64), ("max_queries", c_int64),
                ("max_total_queries", c_int64), ("checked", c_int32), ("pool_pages", c_int64)]


class xq_plan_info(Descriptor):
    _fields_ = [("struct_size", c_size_t), ("hidden_size", c_int32), ("heads", c_int32), ("kv_heads", c_int32),
                ("head_dim", c_int32), ("page_tokens", c_int32), ("rank_k", c_int32), ("rank_v", c_int32),
                ("page_bytes", c_size_t), ("page_align", c_size_t), ("weights_bytes", c_size_t),
                ("workspace_bytes", c_size_t), ("cache_bytes_per_token", c_double), ("tail_bytes", c_size_t),
                ("accumulator_page_bytes", c_size_t), ("accumulator_bytes_per_token", c_double),
                ("needs_append_indptr", c_int32), ("latents", c_int32), ("parameters_from", c_int),
                ("implementation", c_int), ("max_batch", c_int32), ("max_tokens", c_int64), ("max_pages", c_int64),
                ("max_append", c_int64), ("max_queries", c_int64), ("max_total_queries", c_int64), ("pool_pages", c_int64),
                ("latents_v", c_int32)]


class xq_weights(Descriptor):
    _fields_ = [("struct_size", c_size_t)] + [(name, POINTER(c_float)) for name in (
        "wk", "wv", "uk", "ak", "uv", "av", "ukv", "bk", "bv", "k_norm", "sinks", "k_cost",
        "k_scale", "v_scale")]


class xq_prepared_info(Descriptor):
    _fields_ = [("struct_size", c_size_t), ("spec_json", c_char_p), ("layers", c_int32), ("weights", c_char_p),
                ("base_layer", c_int32)]


class xq_page_table(Descriptor):
    _fields_ = [("batch", c_int32), ("indptr", c_uint64), ("indices", c_uint64), ("last_page_len", c_uint64)]


class xq_tail_pool(Descriptor):
    _fields_ = [("pool", c_uint64), ("slots", c_uint64)]


class xq_append_args(Descriptor):
    _fields_ = [("struct_size", c_size_t), ("tokens", c_int64), ("x", c_uint64), ("token_sequence", c_uint64),
                ("token_position", c_uint64), ("table", xq_page_table), ("pages", c_uint64), ("weights", c_uint64),
                ("workspace", c_uint64), ("workspace_bytes", c_size_t), ("append_indptr", c_uint64),
                ("tails", xq_tail_pool), ("accumulator", c_uint64), ("rotary_position", c_uint64)]


class xq_accumulate_args(Descriptor):
    _fields_ = [("struct_size", c_size_t), ("max_tokens", c_int64), ("table", xq_page_table), ("pages", c_uint64),
                ("weights", c_uint64), ("tails", xq_tail_pool), ("accumulator", c_uint64)]


class xq_attend_args(Descriptor):
    _fields_ = [("struct_size", c_size_t), ("max_tokens", c_int64), ("q", c_uint64), ("out", c_uint64), ("lse", c_uint64),
                ("table", xq_page_table), ("pages", c_uint64), ("weights", c_uint64), ("workspace", c_uint64),
                ("workspace_bytes", c_size_t), ("queries", c_int64), ("max_queries", c_int64), ("query_indptr", c_uint64),
                ("query_position", c_uint64), ("token_offset", c_uint64), ("tree_mask", c_uint64), ("mask_words", c_int32),
                ("without_sinks", c_int32), ("tails", xq_tail_pool), ("accumulator", c_uint64)]


class xq_merge_args(Descriptor):
    _fields_ = [("struct_size", c_size_t), ("queries", c_int64), ("out_a", c_uint64), ("out_b", c_uint64),
                ("lse_a", c_uint64), ("lse_b", c_uint64), ("out", c_uint64), ("lse", c_uint64)]


class xq_dequantize_args(Descriptor):
    _fields_ = [("struct_size", c_size_t), ("table_entries", c_int64), ("table", xq_page_table), ("pages", c_uint64),
                ("k", c_uint64), ("v", c_uint64), ("tails", xq_tail_pool), ("accumulator", c_uint64)]


class xq_quantizer(Descriptor):
    _fields_ = [("struct_size", c_size_t), ("bits", c_int32), ("group", c_int32), ("by_channel", c_int32),
                ("integer_zero", c_int32), ("latents", c_int32), ("clip", c_float), ("feedback", POINTER(c_float))]


STRUCTS: Tuple[Type[Descriptor], ...] = (
    xq_error_detail, xq_context_options, xq_device_info, xq_plan_options, xq_plan_info, xq_weights, xq_prepared_info,
    xq_page_table, xq_tail_pool, xq_append_args, xq_accumulate_args, xq_attend_args, xq_merge_args, xq_dequantize_args,
    xq_quantizer)

# Handles are void *. Strings that the caller frees are void *, too: ctypes copies a char *, and its address is lost.
HANDLE = c_void_p
FLOATS = POINTER(c_float)
OUT = POINTER

# The types of each function's result and arguments.
FUNCTIONS: Dict[str, Tuple[Any, List[Any]]] = {
    "xq_status_name": (c_char_p, [c_int]),
    "xq_version": (c_char_p, []),
    "xq_context_create": (c_int, [POINTER(xq_context_options), OUT(HANDLE)]),
    "xq_context_destroy": (None, [HANDLE]),
    "xq_last_error": (c_int, [HANDLE, POINTER(xq_error_detail)]),
    "xq_context_device": (c_int, [HANDLE, POINTER(xq_device_info)]),
    "xq_device_alloc": (c_int, [HANDLE, c_size_t, OUT(c_uint64)]),
    "xq_device_free": (c_int, [HANDLE, c_uint64]),
    "xq_device_write": (c_int, [HANDLE, c_uint64, c_void_p, c_size_t]),
    "xq_device_read": (c_int, [HANDLE, c_void_p, c_uint64, c_size_t]),
    "xq_device_fill": (c_int, [HANDLE, c_uint64, c_uint8, c_size_t]),
    "xq_device_synchronize": (c_int, [HANDLE]),
    "xq_spec_complete": (c_int, [HANDLE, c_char_p, OUT(c_void_p)]),
    "xq_spec_override": (c_int, [HANDLE, c_char_p, c_char_p, OUT(c_void_p)]),
    "xq_string_free": (None, [c_void_p]),
    "xq_plan_create": (c_int, [HANDLE, POINTER(xq_plan_options), OUT(HANDLE)]),
    "xq_plan_save": (c_int, [HANDLE, c_void_p, c_size_t, OUT(c_size_t)]),
    "xq_plan_load": (c_int, [HANDLE, c_void_p, c_size_t, OUT(HANDLE)]),
    "xq_plan_destroy": (None, [HANDLE]),
    "xq_plan_query": (c_int, [HANDLE, POINTER(xq_plan_info)]),
    "xq_plan_spec": (c_char_p, [HANDLE]),
    "xq_plan_pack_weights": (c_int, [HANDLE, POINTER(xq_weights), c_void_p, c_size_t]),
    "xq_prepared_open": (c_int, [HANDLE, c_char_p, OUT(HANDLE)]),
    "xq_prepared_close": (None, [HANDLE]),
    "xq_prepared_query": (c_int, [HANDLE, POINTER(xq_prepared_info)]),
    "xq_prepared_layer_spec": (c_char_p, [HANDLE, c_int32]),
    "xq_prepared_layer": (c_int, [HANDLE, c_int32, POINTER(xq_weights)]),
    "xq_prepared_packed": (c_int, [HANDLE, HANDLE, c_int32, OUT(c_void_p), OUT(c_size_t)]),
    "xq_plan_append": (c_int, [HANDLE, POINTER(xq_append_args), c_void_p]),
    "xq_plan_accumulate": (c_int, [HANDLE, POINTER(xq_accumulate_args), c_void_p]),
    "xq_plan_attend": (c_int, [HANDLE, POINTER(xq_attend_args), c_void_p]),
    "xq_plan_merge": (c_int, [HANDLE, POINTER(xq_merge_args), c_void_p]),
    "xq_plan_dequantize": (c_int, [HANDLE, POINTER(xq_dequantize_args), c_void_p]),
    "xq_simulate_cache": (c_int, [POINTER(xq_quantizer), c_int64, c_int64, FLOATS, FLOATS]),
    "xq_simulate_feedback": (c_int, [POINTER(xq_quantizer), c_int64, c_int64, FLOATS, c_int64, FLOATS, FLOATS]),
    "xq_simulate_weights": (c_int, [c_char_p, c_int64, c_int64, FLOATS, FLOATS]),
}

SONAME = f"libxq.so.{VERSION_MAJOR}"
PACKAGE = pathlib.Path(__file__).resolve().parent


def _load() -> ctypes.CDLL:
    carried = PACKAGE / "lib" / SONAME
    path = os.environ.get("XQ_LIBRARY") or (str(carried) if carried.exists() else SONAME)
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(f"xq: cannot load {path}: {error}; install a wheel of xq, or set XQ_LIBRARY to a {SONAME}") from None
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(library, name, None)
        if function is None:
            raise ImportError(f"xq: {path} has no {name}: it is older than this package")
        function.restype = result
        function.argtypes = arguments
    return library


lib = _load()
