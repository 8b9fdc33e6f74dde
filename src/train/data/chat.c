/* chat.c: conversations: which bytes of what the chat template renders are the model's own.
 *
 * A template that has {% generation %} marks says so itself. Of others an answer is found by rendering again: what the
 * template makes of the messages before it with the opening of an answer (the prompt, as a model is asked) and of the messages up
 * to it (the turn). Where the prompt begins the turn, the rest of the turn is what the model has to say, up to the
 * token that ends it.
 *
 * Templates may write earlier messages differently once later ones follow (thoughts are dropped, a system prompt moves).
 * An answer whose own prompt is not the beginning of the whole rendering, or whose turn is not, gets a
 * sheet of its own, rendered as it was when the model had to give it. And a template may open the last answer in
 * another way than it writes one ("<think>" is put before it); what is learned then stands behind the opening,
 * and is found with a marker in place of the content.
 */
#include "train/data/data_internal.h"

/* 2025-01-01: templates that write the date write this one, so that a dataset can be made again. */
#define THE_DAY 1735689600

static const char MARKER[] = "graftmarksthisplace";

struct rendering {
    char *text; /* NULL: not rendered */
    size_t size;
};
struct turn {
    size_t message;               /* its number */
    struct rendering prompt, own; /* the messages before it, opened; up to it */
    bool done;
};
struct chat {
    const struct sheet_maker *m;
    const struct record *r;
    size_t n_messages; /* up to the last answer */
    struct turn *turns;
    size_t n_turns;
    size_t rendered; /* bytes, of all renderings */
    int64_t *reopened;
    sheet_fn emit;
    void *user;
    struct why *why;
};

/* ---- rendering ----------------------------------------------------------------------------- */

static graft_status template_refused(struct chat *c, graft_status status)
{
    char said[300];
    snprintf(said, sizeof said, "%.299s", c->why->error.message);
    if (status == GRAFT_NO_MEMORY) {
        return status;
    }
    return why_drop(c->why,
                    "write the conversation as the template wants it, or give another with "
                    "--chat-template",
                    "the chat template refuses it: %s", said);
}

/* Renders a list of messages. */
static graft_status render_list(struct chat *c, json_t *messages, bool open,
                                struct template_marks *marks, struct rendering *out)
{
    const struct sheet_maker *m = c->m;
    json_t *variables =
        json_pack("{s:O, s:b}", "messages", messages, "add_generation_prompt", open);
    if (variables != NULL && c->r->tools != NULL &&
        json_object_set(variables, "tools", c->r->tools) != 0) {
        json_decref(variables);
        variables = NULL;
    }
    graft_status status = variables != NULL
                              ? chat_fill_variables(m->tokenizer, variables, &c->why->error)
                              : why_no_memory(c->why);
    if (status == GRAFT_OK) {
        status = template_render_marked(m->chat, m->mem, variables, THE_DAY, NULL, &out->text,
                                        &out->size, marks, &c->why->error);
    }
    json_decref(variables);
    if (status != GRAFT_OK) {
        return template_refused(c, status);
    }
    c->rendered += out->size;
    return c->rendered <= CHAT_BYTES
               ? GRAFT_OK
               : why_drop(c->why, "split it", "the conversation is too long to find its turns");
}

/* The first n messages. */
static graft_status render(struct chat *c, size_t n, bool open, struct template_marks *marks,
                           struct rendering *out)
{
    json_t *messages = json_array();
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < n && status == GRAFT_OK; i++) {
        if (json_array_append(messages, json_array_get(c->r->messages, i)) != 0) {
            status = why_no_memory(c->why);
        }
    }
    if (status == GRAFT_OK) {
        status = render_list(c, messages, open, marks, out);
    }
    json_decref(messages);
    return status;
}

static bool begins(const struct rendering *whole, const struct rendering *part)
{
    return part->size <= whole->size && memcmp(whole->text, part->text, part->size) == 0;
}

/* How far both are equal, which they are up to `from`. */
static size_t common(const struct rendering *a, const struct rendering *b, size_t from)
{
    size_t n = from, most = a->size < b->size ? a->size : b->size;
    while (n < most && a->text[n] == b->text[n]) {
        n++;
    }
    return n;
}

/* ---- which messages are answers to learn ---------------------------------------------------- */

static const json_t *message_at(const struct chat *c, size_t i)
{
    return json_array_get(c->r->messages, i);
}

static bool is_answer(const struct chat *c, size_t i)
{
    const char *role = json_string_value(json_object_get(message_at(c, i), "role"));
    return role != NULL && strcmp(role, "assistant") == 0;
}

/* OpenAI's files say 0 for answers that are not to be learned. */
static bool is_wanted(const struct chat *c, size_t i)
{
    const json_t *weight = json_object_get(message_at(c, i), "weight");
    return is_answer(c, i) && i >= c->r->given &&
           !(json_is_number(weight) && json_number_value(weight) == 0);
}

static graft_status find_turns(struct chat *c)
{
    size_t n = json_array_size(c->r->messages), last = 0;
    if (n > CHAT_MESSAGES) {
        return why_drop(c->why, "split it", "a conversation of %zu messages is too long", n);
    }
    c->turns = mem_calloc(c->m->mem, n + 1, sizeof *c->turns);
    if (c->turns == NULL) {
        return why_no_memory(c->why);
    }
    for (size_t i = 0; i < n; i++) {
        if (is_wanted(c, i)) {
            c->turns[c->n_turns++].message = i;
            last = i + 1;
        }
    }
    c->n_messages = last;
    if (c->n_turns == 0) {
        return why_drop(c->why, "add an assistant message, or use --loss all",
                        "it has no answer of the assistant to learn");
    }
    if (c->m->loss == DATA_LOSS_COMPLETION && c->r->given == 0) {
        c->turns[0] = c->turns[c->n_turns - 1];
        c->n_turns = 1;
    }
    return GRAFT_OK;
}

static graft_status render_turns(struct chat *c)
{
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < c->n_turns && status == GRAFT_OK; i++) {
        struct turn *t = &c->turns[i];
        status = render(c, t->message + 1, false, NULL, &t->own);
        if (status == GRAFT_OK) {
            status = render(c, t->message, true, NULL, &t->prompt);
        }
    }
    return status;
}

/* ---- sheets -------------------------------------------------------------------------------- */

static graft_status give(struct chat *c, const struct rendering *text, const struct span *spans,
                         size_t n)
{
    struct sheet sheet = {.text = text->text,
                          .size = text->size,
                          .spans = spans,
                          .n_spans = n,
                          .bos = c->m->adds_bos,
                          .close = true,
                          .label = -1};
    return c->emit(c->user, &sheet, c->why);
}

/* What the marks say, of the answers that are wanted. False: the marks do not tell. */
static bool marked_spans(const struct chat *c, const struct template_marks *marks,
                         struct span *spans, size_t *n)
{
    size_t answers = 0, taken = 0, k = 0;
    for (size_t i = 0; i < c->n_messages; i++) {
        answers += is_answer(c, i);
    }
    *n = 0;
    if (marks->lost || marks->count == 0) {
        return false;
    }
    if (marks->count != answers) { /* then all of them, if all are wanted */
        for (size_t i = 0; i < marks->count && i < CHAT_MESSAGES; i++) {
            spans[(*n)++] = (struct span){marks->spans[i].begin, marks->spans[i].end};
        }
        return c->n_turns == answers && marks->count <= CHAT_MESSAGES;
    }
    for (size_t i = 0; i < c->n_messages && taken < c->n_turns; i++) {
        if (is_answer(c, i)) {
            if (c->turns[taken].message == i) {
                spans[(*n)++] = (struct span){marks->spans[k].begin, marks->spans[k].end};
                taken++;
            }
            k++;
        }
    }
    return *n > 0;
}

/* Where turn `t` lies in the rendering `whole` of the conversation up to a later turn, or its own. False: it is not
 * there as the model would have given it. */
static bool find_in(const struct chat *c, const struct rendering *whole, const struct turn *t,
                    struct span *out)
{
    if (!begins(&t->own, &t->prompt) || !begins(whole, &t->prompt)) {
        return false;
    }
    size_t begin = t->prompt.size;
    size_t limit = common(whole, &t->own, begin);
    size_t end = limit > begin ? turn_end(c->m, whole->text, begin, limit) : 0;
    if (end == 0 && limit == t->own.size) {
        end = limit; /* the template ends turns without a token */
    }
    *out = (struct span){begin, end};
    return end > begin;
}

/* The messages up to turn `t`, whose content is the marker. */
static graft_status render_marker(struct chat *c, const struct turn *t, struct rendering *out)
{
    json_t *messages = json_array(),
           *changed = json_copy((json_t *)(uintptr_t)message_at(c, t->message));
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < t->message && status == GRAFT_OK; i++) {
        if (json_array_append(messages, json_array_get(c->r->messages, i)) != 0) {
            status = why_no_memory(c->why);
        }
    }
    if (changed == NULL || json_object_set_new(changed, "content", json_string(MARKER)) != 0 ||
        json_array_append(messages, changed) != 0) {
        status = why_no_memory(c->why);
    }
    if (status == GRAFT_OK) {
        status = render_list(c, messages, false, NULL, out);
    }
    json_decref(changed);
    json_decref(messages);
    return status;
}

/* The sheet of a turn that its prompt does not begin: prompt, then what the template writes from the content on. */
static graft_status give_reopened(struct chat *c, struct turn *t)
{
    struct rendering marked = {0}, whole = {0};
    graft_status status = render_marker(c, t, &marked);
    const char *at =
        status == GRAFT_OK ? memmem(marked.text, marked.size, MARKER, sizeof MARKER - 1) : NULL;
    size_t head = at != NULL ? (size_t)(at - marked.text) : 0;
    bool calls = json_object_get(message_at(c, t->message), "tool_calls") != NULL;
    if (status == GRAFT_OK && (at == NULL || calls || common(&marked, &t->own, 0) < head)) {
        status =
            why_drop(c->why, "give a template with {% generation %} marks (--chat-template FILE)",
                     "the chat template does not show where the answer in message %zu begins",
                     t->message + 1);
    }
    struct buf text;
    buf_init(&text, c->m->mem, SIZE_MAX);
    if (status == GRAFT_OK && (!buf_append(&text, t->prompt.text, t->prompt.size) ||
                               !buf_append(&text, t->own.text + head, t->own.size - head))) {
        status = why_no_memory(c->why);
    }
    if (status == GRAFT_OK) {
        struct span span = {t->prompt.size, 0};
        span.end = turn_end(c->m, text.data, span.begin, text.size);
        span.end = span.end > 0 ? span.end : text.size;
        whole = (struct rendering){text.data, text.size};
        ++*c->reopened;
        status = give(c, &whole, &span, 1);
    }
    buf_free(&text);
    mem_free(c->m->mem, marked.text);
    return status;
}

/* One sheet with the last turn that is left and all before it that lie in its rendering. */
static graft_status give_from(struct chat *c, struct turn *last, struct span *spans)
{
    size_t n = 0;
    struct span span, end;
    last->done = true;
    if (!find_in(c, &last->own, last, &end)) {
        return give_reopened(c, last);
    }
    for (struct turn *t = c->turns; t < last; t++) {
        if (!t->done && find_in(c, &last->own, t, &span) &&
            (n == 0 || span.begin >= spans[n - 1].end) && span.end <= end.begin) {
            spans[n++] = span;
            t->done = true;
        }
    }
    spans[n++] = end;
    return give(c, &last->own, spans, n);
}

/* From the last to the first, so that each sheet takes along what it can. */
static graft_status give_turns(struct chat *c, struct span *spans)
{
    graft_status status = render_turns(c);
    for (size_t i = c->n_turns; i-- > 0 && status == GRAFT_OK;) {
        if (!c->turns[i].done) {
            status = give_from(c, &c->turns[i], spans);
        }
    }
    return status;
}

static graft_status give_all(struct chat *c)
{
    struct rendering whole = {0};
    graft_status status = render(c, json_array_size(c->r->messages), false, NULL, &whole);
    if (status == GRAFT_OK) {
        struct span span = {0, whole.size};
        status = give(c, &whole, &span, 1);
    }
    mem_free(c->m->mem, whole.text);
    return status;
}

static graft_status give_answers(struct chat *c)
{
    struct template_marks marks = {0};
    struct rendering whole = {0};
    size_t n = 0;
    graft_status status = find_turns(c);
    struct span *spans = mem_calloc(c->m->mem, CHAT_MESSAGES, sizeof *spans);
    if (status == GRAFT_OK && spans == NULL) {
        status = why_no_memory(c->why);
    }
    if (status == GRAFT_OK) {
        status = render(c, c->n_messages, false, &marks, &whole);
    }
    if (status == GRAFT_OK) {
        status =
            marked_spans(c, &marks, spans, &n) ? give(c, &whole, spans, n) : give_turns(c, spans);
    }
    for (size_t i = 0; i < c->n_turns; i++) {
        mem_free(c->m->mem, c->turns[i].own.text);
        mem_free(c->m->mem, c->turns[i].prompt.text);
    }
    mem_free(c->m->mem, c->turns);
    mem_free(c->m->mem, spans);
    mem_free(c->m->mem, marks.spans);
    mem_free(c->m->mem, whole.text);
    return status;
}

graft_status chat_sheets(const struct sheet_maker *m, const struct record *r, sheet_fn emit,
                         void *user, int64_t *reopened, struct why *why)
{
    struct chat c = {.m = m, .r = r, .reopened = reopened, .emit = emit, .user = user, .why = why};
    if (json_array_size(r->messages) == 0) {
        return why_drop(why, "remove the record", "it has no messages");
    }
    return m->loss == DATA_LOSS_ALL ? give_all(&c) : give_answers(&c);
}
