/* Converts text to token ids and back. A child process does it: tokens.py, with the Python package
 * `tokenizers`. */
#ifndef LLAMA_TEXT_H
#define LLAMA_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct token_list {
    int32_t *ids;
    size_t count;
    int32_t bos; /* the token that the tokenizer begins a text with; -1: none */
} token_list;

/* Encodes the file that `text` names if is_file, else `text` itself. The ids do not include special tokens
 * that the tokenizer puts around a text. */
token_list text_encode(const char *python, const char *model_directory, const char *text, bool is_file);

/* Reads ids from a text file, as decimal numbers with any characters but digits and '-' between them. */
token_list text_read_ids(const char *path);

/* Starts a decoder. Ids that are written to the returned stream, one per line, come out as text on standard
 * output. */
FILE *text_decoder_open(const char *python, const char *model_directory);
void text_decoder_close(FILE *decoder);

#endif
