/* feedback.c: answers with what people say of them, into the buffer.
 *
 * A quality is the weight of an example. A reward becomes an advantage: what it is above the baseline, the mean of the
 * rewards before it, of which the last 64 count most. So its sign says whether the answer shall become likelier or less
 * likely, and rewards that are all alike teach nothing (Williams 1992, REINFORCE with a baseline).
 */
#include "learn/learn_internal.h"

#include <math.h>

enum { BASELINE_WINDOW = 64, MOST_SESSIONS = 1 << 16, MOST_SESSION_BYTES = 200 };

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for feedback");
}

/* Whoever gets the memory next need not know what was said. */
void lesson_free(struct mem *mem, struct lesson *lesson)
{
    const size_t n = (size_t)lesson->n_tok;
    graft_token_id *tokens = (graft_token_id *)(uintptr_t)lesson->tokens;
    uint8_t *learned = (uint8_t *)(uintptr_t)lesson->learned;
    mem_wipe(tokens, (n + 1) * sizeof *tokens);
    mem_wipe(learned, n);
    mem_free(mem, tokens);
    mem_free(mem, learned);
    *lesson = (struct lesson){.tokens = NULL};
}

/* reward − baseline, which then moves: b += (reward − b) / min(n, 64) */
static double take_reward(struct learner_state *s, double reward)
{
    const double advantage = reward - s->baseline;
    s->rewards++;
    s->baseline +=
        advantage / (double)(s->rewards < BASELINE_WINDOW ? s->rewards : BASELINE_WINDOW);
    return advantage;
}

/* ---- sessions ------------------------------------------------------------------------------ */

static bool is_held_out(const struct learner *l, const char *session)
{
    return session && str_map_get(&l->held_sessions, session, strlen(session)) >= 0;
}

/* Whoever serves for long hears of ever more sessions: from MOST_SESSIONS on they are no longer told apart. */
static graft_status note_session(struct learner *l, const char *session, graft_error *error)
{
    if (!session || l->state.sessions >= MOST_SESSIONS ||
        str_map_get(&l->sessions, session, strlen(session)) >= 0)
        return GRAFT_OK;
    char *name = arena_strndup(&l->names, session, strlen(session));
    if (!name || !str_map_put(&l->sessions, name, strlen(name), 1, NULL))
        return no_memory(error);
    l->state.sessions++;
    return GRAFT_OK;
}

/* ---- the buffer ---------------------------------------------------------------------------- */

/* A copy of the lesson goes in; the buffer has room. */
static graft_status put(struct learner *l, const struct lesson *lesson, graft_error *error)
{
    const size_t n = (size_t)lesson->n_tok;
    graft_token_id *tokens = mem_calloc(l->mem, n + 1, sizeof *tokens);
    uint8_t *learned = mem_calloc(l->mem, n, sizeof *learned);
    if (!tokens || !learned) {
        mem_free(l->mem, tokens);
        mem_free(l->mem, learned);
        return no_memory(error);
    }
    memcpy(tokens, lesson->tokens, (n + 1) * sizeof *tokens);
    memcpy(learned, lesson->learned, n);
    l->buffer[l->state.waiting++] = (struct lesson){tokens, learned, lesson->n_tok, lesson->weight};
    l->state.taken++;
    return GRAFT_OK;
}

static graft_status take_example(struct learner *l, const struct dataset *d,
                                 const struct data_example *e, graft_error *error)
{
    struct lesson lesson = {e->tokens, e->learned, e->n_tok, e->weight};
    graft_status status = note_session(l, dataset_name(d, e->session), error);
    if (e->rewarded)
        lesson.weight *= (float)take_reward(&l->state, (double)e->reward);
    if (status == GRAFT_OK)
        status = put(l, &lesson, error);
    return status == GRAFT_OK ? learner_settle(l, error) : status;
}

/* ---- records ------------------------------------------------------------------------------- */

struct listener {
    learner_issue_fn issue;
    void *user;
};

static void refuse(struct learner *l, const struct dataset *d, const struct data_example *e,
                   const struct listener *to)
{
    const struct data_issue issue = {
        .kind = DATA_DROPPED,
        .file = e->file,
        .line = e->line,
        .reason = "its session is in the held-out file, which must not be learned from",
        .fix = "leave the session out of one of the two"};
    l->state.refused++;
    if (to->issue)
        to->issue(to->user, &issue, dataset_file(d, e->file));
}

static graft_status take_all(struct learner *l, const struct dataset *d, const struct listener *to,
                             int64_t *taken, graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (int64_t i = 0; i < dataset_issues(d); i++) {
        const struct data_issue *issue = dataset_issue(d, i);
        if (to->issue)
            to->issue(to->user, issue, dataset_file(d, issue->file));
    }
    l->state.refused += dataset_stats(d)->dropped;
    for (int64_t i = 0; i < dataset_count(d, DATA_TRAIN) && status == GRAFT_OK; i++) {
        const struct data_example e = dataset_example(d, DATA_TRAIN, i);
        if (is_held_out(l, dataset_name(d, e.session))) {
            refuse(l, d, &e, to);
            continue;
        }
        status = take_example(l, d, &e, error);
        *taken += status == GRAFT_OK;
    }
    return status;
}

static struct data_options reading(const struct learner *l)
{
    return (struct data_options){.loss = l->options.loss,
                                 .max_len = l->room,
                                 .min_quality = l->options.min_quality,
                                 .verdicts = DATA_VERDICTS_FEEDBACK};
}

static graft_status take_dataset(struct learner *l, graft_status opened, struct dataset **d,
                                 const struct listener *to, int64_t *taken, graft_error *error)
{
    int64_t n = 0;
    graft_status status = opened == GRAFT_OK ? take_all(l, *d, to, &n, error) : opened;
    dataset_close(d);
    if (status == GRAFT_OK && taken)
        *taken = n;
    return status;
}

graft_status learner_read(struct learner *l, const char *path, learner_issue_fn issue, void *user,
                          int64_t *taken, graft_error *error)
{
    const struct data_options options = reading(l);
    struct dataset *d = NULL;
    if (path_is_dir(path)) {
        error_set(error, GRAFT_INVALID_ARGUMENT, "feedback is a file of records, not a folder");
        error_at_file(error, path);
        return GRAFT_INVALID_ARGUMENT;
    }
    graft_status status = dataset_open(l->mem, &l->data, path, &options, &d, error);
    return take_dataset(l, status, &d, &(struct listener){issue, user}, taken, error);
}

graft_status learner_add(struct learner *l, const char *records, size_t size,
                         learner_issue_fn issue, void *user, int64_t *taken, graft_error *error)
{
    const struct data_options options = reading(l);
    struct dataset *d = NULL;
    graft_status status =
        dataset_read(l->mem, &l->data, "feedback", records, size, &options, &d, error);
    return take_dataset(l, status, &d, &(struct listener){issue, user}, taken, error);
}

/* ---- tokens -------------------------------------------------------------------------------- */

static graft_status check_feedback(const struct learner *l, const struct learner_feedback *f,
                                   graft_error *error)
{
    if (f->n < 2 || f->n - 1 > l->room)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "an answer of %d tokens with its prompt; it must be 2 to %d", f->n,
                         l->room + 1);
    if (f->n_prompt < 1 || f->n_prompt >= f->n)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "a prompt of %d tokens; it must be 1 to %d, so that an answer is left",
                         f->n_prompt, f->n - 1);
    if (f->rewarded ? !isfinite((float)f->reward) : !(f->quality >= 0 && f->quality <= 1))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         f->rewarded ? "the reward is no number"
                                     : "the quality is no number from 0 to 1");
    if (f->session && strnlen(f->session, MOST_SESSION_BYTES + 1) > MOST_SESSION_BYTES)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "its session is longer than %d bytes",
                         MOST_SESSION_BYTES);
    for (int i = 0; i < f->n; i++)
        if (f->tokens[i] < 0 || f->tokens[i] >= l->model->config.n_vocab)
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "token %d is beyond the vocabulary of %d", (int)f->tokens[i],
                             l->model->config.n_vocab);
    return GRAFT_OK;
}

graft_status learner_add_tokens(struct learner *l, const struct learner_feedback *f,
                                graft_error *error)
{
    graft_status status = check_feedback(l, f, error);
    if (status != GRAFT_OK)
        return status;
    if (is_held_out(l, f->session) ||
        (!f->rewarded && (f->quality < l->options.min_quality || !((float)f->quality > 0)))) {
        l->state.refused++;
        return GRAFT_OK;
    }
    uint8_t *learned = mem_calloc(l->mem, (size_t)f->n, sizeof *learned);
    if (!learned)
        return no_memory(error);
    for (int t = 0; t + 1 < f->n; t++)
        learned[t] = t + 1 >= f->n_prompt;
    const struct lesson lesson = {
        f->tokens, learned, f->n - 1,
        (float)(f->rewarded ? take_reward(&l->state, f->reward) : f->quality)};
    status = note_session(l, f->session, error);
    if (status == GRAFT_OK)
        status = put(l, &lesson, error);
    mem_free(l->mem, learned);
    return status == GRAFT_OK ? learner_settle(l, error) : status;
}
