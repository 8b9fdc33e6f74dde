/* train.c: what a training step takes beside a prompt: LoRA, the same with layers computed again, DoRA.
 *
 * A sample is a whole step of random factors on all linears of the blocks: they are laid out, two examples go forth and
 * back with every token a target, and AdamW changes the factors. Activations are kept as bf16; "layers again" keeps what
 * goes into a layer only and computes the rest on the way back. Before there is a figure, gradients of a few tokens are
 * compared with those of the scalar tier, through all blocks.
 */
#include "bench/bench_internal.h"
#include "model/training/training.h"

#include <math.h>

enum { EXAMPLES = 2, CHECK_TOKENS = 6, CASES = 4 };
static const double CHECK_TOLERANCE = 0.1; /* bf16 through all blocks, and back */

/* What is trained, in one piece: values, gradients, two moments. */
struct pupil {
    struct train_set set;
    float *values, *gradients, *m, *v; /* [n] each */
    int64_t n;
};

struct lesson {
    struct train_batch batch;
    graft_token_id *tokens;
    int32_t *targets;
    float *weights;
    int starts[EXAMPLES + 1];
};

struct training;
struct step_case {
    struct training *all;
    struct pupil *pupil;
    struct train_tape *tape;
};
struct training {
    struct prompt prompt;
    struct pupil lora, dora;
    struct lesson lesson;
    struct step_case steps[CASES]; /* the first is the prompt's, and unused */
    struct bench_case cases[CASES];
    size_t kept[CASES], bytes[CASES];
};

/* ---- what is trained ---------------------------------------------------------------------- */

static int64_t site_values(const struct bench *b, int site, bool dora)
{
    const struct matrix *w = model_site_weight(b->model, site);
    return b->options->rank * (w->n_in + w->n_out) + (dora ? w->n_out : 0);
}

static struct trained take(struct pupil *p, int64_t *at, int64_t n)
{
    struct trained out = {p->values + *at, p->gradients + *at};
    *at += n;
    return out;
}

/* A of the size of its inputs, B small, magnitudes as the norms of random rows are. */
static void fill_site(struct bench *b, struct pupil *p, int site, bool dora, int64_t *at)
{
    const struct matrix *w = model_site_weight(b->model, site);
    int64_t rank = b->options->rank, width = b->model->config.d_model;
    struct train_delta *d = &p->set.sites[site].delta;
    *d = (struct train_delta){.rank = rank, .scale = 2};
    d->a = take(p, at, rank * w->n_in);
    d->b = take(p, at, rank * w->n_out);
    fill_random(d->a.value, rank * w->n_in, (uint64_t)site);
    fill_random(d->b.value, rank * w->n_out, (uint64_t)site + 10000);
    b->runtime->kernels->scale(d->a.value, 1 / sqrtf((float)w->n_in), rank * w->n_in);
    b->runtime->kernels->scale(d->b.value, 0.02F, rank * w->n_out);
    if (!dora)
        return;
    d->magnitude = take(p, at, w->n_out);
    for (int64_t i = 0; i < w->n_out; i++)
        d->magnitude.value[i] = sqrtf((float)w->n_in / (float)width);
}

static graft_status pupil_open(struct bench *b, struct pupil *p, bool dora, graft_error *error)
{
    int n_sites = model_head_site(b->model);
    int64_t at = 0;
    for (int site = 0; site < n_sites; site++)
        p->n += site_values(b, site, dora);
    p->set.sites = mem_calloc(b->mem, (size_t)n_sites + 1, sizeof *p->set.sites);
    p->values = mem_calloc(b->mem, (size_t)p->n, sizeof(float));
    p->gradients = mem_calloc(b->mem, (size_t)p->n, sizeof(float));
    p->m = mem_calloc(b->mem, (size_t)p->n, sizeof(float));
    p->v = mem_calloc(b->mem, (size_t)p->n, sizeof(float));
    if (!p->set.sites || !p->values || !p->gradients || !p->m || !p->v)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for factors in training");
    for (int site = 0; site < n_sites; site++)
        fill_site(b, p, site, dora, &at);
    return GRAFT_OK;
}

static void pupil_close(struct bench *b, struct pupil *p)
{
    mem_free(b->mem, p->set.sites);
    mem_free(b->mem, p->values);
    mem_free(b->mem, p->gradients);
    mem_free(b->mem, p->m);
    mem_free(b->mem, p->v);
}

static graft_status lesson_open(struct bench *b, struct lesson *l, graft_error *error)
{
    int n = EXAMPLES * b->options->tokens, n_vocab = b->model->config.n_vocab;
    l->tokens = mem_calloc(b->mem, (size_t)n, sizeof *l->tokens);
    l->targets = mem_calloc(b->mem, (size_t)n, sizeof *l->targets);
    l->weights = mem_calloc(b->mem, (size_t)n, sizeof *l->weights);
    if (!l->tokens || !l->targets || !l->weights)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for examples");
    for (int i = 0; i < n; i++) {
        l->tokens[i] = (graft_token_id)((int64_t)i * 7919 % n_vocab);
        l->targets[i] = (int32_t)((int64_t)(i + 1) * 7919 % n_vocab);
        l->weights[i] = 1;
    }
    for (int e = 0; e <= EXAMPLES; e++)
        l->starts[e] = e * b->options->tokens;
    l->batch = (struct train_batch){.n_tok = n,
                                    .n_examples = EXAMPLES,
                                    .tokens = l->tokens,
                                    .starts = l->starts,
                                    .targets = l->targets,
                                    .weights = l->weights};
    return GRAFT_OK;
}

static void lesson_close(struct bench *b, struct lesson *l)
{
    mem_free(b->mem, l->tokens);
    mem_free(b->mem, l->targets);
    mem_free(b->mem, l->weights);
}

/* ---- steps -------------------------------------------------------------------------------- */

struct update {
    const struct kernels *kernels;
    struct pupil *pupil;
    float scale;
};

static void update_work(void *context, int worker, int n_workers)
{
    const struct update *u = context;
    struct pupil *p = u->pupil;
    int64_t begin, end;
    pool_split(p->n, 64, worker, n_workers, &begin, &end);
    u->kernels->adamw(&(struct adamw_args){.p = p->values + begin,
                                           .m = p->m + begin,
                                           .v = p->v + begin,
                                           .g = p->gradients + begin,
                                           .n = end - begin,
                                           .beta1 = 0.9,
                                           .beta2 = 0.999,
                                           .lr = 1e-6F,
                                           .eps = 1e-8F,
                                           .correct1 = 1,
                                           .correct2 = 1,
                                           .scale = u->scale});
    memset(p->gradients + begin, 0, (size_t)(end - begin) * sizeof(float));
}

static graft_status run_step(struct bench *b, void *context, struct seconds *seconds,
                             graft_error *error)
{
    struct step_case *c = context;
    struct train_result result = {0};
    double begun = time_seconds();
    graft_status status = train_tape_refresh(c->tape, error);
    if (status == GRAFT_OK)
        status = train_tape_run(c->tape, &c->all->lesson.batch, true, &result, error);
    if (status != GRAFT_OK)
        return status;
    struct update update = {b->runtime->kernels, c->pupil, (float)(1 / result.weight)};
    pool_run(b->runtime->pool, update_work, &update);
    seconds->by[CLOCK_WALL] = wall_seconds(begun);
    if (isfinite(result.nll))
        return GRAFT_OK;
    return error_set(error, GRAFT_NUMERIC, "the loss of a step is not a number");
}

/* ---- the check ---------------------------------------------------------------------------- */

/* Gradients of a few tokens on some runtime, into the pupil's. */
static graft_status run_few(struct bench *b, struct training *t, graft_runtime *runtime,
                            graft_error *error)
{
    struct model view = *b->model;
    struct train_tape *tape = NULL;
    struct train_result result;
    struct train_batch batch = t->lesson.batch;
    const struct train_options options = {.max_tok = CHECK_TOKENS};
    int starts[] = {0, b->options->tokens < CHECK_TOKENS ? b->options->tokens : CHECK_TOKENS};
    batch.n_tok = starts[1];
    batch.n_examples = 1;
    batch.starts = starts;
    view.runtime = runtime;
    memset(t->lora.gradients, 0, (size_t)t->lora.n * sizeof(float));
    graft_status status = train_tape_open(&view, &t->lora.set, &options, &tape, error);
    if (status == GRAFT_OK)
        status = train_tape_refresh(tape, error);
    if (status == GRAFT_OK)
        status = train_tape_run(tape, &batch, true, &result, error);
    train_tape_close(&tape);
    return status;
}

static graft_status check_gradients(struct bench *b, struct training *t, graft_error *error)
{
    static const char WHAT[] = "gradients through all blocks";
    int64_t first = LINEAR_COUNT, last = model_head_site(b->model), n = t->lora.n, head = 0, tail;
    for (int64_t site = 0; site < first; site++)
        head += site_values(b, (int)site, false);
    tail = n;
    for (int64_t site = last - LINEAR_COUNT; site < last; site++)
        tail -= site_values(b, (int)site, false);
    float *want = mem_alloc(b->mem, (size_t)n * sizeof(float));
    if (!want)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a check");
    graft_status status = run_few(b, t, &b->scalar, error);
    memcpy(want, t->lora.gradients, (size_t)n * sizeof(float));
    if (status == GRAFT_OK)
        status = run_few(b, t, b->runtime, error);
    if (status == GRAFT_OK)
        status = check_within(t->lora.gradients, want, head, CHECK_TOLERANCE, WHAT, error);
    if (status == GRAFT_OK)
        status = check_within(t->lora.gradients + tail, want + tail, n - tail, CHECK_TOLERANCE,
                              WHAT, error);
    memset(t->lora.gradients, 0, (size_t)n * sizeof(float));
    mem_free(b->mem, want);
    b->checked = "8 outputs of every linear of every type, gradients of the first and last block";
    return status;
}

/* ---- cases -------------------------------------------------------------------------------- */

/* Operations of a step: forth and back through blocks and head, and what is computed again. */
static double step_flops(const struct bench *b, bool again)
{
    const struct model *m = b->model;
    double blocks = model_block_flops(m), down = 0;
    double head = 2.0 * (double)m->head.n_out * (double)m->head.n_in;
    for (int i = 0; i < m->config.n_layer; i++)
        down += 2.0 * (double)m->config.d_ff * (double)m->config.d_model;
    return EXAMPLES * b->options->tokens * (2 * (blocks + head) + (again ? blocks - down : 0));
}

static graft_status add_step(struct bench *b, struct training *t, int index, struct pupil *pupil,
                             bool again, int baseline, graft_error *error)
{
    static const char *const NAMES[CASES] = {"", "LoRA", "layers again", "DoRA"};
    struct step_case *step = &t->steps[index];
    struct bench_case *c = &t->cases[index];
    const struct train_options options = {
        .max_tok = EXAMPLES * b->options->tokens, .checkpoint = again, .half = true};
    *step = (struct step_case){.all = t, .pupil = pupil};
    *c = t->cases[0];
    struct kernels rounded; /* as the tape multiplies */
    kernels_round_floats(b->runtime->kernels, &rounded);
    c->work = EXAMPLES * b->options->tokens;
    c->limit = limits_peak_for(&b->limits, &rounded, b->model->layers[0].linear[LINEAR_GATE].type);
    c->limit_work = step_flops(b, again);
    c->baseline = baseline;
    c->run = run_step;
    c->context = step;
    snprintf(c->name, sizeof c->name, "%d x %d, %s", EXAMPLES, b->options->tokens, NAMES[index]);
    graft_status status = train_tape_open(b->model, &pupil->set, &options, &step->tape, error);
    if (status != GRAFT_OK)
        return status;
    t->bytes[index] = train_tape_bytes(step->tape);
    t->kept[index] = train_tape_kept_bytes(step->tape);
    return status;
}

static graft_status list_cases(struct bench *b, struct training *t, graft_error *error)
{
    t->cases[0] =
        (struct bench_case){.unit = "tokens/s",
                            .work = b->options->tokens,
                            .clock = CLOCK_WALL,
                            .limit = limits_peak_for(&b->limits, b->runtime->kernels,
                                                     b->model->layers[0].linear[LINEAR_GATE].type),
                            .limit_work = model_block_flops(b->model) * b->options->tokens,
                            .baseline = -1,
                            .run = prompt_run,
                            .context = &t->prompt};
    snprintf(t->cases[0].name, sizeof t->cases[0].name, "prompt of %d tokens", b->options->tokens);
    graft_status status = add_step(b, t, 1, &t->lora, false, 0, error);
    if (status == GRAFT_OK)
        status = add_step(b, t, 2, &t->lora, true, 0, error);
    if (status == GRAFT_OK)
        status = add_step(b, t, 3, &t->dora, false, 1, error);
    return status;
}

static void report_memory(const struct bench *b, const struct training *t)
{
    static const char KEPT[] = "activations kept";
    double kept = (double)t->kept[1] / 1e6, again = (double)t->kept[2] / 1e6;
    double all = ((double)t->bytes[2] + 4.0 * sizeof(float) * (double)t->lora.n) / 1e6;
    bench_report(b, KEPT, "MB", CLOCK_WALL, &kept, 1);
    bench_report_beside(b, "kept, layers again", "MB", &again, 1, KEPT, kept);
    bench_report(b, "all of a step, layers again", "MB", CLOCK_WALL, &all, 1);
}

graft_status bench_train(struct bench *b, graft_error *error)
{
    struct training t = {0};
    graft_status status = check_model(b, error);
    if (status == GRAFT_OK)
        status = prompt_open(b, &t.prompt, error);
    if (status == GRAFT_OK)
        status = pupil_open(b, &t.lora, false, error);
    if (status == GRAFT_OK)
        status = pupil_open(b, &t.dora, true, error);
    if (status == GRAFT_OK)
        status = lesson_open(b, &t.lesson, error);
    if (status == GRAFT_OK)
        status = check_gradients(b, &t, error);
    if (status == GRAFT_OK)
        status = list_cases(b, &t, error);
    if (status == GRAFT_OK)
        status = bench_measure(b, t.cases, CASES, error);
    if (status == GRAFT_OK)
        report_memory(b, &t);
    for (int i = 0; i < CASES; i++)
        train_tape_close(&t.steps[i].tape);
    lesson_close(b, &t.lesson);
    pupil_close(b, &t.lora);
    pupil_close(b, &t.dora);
    prompt_close(b, &t.prompt);
    return status;
}
