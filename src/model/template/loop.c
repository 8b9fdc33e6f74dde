/* loop.c: for loops and the `loop` variable.
 *
 * Items come one at a time, past the loop's filter; loop.last and loop.nextitem fetch one early, and
 * loop.length or loop.revindex all of them, exactly when Jinja2 would. One frame serves all iterations:
 * it is emptied at the start of each, and at the end of the loop.
 */
#include "model/template/render_internal.h"

/* ---- items -------------------------------------------------------------------------------- */

/* The next item that passes the filter: 1, 0 at the end, -1 failed. */
static int next_item(struct rt *rt, struct loop *loop, struct value *out)
{
    const struct for_stmt *stmt = loop->stmt;
    struct value test;
    int more;
    while ((more = iter_next(rt, &loop->it, out)) == 1) {
        if (loop->test_frame == NULL)
            return 1;
        if (!assign(rt, loop->test_frame, &stmt->test_target, *out) ||
            !eval(rt, loop->test_frame, stmt->test, &test))
            return -1;
        if (truth(test))
            return 1;
    }
    return more;
}

/* Makes sure that `count` items wait in the queue, if there are so many. */
static bool fetch(struct rt *rt, struct loop *loop, size_t count)
{
    struct value list, item;
    int more = 1;
    if (loop->queue_count - loop->queue_next >= count)
        return true;
    if (!list_new(rt, V_LIST, 4, &list))
        return false;
    for (size_t i = loop->queue_next; i < loop->queue_count; i++)
        if (!list_push(rt, list.list, loop->queue[i]))
            return false;
    while (list.list->count < count && (more = next_item(rt, loop, &item)) == 1)
        if (!list_push(rt, list.list, item))
            return false;
    loop->queue = list.list->items;
    loop->queue_next = 0;
    loop->queue_count = list.list->count;
    return more >= 0;
}

static int take_item(struct rt *rt, struct loop *loop, struct value *out)
{
    if (loop->queue_next == loop->queue_count)
        return next_item(rt, loop, out);
    *out = loop->queue[loop->queue_next++];
    return 1;
}

bool loop_length(struct rt *rt, struct loop *loop, int64_t *out)
{
    size_t n = 0;
    if (loop->length < 0) {
        if (loop->test_frame == NULL && loop->source.kind != V_ITER &&
            value_length(loop->source, &n)) {
            loop->length = (int64_t)n;
        } else {
            if (!fetch(rt, loop, SIZE_MAX))
                return false;
            loop->length = loop->index0 + 1 + (int64_t)(loop->queue_count - loop->queue_next);
        }
    }
    *out = loop->length;
    return true;
}

/* ---- the loop variable -------------------------------------------------------------------- */

static bool loop_cycle(struct rt *rt, struct call *c, struct value *out)
{
    if (c->args->count == 0 || c->args->n_keywords > 0)
        return fail(rt, GRAFT_FORMAT, "loop.cycle needs items");
    *out = c->args->items[c->self.loop->index0 % (int64_t)c->args->count];
    return true;
}

static bool loop_changed(struct rt *rt, struct call *c, struct value *out)
{
    struct loop *loop = c->self.loop;
    struct value now;
    bool same = false;
    if (!list_new(rt, V_TUPLE, c->args->count, &now))
        return false;
    for (size_t i = 0; i < c->args->count; i++)
        if (!list_push(rt, now.list, c->args->items[i]))
            return false;
    if (loop->changed.kind != V_MISSING && !value_equal(rt, loop->changed, now, &same))
        return false;
    loop->changed = now;
    *out = v_bool(!same);
    return true;
}

static bool bind_loop_method(struct rt *rt, struct loop *loop, const struct builtin *builtin,
                             struct value *out)
{
    struct method *m = rt_alloc(rt, sizeof *m);
    if (m == NULL)
        return false;
    *m = (struct method){builtin, {.kind = V_LOOP, .loop = loop}};
    *out = (struct value){.kind = V_METHOD, .method = m};
    return true;
}

static bool neighbour(struct rt *rt, struct loop *loop, bool next, struct value *out)
{
    if (!next) {
        *out = loop->previous;
        return loop->index0 > 0 || undefined_hint(rt, "there is no previous item", out);
    }
    if (!fetch(rt, loop, 1))
        return false;
    if (loop->queue_next == loop->queue_count)
        return undefined_hint(rt, "there is no next item", out);
    *out = loop->queue[loop->queue_next];
    return true;
}

bool loop_attr(struct rt *rt, struct loop *loop, struct str *name, struct value *out, bool *found)
{
    static const struct builtin methods[] = {
        {"cycle", "*", loop_cycle}, {"changed", "*", loop_changed}, {NULL, NULL, NULL}};
    const struct builtin *method = builtin_find(methods, name->data, name->size);
    int64_t length = 0;
    *found = true;
    if (method != NULL)
        return bind_loop_method(rt, loop, method, out);
    if (str_equals(name, "index")) {
        *out = v_int(loop->index0 + 1);
    } else if (str_equals(name, "index0")) {
        *out = v_int(loop->index0);
    } else if (str_equals(name, "first")) {
        *out = v_bool(loop->index0 == 0);
    } else if (str_equals(name, "last")) {
        if (!fetch(rt, loop, 1))
            return false;
        *out = v_bool(loop->queue_next == loop->queue_count);
    } else if (str_equals(name, "length") || str_equals(name, "revindex") ||
               str_equals(name, "revindex0")) {
        if (!loop_length(rt, loop, &length))
            return false;
        *out = v_int(length - (name->size == 6   ? 0
                               : name->size == 8 ? loop->index0
                                                 : loop->index0 + 1));
    } else if (str_equals(name, "depth") || str_equals(name, "depth0")) {
        *out = v_int(loop->depth0 + (name->size == 5));
    } else if (str_equals(name, "previtem") || str_equals(name, "nextitem")) {
        return neighbour(rt, loop, name->data[0] == 'n', out);
    } else {
        *found = false;
    }
    return true;
}

/* ---- running ------------------------------------------------------------------------------ */

static bool run_else(struct rt *rt, struct frame *outer, const struct for_stmt *stmt,
                     enum flow *flow)
{
    struct frame *frame = frame_new(rt, &stmt->else_scope, outer);
    return frame != NULL && exec_block(rt, frame, &stmt->otherwise, flow);
}

static struct loop *loop_new(struct rt *rt, struct frame *outer, const struct for_stmt *stmt,
                             struct value source, int depth)
{
    struct loop *loop = rt_alloc(rt, sizeof *loop);
    if (loop == NULL)
        return NULL;
    *loop = (struct loop){.stmt = stmt,
                          .outer = outer,
                          .source = source,
                          .index0 = -1,
                          .length = -1,
                          .depth0 = depth};
    if (!iter_begin(rt, source, &loop->it))
        return NULL;
    if (stmt->test != NULL && (loop->test_frame = frame_new(rt, &stmt->test_scope, outer)) == NULL)
        return NULL;
    return loop;
}

/* Over a value already computed: the entry of recursive loops. */
static bool run_loop(struct rt *rt, struct frame *outer, const struct for_stmt *stmt,
                     struct value source, int depth, enum flow *flow)
{
    struct loop *loop = loop_new(rt, outer, stmt, source, depth);
    struct frame *frame = loop == NULL ? NULL : frame_new(rt, &stmt->scope, outer);
    struct value item;
    bool run =
        false; /* an iteration ran to its end: break and continue do not count, as in Jinja2 */
    int more;
    if (frame == NULL)
        return false;
    while ((more = take_item(rt, loop, &item)) == 1) {
        enum flow inner;
        loop->index0++;
        loop->previous = loop->current;
        loop->current = item;
        if (!frame_start(rt, &stmt->scope, frame) || !assign(rt, frame, &stmt->target, item))
            return false;
        frame->slots[stmt->loop.slot] = (struct value){.kind = V_LOOP, .loop = loop};
        if (!exec_block(rt, frame, &stmt->body, &inner))
            return false;
        run |= inner == FLOW_NEXT;
        if (inner == FLOW_BREAK)
            break;
    }
    if (more < 0)
        return false;
    memset(frame->slots, 0, (size_t)stmt->scope.slots * sizeof(struct value));
    *flow = FLOW_NEXT;
    return run || stmt->otherwise.count == 0 || run_else(rt, outer, stmt, flow);
}

bool exec_for(struct rt *rt, struct frame *frame, const struct for_stmt *stmt, enum flow *flow)
{
    struct value source;
    if (!eval(rt, frame, stmt->iter, &source))
        return false;
    return run_loop(rt, frame, stmt, source, 0, flow);
}

/* loop(items) inside a recursive loop: the text of the loop over those items. */
bool call_loop(struct rt *rt, struct loop *loop, const struct args *args, struct value *out)
{
    size_t mark = rt->out.size;
    int line = rt->line;
    enum flow flow;
    if (!loop->stmt->recursive)
        return fail(rt, GRAFT_FORMAT, "the loop needs 'recursive' to be called");
    if (args->count != 1 || args->n_keywords > 0)
        return fail(rt, GRAFT_FORMAT, "a recursive loop takes one argument");
    if (!rt_enter(rt) ||
        !run_loop(rt, loop->outer, loop->stmt, args->items[0], loop->depth0 + 1, &flow))
        return false;
    rt->depth--;
    rt->line = line;
    return str_capture(rt, mark, out);
}
