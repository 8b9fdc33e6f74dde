/* template.c: the public face: compile, render, free.
 *
 * A compiled template is constant: whatever a rendering needs to write down lies in its own arena,
 * which dies with it.
 */
#include "model/template/render_internal.h"

#define COMPILE_MEMORY ((size_t)256 << 20)
#define DEFAULT_STEPS 10000000u
#define DEFAULT_OUTPUT ((size_t)16 << 20)
#define DEFAULT_DEPTH 200
#define MOST_DEPTH 1000 /* what a thread's stack holds */
#define BASE_MEMORY ((size_t)64 << 20)

/* ---- compiling ---------------------------------------------------------------------------- */

/* Checks UTF-8, makes every line end in '\n', drops one newline at the end. */
static bool copy_source(struct parser *p, const char *source, size_t size)
{
    char *copy = parse_alloc(p, size + 1);
    size_t n = 0;
    uint32_t c;
    int line = 1;
    if (copy == NULL)
        return false;
    for (size_t i = 0, used; i < size; i += used) {
        used = (size_t)utf8_decode(source + i, size - i, &c);
        if (used == 0)
            return parse_fail(p, line, "the template is not UTF-8");
        if (c == '\r') {
            copy[n++] = '\n';
            used += i + 1 < size && source[i + 1] == '\n';
        } else {
            memcpy(copy + n, source + i, used);
            n += used;
        }
        line += copy[n - 1] == '\n';
    }
    if (n > 0 && copy[n - 1] == '\n')
        n--;
    p->lexer.source = copy;
    p->lexer.size = n;
    p->lexer.line = 1;
    return true;
}

graft_status template_compile(struct mem *mem, const char *source, size_t size,
                              struct chat_template **out, graft_error *error)
{
    struct parser p = {.error = error};
    if (size > SOURCE_LIMIT)
        return error_set(error, GRAFT_LIMIT, "template larger than %zu bytes", SOURCE_LIMIT);
    p.t = mem_calloc(mem, 1, sizeof *p.t);
    if (p.t == NULL)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a template");
    p.t->mem = mem;
    arena_init(&p.t->arena, mem, COMPILE_MEMORY);
    str_map_init(&p.t->name_index, mem);
    if (!copy_source(&p, source, size) || !parse_template(&p) || !resolve_names(&p)) {
        template_free(&p.t);
        return p.status;
    }
    *out = p.t;
    return GRAFT_OK;
}

void template_free(struct chat_template **t)
{
    if (*t == NULL)
        return;
    str_map_free(&(*t)->name_index);
    arena_free(&(*t)->arena);
    mem_free((*t)->mem, *t);
    *t = NULL;
}

/* ---- rendering ---------------------------------------------------------------------------- */

/* What every name of the template means outside of it. */
static bool load_globals(struct rt *rt)
{
    const struct chat_template *t = rt->t;
    rt->globals = rt_alloc(rt, (size_t)t->n_names * sizeof *rt->globals);
    if (rt->globals == NULL)
        return false;
    for (int i = 0; i < t->n_names; i++) {
        const struct str *name = t->names[i];
        const json_t *json = json_object_getn(rt->context, name->data, name->size);
        const struct builtin *function = global_find(name->data, name->size);
        rt->globals[i] = (struct value){.kind = V_MISSING};
        if (json != NULL && !value_from_json(rt, json, &rt->globals[i]))
            return false;
        if (json == NULL && function != NULL)
            rt->globals[i] = (struct value){.kind = V_GLOBAL, .global = function};
    }
    return true;
}

static bool load_characters(struct rt *rt)
{
    char *bytes = rt_alloc(rt, 128);
    rt->characters = bytes == NULL ? NULL : rt_alloc(rt, 128 * sizeof *rt->characters);
    if (rt->characters == NULL)
        return false;
    for (int i = 0; i < 128; i++) {
        bytes[i] = (char)i;
        rt->characters[i] = (struct str){.data = bytes + i, .size = 1, .chars = 1};
    }
    return true;
}

static bool run(struct rt *rt)
{
    enum flow flow;
    struct frame *root;
    if (!load_characters(rt) || !load_globals(rt))
        return false;
    root = frame_new(rt, &rt->t->scope, NULL);
    return root != NULL && exec_block(rt, root, &rt->t->body, &flow);
}

graft_status template_render_marked(const struct chat_template *t, struct mem *mem,
                                    const json_t *context, int64_t now,
                                    const struct template_limits *limits, char **out, size_t *size,
                                    struct template_marks *marks, graft_error *error)
{
    static const struct template_limits none = {0};
    const struct template_limits *l = limits != NULL ? limits : &none;
    size_t output = l->output != 0 ? l->output : DEFAULT_OUTPUT, memory = BASE_MEMORY;
    struct rt rt = {.t = t,
                    .mem = mem,
                    .steps = l->steps != 0 ? l->steps : DEFAULT_STEPS,
                    .depth_limit = l->depth != 0 ? l->depth : DEFAULT_DEPTH,
                    .error = error,
                    .context = context,
                    .now = now,
                    .line = 1,
                    .marks = marks};
    char *text = NULL;
    if (rt.depth_limit > MOST_DEPTH)
        rt.depth_limit = MOST_DEPTH;
    if (output > SIZE_MAX / 16 || !size_add(BASE_MEMORY, 8 * output, &memory))
        memory = SIZE_MAX / 2;
    rt.seed = (uint64_t)(uintptr_t)&rt ^ (uint64_t)now;
    arena_init(&rt.arena, mem, memory);
    buf_init(&rt.out, mem, output);
    if (run(&rt) && buf_append(&rt.out, "", 0))
        text = buf_take(&rt.out, size);
    if (text == NULL && rt.status == GRAFT_OK)
        rt.status = error_set(error, GRAFT_NO_MEMORY, "no memory");
    buf_free(&rt.out);
    arena_free(&rt.arena);
    if (rt.status == GRAFT_OK) {
        *out = text;
    } else if (marks != NULL) {
        mem_free(mem, marks->spans);
        *marks = (struct template_marks){0};
    }
    return rt.status;
}

graft_status template_render(const struct chat_template *t, struct mem *mem, const json_t *context,
                             int64_t now, const struct template_limits *limits, char **out,
                             size_t *size, graft_error *error)
{
    return template_render_marked(t, mem, context, now, limits, out, size, NULL, error);
}
