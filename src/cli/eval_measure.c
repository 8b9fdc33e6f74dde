/* eval_measure.c: the examples of one file under one mix: losses of what is learned, answers, classes.
 *
 * Examples go through the model side by side as prompts, and what is learned of them is summed up. The question
 * of an example is what precedes the last span that is learned, the reference that span; the answer is greedy. Where no
 * pattern is searched for, an answer ends as soon as it cannot be the reference any more. Questions that begin alike
 * (a system prompt) keep that in the cache.
 */
#include "eval.h"

#include <math.h>

enum {
    ANSWER_LIMIT = 1 << 24,
    BATCH_TOKENS = 1024,
    DECODE_COST = 8 /* of a token, in tokens of a prompt */
};

graft_status eval_sums_make(struct eval_sums *out, size_t n)
{
    *out = (struct eval_sums){0};
    double *values = mem_calloc(NULL, 2 * EVAL_METRICS * (n > 0 ? n : 1), sizeof *values);
    for (size_t m = 0; values != NULL && m < EVAL_METRICS; m++) {
        out->sum[m] = values + 2 * m * n;
        out->weight[m] = values + (2 * m + 1) * n;
    }
    return values != NULL ? GRAFT_OK : GRAFT_NO_MEMORY;
}

void eval_sums_free(struct eval_sums *sums)
{
    mem_free(NULL, sums->sum[0]);
    *sums = (struct eval_sums){0};
}

/* ---- questions and references ---- */

/* A special token behind a reference ends answers too, also where the model's own list of ends lacks it. */
static void note_end(struct eval_items *items, graft_token_id id)
{
    size_t i = 0;
    while (i < items->n_ends && items->ends[i] != id) {
        i++;
    }
    if (i == items->n_ends && i < ARRAY_LEN(items->ends)) {
        items->ends[items->n_ends++] = id;
    }
}

/* A text has no question: it is learned from its beginning. An answer that was cut can never be reached. */
static graft_status find_question(struct eval_items *items, struct eval_item *item,
                                  const graft_tokenizer *tokenizer, const struct eval_how *how,
                                  graft_error *error)
{
    const graft_example *e = &item->example;
    int end = e->n_tokens;
    while (end > 0 && !e->learned[end - 1]) {
        end--;
    }
    int begin = end;
    while (begin > 0 && e->learned[begin - 1]) {
        begin--;
    }
    if (begin == 0 || e->truncated) {
        return GRAFT_OK;
    }
    size_t size, last;
    char *text = NULL;
    const graft_token_id *ids = e->tokens + begin + 1;
    graft_status status =
        graft_detokenize(tokenizer, e->tokens + end, 1, false, &text, &last, error);
    graft_free(items->runtime, text);
    if (status == GRAFT_OK) {
        status = graft_detokenize(tokenizer, ids, (size_t)(end - begin), false, &item->answer,
                                  &size, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    if (last == 0) {
        note_end(items, e->tokens[end]);
    }
    item->asked = begin + 1;
    item->reference = eval_trim(item->answer, size);
    if (how->pattern != NULL) {
        status = eval_pattern_find(how->pattern, item->reference.at, item->reference.size,
                                   &item->wanted, error);
    }
    return status == GRAFT_NOT_FOUND ? GRAFT_OK : status;
}

graft_status eval_items_prepare(struct eval_items *items, const graft_model *model,
                                const struct eval_how *how, graft_error *error)
{
    graft_status status = GRAFT_OK;
    const graft_tokenizer *tokenizer = graft_model_tokenizer(model);
    for (size_t i = 0; i < items->n && status == GRAFT_OK; i++) {
        struct eval_item *item = &items->items[i];
        int n = item->example.n_tokens + 1;
        if (how->answers && how->n_labels == 0) {
            status = find_question(items, item, tokenizer, how, error);
        }
        int most = item->asked > 0 ? item->asked + how->max_tokens : n;
        items->work += (uint64_t)n;
        if (item->asked > 0) {
            items->work += (uint64_t)DECODE_COST * (uint64_t)(n - item->asked);
        }
        most = most > n ? most : n;
        items->longest = items->longest > most ? items->longest : most;
    }
    return status;
}

void eval_items_free(struct eval_items *items)
{
    for (size_t i = 0; i < items->n; i++) {
        graft_free(items->runtime, items->items[i].answer);
    }
    mem_free(NULL, items->items);
    *items = (struct eval_items){0};
}

/* ---- losses and classes ---- */

/* Examples that go through the model together. */
struct batch {
    graft_token_id *ids; /* [room] */
    uint8_t *wanted;     /* [room] */
    float *scores;       /* [room] */
    size_t *starts;      /* [room + 1] */
    size_t room, first, n;
};

static void batch_free(struct batch *b)
{
    mem_free(NULL, b->ids);
    mem_free(NULL, b->wanted);
    mem_free(NULL, b->scores);
    mem_free(NULL, b->starts);
}

static graft_status batch_make(struct batch *b, size_t longest)
{
    size_t room = longest > BATCH_TOKENS ? longest : BATCH_TOKENS;
    *b = (struct batch){.ids = mem_calloc(NULL, room, sizeof *b->ids),
                        .wanted = mem_calloc(NULL, room, sizeof *b->wanted),
                        .scores = mem_calloc(NULL, room, sizeof *b->scores),
                        .starts = mem_calloc(NULL, room + 1, sizeof *b->starts),
                        .room = room};
    bool made = b->ids != NULL && b->wanted != NULL && b->scores != NULL && b->starts != NULL;
    return made ? GRAFT_OK : GRAFT_NO_MEMORY;
}

/* As many examples from `first` on as fit: one always does. */
static void batch_fill(struct batch *b, const struct eval_items *items, size_t first)
{
    b->first = first;
    for (b->n = 0; first + b->n < items->n; b->n++) {
        const graft_example *e = &items->items[first + b->n].example;
        size_t at = b->starts[b->n], n = (size_t)e->n_tokens + 1;
        if (at + n > b->room) {
            break;
        }
        memcpy(b->ids + at, e->tokens, n * sizeof *b->ids);
        b->wanted[at] = 0;
        memcpy(b->wanted + at + 1, e->learned, n - 1);
        b->starts[b->n + 1] = at + n;
    }
}

static void batch_take(const struct batch *b, const struct eval_items *items, struct eval_sums *out)
{
    for (size_t k = 0; k < b->n; k++) {
        const graft_example *e = &items->items[b->first + k].example;
        double sum = 0;
        for (size_t at = b->starts[k]; at < b->starts[k + 1]; at++) {
            sum -= (double)b->scores[at]; /* 0 where nothing is learned */
        }
        out->sum[EVAL_LOSS][b->first + k] = (double)e->weight * sum;
        out->weight[EVAL_LOSS][b->first + k] = (double)e->weight * e->n_learned;
    }
}

static graft_status score_all(graft_session *session, const struct eval_items *items,
                              struct eval_sums *out, eval_step_fn step, void *user,
                              graft_error *error)
{
    struct batch b;
    graft_status status = batch_make(&b, (size_t)items->longest);
    if (status != GRAFT_OK) {
        error_set(error, status, "no memory for a batch");
    }
    for (size_t first = 0; first < items->n && status == GRAFT_OK; first += b.n) {
        batch_fill(&b, items, first);
        status =
            graft_session_score_texts(session, b.ids, b.starts, b.n, b.wanted, b.scores, error);
        if (status == GRAFT_OK) {
            batch_take(&b, items, out);
            status = step(user, b.starts[b.n]) ? GRAFT_OK : GRAFT_CANCELLED;
        }
    }
    batch_free(&b);
    return status;
}

static graft_status classify(graft_session *session, const struct eval_item *item, int n_labels,
                             float *scores, struct eval_sums *out, size_t i, graft_error *error)
{
    const graft_example *e = &item->example;
    graft_status status =
        graft_session_classify(session, e->tokens, (size_t)e->n_tokens, scores, error);
    if (status != GRAFT_OK) {
        return status;
    }
    int label = e->tokens[e->n_tokens], best = 0;
    for (int k = 1; k < n_labels; k++) {
        best = scores[k] > scores[best] ? k : best;
    }
    double sum = 1; /* of the best itself */
    for (int k = 0; k < n_labels; k++) {
        sum += k != best ? exp((double)scores[k] - (double)scores[best]) : 0;
    }
    double nll = log(sum) + (double)scores[best] - (double)scores[label];
    out->sum[EVAL_LOSS][i] = (double)e->weight * nll;
    out->weight[EVAL_LOSS][i] = (double)e->weight;
    out->sum[EVAL_ACCURACY][i] = best == label;
    out->weight[EVAL_ACCURACY][i] = 1;
    return GRAFT_OK;
}

/* ---- answers ---- */

struct answering {
    const struct eval_item *item;
    struct buf text;
    bool whole; /* all of the answer is wanted, right or wrong */
    eval_step_fn step;
    void *user;
    bool stopped;
};

static bool take_token(void *user, const graft_token *token)
{
    struct answering *a = user;
    buf_append(&a->text, token->text, token->text_size);
    a->stopped = !a->step(a->user, 0);
    if (a->stopped || a->text.status != GRAFT_OK) {
        return false;
    }
    return a->whole || a->text.size == 0 ||
           eval_may_become(a->item->reference, a->text.data, a->text.size);
}

static graft_status judge(const struct eval_item *item, const struct eval_how *how,
                          const struct buf *text, struct eval_sums *out, size_t i,
                          graft_error *error)
{
    struct eval_text answer = eval_trim(text->size > 0 ? text->data : "", text->size);
    out->sum[EVAL_EXACT][i] = eval_same(answer, item->reference);
    out->weight[EVAL_EXACT][i] = 1;
    if (how->pattern == NULL || item->wanted.at == NULL) {
        return GRAFT_OK;
    }
    struct eval_text found;
    graft_status status = eval_pattern_find(how->pattern, answer.at, answer.size, &found, error);
    out->sum[EVAL_REGEX][i] = status == GRAFT_OK && eval_agree(found, item->wanted);
    out->weight[EVAL_REGEX][i] = 1;
    return status == GRAFT_NOT_FOUND ? GRAFT_OK : status;
}

/* What two questions begin with; less than all of the second, so that something is left to be computed. */
static size_t shared_tokens(const struct eval_item *before, const struct eval_item *item)
{
    size_t n = 0;
    while (before != NULL && n < (size_t)before->asked && n + 1 < (size_t)item->asked &&
           before->example.tokens[n] == item->example.tokens[n]) {
        n++;
    }
    return n;
}

/* The session holds the question and the answer of `before` (NULL: it is empty), and then those of the item. */
static graft_status answer(graft_session *session, const struct eval_item *before,
                           struct answering *a, const struct eval_how *how, graft_error *error)
{
    size_t shared = shared_tokens(before, a->item);
    graft_status status = graft_session_trim(session, shared, error);
    if (status == GRAFT_OK) {
        status = graft_session_prompt(session, a->item->example.tokens + shared,
                                      (size_t)a->item->asked - shared, NULL, NULL, error);
    }
    if (status == GRAFT_OK) {
        status = graft_session_generate(session, (size_t)how->max_tokens, take_token, a, error);
    }
    if (status == GRAFT_OK && a->stopped) {
        return GRAFT_CANCELLED;
    }
    return status != GRAFT_OK ? status
           : a->text.status != GRAFT_OK
               ? error_set(error, a->text.status, "no memory for an answer")
               : GRAFT_OK;
}

static graft_status ask_all(graft_session *session, const struct eval_items *items,
                            const struct eval_how *how, struct eval_sums *out, eval_step_fn step,
                            void *user, graft_error *error)
{
    const struct eval_item *before = NULL;
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < items->n && status == GRAFT_OK; i++) {
        const struct eval_item *item = &items->items[i];
        if (item->asked == 0) {
            continue;
        }
        struct answering a = {
            .item = item, .whole = item->wanted.at != NULL, .step = step, .user = user};
        buf_init(&a.text, NULL, ANSWER_LIMIT);
        status = answer(session, before, &a, how, error);
        if (status == GRAFT_OK) {
            status = judge(item, how, &a.text, out, i, error);
        }
        buf_free(&a.text);
        before = item;
        uint64_t work =
            (uint64_t)DECODE_COST * (uint64_t)(item->example.n_tokens + 1 - item->asked);
        if (status == GRAFT_OK && !step(user, work)) {
            status = GRAFT_CANCELLED;
        }
    }
    graft_error unused;
    graft_session_trim(session, 0, &unused); /* what is scored next wants it empty */
    return status;
}

static graft_status classify_all(graft_session *session, const struct eval_items *items,
                                 int n_labels, struct eval_sums *out, eval_step_fn step, void *user,
                                 graft_error *error)
{
    float *scores = mem_calloc(NULL, (size_t)n_labels, sizeof *scores);
    graft_status status =
        scores != NULL ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < items->n && status == GRAFT_OK; i++) {
        const struct eval_item *item = &items->items[i];
        status = classify(session, item, n_labels, scores, out, i, error);
        if (status == GRAFT_OK && !step(user, (uint64_t)item->example.n_tokens + 1)) {
            status = GRAFT_CANCELLED;
        }
    }
    mem_free(NULL, scores);
    return status;
}

graft_status eval_measure(graft_session *session, const struct eval_items *items,
                          const struct eval_how *how, struct eval_sums *out, eval_step_fn step,
                          void *user, graft_error *error)
{
    if (how->n_labels > 0) {
        return classify_all(session, items, how->n_labels, out, step, user, error);
    }
    graft_status status = score_all(session, items, out, step, user, error);
    return status == GRAFT_OK && how->answers ? ask_all(session, items, how, out, step, user, error)
                                              : status;
}
