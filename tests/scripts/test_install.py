"""Tests make install and uninstall: where files are put, and that man pages, completion and the CMake package work."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
XQ = os.path.abspath(os.environ.get("XQ", os.path.join(ROOT, "build", "xq")))
BUILD = os.path.dirname(XQ)


def run(*command, check=True, **options):
    options.setdefault("cwd", ROOT)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def environment(**more):
    return {**os.environ, **more}


def install(prefix, libdir=None, destdir="", **more):
    run("sh", "scripts/install.sh", BUILD, prefix, *([libdir] if libdir else []), env=environment(DESTDIR=destdir, **more))


def uninstall(prefix, destdir=""):
    run("sh", "scripts/uninstall.sh", prefix, env=environment(DESTDIR=destdir))


def everything_in(folder):
    found = set()
    for path, folders, files in os.walk(folder):
        for name in folders + files:
            found.add(os.path.relpath(os.path.join(path, name), folder))
    return found


def version():
    return run("sh", "scripts/version.sh").strip()


class Tree(unittest.TestCase):
    """Tests where files go."""

    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.root = os.path.join(self.temporary.name, "a root")
        os.mkdir(self.root)

    def test_destdir_prefix_and_libdir(self):
        install("/usr", "/usr/lib/machine", self.root)
        found = everything_in(self.root)
        for path in ["usr/bin/xq", "usr/include/xq/xq.h", f"usr/lib/machine/libxq.so.{version()}",
                     "usr/lib/machine/libxq.so", "usr/lib/machine/libxqrt.a", "usr/lib/machine/pkgconfig/xqrt.pc",
                     "usr/lib/machine/cmake/xq/xq-config.cmake", "usr/share/man/man1/xq-tune-report.1",
                     "usr/share/man/man3/xq_plan_create.3", "usr/share/bash-completion/completions/xq",
                     "usr/share/zsh/site-functions/_xq", "usr/share/fish/vendor_completions.d/xq.fish",
                     "usr/share/doc/xq/docs/building.md", "usr/share/doc/xq/docs/idea.svg",
                     "usr/share/doc/xq/docs/accuracy/smollm2-135m.svg", "usr/share/doc/xq/examples/minimal/minimal.c"]:
            self.assertIn(path, found)
        self.assertEqual(os.readlink(os.path.join(self.root, "usr/lib/machine/libxq.so")),
                         f"libxq.so.{version().split('.')[0]}")
        self.assertIn("${_xq_libdir}/../../include", read(os.path.join(self.root, "usr/lib/machine/cmake/xq/xq-config.cmake")))
        # Files are only copied to the destination; none of them names it.
        for path in found:
            whole = os.path.join(self.root, path)
            if os.path.isfile(whole) and not os.path.islink(whole):
                with open(whole, "rb") as file:
                    self.assertNotIn(self.root.encode(), file.read(), path)

    def test_uninstall_leaves_what_others_put_there_and_nothing_else(self):
        os.makedirs(os.path.join(self.root, "opt/share/man/man1"))
        theirs = ["opt/share/man/man1/other.1", "opt/share/doc-of-others"]
        for path in theirs:
            open(os.path.join(self.root, path), "w").close()
        before = everything_in(self.root)
        install("/opt", None, self.root)
        install("/opt", None, self.root)  # again: it is still known that the first installation made the folders
        later = os.path.join(self.root, "opt/share/doc/xq/notes of the user")
        open(later, "w").close()
        uninstall("/opt", self.root)
        self.assertEqual(everything_in(self.root) - before,
                         {"opt/share/doc", "opt/share/doc/xq", "opt/share/doc/xq/notes of the user"})
        self.assertLessEqual(before, everything_in(self.root))
        self.assertIn("nothing was installed under", run("sh", "scripts/uninstall.sh", "/opt", check=False,
                                                         env=environment(DESTDIR=self.root)))

    def test_prefix_that_did_not_exist_is_gone_again(self):
        prefix = os.path.join(self.temporary.name, "new", "prefix")
        before = everything_in(self.temporary.name)
        install(prefix)
        uninstall(prefix)
        self.assertEqual(everything_in(self.temporary.name), before)

    def test_files_of_an_earlier_version_are_removed(self):
        install("/opt", None, self.root)
        manifest = os.path.join(self.root, "opt/share/xq/manifest")
        stale = os.path.join(self.root, "opt/share/man/man1/xq-former.1")
        open(stale, "w").close()
        with open(manifest, "a") as file:
            file.write("f /opt/share/man/man1/xq-former.1\n")
        install("/opt", None, self.root)
        self.assertFalse(os.path.exists(stale))
        self.assertNotIn("xq-former", read(manifest))

    def script(self, name, *arguments, **more):
        """Runs install or uninstall below the root. Returns the exit status and the output."""
        done = subprocess.run(["sh", f"scripts/{name}.sh", *([BUILD] if name == "install" else []), *arguments], cwd=ROOT,
                              env=environment(DESTDIR=self.root, **more), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout

    def put(self, path, text="theirs\n"):
        whole = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        with open(whole, "w", encoding="utf-8") as file:
            file.write(text)
        return whole

    def test_paths_that_cannot_be_are_refused(self):
        for arguments, message in [(("opt",), "PREFIX: 'opt' is not an absolute path"),
                                   (("/opt", "lib"), "LIBDIR: 'lib' is not an absolute path"),
                                   (("/opt/a b",), "PREFIX: '/opt/a b' has white space, which pkg-config's files cannot hold"),
                                   (("/opt/a\n",), "PREFIX: '/opt/a\n' has white space, which pkg-config's files cannot hold"),
                                   (("/opt/it's",), "PREFIX: '/opt/it's' has the character ', which files of pkg-config or "
                                    "CMake cannot hold"),
                                   (("/opt", "/opt/l;b"), "LIBDIR: '/opt/l;b' has the character ;, which files of pkg-config "
                                    "or CMake cannot hold"),
                                   (("/opt/$HOME",), "PREFIX: '/opt/$HOME' has the character $, which files of pkg-config or "
                                    "CMake cannot hold"),
                                   (("/opt/a/../c",), "PREFIX: '/opt/a/../c' has '..'; name the folder without it"),
                                   (("/opt/..",), "PREFIX: '/opt/..' has '..'; name the folder without it")]:
            for name in ("install", "uninstall"):
                self.assertEqual(self.script(name, *arguments), (1, f"{name}: {message}\n"))
                self.assertEqual(everything_in(self.root), set())

    def test_a_path_is_the_same_however_it_is_written(self):
        install("/opt//a/./b-é~1/", None, self.root)
        self.assertTrue(os.path.isfile(os.path.join(self.root, "opt/a/b-é~1/bin/xq")))
        self.assertNotRegex(read(os.path.join(self.root, "opt/a/b-é~1/share/xq/manifest")), r"//|/\./|/$")
        uninstall("/opt/a//b-é~1", self.root)
        self.assertEqual(everything_in(self.root), set())

    def test_the_root_as_prefix(self):
        install("/", None, self.root)
        self.assertTrue(os.path.isfile(os.path.join(self.root, "bin/xq")))
        manifest = read(os.path.join(self.root, "share/xq/manifest"))
        self.assertIn("\nf /bin/xq\n", manifest)
        self.assertNotIn("//", manifest)
        self.assertNotIn("//", read(os.path.join(self.root, "lib/pkgconfig/xq.pc")))
        uninstall("/", self.root)
        self.assertEqual(everything_in(self.root), set())

    # ------------------------------------------------------------ through make

    def make(self, *arguments, **more):
        env = {name: value for name, value in environment(**more).items() if not name.startswith(("MAKE", "MFLAGS"))}
        done = subprocess.run(["make", "-s", "--no-print-directory", f"BUILD={os.path.relpath(BUILD, ROOT)}", *arguments],
                              cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout

    def test_settings_are_never_part_of_a_command(self):
        mark = os.path.join(self.root, "injected")
        for quoted in (f"/x'; touch '{mark}'; '", f'/x"; touch "{mark}"; "$(touch {mark})', f"/x`touch '{mark}'`"):
            settings = {name: quoted for name in ("PREFIX", "LIBDIR", "DESTDIR")}
            for arguments, more in [([f"{name}={value}" for name, value in settings.items()], {}), ([], settings)]:
                status, output = self.make("uninstall", *arguments, **more)
                self.assertNotEqual(status, 0, output)
                self.assertFalse(os.path.exists(mark), quoted)
        quoted = "/x'; echo INJECTED; '"
        status, output = self.make("-n", "install", f"PREFIX={quoted}", f"LIBDIR={quoted}", f"DESTDIR={quoted}")
        self.assertEqual(status, 0, output)
        self.assertNotIn("INJECTED", output)

    def test_settings_arrive_as_they_were_written(self):
        status, output = self.make("uninstall", f"PREFIX={self.root}/it's")
        self.assertIn(f"PREFIX: '{self.root}/it's' has white space", output)  # from the name "a root"
        status, output = self.make("uninstall", "PREFIX=/it's")
        self.assertIn("PREFIX: '/it's' has the character ', which", output)
        for target in ("install", "uninstall"):
            status, output = self.make(target, "PREFIX=$HOME/xq", f"DESTDIR={self.root}")
            self.assertEqual(status, 2, output)
            self.assertIn("PREFIX: '$HOME/xq' has a '$'; let the shell replace it, or write $(HOME)", output)
        self.assertEqual(everything_in(self.root), set())
        for prefix in ("$(HOME)/xq", "${HOME}/xq"):
            status, output = self.make("uninstall", f"PREFIX={prefix}", "LIBDIR=$(PREFIX)/lib64", f"DESTDIR={self.root}",
                                       HOME="/home/some")
            self.assertIn(f"nothing was installed under {self.root}/home/some/xq", output)

    # ------------------------------------------------------------------ files of others

    def test_what_stands_in_the_way_is_refused_before_anything_is_written(self):
        for path, is_folder, message in [("opt/bin/xq", True, "is a folder, and must be a file"),
                                         ("opt/lib/libxq.so", True, "is a folder, and must be a file"),
                                         ("opt/share/xq/manifest", True, "is a folder, and must be a file"),
                                         ("opt/share/man/man1", False, "is no folder, and must be one"),
                                         ("opt", False, "is no folder, and must be one")]:
            whole = os.path.join(self.root, path)
            if is_folder:
                os.makedirs(whole)
            else:
                self.put(path)
            before = everything_in(self.root)
            self.assertEqual(self.script("install", "/opt"), (1, f"install: {whole} {message}; nothing was installed\n"))
            self.assertEqual(everything_in(self.root), before)
            shutil.rmtree(os.path.join(self.root, "opt"), ignore_errors=True)
            if os.path.exists(whole):
                os.remove(whole)

    def test_files_of_others_that_are_replaced_are_named(self):
        elsewhere = self.put("elsewhere")
        program = self.put("opt/bin/xq")
        said = "install: replaces {}, which no earlier installation of xq put there\n"
        self.assertEqual(self.script("install", "/opt"), (0, said.format(program)))
        self.assertEqual(self.script("install", "/opt"), (0, ""))  # now they belong to xq
        os.remove(os.path.join(self.root, "opt/share/xq/manifest"))
        os.remove(program)
        os.symlink(elsewhere, program)
        status, output = self.script("install", "/opt")
        self.assertEqual(status, 0)
        self.assertRegex(output, "^" + said.format(re.escape(program) + " and 2[0-9]+ other files") + "$")
        self.assertEqual(read(elsewhere), "theirs\n")
        uninstall("/opt", self.root)
        self.assertFalse(os.path.lexists(program))

    def test_what_a_failed_installation_left_can_be_uninstalled(self):
        """The program `install` fails at one file."""
        tools = os.path.join(self.temporary.name, "tools")
        os.mkdir(tools)
        with open(os.path.join(tools, "install"), "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\ncase "$*" in *man1/xq.1) echo no room >&2; exit 1 ;; esac\n'
                       f'exec {shutil.which("install")} "$@"\n')
        os.chmod(file.name, 0o755)
        status, output = self.script("install", "/opt", PATH=f"{tools}:{os.environ['PATH']}")
        self.assertEqual((status, output), (1, "no room\n"))
        self.assertIn("opt/bin/xq", everything_in(self.root))
        uninstall("/opt", self.root)
        self.assertEqual(everything_in(self.root), set())

    # ------------------------------------------------------------ uninstalling what is not as it was

    def test_uninstall_goes_on_and_says_what_is_left(self):
        install("/opt", None, self.root)
        program = os.path.join(self.root, "opt/bin/xq")
        os.remove(program)
        inside = self.put("opt/bin/xq/of the user")
        status, output = self.script("uninstall", "/opt")
        self.assertEqual(status, 1)
        self.assertEqual(output.splitlines()[-1], f"uninstall: left: {program}")
        self.assertEqual(everything_in(self.root), {"opt", "opt/bin", "opt/bin/xq", "opt/bin/xq/of the user", "opt/share",
                                                    "opt/share/xq", "opt/share/xq/manifest"})
        os.remove(inside)
        os.rmdir(program)
        uninstall("/opt", self.root)  # the manifest lists the rest
        self.assertEqual(everything_in(self.root), set())

    def test_a_manifest_that_is_none_removes_nothing(self):
        install("/opt", "/lib64", self.root)
        manifest = os.path.join(self.root, "opt/share/xq/manifest")
        whole = read(manifest)
        theirs = self.put("etc/passwd")
        garbage = "is neither `f FILE` nor `d FOLDER`"
        for text, why in [("", " is empty, and does not say what was installed"),
                          ("garbage\n", f": line 1, 'garbage', {garbage}"),
                          (whole + "f relative\n", f": line {whole.count(chr(10)) + 1}, 'f relative', {garbage}"),
                          ("\033[1m\n" + whole, f": line 1, '?[1m', {garbage}"),
                          (whole + "f /etc/passwd\n", ": line {}, 'f /etc/passwd', leads outside of PREFIX and LIBDIR"),
                          (whole + "f /optional\n", ": line {}, 'f /optional', leads outside of PREFIX and LIBDIR"),
                          (whole + "f /opt\n", ": line {}, 'f /opt', leads outside of PREFIX and LIBDIR"),
                          (whole + "d /etc\n", ": line {}, 'd /etc', leads outside of PREFIX and LIBDIR"),
                          (whole + "f /opt/../etc/passwd\n", ": line {}, 'f /opt/../etc/passwd', has `..`")]:
            self.put("opt/share/xq/manifest", text)
            before = everything_in(self.root)
            message = manifest + why.format(whole.count("\n") + 1)
            self.assertEqual(self.script("uninstall", "/opt", "/lib64"),
                             (1, f"uninstall: {message}; nothing was removed\n"))
            # An installation over it would remove the files that it lists and that xq no longer has.
            self.assertEqual(self.script("install", "/opt", "/lib64"), (1, f"install: {message}; nothing was installed\n"))
            self.assertEqual(everything_in(self.root), before)
            self.assertEqual(read(theirs), "theirs\n")
        self.put("opt/share/xq/manifest", whole)
        status, output = self.script("uninstall", "/opt")  # without its LIBDIR
        self.assertEqual(status, 1)
        self.assertRegex(output, "'. /lib64.*', leads outside of PREFIX and LIBDIR; nothing was removed\n$")
        self.assertEqual(self.script("uninstall", "/opt", "/lib64"), (0, ""))
        self.assertEqual(everything_in(self.root), {"etc", "etc/passwd"})

    def test_examples_without_what_a_build_leaves(self):
        install("/opt", None, self.root)
        examples = os.path.join(self.root, "opt/share/doc/xq/examples")
        for path in everything_in(examples):
            self.assertNotRegex(path, r"\.(o|d|a|so|pyc)$|__pycache__|(^|/)build(/|$)")
            whole = os.path.join(examples, path)
            if os.path.isfile(whole):
                with open(whole, "rb") as file:
                    self.assertNotEqual(file.read(4), b"\x7fELF", path)
        if os.path.exists(os.path.join(ROOT, ".git")):
            sources = run("git", "ls-files", "examples").split()
            self.assertLessEqual({os.path.relpath(path, "examples") for path in sources
                                  if not os.path.basename(path).startswith(".")}, everything_in(examples))

    def test_links_of_the_manual_hold(self):
        """README.md, docs/ and examples/ have the same relative places as in the repository."""
        install("/opt", None, self.root)
        doc = os.path.join(self.root, "opt/share/doc/xq")
        installed = ("README.md", "CHANGELOG.md", "LICENSE", "docs", "examples")
        broken = []
        for path in everything_in(doc):
            if not path.endswith(".md"):
                continue
            text = read(os.path.join(doc, path))
            for link in re.findall(r"\]\(([^)#: ]+)(?:#[^)]*)?\)", text):
                target = os.path.normpath(os.path.join(os.path.dirname(path), link))
                if target.split("/")[0] in installed and not os.path.exists(os.path.join(doc, target)):
                    broken.append(f"{path}: {link}")
        self.assertEqual(broken, [])


class Installed(unittest.TestCase):
    """There is one installation, which is then moved. Nothing may depend on the place where it was made."""

    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.temporary.cleanup)
        first = os.path.join(cls.temporary.name, "first")
        cls.prefix = os.path.join(cls.temporary.name, "moved")
        install(first)
        os.rename(first, cls.prefix)

    def shared(self, path):
        return os.path.join(self.prefix, "share", path)

    # ------------------------------------------------------------ man pages

    def subcommands(self):
        listed = re.findall(r"^  ([a-z]\S*) .*?(?:\(parts: (.*)\))?$", run(XQ, "--help").split("\n\n`xq")[0], re.M)
        return [name for name, _ in listed] + [f"{name} {part}" for name, parts in listed if parts
                                               for part in parts.split(", ")]

    def pages(self):
        return [self.shared(f"man/man1/{name}") for name in sorted(os.listdir(self.shared("man/man1")))] + \
            [self.shared("man/man3/xq.h.3")]

    def test_a_page_for_each_subcommand(self):
        subcommands = self.subcommands()
        self.assertGreaterEqual(len(subcommands), 12)
        self.assertEqual(sorted(os.listdir(self.shared("man/man1"))),
                         sorted(["xq.1"] + [f"xq-{name.replace(' ', '-')}.1" for name in subcommands]))

    def read_page(self, path):
        if not shutil.which("man"):
            self.skipTest("no man")
        text = run("man", "-l", path, env=environment(MANWIDTH="200", MAN_KEEP_FORMATTING="", LC_ALL="C.UTF-8"))
        return re.sub(r".\x08", "", text).replace("\u2010", "-").replace("\u2212", "-")

    def test_pages_say_what_help_says(self):
        def words(text):
            return set(re.findall(r"[a-z0-9_]+", text.lower()))
        for name in self.subcommands():
            page = words(self.read_page(self.shared(f"man/man1/xq-{name.replace(' ', '-')}.1")))
            self.assertEqual(words(run(XQ, *name.split(), "--help")) - page - {"usage"}, set(), name)
        self.assertIn("XQ_CACHE_DIR", self.read_page(self.shared("man/man1/xq.1")))

    def test_header_page_has_every_function_with_its_comment(self):
        page = re.sub(r"\s+", " ", self.read_page(self.shared("man/man3/xq.h.3")))
        header = read(os.path.join(ROOT, "include/xq/xq.h"))
        functions = re.findall(r"^XQ_API ([^;]*?(xq_\w+)\([^;]*;)", header, re.M)
        self.assertEqual(len(functions), len(read(os.path.join(ROOT, "tests/include/abi.txt")).split()))
        for prototype, name in functions:
            self.assertIn(re.sub(r"\s+", " ", prototype), page)
            self.assertEqual(os.readlink(self.shared(f"man/man3/{name}.3")), "xq.h.3")
        for comment in re.findall(r"/\*(.*?)\*/\nXQ_API", header, re.S):
            words = comment.replace("`", "").replace("…", "...").split()
            self.assertIn(" ".join([word for word in words if word != "*"][-4:]), page)
        for private in ("XQ_API", "__cplusplus", "XQ_XQ_H"):
            self.assertNotIn(private, page)

    def test_pages_are_well_formed(self):
        if not shutil.which("mandoc") or not shutil.which("man"):
            self.skipTest("no mandoc or no man")
        self.assertEqual(run("mandoc", "-T", "lint", *self.pages()), "")
        for locale in ("C", "C.UTF-8"):
            for page in self.pages():
                done = subprocess.run(["man", "--warnings", "-l", page], env=environment(LC_ALL=locale),
                                      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                self.assertEqual(done.stderr, "", page)

    # ------------------------------------------------------------ completion

    COMPLETIONS = [  # a command line, and words that it can end with
        ("xq ", ["info", "tune", "cache", "help"]),
        ("xq t", ["tune"]),
        ("xq tune ", ["merge", "report", "export", "replay"]),
        ("xq help tune r", ["report", "replay"]),
        ("xq tune report --ht", ["--html"]),
        ("xq cache ", ["list", "verify", "prune", "clear"]),
        ("xq info --dev", ["--device"]),
        ("xq info --device ", ["auto", "cuda", "sim"]),
        ("xq gen --rotation --method ", ["x", "latent", "x-cl", "latent-cl"]),
        ("xq gen --bits ", ["2", "3", "4", "8"]),
        ("xq compare --bits 4,", ["4,2", "4,3", "4,8"]),
        ("xq gen --model smollm2-1", ["smollm2-1.7b", "smollm2-135m"]),
        ("xq gen --model docs/acc", ["docs/accuracy.md"]),
        ("xq prepare --show docs/acc", ["docs/accuracy.md"]),
        ("xq prepare --store ", ["f16", "bf16", "f32", "none"]),
        ("xq verify --tier ", ["small", "full", "exhaustive"]),
        ("xq tune --strategy ", ["model", "random", "exhaustive"]),
        ("xq tune merge docs/acc", ["docs/accuracy.md"]),
    ]

    def bash(self, line):
        words = line.replace("=", " = ").split(" ")
        quoted = " ".join("'" + word + "'" for word in words)
        return run("bash", "--norc", "-c", f"source '{self.shared('bash-completion/completions/xq')}'; "
                   f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _xq; "
                   "printf '%s\\n' \"${COMPREPLY[@]}\"").split()

    def test_bash(self):
        for line, expected in self.COMPLETIONS + [("xq gen --method=la", ["latent", "latent-cl"])]:
            found = self.bash(line)
            self.assertLessEqual(set(expected), set(found), line)
            self.assertTrue(all(word.startswith(line.split(" ")[-1].split("=")[-1]) for word in found), (line, found))
        self.assertEqual(self.bash("xq info --device si"), ["sim"])
        self.assertEqual(self.bash("xq gen --clip "), [])
        self.assertNotIn("docs/accuracy.md", self.bash("xq gen --out docs/acc"))  # a folder is asked for

    def test_fish(self):
        if not shutil.which("fish"):
            self.skipTest("no fish")
        with tempfile.TemporaryDirectory() as home:
            for line, expected in self.COMPLETIONS + [("xq gen --method=la", ["--method=latent", "--method=latent-cl"])]:
                output = run("fish", "-N", "-c", f"source '{self.shared('fish/vendor_completions.d/xq.fish')}'; "
                             f"complete -C '{line}'", env=environment(HOME=home, XDG_CONFIG_HOME=home))
                found = [entry.split("\t")[0] for entry in output.splitlines()]
                self.assertLessEqual(set(expected), set(found), (line, output))

    def test_zsh(self):
        """In a terminal, zsh lists the words that a line can end with."""
        if not shutil.which("zsh"):
            self.skipTest("no zsh")
        run("zsh", "-n", self.shared("zsh/site-functions/_xq"))
        with tempfile.TemporaryDirectory() as home:
            lines = [(line, expected) for line, expected in self.COMPLETIONS if "," not in line]
            output = run(sys.executable, os.path.join(ROOT, "tests/install/zsh_complete.py"),
                         self.shared("zsh/site-functions"), home, *(line for line, _ in lines), timeout=300)
            for (line, expected), listed in zip(lines, json.loads(output)):
                for word in expected:  # zsh lists files without their folder, and inserts a single answer
                    self.assertIn(os.path.basename(word), listed, line)

    def test_every_choice_of_every_option_can_be_completed(self):
        """If the argument of an option is one of a few words, the option's help names them, so that shells can offer
        them."""
        missing = []
        for name in self.subcommands():
            text = run(XQ, *name.split(), "--help")
            for option, argument in re.findall(r"^  (--\S+) ((?:NAME|KIND|TYPE|AXIS|WAY|ARCH|ONE)\S*)", text, re.M):
                if not self.bash(f"xq {name} {option} "):
                    missing.append(f"xq {name} {option} {argument}")
        self.assertEqual(missing, [])

    # ------------------------------------------------------------ building with it

    def test_pkg_config(self):
        where = environment(PKG_CONFIG_PATH=os.path.join(self.prefix, "lib/pkgconfig"))
        for name in ("xq", "xqrt"):
            self.assertEqual(run("pkg-config", "--modversion", name, env=where).strip(), version())
            flags = run("pkg-config", "--define-prefix", "--cflags", "--libs", name, env=where).split()
            self.assertEqual(flags, [f"-I{self.prefix}/include", f"-L{self.prefix}/lib", f"-l{name}"])

    def cmake(self, folder, *more, check=True):
        flags = os.environ.get("XQ_TEST_CFLAGS", "")
        return run("cmake", "-S", os.path.join(ROOT, "tests/install"), "-B", folder, f"-DCMAKE_PREFIX_PATH={self.prefix}",
                   f"-DCMAKE_C_FLAGS=-Wall -Werror {flags}", f"-DCMAKE_CXX_FLAGS=-Wall -Werror {flags}", *more, check=check,
                   env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")})

    def test_cmake_project_in_c_and_cpp_with_every_target(self):
        if not shutil.which("cmake"):
            self.skipTest("no cmake")
        with tempfile.TemporaryDirectory() as folder:
            major, minor = version().split(".")[:2]
            self.cmake(folder, f"-DWANTED={major}.{minor}", "-DCOMPONENTS=xq;xqrt_static")
            run("cmake", "--build", folder, "-j2", env={name: value for name, value in os.environ.items()
                                                        if not name.startswith("MAKE")})
            for target in ("xq", "xq_static", "xqrt", "xqrt_static"):
                for language in ("c", "cpp"):
                    program = os.path.join(folder, f"{target}-{language}")
                    self.assertEqual(run(program), f"{version()} XQ_ERROR_ARGUMENT\n")
                    loads = run("ldd", program)
                    self.assertEqual(f"{self.prefix}/lib/lib{target}.so" in loads, "_static" not in target, loads)

    def test_cmake_refuses_other_versions_and_unknown_components(self):
        if not shutil.which("cmake"):
            self.skipTest("no cmake")
        major = int(version().split(".")[0])
        for arguments, message in [((f"-DWANTED={major + 1}",), "version: " + version()),
                                   ((f"-DWANTED={version()}.1",), "version: " + version()),
                                   (("-DCOMPONENTS=gpu",), "xq has no component 'gpu'; valid: xq, xq_static")]:
            with tempfile.TemporaryDirectory() as folder:
                output = self.cmake(folder, *arguments, check=False)
                self.assertIn("Could not find a configuration file" if "WANTED" in arguments[0] else "component", output)
                self.assertIn(message, re.sub(r"\s+", " ", output))


if __name__ == "__main__":
    unittest.main()
