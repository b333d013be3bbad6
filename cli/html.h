/* Makes text from outside fit for a page of HTML that is also XML. */
#ifndef CLI_HTML_H
#define CLI_HTML_H

#include <stdio.h>

/* Writes `text` as character data, which also fits into attributes between double quotes. Control
 * characters, bytes that are not UTF-8, and characters that XML forbids become \xNN. */
void html_text(FILE *out, const char *text);

#endif
