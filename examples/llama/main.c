/* llama: a decoder on the CPU whose attention cache is xq's. README.md says how to use it. */
#include "blas.h"
#include "commands.h"

#include <string.h>

int main(int argc, char **argv)
{
    options o;
    blas_use_the_whole_cpu(argv);
    options_read(&o, argc, argv);
    if (strcmp(o.command, "perplexity") == 0)
        command_perplexity(&o);
    else if (strcmp(o.command, "logits") == 0)
        command_logits(&o);
    else
        command_generate(&o);
    cJSON_Delete(o.choice.cache);
    return 0;
}
