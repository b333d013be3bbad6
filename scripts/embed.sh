#!/bin/sh
# Writes an assembler file with the contents of each FILE and a table of {name, text, size} in the given order.
# Texts end with a NUL that `size` does not count. gen/embed.h declares the entries of the table.
#
#   usage: scripts/embed.sh TABLE FILE... > embed.S
set -eu
table=$1
shift
echo '.section .rodata'
i=0
for f in "$@"; do
    printf '.Lname%d: .asciz "%s"\n.Ltext%d: .incbin "%s"\n.Lend%d: .byte 0\n' $i "$f" $i "$f" $i
    i=$((i + 1))
done
echo '.section .data.rel.ro, "aw"'
echo '.balign 8'
printf '.globl %s\n.hidden %s\n%s:\n' "$table" "$table" "$table"
i=0
for f in "$@"; do
    printf '.quad .Lname%d, .Ltext%d, .Lend%d - .Ltext%d\n' $i $i $i $i
    i=$((i + 1))
done
echo '.quad 0, 0, 0'
echo '.section .note.GNU-stack, "", @progbits'
