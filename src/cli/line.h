/* line.h: reading lines in `graft chat`. Private to the command line. */
#ifndef GRAFT_CLI_LINE_H
#define GRAFT_CLI_LINE_H

#include "cli.h"

struct line_reader;
enum line_result { LINE_READ, LINE_END, LINE_GIVEN_UP /* Ctrl-C, or asked to end */ };

/* With `terminal`: editing, and a history kept in GRAFT_HOME. NULL: no memory. */
struct line_reader *line_open(bool terminal);
void line_close(struct line_reader *r);
/* *line [*size] without its newline, valid until the next call. */
enum line_result line_read(struct line_reader *r, const char *prompt, const char **line,
                           size_t *size);

#endif
