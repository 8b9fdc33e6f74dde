/* sampler.c: one token from a row of logits.
 *
 * Owns the scratch a pick needs and nothing that outlives the pick: the penalties look at the history
 * they are given, and the random number is a function of seed and position. The vocabulary is never
 * sorted as a whole: top-k keeps a heap of k, top-p first drops what cannot belong to the nucleus.
 * exp and log come from the kernels, so that results do not differ by libm.
 */
#include "generate/generate.h"

#include <float.h>
#include <math.h>

enum { SAMPLER_STREAM = 1 }; /* of the random numbers: one purpose, one stream */

/* Scaled logits below this have probability 0 in a float softmax; keeps tiny temperatures finite. */
static const float LOGIT_FLOOR = -200.0f;

struct sampler {
    struct mem *mem;
    const struct kernels *kernels;
    int n_vocab;
    graft_sampling options;
    float *x;         /* [n_vocab] penalised logits; afterwards the raw softmax */
    float *p;         /* [n_vocab] probabilities: of order[i] when ordered, else of id i */
    int32_t *order;   /* [n_vocab] candidate ids */
    uint32_t *counts; /* [n_vocab] occurrences in the window; zero between picks */
};

graft_status sampling_check(const graft_sampling *o, graft_error *error)
{
    const char *what = NULL;
    if (!(o->temperature >= 0 && isfinite(o->temperature))) {
        what = "temperature must be 0 or more";
    } else if (o->top_k < 0) {
        what = "top_k must be 0 or more";
    } else if (!(o->top_p > 0 && o->top_p <= 1)) {
        what = "top_p must be above 0 and at most 1";
    } else if (!(o->min_p >= 0 && o->min_p <= 1)) {
        what = "min_p must be from 0 to 1";
    } else if (!(o->repetition_penalty > 0 && isfinite(o->repetition_penalty))) {
        what = "repetition_penalty must be above 0";
    } else if (!isfinite(o->presence_penalty) || !isfinite(o->frequency_penalty)) {
        what = "presence_penalty and frequency_penalty must be finite";
    } else if (o->penalty_window < 0) {
        what = "penalty_window must be 0 or more";
    }
    return what == NULL ? GRAFT_OK : error_set(error, GRAFT_INVALID_ARGUMENT, "%s", what);
}

graft_status sampler_open(struct mem *mem, const struct kernels *kernels, int n_vocab,
                          const graft_sampling *options, struct sampler **out, graft_error *error)
{
    graft_status status = sampling_check(options, error);
    if (status != GRAFT_OK) {
        return status;
    }
    if (n_vocab < 1) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "an empty vocabulary");
    }
    struct sampler *s = mem_calloc(mem, 1, sizeof *s);
    if (s == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a sampler");
    }
    size_t n = (size_t)n_vocab;
    *s = (struct sampler){.mem = mem,
                          .kernels = kernels,
                          .n_vocab = n_vocab,
                          .options = *options,
                          .x = mem_calloc(mem, n, sizeof *s->x),
                          .p = mem_calloc(mem, n, sizeof *s->p),
                          .order = mem_calloc(mem, n, sizeof *s->order),
                          .counts = mem_calloc(mem, n, sizeof *s->counts)};
    if (s->x == NULL || s->p == NULL || s->order == NULL || s->counts == NULL) {
        sampler_close(&s);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a sampler of %d tokens", n_vocab);
    }
    *out = s;
    return GRAFT_OK;
}

void sampler_close(struct sampler **sampler)
{
    struct sampler *s = *sampler;
    if (s != NULL) {
        mem_free(s->mem, s->x);
        mem_free(s->mem, s->p);
        mem_free(s->mem, s->order);
        mem_free(s->mem, s->counts);
        mem_free(s->mem, s);
    }
    *sampler = NULL;
}

graft_status sampler_set(struct sampler *s, const graft_sampling *options, graft_error *error)
{
    graft_status status = sampling_check(options, error);
    if (status == GRAFT_OK) {
        s->options = *options;
    }
    return status;
}

/* ---- ranking ---- */

/* Does id a rank below id b? */
static bool ranks_below(const float *x, int32_t a, int32_t b)
{
    return x[a] < x[b] || (x[a] == x[b] && a > b);
}

/* Heap of n ids whose root ranks lowest (`lowest`) or highest; restores the order below i. */
static void sift_down(const float *x, int32_t *heap, int n, int i, bool lowest)
{
    int32_t id = heap[i];
    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && ranks_below(x, heap[child + 1], heap[child]) == lowest) {
            child++;
        }
        if (ranks_below(x, heap[child], id) != lowest) {
            break;
        }
        heap[i] = heap[child];
    }
    heap[i] = id;
}

static void heapify(const float *x, int32_t *heap, int n, bool lowest)
{
    for (int i = n / 2 - 1; i >= 0; i--) {
        sift_down(x, heap, n, i, lowest);
    }
}

/* ids[0..k) = the k best of x [n], best first: one pass with a heap of the k best so far. */
static void select_best(const float *x, int n, int k, int32_t *ids)
{
    for (int i = 0; i < k; i++) {
        ids[i] = i;
    }
    heapify(x, ids, k, true);
    float worst = x[ids[0]];
    for (int i = k; i < n; i++) {
        if (x[i] > worst) { /* an equal one has a higher id: it ranks below */
            ids[0] = i;
            sift_down(x, ids, k, 0, true);
            worst = x[ids[0]];
        }
    }
    for (int left = k - 1; left > 0; left--) {
        int32_t last = ids[0];
        ids[0] = ids[left];
        ids[left] = last;
        sift_down(x, ids, left, 0, true);
    }
}

/* The best id, ties to the lowest; -1 when some logit is NaN or +infinity, or none is finite. Lanes, so
 * that the compiler can use vectors: this runs over the whole vocabulary for each token. */
static int32_t best_checked(const float *x, int n)
{
    enum { LANES = 8 };
    float max[LANES];
    int32_t nan[LANES] = {0};
    for (int k = 0; k < LANES; k++) {
        max[k] = x[0];
    }
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            max[k] = x[i + k] > max[k] ? x[i + k] : max[k];
            nan[k] |= x[i + k] != x[i + k];
        }
    }
    for (; i < n; i++) {
        max[0] = x[i] > max[0] ? x[i] : max[0];
        nan[0] |= x[i] != x[i];
    }
    for (int k = 1; k < LANES; k++) {
        max[0] = max[k] > max[0] ? max[k] : max[0];
        nan[0] |= nan[k];
    }
    if (nan[0] != 0 || !isfinite(max[0])) {
        return -1;
    }
    int32_t best = 0;
    while (x[best] != max[0]) {
        best++;
    }
    return best;
}

/* ---- penalties ---- */

static bool has_penalties(const graft_sampling *o)
{
    return o->repetition_penalty != 1.0f || o->presence_penalty != 0.0f ||
           o->frequency_penalty != 0.0f;
}

static float penalised(const graft_sampling *o, float x, uint32_t count)
{
    x = x < 0 ? x * o->repetition_penalty : x / o->repetition_penalty;
    x -= o->presence_penalty;
    x -= o->frequency_penalty * (float)count;
    return fminf(fmaxf(x, -FLT_MAX), FLT_MAX);
}

static void apply_penalties(struct sampler *s, const graft_token_id *history, size_t n)
{
    size_t window = (size_t)s->options.penalty_window;
    size_t first = window != 0 && n > window ? n - window : 0;
    for (size_t i = first; i < n; i++) {
        s->counts[history[i]]++;
    }
    for (size_t i = first; i < n; i++) {
        uint32_t *count = &s->counts[history[i]];
        if (*count != 0) {
            s->x[history[i]] = penalised(&s->options, s->x[history[i]], *count);
            *count = 0;
        }
    }
}

/* ---- candidates: ids in order[0..n) with probabilities p[0..n) that need not sum to 1 ---- */

/* p[i] = softmax of (x - max) / temperature, over the first n of `order`, or over all ids. */
static void soften(struct sampler *s, const int32_t *order, int n, float max)
{
    for (int i = 0; i < n; i++) {
        float x = (s->x[order == NULL ? i : order[i]] - max) / s->options.temperature;
        s->p[i] = fmaxf(x, LOGIT_FLOOR);
    }
    s->kernels->softmax(s->p, n);
}

/* How many of the candidates, best first, top-p and min-p keep. */
static int cut(const struct sampler *s, int n)
{
    double most = s->options.top_p < 1 ? (double)s->options.top_p : DBL_MAX;
    float floor = s->options.min_p * s->p[0];
    double sum = (double)s->p[0];
    int kept = 1;
    while (kept < n && sum < most && s->p[kept] >= floor) {
        sum += (double)s->p[kept++];
    }
    return kept;
}

static int candidates_top_k(struct sampler *s)
{
    int k = s->options.top_k;
    select_best(s->x, s->n_vocab, k, s->order);
    soften(s, s->order, k, s->x[s->order[0]]);
    return cut(s, k);
}

/* The root of a heap of *n ids goes behind its end. */
static int32_t pop_best(const float *x, int32_t *heap, int *n)
{
    int32_t best = heap[0];
    heap[0] = heap[--*n];
    if (*n > 0) {
        sift_down(x, heap, *n, 0, false);
    }
    heap[*n] = best;
    return best;
}

/* top-p over the whole vocabulary. What has p < (1 - top_p) / n sums to less than 1 - top_p, so the
 * nucleus is complete without it (half of that leaves room for rounding); of the rest, only as many
 * are put in order as are kept. */
static int candidates_top_p(struct sampler *s, float max)
{
    soften(s, NULL, s->n_vocab, max);
    float least = 0.5f * (1 - s->options.top_p) / (float)s->n_vocab;
    int n = 0;
    for (int i = 0; i < s->n_vocab; i++) {
        if (s->p[i] >= least) {
            s->order[n++] = i;
        }
    }
    heapify(s->x, s->order, n, false);
    float floor = s->options.min_p * s->p[s->order[0]];
    double sum = 0;
    int left = n;
    while (left > 0 && sum < (double)s->options.top_p && s->p[s->order[0]] >= floor) {
        sum += (double)s->p[pop_best(s->x, s->order, &left)];
    }
    /* The kept ones stand at the end, worst first: bring them to the front, p (by id until now)
     * beside them. x is free from here on. */
    int kept = n - left;
    for (int i = 0; i < kept; i++) {
        s->x[i] = s->p[s->order[n - 1 - i]];
    }
    for (int i = 0, j = n - 1; i < j; i++, j--) {
        int32_t id = s->order[i];
        s->order[i] = s->order[j];
        s->order[j] = id;
    }
    memcpy(s->p, s->x, (size_t)kept * sizeof *s->p);
    return kept;
}

static int candidates_all(struct sampler *s, int32_t best, float max)
{
    soften(s, NULL, s->n_vocab, max);
    float floor = s->options.min_p * s->p[best];
    int n = 0;
    for (int i = 0; i < s->n_vocab; i++) {
        if (s->p[i] >= floor) {
            s->p[n] = s->p[i];
            s->order[n++] = i;
        }
    }
    return n;
}

static double uniform(uint64_t seed, uint64_t counter)
{
    uint32_t r[4];
    rng_block(seed, SAMPLER_STREAM, counter, r);
    uint64_t bits = ((uint64_t)r[0] << 21) ^ ((uint64_t)r[1] >> 11);
    return (double)bits * 0x1p-53;
}

static int32_t draw(const struct sampler *s, int n, uint64_t counter)
{
    double total = 0;
    for (int i = 0; i < n; i++) {
        total += (double)s->p[i];
    }
    double at = uniform(s->options.seed, counter) * total;
    double sum = 0;
    int last = 0; /* the last one with any probability, should rounding carry `at` past the sum */
    for (int i = 0; i < n; i++) {
        sum += (double)s->p[i];
        if (at < sum) {
            return s->order[i];
        }
        last = s->p[i] > 0 ? i : last;
    }
    return s->order[last];
}

static int32_t sample(struct sampler *s, int32_t best, size_t position)
{
    const graft_sampling *o = &s->options;
    float max = s->x[best];
    int n;
    if (o->top_k > 0 && o->top_k < s->n_vocab) {
        n = candidates_top_k(s);
    } else if (o->top_p < 1) {
        n = candidates_top_p(s, max);
    } else {
        n = candidates_all(s, best, max);
    }
    return draw(s, n, position);
}

/* ---- the pick ---- */

graft_status sampler_pick(struct sampler *s, const float *logits, const graft_token_id *history,
                          size_t n_history, struct pick *out, graft_error *error)
{
    size_t bytes = (size_t)s->n_vocab * sizeof *s->x;
    int32_t id = best_checked(logits, s->n_vocab);
    if (id < 0) {
        return error_set(error, GRAFT_NUMERIC, "the logits after %zu tokens are not numbers",
                         n_history);
    }
    bool penalties = has_penalties(&s->options);
    if (penalties || s->options.temperature > 0) {
        memcpy(s->x, logits, bytes);
        if (penalties) {
            apply_penalties(s, history, n_history);
            id = best_checked(s->x, s->n_vocab);
        }
        if (s->options.temperature > 0) {
            id = sample(s, id, n_history);
        }
    }
    memcpy(s->x, logits, bytes);
    double log_sum = s->kernels->softmax(s->x, s->n_vocab);
    *out = (struct pick){id, (float)((double)logits[id] - log_sum), s->x[id]};
    return GRAFT_OK;
}

void sampler_top(struct sampler *s, const float *logits, size_t n, graft_token_id *ids,
                 float *logprobs)
{
    memcpy(s->x, logits, (size_t)s->n_vocab * sizeof *s->x);
    double log_sum = s->kernels->softmax(s->x, s->n_vocab);
    select_best(logits, s->n_vocab, (int)n, ids);
    for (size_t i = 0; i < n; i++) {
        logprobs[i] = (float)((double)logits[ids[i]] - log_sum);
    }
}
