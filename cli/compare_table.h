/* The parts that the table of one size and the table of a sweep share. The print functions write to
 * standard output. */
#ifndef CLI_COMPARE_TABLE_H
#define CLI_COMPARE_TABLE_H

#include "compare.h"

/* About four significant digits, never in exponent form. */
const char *compare_figure(char *text, size_t size, double value);

/* compare_print_model prints the model and the method. compare_print_device prints the memory beside the
 * pages, the device, and whether times are measured. */
void compare_print_model(const struct compare_result *r);
void compare_print_device(const struct compare_result *r);

/* The legend of the rows, and the legend of "time" and "bound by". */
void compare_print_rows_legend(void);
void compare_print_times_legend(const struct compare_row *row);

/* The whole output for several sizes: a table for each layer and bit width, with a line for each size. */
void compare_print_sweep(const struct compare_result *r);

#endif
