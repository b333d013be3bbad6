/* Text from outside, made fit for a page: HTML that is XML too. */
#ifndef CLI_HTML_H
#define CLI_HTML_H

#include <stdio.h>

/* Writes `text` as character data, fit for attributes between double quotes too. Control characters, bytes
 * that are no UTF-8, and characters that no XML may hold become \xNN. */
void html_text(FILE *out, const char *text);

#endif
