/* Parts that the table of one size and that of a sweep share. All of them print to standard output. */
#ifndef CLI_COMPARE_TABLE_H
#define CLI_COMPARE_TABLE_H

#include "compare.h"

/* About four significant digits, never in exponent form. */
const char *compare_figure(char *text, size_t size, double value);

/* The model and the method; memory beside the pages, the device, and what times are. */
void compare_print_model(const struct compare_result *r);
void compare_print_device(const struct compare_result *r);

/* The legend of rows, and that of "time" and "bound by". */
void compare_print_rows_legend(void);
void compare_print_times_legend(const struct compare_row *row);

/* All of the output for several sizes: a table for each layer and bit width, a line for each size. */
void compare_print_sweep(const struct compare_result *r);

#endif
