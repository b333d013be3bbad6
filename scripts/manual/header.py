"""Reads a C header into its sections, declarations and comments, and writes them with the directives of Sphinx's C
domain.

A header must be written like include/xq/xq.h:
  - `/* ------ title` begins a section. Text may follow below it.
  - A comment right above a declaration describes this declaration and those that follow up to the next empty line.
  - A comment between empty lines is text of its section.
  - Fields and enumerators have their comment behind them, which may take several lines, or above them.
Anything that is not described, or that cannot be parsed, is an error that names file and line.
"""

import dataclasses
import re

SIZE_FIELD = "The size of this struct, as its initializer sets it."

CONDITIONAL = re.compile(r"^#(if|ifdef|ifndef|else|endif)\b[ \t]*(.*)$")
TOKEN = re.compile(
    r"""(?P<comment>/\*.*?\*/)
    | (?P<define>^\#define[ ]+(?P<macro>\w+)(?P<parameters>\([^)]*\))?[^\n\\]*(?:\\\n[^\n\\]*)*)
    | (?P<include>^\#include[^\n]*)
    | typedef[ ]+(?P<kind>enum|struct)[ ]+(?P<tag>\w+)\s*\{(?P<body>(?:/\*.*?\*/|[^{}])*)\}\s*(?P<alias>\w+);
    | (?P<plain>[A-Za-z_][^;{}#]*;)""",
    re.DOTALL | re.MULTILINE | re.VERBOSE)
BANNER = re.compile(r"/\* -{10,}\s*([^\n*]*)")
FIELDS = re.compile(r"(?P<comment>/\*.*?\*/)|(?P<member>[^\s;/][^;/]*;)|(?P<rest>\S)", re.DOTALL)
ENUMERATORS = re.compile(r"(?P<comment>/\*.*?\*/)|(?P<member>\w+(?:\s*=[^,/]*[^\s,/])?,?)|(?P<rest>\S)", re.DOTALL)
DECLARATOR = r"\**\w+(?:\[\w+\])?"
FIELD = re.compile(rf"(?P<type>\w+(?: \w+)*) (?P<names>{DECLARATOR}(?:, {DECLARATOR})*)")


class HeaderError(Exception):
    """A header cannot be read. The message begins with the line number."""


@dataclasses.dataclass
class Member:
    """Fields that are declared together, or one enumerator."""
    line: int
    signatures: list
    comment: list = None


@dataclasses.dataclass
class Declaration:
    line: int
    kind: str  # the name of its directive in the C domain: function, type, struct, enum, macro
    name: str
    signature: str
    members: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Entry:
    """Declarations without an empty line between them, with the comment above them; or a comment alone."""
    line: int
    comment: list = None
    declarations: list = dataclasses.field(default_factory=list)
    is_text: bool = False  # whether a comment alone is text of its section, not a comment on lines that as_c dropped


@dataclasses.dataclass
class Section:
    title: str
    comment: list
    entries: list = dataclasses.field(default_factory=list)


def as_c(text):
    """Returns the header without the lines for C++ and for certain compilers. Each dropped line becomes a form feed,
    because it must not count as an empty line."""
    kept, state = [], []  # for each conditional, whether its lines are kept; None: nor those after #else
    for line in text.split("\n"):
        directive = CONDITIONAL.match(line)
        if directive:
            word, condition = directive.groups()
            if word == "endif":
                state.pop()
            elif word == "else":
                state[-1] = not state[-1] if state[-1] is not None else None
            elif word == "ifndef":
                state.append(True)
            else:
                state.append(False if "__cplusplus" in condition else None)
        kept.append("\f" if directive or not all(state) else line)
    return "\n".join(kept)


def lines_of(comment):
    """Returns a comment's lines without the comment's marks."""
    lines = [re.sub(r"^\s*\*? ?", "", line) for line in comment[2:-2].rstrip().split("\n")]
    lines[0] = lines[0].strip()
    return lines


def field_signatures(text, line):
    """Splits `float a, *b` into `float a` and `float *b`."""
    match = FIELD.fullmatch(text)
    if not match:
        raise HeaderError(f"{line}: not understood: {text}")
    return [f"{match['type']} {name}" for name in match["names"].split(", ")]


def members_of(kind, body, line):
    """Returns the members of an enum or struct whose body begins on this line."""
    members, above, last_line = [], None, None
    for match in (FIELDS if kind == "struct" else ENUMERATORS).finditer(body):
        at = line + body.count("\n", 0, match.start())
        if match["rest"]:
            raise HeaderError(f"{at}: not understood: " + body[match.start():].split("\n", 1)[0])
        if match["comment"] and last_line == at and members[-1].comment is None:
            members[-1].comment = [" ".join(" ".join(lines_of(match["comment"])).split())]
        elif match["comment"]:
            above = lines_of(match["comment"])
        else:
            text = " ".join(match["member"].rstrip(";,").split())
            if text == "size_t struct_size":
                above = [SIZE_FIELD]
            members.append(Member(at, field_signatures(text, at) if kind == "struct" else [text], above))
            above, last_line = None, line + body.count("\n", 0, match.end())
    return members


def declaration_of(match, line):
    if match["macro"]:
        return Declaration(line, "macro", match["macro"], match["macro"] + (match["parameters"] or ""))
    if match["tag"]:
        begin = line + match.group(0).count("\n", 0, match.start("body") - match.start())
        return Declaration(line, match["kind"], match["tag"], match["tag"],
                           members_of(match["kind"], match["body"], begin))
    text = " ".join(match["plain"].rstrip(";").split())
    opaque = re.fullmatch(r"typedef struct (\w+) \1", text)
    if opaque:
        return Declaration(line, "struct", opaque[1], opaque[1])
    pointer = re.fullmatch(r"typedef (.*\(\*(\w+)\).*)", text)
    if pointer:
        return Declaration(line, "type", pointer[2], pointer[1])
    function = re.fullmatch(r"XQ_API (.*?\b(\w+)\(.*\))", text)
    if function:
        return Declaration(line, "function", function[2], function[1])
    raise HeaderError(f"{line}: not understood: {text}")


def parse(text):
    """Returns the comment at the head of a header, and its sections. Declarations before the first section are in a
    section without a title."""
    text = as_c(text)
    head, sections, entry, at = None, [Section("", [])], None, 0
    while at < len(text):
        blank = re.compile(r"\s*").match(text, at)
        if re.search(r"\n *\n", blank.group(0)):
            entry = None
        at = blank.end()
        if at == len(text):
            break
        line = text.count("\n", 0, at) + 1
        match = TOKEN.match(text, at)
        if not match:
            raise HeaderError(f"{line}: not understood: " + text[at:].split("\n", 1)[0])
        at = match.end()
        banner = match["comment"] and BANNER.match(match["comment"])
        if banner:
            sections.append(Section(banner[1].strip(), lines_of("/*" + match["comment"][banner.end():])))
        elif match["comment"]:
            if head is None:
                head = lines_of(match["comment"])
                continue
            entry = Entry(line, lines_of(match["comment"]), is_text=not text.startswith("\n\f", at))
            sections[-1].entries.append(entry)
        elif not match["include"] and not is_guard(match):
            if entry is None:
                entry = Entry(line)
                sections[-1].entries.append(entry)
            entry.declarations.append(declaration_of(match, line))
    for section in sections:  # comments on lines that as_c dropped are left out
        section.entries = [e for e in section.entries if e.declarations or e.is_text]
    return head or [], [s for s in sections if s.entries or s.comment]


def is_guard(match):
    return match["macro"] and match["macro"].endswith("_H")


def undescribed(sections):
    """Yields line and name of each declaration and member that no comment describes."""
    for section in sections:
        for entry in section.entries:
            for declaration in entry.declarations:
                if entry.comment is None:
                    yield declaration.line, declaration.name
                for member in declaration.members:
                    if member.comment is None:
                        yield member.line, f"{declaration.name}: {', '.join(member.signatures)}"


# ---------------------------------------------------------------- as reStructuredText


def roles_of(sections):
    """Returns the role that links to each name: {"xq_plan_load": "c:func", ...}."""
    roles = {}
    for section in sections:
        for entry in section.entries:
            for declaration in entry.declarations:
                roles[declaration.name] = "c:func" if declaration.kind == "function" else f"c:{declaration.kind}"
                if declaration.kind == "enum":
                    names = (re.match(r"\w+", member.signatures[0])[0] for member in declaration.members)
                    roles.update((name, "c:enumerator") for name in names)
    return roles


def link(name, roles):
    return f"\\ :{roles[name]}:`{name}`\\ "


def inline(text, roles):
    """Returns plain text with reStructuredText's marks escaped. Names of the header and pages of docs/ become links."""
    parts = re.split(r"`([^`]+)`", text)
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = link(part, roles) if part in roles else f"\\ ``{part}``\\ "
            continue
        words = re.split(r"(\b(?:xq|XQ)_\w+\b(?!\.\.\.)|\bdocs/[\w./-]+\.md\b)", part)
        for k, word in enumerate(words):
            page = re.fullmatch(r"docs/(.*)\.md", word)
            if page:
                words[k] = f"\\ :doc:`{word} </docs/{page[1]}>`\\ "
            elif word in roles:
                words[k] = link(word, roles)
            else:
                words[k] = re.sub(r"([\\*|_])", r"\\\1", word)
        parts[i] = "".join(words)
    return "".join(parts)


def blocks_of(lines):
    """Returns a comment's blocks as [kind, lines]: text, list items, and code, which is indented but not in a list."""
    blocks = [["gap", []]]
    for line in lines:
        kind, text = blocks[-1][0], line.strip()
        if not text:
            blocks.append(["gap", []])
        elif text.startswith("- "):
            blocks.append(["item", [text[2:]]])
        elif kind == "item":
            blocks[-1][1].append(text)
        else:
            new = "code" if line.startswith("  ") else "text"
            if kind != new:
                blocks.append([new, []])
            blocks[-1][1].append(line[2:] if new == "code" else text)
    return blocks


def prose(lines, roles):
    out = []
    for kind, content in blocks_of(lines):
        if kind == "code":
            out += [".. code-block:: text", "", *("   " + line for line in content), ""]
        elif kind != "gap":
            out += [("- " if kind == "item" else "") + inline(" ".join(content), roles), ""]
    return out


def directive(kind, signatures, body):
    mark = f".. c:{kind}:: "
    first, *others = signatures
    return [mark + first, *(" " * len(mark) + other for other in others), "",
            *("   " + line if line else "" for line in body), ""]


def declarations(entry, roles):
    """Returns the directives of an entry. Its comment goes to the first declaration, and the others refer to it."""
    first = entry.declarations[0]
    out = []
    for declaration in entry.declarations:
        body = prose(entry.comment, roles)
        if declaration is not first:
            said = "The initializer of" if declaration.name.endswith("_INIT") else "Described with"
            body = [f"{said} {link(first.name, roles)}.", ""]
        for member in declaration.members:
            kind = "enumerator" if declaration.kind == "enum" else "member"
            body += directive(kind, member.signatures, prose(member.comment, roles))
        out += directive(declaration.kind, [declaration.signature], body)
    return out


def overview(section, roles):
    """Returns links to a section's functions, if there are more than two."""
    names = [d.name for entry in section.entries for d in entry.declarations if d.kind == "function"]
    links = " ".join(f":c:func:`{name}`" for name in names)
    return [".. container:: overview", "", f"   {links}", ""] if len(names) > 2 else []


def read(text):
    """Returns the names of a header with their roles, and the header as Markdown with directives, without a title."""
    head, sections = parse(text)
    missing = list(undescribed(sections))
    if missing:
        raise HeaderError("\n".join(f"{line}: not described: {name}" for line, name in missing))
    roles = roles_of(sections)
    out = rst(prose(head, roles))
    for section in sections:
        out += [f"## {section.title[:1].upper()}{section.title[1:]}", ""] if section.title else []
        body = overview(section, roles) + prose(section.comment, roles)
        for entry in section.entries:
            body += declarations(entry, roles) if entry.declarations else prose(entry.comment, roles)
        out += rst(body)
    return roles, "\n".join(out)


def rst(lines):
    return ["```{eval-rst}", *lines, "```", ""]
