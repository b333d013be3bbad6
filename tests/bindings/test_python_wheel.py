"""Tests the Python wheel, which is installed into an empty environment and used from there.

XQ_WHEEL names a wheel. Without it, a wheel is made of this build's own library and program."""

import glob
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from python_binding import BUILD, ROOT, numpy, xq

CANNOT_MAKE = importlib.util.find_spec("auditwheel") is None  # auditwheel comes with everything else that is needed
FAKE_NVRTC = os.path.join(BUILD, "tests", "libfake_nvrtc.so")
# These tell where NVRTC is, because the wheel does not carry it.
KEPT = ("XQ_NVRTC", "CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "XQ_CACHE_DIR", "LD_LIBRARY_PATH")


def checked(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode:
        raise AssertionError(f"{command}: status {done.returncode}\n{done.stdout}")
    return done.stdout


@unittest.skipIf(CANNOT_MAKE and not os.environ.get("XQ_WHEEL"), "auditwheel cannot be imported; `make venv` installs it")
class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.wheel = os.environ.get("XQ_WHEEL") or cls.made()
        cls.home = os.path.join(cls.folder, "environment")
        checked(sys.executable, "-m", "venv", cls.home)
        checked(os.path.join(cls.home, "bin", "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-index",
                "--no-deps", cls.wheel)
        cls.site = glob.glob(os.path.join(cls.home, "lib", "python3*", "site-packages"))[0]
        # The only dependency comes from the environment of the tests.
        numpy_folder = os.path.dirname(numpy.__file__)
        for path in (numpy_folder, numpy_folder + ".libs"):
            if os.path.exists(path):
                os.symlink(path, os.path.join(cls.site, os.path.basename(path)))

    @classmethod
    def made(cls):
        out, build = os.path.join(cls.folder, "dist"), os.path.join(cls.folder, "build")
        os.makedirs(build)
        for name in ("xq", f"libxq.so.{xq.__version__}"):
            os.symlink(os.path.join(os.path.abspath(BUILD), name), os.path.join(build, name))
        checked("sh", os.path.join(ROOT, "scripts", "wheel.sh"), build, out, env={**os.environ, "PYTHON": sys.executable})
        return glob.glob(os.path.join(out, "*.whl"))[0]

    def environment(self, **changes):
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        return {"PATH": "/usr/bin:/bin", "HOME": self.folder, **kept, **changes}

    def run_there(self, *arguments, **changes):
        return checked(os.path.join(self.home, "bin", "python"), "-B", *arguments, cwd=ROOT, env=self.environment(**changes))

    def test_its_name_says_what_it_runs_on(self):
        self.assertRegex(os.path.basename(self.wheel), rf"^xq-{re.escape(xq.__version__)}-py3-none-manylinux_2_\d+_\w+\.whl$")

    def test_the_package_uses_the_library_that_it_carries(self):
        printed = self.run_there("-c", "import xq; print(xq.__file__, xq.__version__); print(open('/proc/self/maps').read())")
        self.assertEqual(printed.split()[:2], [os.path.join(self.site, "xq", "__init__.py"), xq.__version__])
        mapped = {line.split()[-1] for line in printed.splitlines() if re.search(r"lib(xq|lua|cjson|xxhash)", line)}
        self.assertEqual(len(mapped), 4, mapped)
        for path in mapped:
            self.assertTrue(path.startswith(self.site + "/xq"), path)

    def test_the_tests_of_plans_pass_there(self):
        printed = self.run_there("-m", "unittest", "tests/bindings/test_python_plan.py", XQ_TEST_INSTALLED="1")
        self.assertRegex(printed, r"Ran \d\d tests(.|\n)*OK")

    def test_weights_are_prepared_by_the_program_that_it_carries(self):
        self.run_there("-m", "unittest", "tests/bindings/test_python_tools.py", XQ_TEST_INSTALLED="1")
        program = os.path.join(self.home, "bin", "xq")
        printed = checked(program, "info", "--device", "sim", env=self.environment())
        self.assertIn("software device", printed)
        failed = subprocess.run([program, "nonsense"], env=self.environment(), stderr=subprocess.PIPE, check=False)
        self.assertEqual(failed.returncode, 2)

    @unittest.skipUnless(os.path.exists(FAKE_NVRTC), f"there is no {FAKE_NVRTC}; the tests in C have it built")
    def test_nvrtc_beside_the_package_is_found(self):
        folder = os.path.join(self.site, "nvidia", "cuda_nvrtc", "lib")
        os.makedirs(folder)
        self.addCleanup(shutil.rmtree, os.path.join(self.site, "nvidia"))
        library = os.path.join(folder, "libnvrtc.so.12")
        shutil.copy(FAKE_NVRTC, library)
        empty = {"XQ_NVRTC": "", "CUDA_HOME": "", "CUDA_PATH": "", "VIRTUAL_ENV": ""}
        printed = self.run_there("-c", "import xq; print(xq.Context('sim').device.nvrtc)", **empty)
        self.assertEqual(printed, "12000\n")
        printed = checked(os.path.join(self.home, "bin", "xq"), "info", "--device", "sim", "--json", "-",
                          env=self.environment(**empty))
        self.assertEqual(json.loads(printed)["toolchain"]["path"], library)


if __name__ == "__main__":
    unittest.main()
