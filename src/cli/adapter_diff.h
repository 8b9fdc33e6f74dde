/* adapter_diff.h: what `graft adapter diff` and its picture share. */
#ifndef GRAFT_CLI_ADAPTER_DIFF_H
#define GRAFT_CLI_ADAPTER_DIFF_H

#include "cli.h"

/* The report of graft_adapter_diff as an SVG picture: layers by kinds of modules, once coloured by the cosine of the two
 * changes, once by which of them is larger. a, b: what they are called. */
void diff_draw(struct buf *out, const json_t *report, const char *a, const char *b);

#endif
