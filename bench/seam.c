/* seam.c: what low-rank deltas cost beside the base model, in alternation.
 *
 *   bench/seam [-t THREADS] [-r RANK] [-n SAMPLES] [--dora] [TYPE[:FACTORS]]...
 *
 * A random model of the shape of qwen2.5-0.5b with linears of each TYPE (default q8_0 q4_0 f16) and a tied
 * head (Q8_0 where TYPE is quantised), deltas of FACTORS (default bf16) at all seven linears of every
 * block. Decode: one token at position 128; prefill: 512 tokens without the head. Prints the median times of
 * the base, and the median ratio of neighbouring runs with its quartiles: by the clock, and by processor
 * time, which says more on a machine shared with others. Before that, the logits under the deltas are
 * compared with those of the scalar tier.
 */
#include <graft/runtime.h>

#include "model/arch/arch.h"

#include <math.h>
#include <time.h>

enum { D_MODEL = 896, D_FF = 4864, N_HEAD = 14, N_KV = 2, D_HEAD = 64, N_LAYER = 24 };
enum { N_VOCAB = 151936, DECODE_AT = 128, PREFILL_ROWS = 512, MOST_SAMPLES = 201 };

static struct rng rng = {.seed = 1, .left = 0};

static void die(const char *why)
{
    fprintf(stderr, "seam: %s\n", why);
    exit(1);
}

static void *need(void *p)
{
    if (!p)
        die("no memory");
    return p;
}

static float uniform(float size)
{
    return size * (float)(2 * rng_uniform(&rng) - 1);
}

/* ---- a model out of nothing --------------------------------------------------------------- */

/* Random rows; after the first few they repeat, which no product can tell. */
static struct matrix random_matrix(graft_type type, int64_t n_out, int64_t n_in, float size)
{
    enum { ROWS = 16 };
    const struct type_traits *traits = type_traits(type);
    size_t row = (size_t)(n_in / traits->block_values) * traits->block_bytes;
    uint8_t *data = need(mem_alloc(NULL, (size_t)n_out * row));
    float *values = need(mem_alloc(NULL, (size_t)n_in * sizeof(*values)));
    if (n_in % traits->block_values)
        die("the shape has no whole blocks of this type");
    for (int64_t o = 0; o < n_out; o++) {
        if (o >= ROWS) {
            memcpy(data + (size_t)o * row, data + (size_t)(o % ROWS) * row, row);
            continue;
        }
        for (int64_t i = 0; i < n_in; i++)
            values[i] = uniform(size);
        if (!quantize_row(type, values, n_in, data + (size_t)o * row))
            die("this type cannot be written");
    }
    mem_free(NULL, values);
    return (struct matrix){
        .type = type, .n_out = n_out, .n_in = n_in, .data = data, .row_bytes = row};
}

static float *random_vector(int64_t n, float middle)
{
    float *v = need(mem_alloc(NULL, (size_t)n * sizeof(*v)));
    for (int64_t i = 0; i < n; i++)
        v[i] = middle + uniform(0.1f);
    return v;
}

static void site_shape(int id, int64_t *n_out, int64_t *n_in)
{
    static const int64_t OUT[] = {D_MODEL, N_KV * D_HEAD, N_KV * D_HEAD, D_MODEL,
                                  D_FF,    D_FF,          D_MODEL};
    *n_out = OUT[id];
    *n_in = id == LINEAR_DOWN ? D_FF : D_MODEL;
}

static void make_model(struct model *m, graft_runtime *rt, graft_type type)
{
    bool quantised = act_format_for(type, ROLE_DECODE) != ACT_F32;
    *m = (struct model){.runtime = rt, .final_norm = random_vector(D_MODEL, 1), .rope_mscale = 1};
    m->config = (struct config){.arch = arch_find("Qwen2ForCausalLM", NULL),
                                .n_layer = N_LAYER,
                                .d_model = D_MODEL,
                                .d_ff = D_FF,
                                .n_head = N_HEAD,
                                .n_kv = N_KV,
                                .d_head = D_HEAD,
                                .n_vocab = N_VOCAB,
                                .n_ctx = 32768,
                                .norm_eps = 1e-6f,
                                .tied = true};
    m->config.windows = need(mem_calloc(NULL, N_LAYER, sizeof(int32_t)));
    m->layers = need(mem_calloc(NULL, N_LAYER, sizeof(*m->layers)));
    m->rope_freq = need(mem_calloc(NULL, D_HEAD / 2, sizeof(float)));
    for (int i = 0; i < D_HEAD / 2; i++)
        m->rope_freq[i] = (float)pow(1e6, -2.0 * i / D_HEAD);
    for (int l = 0; l < N_LAYER; l++) {
        struct layer *layer = &m->layers[l];
        layer->attn_norm = random_vector(D_MODEL, 1);
        layer->mlp_norm = random_vector(D_MODEL, 1);
        for (int id = 0; id < LINEAR_COUNT; id++) {
            int64_t n_out, n_in;
            site_shape(id, &n_out, &n_in);
            layer->linear[id] = random_matrix(type, n_out, n_in, 1 / sqrtf((float)n_in));
            layer->bias[id] = id <= LINEAR_V ? random_vector(n_out, 0) : NULL;
        }
    }
    m->embed = m->head = random_matrix(quantised ? GRAFT_TYPE_Q8_0 : type, N_VOCAB, D_MODEL, 0.1f);
}

static void free_model(struct model *m)
{
    for (int l = 0; l < N_LAYER; l++)
        for (int id = 0; id < LINEAR_COUNT; id++) {
            mem_free(NULL, (void *)m->layers[l].linear[id].data);
            mem_free(NULL, m->layers[l].bias[id]);
        }
    for (int l = 0; l < N_LAYER; l++) {
        mem_free(NULL, m->layers[l].attn_norm);
        mem_free(NULL, m->layers[l].mlp_norm);
    }
    mem_free(NULL, (void *)m->embed.data);
    mem_free(NULL, m->layers);
    mem_free(NULL, m->config.windows);
    mem_free(NULL, m->rope_freq);
    mem_free(NULL, m->final_norm);
}

/* ---- deltas ------------------------------------------------------------------------------- */

struct deltas {
    struct lowrank own[N_LAYER * LINEAR_COUNT];
    const struct lowrank *places[N_LAYER * LINEAR_COUNT + 1];
    struct delta_set *set;
};

static void make_deltas(struct deltas *d, const struct model *m, graft_type type, int rank,
                        bool dora)
{
    *d = (struct deltas){0};
    for (int site = 0; site < model_head_site(m); site++) {
        int64_t n_out, n_in;
        site_shape(site % LINEAR_COUNT, &n_out, &n_in);
        d->own[site] = (struct lowrank){
            .a = random_matrix(type, rank, n_in, 1 / sqrtf((float)n_in)),
            .b = random_matrix(type, lowrank_b_rows(rank, n_out), LOWRANK_TILE, 0.2f),
            .scale = 2,
            .gain = dora ? random_vector(n_out, 1) : NULL};
        d->places[site] = &d->own[site];
    }
    const struct delta_member member = {.lowranks = d->places, .weight = 1};
    graft_error error = {0};
    if (delta_set_open(m, &member, 1, &d->set, &error) != GRAFT_OK)
        die(error.message);
}

static void free_deltas(struct deltas *d)
{
    for (size_t i = 0; i < ARRAY_LEN(d->own); i++) {
        mem_free(NULL, (void *)d->own[i].a.data);
        mem_free(NULL, (void *)d->own[i].b.data);
        mem_free(NULL, (void *)d->own[i].gain);
    }
    delta_set_close(&d->set);
}

/* ---- runs --------------------------------------------------------------------------------- */

struct bench {
    struct model model;
    struct kv_pool *pool;
    struct kv_seq *seq;
    struct workspace *ws;
};

static void bench_open(struct bench *b)
{
    const struct kv_pool_options options = {KV_F16, KV_F16, 64};
    graft_error error = {0};
    if (kv_pool_open(&b->model, &options, &b->pool, &error) != GRAFT_OK ||
        kv_seq_open(b->pool, &b->seq, &error) != GRAFT_OK ||
        workspace_open(&b->model, PREFILL_ROWS, &b->ws, &error) != GRAFT_OK)
        die(error.message);
}

static void bench_close(struct bench *b)
{
    workspace_close(&b->ws);
    kv_seq_close(&b->seq);
    kv_pool_close(&b->pool);
}

struct seconds {
    double clock, cpu;
};

static struct seconds now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (struct seconds){time_seconds(), (double)t.tv_sec + 1e-9 * (double)t.tv_nsec};
}

/* Time of n rows from position `at` on; those after it are forgotten first. */
static struct seconds forward(struct bench *b, int at, int n, enum role role,
                              const struct delta_set *deltas)
{
    static struct row rows[PREFILL_ROWS];
    graft_error error = {0};
    kv_seq_trim(b->seq, at);
    for (int i = 0; i < n; i++)
        rows[i] = (struct row){.token = (at + i) * 37 % N_VOCAB,
                               .pos = at + i,
                               .seq = b->seq,
                               .role = role,
                               .want_logits = role == ROLE_DECODE,
                               .deltas = deltas};
    struct seconds start = now();
    if (model_forward(&b->model, rows, n, b->ws, &error) != GRAFT_OK)
        die(error.message);
    struct seconds end = now();
    return (struct seconds){end.clock - start.clock, end.cpu - start.cpu};
}

/* The logits of one token of each role under the deltas, on this tier and on the scalar one. */
static void check(struct bench *b, const struct delta_set *deltas)
{
    graft_runtime *rt = b->model.runtime;
    const struct kernels *tier = rt->kernels;
    float *want = need(mem_alloc(NULL, N_VOCAB * sizeof(*want)));
    double difference = 0, largest = 0;
    for (int scalar = 1; scalar >= 0; scalar--) {
        rt->kernels = scalar ? kernels_tier(0) : tier;
        forward(b, 0, 1, ROLE_PREFILL, deltas);
        forward(b, 1, 1, ROLE_DECODE, deltas);
        const float *logits = workspace_logits(b->ws, 0);
        for (int i = 0; i < N_VOCAB; i++) {
            if (scalar)
                want[i] = logits[i];
            difference = fmax(difference, fabs((double)(logits[i] - want[i])));
            largest = fmax(largest, fabs((double)want[i]));
        }
    }
    if (!(difference <= 0.05 * largest))
        die("the logits are not those of the scalar tier");
    mem_free(NULL, want);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* "median (quartiles)" of n ratios, which are sorted. */
static void print_ratios(const char *what, double *ratios, int n)
{
    qsort(ratios, (size_t)n, sizeof(*ratios), ascending);
    printf("\t%s %.3f (%.3f..%.3f)", what, ratios[n / 2], ratios[n / 4], ratios[n * 3 / 4]);
}

/* Base and deltas in turn; which comes first alternates too. */
static void compare(struct bench *b, const char *what, int at, int n, enum role role, int samples,
                    const struct delta_set *deltas)
{
    double base[MOST_SAMPLES], spent[MOST_SAMPLES], clock[MOST_SAMPLES], cpu[MOST_SAMPLES];
    for (int i = -1; i < samples; i++) { /* the first pair warms up */
        struct seconds first = forward(b, at, n, role, i % 2 ? NULL : deltas);
        struct seconds second = forward(b, at, n, role, i % 2 ? deltas : NULL);
        if (i < 0)
            continue;
        struct seconds without = i % 2 ? first : second, with = i % 2 ? second : first;
        base[i] = without.clock;
        spent[i] = without.cpu;
        clock[i] = with.clock / without.clock;
        cpu[i] = with.cpu / without.cpu;
    }
    qsort(base, (size_t)samples, sizeof(*base), ascending);
    qsort(spent, (size_t)samples, sizeof(*spent), ascending);
    printf("%s\t%.2f ms, processor %.2f ms", what, 1e3 * base[samples / 2],
           1e3 * spent[samples / 2]);
    print_ratios("with deltas", clock, samples);
    print_ratios("processor", cpu, samples);
    printf("\n");
    fflush(stdout);
}

static graft_type type_of(const char *name, size_t length)
{
    for (int type = 0; type < GRAFT_TYPE_COUNT; type++) {
        const char *known = graft_type_name((graft_type)type);
        if (kernels_have_type((graft_type)type) && strlen(known) == length &&
            !strncasecmp(known, name, length))
            return (graft_type)type;
    }
    die("no such type");
    return GRAFT_TYPE_F32;
}

struct options {
    int threads, rank, samples;
    bool dora;
};

static void run_case(const struct options *o, const char *text)
{
    graft_runtime_options how = graft_runtime_options_default();
    graft_runtime *rt = NULL;
    graft_error error = {0};
    const char *colon = strchr(text, ':');
    graft_type type = type_of(text, colon ? (size_t)(colon - text) : strlen(text));
    graft_type factors = colon ? type_of(colon + 1, strlen(colon + 1)) : GRAFT_TYPE_BF16;
    how.threads = o->threads;
    if (graft_runtime_open(&how, &rt, &error) != GRAFT_OK)
        die(error.message);
    static struct bench b;
    static struct deltas d;
    char what[128];
    make_model(&b.model, rt, type);
    make_deltas(&d, &b.model, factors, o->rank, o->dora);
    bench_open(&b);
    check(&b, d.set);
    for (int role = 0; role < ROLE_COUNT; role++) {
        bool decode = role == ROLE_DECODE;
        snprintf(what, sizeof(what), "%s %s, %s r%d %s, %s, %d threads",
                 decode ? "decode" : "prefill", graft_type_name(type), o->dora ? "DoRA" : "LoRA",
                 o->rank, graft_type_name(factors), rt->kernels->tier, pool_threads(rt->pool));
        if (decode)
            forward(&b, 0, DECODE_AT, ROLE_PREFILL, NULL);
        compare(&b, what, decode ? DECODE_AT : 0, decode ? 1 : PREFILL_ROWS, (enum role)role,
                decode ? o->samples : (o->samples + 7) / 8, d.set);
    }
    bench_close(&b);
    free_deltas(&d);
    free_model(&b.model);
    graft_runtime_close(&rt);
}

int main(int argc, char **argv)
{
    static const char *const DEFAULTS[] = {"q8_0", "q4_0", "f16"};
    struct options o = {.rank = 16, .samples = 41};
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        int *value = !strcmp(argv[i], "-t")   ? &o.threads
                     : !strcmp(argv[i], "-r") ? &o.rank
                     : !strcmp(argv[i], "-n") ? &o.samples
                                              : NULL;
        if (!strcmp(argv[i], "--dora"))
            o.dora = true;
        else if (value && i + 1 < argc)
            *value = (int)strtol(argv[++i], NULL, 10);
        else
            die("usage: seam [-t THREADS] [-r RANK] [-n SAMPLES] [--dora] [TYPE[:FACTORS]]...");
    }
    if (o.rank < 1 || o.samples < 1 || o.samples > MOST_SAMPLES)
        die("ranks are at least 1, samples 1 to 201");
    for (size_t j = 0; i == argc && j < ARRAY_LEN(DEFAULTS); j++)
        run_case(&o, DEFAULTS[j]);
    for (; i < argc; i++)
        run_case(&o, argv[i]);
    return 0;
}
