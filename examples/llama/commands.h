/* The subcommands. Each has a file of its own. */
#ifndef LLAMA_COMMANDS_H
#define LLAMA_COMMANDS_H

#include "options.h"

void command_perplexity(const options *o);
void command_logits(const options *o);
void command_generate(const options *o);

#endif
