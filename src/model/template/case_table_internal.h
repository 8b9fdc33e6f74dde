/* case_table_internal.h: characters whose upper or title case is several code points, and those that
 * casing looks through. Tables in case_table.c, written by tools/make_case_table. */
#ifndef GRAFT_TEMPLATE_CASE_TABLE_INTERNAL_H
#define GRAFT_TEMPLATE_CASE_TABLE_INTERNAL_H

#include "model/template/render_internal.h"

/* Three code points, zero-padded; NULL: the simple mapping holds. */
const uint32_t *case_expansion(uint32_t c, bool title);
/* Unicode's Case_Ignorable, for final sigma. */
bool case_ignorable(uint32_t c);

#endif
