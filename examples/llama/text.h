/* Text to token ids and back, by a child process: tokens.py with the Python package `tokenizers`. */
#ifndef LLAMA_TEXT_H
#define LLAMA_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct token_list {
    int32_t *ids;
    size_t count;
    int32_t bos; /* what the tokenizer begins a text with; -1: nothing */
} token_list;

/* Of a file, or of the text itself. Without what the tokenizer puts around a text. */
token_list text_encode(const char *python, const char *model_directory, const char *text, bool is_file);

/* Ids as numbers in a text file, with anything but digits between them. */
token_list text_read_ids(const char *path);

/* Ids that are written to the returned stream, one a line, come out as text on standard output. */
FILE *text_decoder_open(const char *python, const char *model_directory);
void text_decoder_close(FILE *decoder);

#endif
