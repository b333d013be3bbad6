"""Prints what a GPU will issue: the instruction mix of the hottest loop of compiled kernels (see scripts/sass.sh).

Reads the output of nvdisasm. The hottest loop is the innermost loop with the most matrix instructions; of several with
as many, or where no loop has any, it is the one with the most instructions. Loops are the natural loops of the
control-flow graph: a branch back to a block that every path to the branch goes through, and all blocks between the two.
A loop is innermost if no other loop is inside.
"""

import argparse
import collections
import pathlib
import re
import subprocess
import sys

# The opcodes of each class, in the order of the table. Opcodes that no class has are counted as "other", and named.
CLASSES = {
    "matrix": "HMMA IMMA BMMA DMMA QMMA OMMA HGMMA IGMMA QGMMA",
    "float": "FADD FADD2 FADD32I FFMA FFMA2 FFMA32I FMUL FMUL2 FMUL32I FMNMX FMNMX3 FSEL FSET FSETP FCHK FSWZADD "
             "DADD DFMA DMUL DSETP",
    "half": "HADD2 HADD2_32I HFMA2 HFMA2_32I HMUL2 HMUL2_32I HMNMX2 HSET2 HSETP2 VHMNMX",
    "convert": "F2F F2FP F2I F2IP I2F I2FP I2I I2IP FRND",
    "special": "MUFU",
    "integer": "IADD IADD3 IADD32I IMAD IMUL ISETP ISET ISCADD IMNMX IABS IDP LEA LOP LOP3 LOP32I SHF SHL SHR BMSK "
               "SGXT PRMT SEL POPC FLO BREV PLOP3 PSETP P2R R2P VABSDIFF VABSDIFF4 VIADD VIADDMNMX VIMNMX VIMNMX3",
    "move": "MOV MOV32I IMAD.MOV CS2R S2R S2UR CS2UR R2UR UP2UR LEPC",
    "global": "LDG STG LDGSTS ATOM ATOMG RED REDG LD ST CCTL UBLKCP UBLKPF UBLKRED UTMALDG UTMASTG",
    "shared": "LDS STS LDSM STSM ATOMS",
    "local": "LDL STL",
    "constant": "LDC LDCU",
    "exchange": "SHFL VOTE VOTEU MATCH MOVM REDUX CREDUX",
    "control": "BRA BRX JMP JMX CALL RET EXIT BSSY BSYNC BREAK BMOV KILL YIELD NANOSLEEP WARPSYNC ENDCOLLECTIVE",
    "nop": "NOP",
    "sync": "BAR MEMBAR DEPBAR LDGDEPBAR ERRBAR CGAERRBAR FENCE SYNCS ELECT ARRIVES WARPGROUP",
}
CLASS_OF = {opcode: name for name, opcodes in CLASSES.items() for opcode in opcodes.split()}

ENDS = {"EXIT", "RET", "KILL", "BRX", "JMX"}
JUMPS = {"BRA", "JMP"}

Instruction = collections.namedtuple("Instruction", "address guard opcode operands place")


class Kernel:
    """One function of a cubin: instructions, and the labels that stand before them."""

    def __init__(self, name, arch):
        self.name, self.arch, self.instructions, self.labels = name, arch, [], {}


def base(opcode):
    return opcode.split(".")[0]


def class_of(opcode):
    name = base(opcode)
    if opcode.startswith("IMAD.MOV"):  # a product with nothing: the compiler spreads moves over two pipes
        name = "IMAD.MOV"
    elif name not in CLASS_OF and name.startswith("U"):  # of the uniform datapath, e.g. ULEA
        name = name[1:]
    return CLASS_OF.get(name, "other")


# ---------------------------------------------------------------- reading

def parse(text):
    """The kernels of what `nvdisasm -c -g` printed."""
    kernels, arch, place = [], "", None
    for line in text.splitlines():
        if match := re.match(r"\s*\.target\s+(\w+)", line):
            arch = match[1]
        elif match := re.match(r"\s*\.section\s+\.text\.([^,\s]+)", line):
            kernels.append(Kernel(match[1], arch))
            place = None
        elif match := re.match(r'\s*//## File "([^"]*)", line (\d+)', line):
            place = f"{match[1][max(match[1].find('templates/'), 0):]}:{match[2]}"
        elif match := re.match(r"([.$\w]+):\s*$", line):
            if kernels:
                kernels[-1].labels[match[1]] = len(kernels[-1].instructions)
        elif match := re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;", line):
            kernels[-1].instructions.append(Instruction(int(match[1], 16), match[2], match[3], match[4], place))
    return [kernel for kernel in kernels if kernel.instructions]


# ---------------------------------------------------------------- loops

def targets(instruction):
    """The labels that it may go to. Those of BSSY are where lanes meet again, and RET goes to its caller."""
    if base(instruction.opcode) in ("BSSY", "RET"):
        return []
    return re.findall(r"[`,(](\.L_x_\d+|\$[\w$]+)", instruction.operands)


def falls_through(instruction):
    operation = base(instruction.opcode)
    if operation not in ENDS | JUMPS or instruction.guard:
        return True
    return operation in JUMPS and not instruction.operands.startswith("`")  # as BRA.DIV UR4, `(.L_x_1)


class Graph:
    """The control-flow graph of a kernel: blocks of instructions [first, end), and the blocks that follow each."""

    def __init__(self, kernel):
        code = kernel.instructions
        leaders = {0, *(at for at in kernel.labels.values() if at < len(code))}
        leaders |= {i + 1 for i, x in enumerate(code) if i + 1 < len(code) and (targets(x) or not falls_through(x))}
        self.first = sorted(leaders)
        self.end = [*self.first[1:], len(code)]
        block_at = {first: block for block, first in enumerate(self.first)}
        self.following = []
        for block, end in enumerate(self.end):
            last = code[end - 1]
            following = [block_at[at] for at in map(kernel.labels.get, targets(last)) if at in block_at]
            if falls_through(last) and block + 1 < len(self.first):
                following.append(block + 1)
            self.following.append(following)

    def order(self):
        """The blocks that can be reached, each before those that follow it, but for branches back."""
        seen, order, stack = {0}, [], [(0, iter(self.following[0]))]
        while stack:
            block, rest = stack[-1]
            following = next((x for x in rest if x not in seen), None)
            if following is None:
                order.append(block)
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, iter(self.following[following])))
        return order[::-1]

    def dominators(self):
        """Returns two tables over the blocks that can be reached: the blocks that every path to a block goes through,
        itself included, as bits; and the blocks before it."""
        order = self.order()
        before = {block: [] for block in order}
        for block in order:
            for following in self.following[block]:
                before[following].append(block)
        dominators = {block: -1 for block in order}  # all
        dominators[0] = 1
        changed = True
        while changed:
            changed = False
            for block in order[1:]:
                common = -1
                for previous in before[block]:
                    common &= dominators[previous]
                common |= 1 << block
                changed |= common != dominators[block]
                dominators[block] = common
        return dominators, before

    def loops(self):
        """The blocks of each natural loop. Branches back to the same block are one loop."""
        dominators, before = self.dominators()
        bodies = {}
        for block in dominators:
            for header in self.following[block]:
                if dominators[block] >> header & 1:
                    bodies.setdefault(header, {header}).add(block)
        for header, body in bodies.items():
            stack = list(body - {header})
            while stack:
                for previous in before[stack.pop()]:
                    if previous not in body:
                        body.add(previous)
                        stack.append(previous)
        return list(bodies.values())


def hottest_loop(kernel):
    """The instructions of the hottest loop, in order; an empty list where there is no loop."""
    graph = Graph(kernel)
    loops = graph.loops()

    def body(loop):
        return [x for block in sorted(loop) for x in kernel.instructions[graph.first[block]:graph.end[block]]]

    def weight(instructions):
        return sum(class_of(x.opcode) == "matrix" for x in instructions), len(instructions)

    innermost = [loop for loop in loops if not any(other < loop for other in loops)]
    return max(map(body, innermost), key=weight, default=[])


# ---------------------------------------------------------------- output

def mix(instructions):
    return collections.Counter(class_of(x.opcode) for x in instructions)


def column(kernel, compiler):
    """The cells of one kernel, by row."""
    loop = hottest_loop(kernel)
    counts, local = mix(loop), mix(kernel.instructions)["local"]
    cells = {"compiler": compiler, "instructions": str(len(kernel.instructions)),
             "hottest loop": str(len(loop)) if loop else "no loop"}
    for name in [*CLASSES, "other"]:
        if counts[name]:
            cells[name] = str(counts[name])
    cells["matrix share"] = f"{100 * counts['matrix'] / len(loop):.0f} %" if loop else "-"
    cells["local memory accesses"] = str(local) if local else "none"
    return cells


def print_table(titles, columns):
    """A table that is Markdown too. Rows of classes that no kernel has are left out."""
    rows = ["compiler", "instructions", "hottest loop", *CLASSES, "other", "matrix share", "local memory accesses"]
    rows = [row for row in rows if any(row in cells for cells in columns)]
    names = [f"- {row}" if row in CLASSES or row == "other" else row for row in rows]
    widths = [max(map(len, names))]
    widths += [max(len(title), *map(len, cells.values())) for title, cells in zip(titles, columns)]
    print("| " + " | ".join(cell.ljust(width) for cell, width in zip(["", *titles], widths)) + " |")
    print("|" + "|".join("-" * (width + 2 - (i > 0)) + ":" * (i > 0) for i, width in enumerate(widths)) + "|")
    for row, name in zip(rows, names):
        cells = [cells.get(row, "0").rjust(width) for cells, width in zip(columns, widths[1:])]
        print("| " + " | ".join([name.ljust(widths[0]), *cells]) + " |")


def print_unknown(kernels):
    opcodes = {x.opcode for kernel in kernels for x in hottest_loop(kernel)}
    unknown = sorted({base(opcode) for opcode in opcodes if class_of(opcode) == "other"})
    if unknown:
        print(f"\nOther: {', '.join(unknown)}.")


def print_listing(title, kernel):
    """The hottest loop, with the line of the template wherever it changes."""
    print(f"\n{title}: the hottest loop")
    place = None
    for x in hottest_loop(kernel):
        guard = f"@{x.guard}" if x.guard else ""
        text = f"  {x.address:05x}  {guard:>5} {x.opcode} {x.operands}"
        print(f"{text:<72} {x.place}" if x.place and x.place != place else text)
        place = x.place


class Failure(Exception):
    pass


def compiler_of(cubin):
    match = re.search(rb"Cuda compilation tools, release [\d.]+, V([\d.]+)", cubin)
    return match[1].decode() if match else "?"


def disassemble(nvdisasm, path):
    """The kernels of a cubin, and the version of the compiler that made it."""
    try:
        cubin = pathlib.Path(path).read_bytes()
    except OSError as failure:
        raise Failure(f"{path}: {failure.strerror}") from None
    if not cubin.startswith(b"\x7fELF"):
        raise Failure(f"{path}: this is no cubin (`xq gen --cubin` makes cubins)")
    done = subprocess.run([nvdisasm, "-c", "-g", path], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{path}: {(done.stderr.strip() or 'nvdisasm failed').splitlines()[0]}")
    kernels = parse(done.stdout)
    if not kernels:
        raise Failure(f"{path}: it has no kernel")
    return kernels, compiler_of(cubin)


def main():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--nvdisasm", required=True)
    parser.add_argument("--listing", action="store_true")
    parser.add_argument("cubins", nargs="+")
    options = parser.parse_args()
    titles, columns, kernels = [], [], []
    for path in options.cubins:
        found, compiler = disassemble(options.nvdisasm, path)
        for kernel in found:
            titles.append(f"{kernel.name} {kernel.arch}")
            columns.append(column(kernel, compiler))
            kernels.append(kernel)
    print_table(titles, columns)
    print_unknown(kernels)
    if options.listing:
        for title, kernel in zip(titles, kernels):
            print_listing(title, kernel)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        print(f"sass: {failure}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of the output has seen enough
        sys.exit(1)
