/* speculative.c: what guesses gain, and what they cost where there is nothing to gain.
 *
 * Three kinds of text: one that repeats itself (a prompt that is the same words over and over), questions as people
 * ask them, and tokens at random, where no guess can be right for long. Each is continued plainly and with guesses from the
 * text itself, and by a draft model where one is given, in alternation. A session says the same in all ways, or
 * there is no figure. Costs are learned as in use: samples come after a first round.
 */
#include "bench/talk.h"
#include "generate/draft/draft.h"

enum way_to_guess { PLAIN, NGRAM, MODEL, WAYS };
enum { TEXTS = 3, QUESTIONS = 6, PROMPT_MAX = 256 };
static const char *const TEXT_NAMES[TEXTS] = {"repetition", "questions", "random tokens"};
static const char *const WAY_NAMES[WAYS] = {
    [PLAIN] = "plain", [NGRAM] = "ngram", [MODEL] = "ngram and draft model"};
static const char REPEATED[] = " red blue";
static const char *const ASKED[QUESTIONS] = {
    "Tell me a story about Lena and a lost key.",
    "Write a Python function that returns the smallest price.",
    "Tom has a red ball. Anna has a blue kite. Who has the kite?",
    "Is this safe? query = \"SELECT * FROM users WHERE name = '\" + name + \"'\"",
    "The order service must never lose an order. What should we use?",
    "Review this code: for (int i = 0; i <= n; i++) { total += prices[i]; }",
};

struct speculative;
struct speculative_case {
    struct speculative *all;
    int text, way;
};
struct prompt_ids {
    graft_token_id ids[PROMPT_MAX];
    size_t n;
};
struct speculative {
    struct model *draft; /* NULL: none */
    struct prompt_ids prompts[TEXTS][QUESTIONS];
    int n_prompts[TEXTS];
    struct graft_session *session[WAYS];
    graft_token_id said[TALK_MAX], known[TEXTS][QUESTIONS][TALK_MAX];
    bool have[TEXTS][QUESTIONS];
    size_t n;
    struct speculative_case of[TEXTS * WAYS];
    struct bench_case cases[TEXTS * WAYS];
    int n_cases;
};

/* ---- texts ---- */

static graft_status put_text(struct bench *b, struct prompt_ids *p, const char *text,
                             graft_error *error)
{
    struct tokens ids = {.mem = b->mem};
    graft_status status = tokenizer_encode(b->model->tokenizer, text, strlen(text), 0, &ids, error);
    size_t n = status == GRAFT_OK ? ids.count : 0;
    n = n < PROMPT_MAX - p->n ? n : PROMPT_MAX - p->n;
    if (n > 0)
        memcpy(p->ids + p->n, ids.ids, n * sizeof *p->ids);
    p->n += n;
    tokens_free(&ids);
    return status;
}

static graft_status make_prompts(struct bench *b, struct speculative *s, graft_error *error)
{
    int n_vocab = b->model->config.n_vocab;
    graft_status status = GRAFT_OK;
    if (b->model->tokenizer == NULL)
        return error_set(error, GRAFT_UNSUPPORTED, "the model has no tokenizer to make texts with");
    s->n_prompts[0] = 1;
    for (int i = 0; i < 16 && status == GRAFT_OK; i++)
        status = put_text(b, &s->prompts[0][0], REPEATED, error);
    for (; s->n_prompts[1] < QUESTIONS && status == GRAFT_OK; s->n_prompts[1]++)
        status = put_text(b, &s->prompts[1][s->n_prompts[1]], ASKED[s->n_prompts[1]], error);
    s->n_prompts[2] = 1;
    for (int i = 0; i < 64; i++)
        s->prompts[2][0].ids[s->prompts[2][0].n++] = (graft_token_id)((i + 3) * 104729 % n_vocab);
    return status;
}

/* ---- the ways ---- */

static graft_status continue_prompt(struct speculative *s, const struct speculative_case *c,
                                    int prompt, graft_error *error)
{
    struct graft_session *session = s->session[c->way];
    const struct prompt_ids *p = &s->prompts[c->text][prompt];
    graft_status status = session_trim(session, 0, error);
    if (status == GRAFT_OK)
        status = session_prompt(session, p->ids, p->n, NULL, NULL, error);
    for (size_t i = 0; i < s->n && status == GRAFT_OK; i++) {
        graft_token token;
        status = session_next(session, &token, error);
        s->said[i] = status == GRAFT_OK ? token.id : -1;
    }
    return status == GRAFT_OK ? talk_same(s->known[c->text][prompt], &s->have[c->text][prompt],
                                          s->said, s->n, error)
                              : status;
}

static graft_status run_text(struct bench *b, void *context, struct seconds *seconds,
                             graft_error *error)
{
    (void)b;
    const struct speculative_case *c = context;
    struct speculative *s = c->all;
    graft_status status = GRAFT_OK;
    double begun = time_seconds();
    for (int i = 0; i < s->n_prompts[c->text] && status == GRAFT_OK; i++)
        status = continue_prompt(s, c, i, error);
    seconds->by[CLOCK_WALL] = wall_seconds(begun);
    return status;
}

/* ---- the bench ---- */

static graft_status open_session(struct bench *b, struct speculative *s, int way,
                                 graft_error *error)
{
    const graft_session_options o = {.sampling = {.top_p = 1, .repetition_penalty = 1},
                                     .n_ctx = PROMPT_MAX + (int)s->n + 1,
                                     .cache_k = b->options->cache_k,
                                     .cache_v = b->options->cache_v,
                                     .prefill_chunk = 256,
                                     .ignore_eos = true};
    const graft_draft_options d = {
        .ngram = true, .k = 4, .max = DRAFT_MOST, .kv_bytes = (size_t)64 << 20};
    graft_status status = session_open(b->model, &o, &s->session[way], error);
    return status == GRAFT_OK && way != PLAIN
               ? session_set_draft(s->session[way], way == MODEL ? s->draft : NULL, &d, error)
               : status;
}

static void add_case(struct bench *b, struct speculative *s, int text, int way)
{
    int at = s->n_cases++, baseline = way == 0 ? -1 : at - way;
    s->of[at] = (struct speculative_case){s, text, way};
    s->cases[at] = (struct bench_case){.unit = "tokens/s",
                                       .work = (double)s->n * s->n_prompts[text],
                                       .clock = CLOCK_WALL,
                                       .limit = LIMIT_READ,
                                       .limit_work = (double)s->n * s->n_prompts[text] *
                                                     model_token_bytes(b->model),
                                       .baseline = baseline,
                                       .run = run_text,
                                       .context = &s->of[at]};
    snprintf(s->cases[at].name, sizeof s->cases[at].name, "%s, %s", TEXT_NAMES[text],
             WAY_NAMES[way]);
}

static void report_guesses(const struct bench *b, const struct speculative *s, int ways)
{
    for (int way = 1; way < ways; way++) {
        graft_draft_info i;
        char name[CASE_NAME_SIZE];
        session_draft_info(s->session[way], &i);
        double drafted = (double)(i.ngram.drafted + i.model.drafted);
        double right =
            100 * (double)(i.ngram.accepted + i.model.accepted) / (drafted > 0 ? drafted : 1);
        double gain = (double)i.tokens / (double)(i.passes > 0 ? i.passes : 1);
        snprintf(name, sizeof name, "all texts, %s: guesses that were right", WAY_NAMES[way]);
        bench_report(b, name, "%", CLOCK_WALL, &right, 1);
        snprintf(name, sizeof name, "all texts, %s: tokens a pass", WAY_NAMES[way]);
        bench_report(b, name, "tokens", CLOCK_WALL, &gain, 1);
    }
}

static graft_status run_all(struct bench *b, struct speculative *s, graft_error *error)
{
    int ways = s->draft != NULL ? WAYS : WAYS - 1;
    graft_status status = make_prompts(b, s, error);
    for (int way = 0; way < ways && status == GRAFT_OK; way++)
        status = open_session(b, s, way, error);
    for (int text = 0; text < TEXTS && status == GRAFT_OK; text++) {
        s->n_cases = 0;
        b->part_from = b->part_to;
        b->part_to = (text + 1.0) / TEXTS;
        for (int way = 0; way < ways; way++)
            add_case(b, s, text, way);
        status = bench_measure(b, s->cases, s->n_cases, error);
    }
    if (status == GRAFT_OK)
        report_guesses(b, s, ways);
    return status;
}

/* Both names were right; that the files do not go together is no fault of the arguments. */
static graft_status open_draft(struct bench *b, struct model **out, graft_error *error)
{
    const struct model_options options = {.pack = b->options->pack};
    graft_status status = model_open(b->runtime, b->options->draft, &options, out, error);
    if (status == GRAFT_OK && draft_model_check(b->model, *out, error) != GRAFT_OK) {
        status = GRAFT_UNSUPPORTED;
        if (error)
            error->status = status;
    }
    return status;
}

graft_status bench_speculative(struct bench *b, graft_error *error)
{
    struct speculative *s = mem_calloc(b->mem, 1, sizeof *s);
    if (!s)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for sessions");
    graft_status status = check_model(b, error);
    b->checked = "all ways say the same tokens; 8 outputs of every linear of every type";
    s->n = (size_t)b->options->tokens;
    if (status == GRAFT_OK && b->options->draft)
        status = open_draft(b, &s->draft, error);
    if (status == GRAFT_OK)
        status = run_all(b, s, error);
    for (int way = 0; way < WAYS; way++)
        session_close(&s->session[way]);
    model_close(&s->draft);
    mem_free(b->mem, s);
    return status;
}
