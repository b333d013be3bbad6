"""The parts of the build that pyproject.toml cannot express. The version is read from include/xq/xq.h. A wheel that
carries the library is for one platform, but for every Python 3, since nothing is compiled against Python."""

import pathlib
import re

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel

HERE = pathlib.Path(__file__).resolve().parent
HEADER = HERE.parent.parent / "include" / "xq" / "xq.h"
CARRIES_LIBRARY = any((HERE / "src" / "xq").glob("lib/libxq.so.*"))


class Carrier(Distribution):
    def has_ext_modules(self):
        return CARRIES_LIBRARY


class Wheel(bdist_wheel):
    def get_tag(self):
        _, _, platform = super().get_tag()
        return "py3", "none", platform if CARRIES_LIBRARY else "any"


setup(version=".".join(re.findall(r"define XQ_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", HEADER.read_text(encoding="utf-8"))),
      distclass=Carrier, cmdclass={"bdist_wheel": Wheel})
