/* template.h: chat templates: the Jinja that Hugging Face models carry, bounded.
 *
 * A small engine of our own: trim_blocks, lstrip_blocks, loop controls, macros, namespaces, the filters
 * and tests that chat templates use, raise_exception, strftime_now, tojson, {% generation %}. Templates
 * come with untrusted models: steps, output size, recursion and source size are limited. No file, no
 * environment, no attribute beyond the values given is reachable.
 */
#ifndef GRAFT_TEMPLATE_H
#define GRAFT_TEMPLATE_H

#include "base/base.h"

struct chat_template;

/* Compiles; FORMAT names line and what was expected. The source is copied. */
graft_status template_compile(struct mem *mem, const char *source, size_t size,
                              struct chat_template **out, graft_error *error);
void template_free(struct chat_template **t);

struct template_limits { /* 0: the default */
    uint64_t steps;      /* nodes evaluated; default 10 million */
    size_t output;       /* bytes; default 16 MiB */
    int depth;           /* nesting of calls and expressions; default 200, at most 1000 */
};

/* Renders with the members of `context` (a JSON object: messages, tools, add_generation_prompt,
 * bos_token, …) as variables; absent names are undefined. JSON strings keep NUL and any Unicode.
 * `now` is the time for strftime_now (seconds since the epoch; rendered in UTC). raise_exception gives
 * INVALID_ARGUMENT with the template's own message; any other failure FORMAT, LIMIT or NO_MEMORY.
 * Output is NUL-terminated; mem_free it. Const: one compiled template may render from many threads. */
graft_status template_render(const struct chat_template *t, struct mem *mem, const json_t *context,
                             int64_t now, const struct template_limits *limits, char **out,
                             size_t *size, graft_error *error);

/* What {% generation %} blocks wrote, as bytes of the output: outermost blocks, in order, none of them empty. */
struct template_span {
    size_t begin, end;
};
struct template_marks {
    struct template_span *spans; /* mem_free */
    size_t count, capacity;
    bool lost; /* some wrote into a value (a macro, a set block): where that ended up is unknown */
};
/* The same with marks, which the caller zeroed; after a failure they are empty. */
graft_status template_render_marked(const struct chat_template *t, struct mem *mem,
                                    const json_t *context, int64_t now,
                                    const struct template_limits *limits, char **out, size_t *size,
                                    struct template_marks *marks, graft_error *error);

#endif
