/* sampler.c: one token from a row of logits.
 *
 * Owns the scratch a pick needs and nothing that outlives the pick: the penalties look at the history
 * they are given, and random numbers are functions of seed, position and token. The vocabulary is never
 * sorted as a whole: top-k keeps a heap of k, top-p first drops what cannot belong to the nucleus.
 * exp comes from the kernels and log is here, so that results do not differ by libm.
 *
 * The draw is a race: each candidate runs for a time -log(u) / p and the first one wins, which it does with
 * probability p (an exponential race; the same as adding Gumbel noise to the logits). u belongs to the token and the position,
 * not to its place in a list, so that another distribution over the same tokens drawn with the same noise gives the same
 * token as often as the two agree. That is what lets a draft model guess what will be sampled.
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
                          struct sampler **out, graft_error *error)
{
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

static void apply_penalties(struct sampler *s, const graft_sampling *o,
                            const graft_token_id *history, size_t n)
{
    size_t window = (size_t)o->penalty_window;
    size_t first = window != 0 && n > window ? n - window : 0;
    for (size_t i = first; i < n; i++) {
        s->counts[history[i]]++;
    }
    for (size_t i = first; i < n; i++) {
        uint32_t *count = &s->counts[history[i]];
        if (*count != 0) {
            s->x[history[i]] = penalised(o, s->x[history[i]], *count);
            *count = 0;
        }
    }
}

/* ---- candidates: ids in order[0..n) with probabilities p[0..n) that need not sum to 1 ---- */

/* p[i] = softmax of (x - max) / temperature, over the first n of `order`, or over all ids. */
static void soften(struct sampler *s, float temperature, const int32_t *order, int n, float max)
{
    for (int i = 0; i < n; i++) {
        float x = (s->x[order == NULL ? i : order[i]] - max) / temperature;
        s->p[i] = fmaxf(x, LOGIT_FLOOR);
    }
    s->kernels->softmax(s->p, n);
}

/* How many of the candidates, best first, top-p and min-p keep. */
static int cut(const struct sampler *s, const graft_sampling *o, int n)
{
    double most = o->top_p < 1 ? (double)o->top_p : DBL_MAX;
    float floor = o->min_p * s->p[0];
    double sum = (double)s->p[0];
    int kept = 1;
    while (kept < n && sum < most && s->p[kept] >= floor) {
        sum += (double)s->p[kept++];
    }
    return kept;
}

static int candidates_top_k(struct sampler *s, const graft_sampling *o)
{
    int k = o->top_k;
    select_best(s->x, s->n_vocab, k, s->order);
    soften(s, o->temperature, s->order, k, s->x[s->order[0]]);
    return cut(s, o, k);
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
static int candidates_top_p(struct sampler *s, const graft_sampling *o, float max)
{
    soften(s, o->temperature, NULL, s->n_vocab, max);
    float least = 0.5f * (1 - o->top_p) / (float)s->n_vocab;
    int n = 0;
    for (int i = 0; i < s->n_vocab; i++) {
        if (s->p[i] >= least) {
            s->order[n++] = i;
        }
    }
    heapify(s->x, s->order, n, false);
    float floor = o->min_p * s->p[s->order[0]];
    double sum = 0;
    int left = n;
    while (left > 0 && sum < (double)o->top_p && s->p[s->order[0]] >= floor) {
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

static int candidates_all(struct sampler *s, const graft_sampling *o, int32_t best, float max)
{
    soften(s, o->temperature, NULL, s->n_vocab, max);
    float floor = o->min_p * s->p[best];
    int n = 0;
    for (int i = 0; i < s->n_vocab; i++) {
        if (s->p[i] >= floor) {
            s->p[n] = s->p[i];
            s->order[n++] = i;
        }
    }
    return n;
}

/* ---- the race ---- */

/* -log(u) for u in (0, 1): u = m · 2^e with m around 1, log m = 2 artanh((m - 1) / (m + 1)) as a series. */
static double minus_log(double u)
{
    enum { TERMS = 12 };
    int e;
    double m = frexp(u, &e); /* exact */
    if (m < 0.70710678118654752) {
        m *= 2;
        e--;
    }
    double s = (m - 1) / (m + 1), square = s * s, sum = 0;
    for (int i = TERMS; i-- > 0;) {
        sum = sum * square + 1.0 / (2 * i + 1);
    }
    return -(2 * s * sum + e * 0.69314718055994531);
}

/* Of token `id` at a position, in (0, 1). */
static double noise(uint64_t seed, size_t position, int32_t id)
{
    uint32_t r[4];
    rng_block(seed, SAMPLER_STREAM, (uint64_t)position << 32 | (uint32_t)id >> 2, r);
    return ((double)r[id & 3] + 0.5) * 0x1p-32;
}

static int32_t draw(const struct sampler *s, int n, uint64_t seed, size_t position)
{
    int32_t winner = -1;
    double first = DBL_MAX;
    for (int i = 0; i < n; i++) {
        double p = (double)s->p[i], u = p > 0 ? noise(seed, position, s->order[i]) : 1;
        if (p <= 0 || 1 - u > first * p) {
            continue; /* no time is below (1 - u) / p, so the logarithm need not be taken */
        }
        double time = minus_log(u) / p;
        if (time < first || (time == first && s->order[i] < winner)) {
            first = time;
            winner = s->order[i];
        }
    }
    return winner;
}

static int32_t sample(struct sampler *s, const graft_sampling *o, int32_t best, size_t position)
{
    float max = s->x[best];
    int n;
    if (o->top_k > 0 && o->top_k < s->n_vocab) {
        n = candidates_top_k(s, o);
    } else if (o->top_p < 1) {
        n = candidates_top_p(s, o, max);
    } else {
        n = candidates_all(s, o, best, max);
    }
    int32_t id = draw(s, n, o->seed, position);
    return id >= 0 ? id : best;
}

/* ---- the pick ---- */

/* x = the logits of the tokens that are allowed; -infinity for the others. */
static void apply_mask(struct sampler *s, const uint32_t *mask)
{
    for (int word = 0; word * 32 < s->n_vocab; word++) {
        int end = word * 32 + 32 < s->n_vocab ? word * 32 + 32 : s->n_vocab;
        for (int i = word * 32; mask[word] != UINT32_MAX && i < end; i++) {
            s->x[i] = mask[word] >> (i & 31) & 1 ? s->x[i] : -INFINITY;
        }
    }
}

graft_status sampler_pick(struct sampler *s, const graft_sampling *o, const float *logits,
                          const uint32_t *mask, const graft_token_id *history, size_t n_history,
                          struct pick *out, graft_error *error)
{
    size_t bytes = (size_t)s->n_vocab * sizeof *s->x;
    int32_t id = best_checked(logits, s->n_vocab);
    bool penalties = has_penalties(o);
    if (id >= 0 && (penalties || o->temperature > 0 || mask != NULL)) {
        memcpy(s->x, logits, bytes);
        if (penalties) {
            apply_penalties(s, o, history, n_history);
        }
        if (mask != NULL) {
            apply_mask(s, mask);
        }
        id = penalties || mask != NULL ? best_checked(s->x, s->n_vocab) : id;
        if (id >= 0 && o->temperature > 0) {
            id = sample(s, o, id, n_history);
        }
    }
    if (id < 0) {
        return error_set(error, GRAFT_NUMERIC, "the logits after %zu tokens are not numbers",
                         n_history);
    }
    double log_sum = sampler_log_sum(s, logits);
    *out = (struct pick){id, (float)((double)logits[id] - log_sum), s->x[id], log_sum};
    return GRAFT_OK;
}

/* s->x becomes the softmax. */
double sampler_log_sum(struct sampler *s, const float *logits)
{
    memcpy(s->x, logits, (size_t)s->n_vocab * sizeof *s->x);
    return s->kernels->softmax(s->x, s->n_vocab);
}

void sampler_top(const struct sampler *s, const float *logits, double log_sum, size_t n,
                 graft_token_id *ids, float *logprobs)
{
    select_best(logits, s->n_vocab, (int)n, ids);
    for (size_t i = 0; i < n; i++) {
        logprobs[i] = (float)((double)logits[ids[i]] - log_sum);
    }
}
