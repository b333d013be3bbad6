"""Tests the ctypes declarations of the Python package against include/xq/xq.h: the fields of structs as the compiler
lays them out, enums, and the type of every argument."""

import ctypes
import os
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from python_binding import ROOT, xq

from xq import _c

HANDLES = ("xq_context", "xq_plan", "xq_prepared")
SCALARS = {"int": ctypes.c_int, "int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64, "uint8_t": ctypes.c_uint8,
           "uint64_t": ctypes.c_uint64, "size_t": ctypes.c_size_t, "float": ctypes.c_float, "double": ctypes.c_double,
           "xq_status": ctypes.c_int, "xq_implementation": ctypes.c_int, "xq_log_level": ctypes.c_int,
           "xq_parameters_from": ctypes.c_int}


def header():
    with open(os.path.join(ROOT, "include", "xq", "xq.h"), encoding="utf-8") as file:
        return re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)


def structs():
    """Returns the structs of the header: {name: [field, ...]}."""
    found = {}
    for body, name in re.findall(r"typedef struct \w+ \{(.*?)\} (xq_\w+);", header(), re.S):
        declarators = re.sub(r"\[\w+\]", "", body).replace("*", " ").split(";")[:-1]
        found[name] = [part.split()[-1] for declaration in declarators for part in declaration.split(",")]
    return found


def ctype(text):
    """Returns the type that _c declares for a C type."""
    stars = text.count("*")
    base = text.replace("*", " ").replace("const", " ").split()[0]
    if base in HANDLES:
        return ctypes.c_void_p if stars == 1 else ctypes.POINTER(ctypes.c_void_p)
    if base == "void" or (base == "char" and "const" not in text):
        return [None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)][stars]
    if base == "char":
        return ctypes.c_char_p
    kind = SCALARS.get(base) or getattr(_c, base)
    return ctypes.POINTER(kind) if stars else kind


def functions():
    """Returns the functions of the header with ctypes types: {name: (result, [argument, ...])}."""
    found = {}
    for result, name, arguments in re.findall(r"XQ_API ([\w \*]+?)\b(xq_\w+)\(([^)]*)\);", header()):
        parts = [] if arguments.strip() == "void" else arguments.split(",")
        found[name] = (ctype(result), [ctype(re.sub(r"\w+\s*$", "", part.strip())) for part in parts])
    return found


class Header(unittest.TestCase):
    def test_every_struct_has_the_fields_of_the_header(self):
        self.assertEqual({s.__name__: [name for name, _ in s._fields_] for s in _c.STRUCTS}, structs())

    def test_sizes_and_offsets_are_those_of_the_compiler(self):
        lines = [f'printf("%zu", sizeof({s.__name__}));' + "".join(
            f' printf(" %zu:%zu", offsetof({s.__name__}, {name}), sizeof(v_{s.__name__}.{name}));' for name, _ in s._fields_) +
            ' printf("\\n");' for s in _c.STRUCTS]
        declared = [f"static {s.__name__} v_{s.__name__};" for s in _c.STRUCTS]
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "layout.c")
            with open(source, "w", encoding="utf-8") as file:
                file.write("#include <xq/xq.h>\n#include <stdio.h>\n" + "\n".join(declared) + "\nint main(void)\n{\n" +
                           "\n".join(lines) + "\nreturn 0;\n}\n")
            program = os.path.join(folder, "layout")
            subprocess.run([os.environ.get("CC", "gcc"), "-I" + os.path.join(ROOT, "include"), source, "-o", program],
                           check=True)
            printed = subprocess.run([program], stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
        for struct, line in zip(_c.STRUCTS, printed):
            ours = " ".join([str(ctypes.sizeof(struct))] + [
                f"{getattr(struct, name).offset}:{getattr(struct, name).size}" for name, _ in struct._fields_])
            self.assertEqual(ours, line, struct.__name__)

    def test_every_function_is_declared_with_the_types_of_the_header(self):
        declared = functions()
        with open(os.path.join(ROOT, "tests", "include", "abi.txt"), encoding="utf-8") as file:
            self.assertEqual(sorted(declared), file.read().split())
        self.assertEqual(sorted(_c.FUNCTIONS), sorted(declared))
        for name, types in declared.items():
            self.assertEqual(_c.FUNCTIONS[name], types, name)

    def test_enums_have_the_values_of_the_header(self):
        text = header()
        for enum, typedef, prefix in ((_c.Status, "xq_status", "XQ_"), (_c.LogLevel, "xq_log_level", "XQ_LOG_"),
                                      (_c.Implementation, "xq_implementation", "XQ_"),
                                      (_c.ParametersFrom, "xq_parameters_from", "XQ_FROM_")):
            body = re.search(r"typedef enum " + typedef + r" \{(.*?)\}", text, re.S).group(1)
            values = {name[len(prefix):]: int(value) for name, value in re.findall(r"(XQ_\w+)\s*=\s*(\d+)", body)}
            self.assertEqual({item.name: int(item) for item in enum}, values)

    def test_initializers_have_the_defaults_of_the_header(self):
        body = re.search(r"define XQ_PLAN_OPTIONS_INIT\s+\\\s+\{(.*?)\}", header(), re.S).group(1)
        values = {name: int(value) for name, value in re.findall(r"\.(\w+) = (\d+)", body)}
        self.assertEqual(_c.xq_plan_options.DEFAULTS, values)

    def test_version_is_that_of_the_header(self):
        version = ".".join(re.findall(r"define XQ_VERSION_\w+ (\d+)", header()))
        self.assertEqual(xq.__version__, version)
        self.assertEqual(_c.SONAME, f"libxq.so.{version.split('.')[0]}")


if __name__ == "__main__":
    unittest.main()
