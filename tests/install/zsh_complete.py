"""Prints, as a JSON list, the completions that zsh lists for each command line.  usage: zsh_complete.py FUNCTIONS HOME
LINE..."""

import json
import os
import pty
import re
import sys

functions, home, lines = sys.argv[1], sys.argv[2], sys.argv[3:]
pid, terminal = pty.fork()
if pid == 0:
    os.environ.update(TERM="dumb", HOME=home, ZDOTDIR=home)
    os.execvp("zsh", ["zsh", "-f", "-i"])


def write(text):
    os.write(terminal, text.encode())


def read_until(mark):
    text = ""
    while mark not in text:
        text += os.read(terminal, 65536).decode(errors="replace")
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", text)


# ^T lists the completions. ^E, which is sent after it, types the word @@END, which shows that zsh is done. The line is
# then dropped.
write(f"PROMPT='>'; stty cols 250 rows 200; LISTMAX=10000; fpath=('{functions}' $fpath); autoload -U compinit; "
      f"compinit -u -d '{home}/dump'; unsetopt beep; bindkey '^T' list-choices; "
      "bindkey -s '^E' '@@E''ND'; print @@RE''ADY\n")
read_until("@@READY")
found = []
for line in lines:
    write(line + "\x14\x05")
    found.append(read_until("@@END"))
    write("\x15")
print(json.dumps(found))
write("exit\n")
