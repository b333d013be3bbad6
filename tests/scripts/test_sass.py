"""scripts/sass.sh: the instruction mix of the hottest loop, of listings made here and of a kernel compiled here."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import sass

SCRIPT = str(ROOT / "scripts" / "sass.sh")
HEAD = "\t.target\tsm_80\n\t.section\t.text.xq_test,\"ax\",@progbits\nxq_test:\n.text.xq_test:\n"


def kernel(text):
    """A kernel of lines that are labels ("L1:") or instructions ("@P0 BRA L1")."""
    lines, address = [HEAD], 0
    for line in text.strip().splitlines():
        line = line.strip()
        if line.endswith(":"):
            lines.append(f".L_x_{line[1:]}\n")
        elif line.startswith("//##"):
            lines.append(f"\t{line}\n")
        else:
            words = [f"`(.L_x_{word[1:]})" if word[0] == "L" and word[1:].isdigit() else word for word in line.split()]
            lines.append(f"        /*{address:04x}*/        {' '.join(words)} ;\n")
            address += 16
    return sass.parse("".join(lines))[0]


def hottest(text):
    return [x.opcode for x in sass.hottest_loop(kernel(text))]


class Loops(unittest.TestCase):
    def test_the_innermost_loop_with_the_most_matrix_instructions(self):
        self.assertEqual(hottest("""
            MOV R0, R1
            L1:
            IADD3 R0, R0, 0x1, RZ
            L2:
            HMMA.16816.F32 R4, R8, R2, R4
            HMMA.16816.F32 R4, R8, R2, R4
            @P0 BRA L2
            L3:
            HMMA.16816.F32 R4, R8, R2, R4
            FADD R0, R0, R1
            FADD R0, R0, R1
            @P1 BRA L3
            @P2 BRA L1
            EXIT"""), ["HMMA.16816.F32", "HMMA.16816.F32", "BRA"])

    def test_without_matrix_instructions_the_longest(self):
        self.assertEqual(hottest("""
            L1:
            @P0 BRA L1
            L2:
            FFMA R0, R0, R1, R2
            @P0 BRA L2
            EXIT"""), ["FFMA", "BRA"])

    def test_code_that_was_moved_away_and_branches_back_is_no_loop(self):
        self.assertEqual(hottest("""
            L1:
            HMMA.16816.F32 R4, R8, R2, R4
            @!P0 BRA L3
            L2:
            FADD R0, R0, R1
            @P1 BRA L1
            MUFU.EX2 R0, R1
            EXIT
            L3:
            MUFU.RCP R0, R1
            BRA L2"""), ["HMMA.16816.F32", "BRA", "FADD", "BRA", "MUFU.RCP", "BRA"])

    def test_a_branch_with_a_uniform_condition_falls_through(self):
        self.assertEqual(hottest("""
            L1:
            BRA.DIV UR4, L9
            IADD3 R0, R0, 0x1, RZ
            @P0 BRA L1
            EXIT
            L9:
            EXIT"""), ["BRA.DIV", "IADD3", "BRA"])

    def test_a_call_of_a_label_leaves_the_loop(self):
        self.assertEqual(hottest("""
            L1:
            FADD R0, R0, R1
            @P1 CALL.REL.NOINC L2
            BRA L1
            L2:
            EXIT"""), ["FADD", "CALL.REL.NOINC", "BRA"])

    def test_a_kernel_without_loops(self):
        self.assertEqual(hottest("BSSY B0, L1\nFADD R0, R0, R1\nL1:\nEXIT"), [])


class Table(unittest.TestCase):
    def test_classes(self):
        for opcode, name in (("IMMA.16832.U8.S8", "matrix"), ("HFMA2.MMA", "half"), ("IMAD.MOV.U32", "move"),
                             ("IMAD.WIDE", "integer"), ("ULEA", "integer"), ("ULDC.64", "constant"),
                             ("LDGSTS.E.BYPASS.128", "global"), ("LDSM.16.M88.4", "shared"), ("STL", "local"),
                             ("SHFL.BFLY", "exchange"), ("VOTEU.ANY", "exchange"), ("XYZZY", "other")):
            self.assertEqual(sass.class_of(opcode), name, opcode)

    def test_a_column(self):
        cells = sass.column(kernel("""
            L1:
            HMMA.16816.F32 R4, R8, R2, R4
            FADD R0, R0, R1
            IADD3 R0, R0, 0x1, RZ
            @P0 BRA L1
            STL [R1], R0
            LDL R0, [R1]
            EXIT"""), "13.0")
        self.assertEqual((cells["instructions"], cells["hottest loop"], cells["matrix"]), ("7", "4", "1"))
        self.assertEqual((cells["matrix share"], cells["local memory accesses"]), ("25 %", "2"))

    def test_lines_are_those_of_the_templates(self):
        code = kernel("""
            //## File "/xq/templates/lib/rope.cuh", line 18
            FADD R0, R0, R1
            //## File "other.h", line 2
            EXIT""").instructions
        self.assertEqual([x.place for x in code], ["templates/lib/rope.cuh:18", "other.h:2"])


def run(*arguments, **environment):
    done = subprocess.run(["sh", SCRIPT, *arguments], capture_output=True, text=True, check=False,
                          env={**os.environ, **environment})
    return done.returncode, done.stdout, done.stderr


def has_nvdisasm():
    return run("a.cubin")[0] != 3


class Errors(unittest.TestCase):
    def test_usage(self):
        status, out, _ = run("--help")
        self.assertEqual(status, 0)
        self.assertTrue(out.startswith("usage: scripts/sass.sh "))
        for arguments, said in (((), "there is nothing to show"), (("--arch",), "--arch: needs a value")):
            status, out, error = run(*arguments)
            self.assertEqual((status, out), (2, ""))
            self.assertIn(said, error)
            self.assertEqual(error.count("\n"), 1)

    def test_what_is_missing(self):
        status, _, error = run("a.cubin", NVDISASM="/nowhere/nvdisasm")
        self.assertEqual((status, error), (3, "sass: NVDISASM=/nowhere/nvdisasm is no program\n"))
        status, _, error = run("a.cubin", NVDISASM="", VIRTUAL_ENV="/nowhere", CUDA_HOME="/nowhere",
                               PATH="/usr/bin:/bin")
        if status == 1:
            self.skipTest("nvdisasm is in /usr/bin")
        self.assertEqual(status, 3)
        self.assertIn("sh scripts/deps.sh sass", error)


@unittest.skipUnless(has_nvdisasm(), "no nvdisasm (`sh scripts/deps.sh sass` installs it)")
class Compiled(unittest.TestCase):
    def test_a_kernel_that_is_compiled(self):
        status, out, error = run("--arch", "sm_80,sm_90", "--listing", "--model", "smollm2-135m", "--bits", "4")
        self.assertEqual((status, error), (0, ""))
        self.assertRegex(out.splitlines()[0], r"\| xq_attend sm_80 \| xq_attend sm_90 \|")
        self.assertRegex(out, r"\n\| - matrix +\| +[1-9]\d+ \| +[1-9]\d+ \|")
        self.assertRegex(out, r"\n\| local memory accesses +\| +none \| +none \|")
        self.assertNotIn("Other:", out)
        self.assertRegex(out, r"HMMA\.16816\.F32 .* templates/lib/ptx_matrix\.cuh:\d+")

    def test_files(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a.cubin")
            self.assertEqual(run(path)[::2], (1, f"sass: {path}: No such file or directory\n"))
            pathlib.Path(path).write_text("no cubin", encoding="utf-8")
            self.assertEqual(run(path)[::2], (1, f"sass: {path}: this is no cubin (`xq gen --cubin` makes cubins)\n"))
            pathlib.Path(path).write_bytes(b"\x7fELF and no more")
            status, out, error = run(path)
            self.assertEqual((status, out, error.count("\n")), (1, "", 1))
            self.assertIn(path, error)
            self.assertEqual(run(path, "--model")[0], 2)
            self.assertEqual(run("--arch", "sm_80", path)[0], 2)

    def test_errors_of_the_generator_are_those_of_xq(self):
        status, out, error = run("--arch", "sm_80", "--model", "llama-9")
        self.assertEqual((status, out), (1, ""))
        self.assertTrue(error.startswith("xq gen: "), error)


if __name__ == "__main__":
    unittest.main()
