/* exec.c: statements. Output goes to rt->out; bodies that become values (macros, set blocks, filter
 * blocks) are written there as well and cut off at their end, so that one limit bounds everything.
 */
#include "model/template/render_internal.h"

/* ---- frames ------------------------------------------------------------------------------- */

/* Fills the slots as the scope says; the parameters are the caller's. */
bool frame_start(struct rt *rt, const struct scope *scope, struct frame *frame)
{
    memset(frame->slots, 0, (size_t)scope->slots * sizeof(struct value)); /* V_MISSING */
    for (int i = 0; i < scope->n_starts; i++) {
        const struct slot_start *start = &scope->starts[i];
        const struct frame *outer = frame->outer;
        if (start->hops < 0) {
            frame->slots[start->slot] = rt->globals[start->name];
            continue;
        }
        for (int hops = start->hops; hops > 0; hops--)
            outer = outer->outer;
        frame->slots[start->slot] = outer->slots[start->from];
    }
    return spend(rt, (uint64_t)scope->slots / 8);
}

struct frame *frame_new(struct rt *rt, const struct scope *scope, struct frame *outer)
{
    struct frame *frame = rt_alloc(rt, sizeof *frame + (size_t)scope->slots * sizeof(struct value));
    if (frame == NULL)
        return NULL;
    frame->outer = outer;
    return frame_start(rt, scope, frame) ? frame : NULL;
}

/* ---- assignment --------------------------------------------------------------------------- */

static bool assign_member(struct rt *rt, const struct target *target, struct value object,
                          struct value v)
{
    if (object.kind == V_NAMESPACE)
        return dict_put(rt, object.dict, v_str(target->attr), v);
    rt->line = target->line;
    return fail(rt, GRAFT_FORMAT, "cannot assign an attribute: not a namespace");
}

static bool unpack(struct rt *rt, struct frame *frame, const struct target *target, struct value v)
{
    struct iter it;
    struct value item;
    int more = 1;
    rt->line = target->line;
    if (!iter_begin(rt, v, &it))
        return false;
    for (int i = 0; i < target->count; i++) {
        more = iter_next(rt, &it, &item);
        if (more == 0)
            return fail(rt, GRAFT_FORMAT, "not enough values to unpack (expected %d)",
                        target->count);
        if (more < 0 || !assign(rt, frame, &target->items[i], item))
            return false;
    }
    more = iter_next(rt, &it, &item);
    if (more == 1)
        return fail(rt, GRAFT_FORMAT, "too many values to unpack (expected %d)", target->count);
    return more == 0;
}

bool assign(struct rt *rt, struct frame *frame, const struct target *target, struct value v)
{
    if (target->is_tuple)
        return unpack(rt, frame, target, v);
    for (int i = 0; i < target->ref.hops; i++)
        frame = frame->outer;
    struct value *slot = &frame->slots[target->ref.slot];
    if (target->attr != NULL)
        return assign_member(rt, target, *slot, v);
    *slot = v;
    return true;
}

/* ---- bodies ------------------------------------------------------------------------------- */

/* Runs a body in a frame of its own and takes what it wrote. */
static bool capture(struct rt *rt, struct frame *outer, const struct body_stmt *body,
                    struct value *out, enum flow *flow)
{
    size_t mark = rt->out.size;
    struct frame *frame = frame_new(rt, &body->scope, outer);
    return frame != NULL && exec_block(rt, frame, &body->body, flow) && str_capture(rt, mark, out);
}

static bool exec_capture(struct rt *rt, struct frame *frame, const struct stmt *s, enum flow *flow)
{
    struct value v;
    if (!capture(rt, frame, s->body, &v, flow))
        return false;
    if (*flow != FLOW_NEXT) /* left by break or continue: the text is dropped */
        return true;
    if (!apply_steps(rt, frame, s->body->filters, s->body->n_filters, &v))
        return false;
    if (s->kind == S_SET_BLOCK)
        return assign(rt, frame, &s->body->target, v);
    if (v.kind != V_STR) /* Jinja2 joins the parts of the output without str() */
        return fail(rt, GRAFT_FORMAT, "a filter block must give a string, not %s", type_name(v));
    return write_str(rt, v);
}

static bool mark_generated(struct rt *rt, size_t begin)
{
    struct template_marks *m = rt->marks;
    if (m == NULL || rt->generating > 0 || rt->out.size <= begin)
        return true;
    if (m->count == m->capacity) {
        size_t capacity = m->capacity != 0 ? 2 * m->capacity : 8;
        struct template_span *grown = mem_resize(rt->mem, m->spans, capacity * sizeof *grown);
        if (grown == NULL)
            return fail(rt, GRAFT_NO_MEMORY, "no memory");
        m->spans = grown;
        m->capacity = capacity;
    }
    m->spans[m->count++] = (struct template_span){begin, rt->out.size};
    return true;
}

/* A call block in disguise: its own frame. What it marks matters to training alone. */
static bool exec_generation(struct rt *rt, struct frame *outer, const struct stmt *s)
{
    enum flow flow;
    size_t begin = rt->out.size;
    struct frame *frame = frame_new(rt, &s->body->scope, outer);
    rt->generating++;
    bool ok = frame != NULL && exec_block(rt, frame, &s->body->body, &flow);
    rt->generating--;
    return ok && mark_generated(rt, begin);
}

static bool exec_with(struct rt *rt, struct frame *outer, const struct with_stmt *w,
                      enum flow *flow)
{
    struct frame *frame = frame_new(rt, &w->scope, outer);
    struct value v;
    if (frame == NULL)
        return false;
    for (int i = 0; i < w->count; i++)
        if (!eval(rt, outer, w->values[i], &v) || !assign(rt, frame, &w->targets[i], v))
            return false;
    return exec_block(rt, frame, &w->body, flow);
}

static bool define_macro(struct rt *rt, struct frame *frame, const struct macro_def *def,
                         struct value *out)
{
    struct macro *macro = rt_alloc(rt, sizeof *macro);
    if (macro == NULL)
        return false;
    *macro = (struct macro){def, frame};
    *out = (struct value){.kind = V_MACRO, .macro = macro};
    return true;
}

static bool exec_macro(struct rt *rt, struct frame *frame, const struct stmt *s)
{
    struct target target = {.line = s->line, .ref = s->macro.ref};
    struct value v;
    return define_macro(rt, frame, s->macro.def, &v) && assign(rt, frame, &target, v);
}

/* {% call f(x) %}: f(x, caller=the body). */
static bool exec_call(struct rt *rt, struct frame *frame, const struct stmt *s)
{
    const struct expr *e = s->macro.call;
    const struct step *last = &e->steps[e->count - 1];
    struct str name = {.data = "caller", .size = 6, .chars = 6};
    struct kwarg caller = {.name = &name};
    struct args args;
    struct value v;
    if (!define_macro(rt, frame, s->macro.def, &caller.value) || !eval(rt, frame, e->first, &v) ||
        !apply_steps(rt, frame, e->steps, e->count - 1, &v) ||
        !eval_args(rt, frame, last->args, &caller, &args))
        return false;
    rt->line = last->line;
    return call_value(rt, v, &args, &v) && write_str(rt, v);
}

/* ---- statements --------------------------------------------------------------------------- */

static bool exec_print(struct rt *rt, struct frame *frame, const struct stmt *s)
{
    struct value v;
    for (int i = 0; i < s->print.count; i++)
        if (!eval(rt, frame, s->print.items[i], &v) || !write_str(rt, v))
            return false;
    return true;
}

static bool exec_if(struct rt *rt, struct frame *frame, const struct stmt *s, enum flow *flow)
{
    struct value test;
    for (int i = 0; i < s->branches.count; i++) {
        const struct branch *b = &s->branches.branches[i];
        if (b->test != NULL && !eval(rt, frame, b->test, &test))
            return false;
        if (b->test == NULL || truth(test))
            return exec_block(rt, frame, &b->body, flow);
    }
    return true;
}

static bool exec_stmt(struct rt *rt, struct frame *frame, const struct stmt *s, enum flow *flow)
{
    struct value v;
    switch (s->kind) {
    case S_TEXT:
        return write_bytes(rt, s->text.data, s->text.size);
    case S_PRINT:
        return exec_print(rt, frame, s);
    case S_IF:
        return exec_if(rt, frame, s, flow);
    case S_FOR:
        return exec_for(rt, frame, s->loop, flow);
    case S_SET:
        return eval(rt, frame, s->set.value, &v) && assign(rt, frame, &s->set.target, v);
    case S_SET_BLOCK:
    case S_FILTER:
        return exec_capture(rt, frame, s, flow);
    case S_MACRO:
        return exec_macro(rt, frame, s);
    case S_CALL:
        return exec_call(rt, frame, s);
    case S_WITH:
        return exec_with(rt, frame, s->with, flow);
    case S_GENERATION:
        return exec_generation(rt, frame, s);
    case S_BREAK:
        *flow = FLOW_BREAK;
        return true;
    case S_CONTINUE:
        break;
    }
    *flow = FLOW_CONTINUE;
    return true;
}

bool exec_block(struct rt *rt, struct frame *frame, const struct block *block, enum flow *flow)
{
    *flow = FLOW_NEXT;
    if (!rt_enter(rt))
        return false;
    for (int i = 0; i < block->count && *flow == FLOW_NEXT; i++) {
        rt->line = block->items[i]->line;
        if (!spend(rt, 1) || !exec_stmt(rt, frame, block->items[i], flow))
            return false;
    }
    rt->depth--;
    return true;
}
