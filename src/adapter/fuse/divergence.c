/* divergence.c: the Kullback-Leibler divergence of two models on the same tokens. Both run the same chunks, so
 * that logits of a chunk are all that is held; sums are made in double, position by position.
 */
#include "adapter/fuse/fuse.h"

#include <math.h>

enum { WINDOW = 512, CHUNK = 16 };

/* One of the two models, with what it needs to run. */
struct side {
    const struct model *model;
    const struct delta_set *mix;
    struct workspace *workspace;
    struct kv_pool *pool;
    struct kv_seq *seq;
};

static graft_status side_open(struct side *s, graft_error *error)
{
    const struct kv_pool_options kv = {.k_type = KV_F32, .v_type = KV_F32, .max_blocks = INT32_MAX};
    graft_status status = workspace_open(s->model, CHUNK, &s->workspace, error);
    return status == GRAFT_OK ? kv_pool_open(s->model, &kv, &s->pool, error) : status;
}

static void side_close(struct side *s)
{
    kv_seq_close(&s->seq);
    kv_pool_close(&s->pool);
    workspace_close(&s->workspace);
}

static graft_status side_run(struct side *s, const graft_token_id *ids, int64_t pos, int n,
                             bool last_only, graft_error *error)
{
    struct row rows[CHUNK];
    for (int i = 0; i < n; i++)
        rows[i] = (struct row){.token = ids[pos + i],
                               .pos = (int32_t)(pos + i),
                               .seq = s->seq,
                               .role = ROLE_PREFILL,
                               .want_logits = !last_only || i + 1 == n,
                               .deltas = s->mix};
    return model_forward(s->model, rows, n, s->workspace, error);
}

/* log Σ exp, and where the largest is. */
static double log_sum(const float *x, int n, int *top)
{
    double rest = 0; /* all but the largest, which is exp(0) */
    *top = 0;
    for (int i = 1; i < n; i++)
        *top = x[i] > x[*top] ? i : *top;
    for (int i = 0; i < n; i++)
        rest += i == *top ? 0 : exp((double)x[i] - (double)x[*top]);
    return (double)x[*top] + log1p(rest);
}

static void compare(const float *want, const float *got, int n, struct divergence *d)
{
    int top_want, top_got;
    double lw = log_sum(want, n, &top_want), lg = log_sum(got, n, &top_got), kl = 0;
    for (int i = 0; i < n; i++) {
        double p = exp((double)want[i] - lw);
        kl += p > 0 ? p * (((double)want[i] - lw) - ((double)got[i] - lg)) : 0;
    }
    kl = kl > 0 ? kl : 0; /* rounding */
    d->mean += kl;
    d->most = kl > d->most ? kl : d->most;
    d->positions++;
    d->same_top += top_want == top_got;
}

static graft_status run_window(struct side *want, struct side *got, const graft_token_id *ids,
                               int64_t n, struct divergence *d, graft_error *error)
{
    const struct model *m = want->model;
    bool classifier = m->config.n_labels > 0;
    graft_status status = kv_seq_open(want->pool, &want->seq, error);
    if (status == GRAFT_OK)
        status = kv_seq_open(got->pool, &got->seq, error);
    for (int64_t pos = 0; pos < n && status == GRAFT_OK; pos += CHUNK) {
        int rows = n - pos < CHUNK ? (int)(n - pos) : CHUNK;
        status = side_run(want, ids, pos, rows, classifier, error);
        if (status == GRAFT_OK)
            status = side_run(got, ids, pos, rows, classifier, error);
        for (int i = classifier ? rows - 1 : 0; i < rows && status == GRAFT_OK; i++)
            compare(workspace_logits(want->workspace, i), workspace_logits(got->workspace, i),
                    model_n_logits(m), d);
    }
    kv_seq_close(&want->seq);
    kv_seq_close(&got->seq);
    return status;
}

graft_status fuse_divergence(const struct model *want, const struct delta_set *mix,
                             const struct model *got, const struct delta_set *got_mix,
                             const graft_token_id *ids, size_t n, const graft_fuse_options *options,
                             struct divergence *out, graft_error *error)
{
    struct side a = {.model = want, .mix = mix}, b = {.model = got, .mix = got_mix};
    struct divergence d = {0};
    int64_t window = want->config.n_ctx < WINDOW ? want->config.n_ctx : WINDOW;
    graft_status status = side_open(&a, error);
    if (status == GRAFT_OK)
        status = side_open(&b, error);
    for (size_t at = 0; at < n && status == GRAFT_OK; at += (size_t)window) {
        int64_t left = (int64_t)(n - at);
        status = run_window(&a, &b, ids + at, left < window ? left : window, &d, error);
        uint64_t done = (uint64_t)(left < window ? n : at + (size_t)window);
        if (status == GRAFT_OK && options->progress &&
            !options->progress(options->progress_user, done, n, "comparing"))
            status = error_set(error, GRAFT_CANCELLED, "fusing cancelled");
    }
    side_close(&a);
    side_close(&b);
    if (status != GRAFT_OK)
        return status;
    d.mean = d.positions ? d.mean / (double)d.positions : 0;
    *out = d;
    return GRAFT_OK;
}

const char FUSE_TEXT[] =
    "The ferry left the harbour a little after six, when the fog had begun to lift from the water. "
    "Anna stood at the rail with her collar up and counted the islands as they came out of the "
    "grey, "
    "one after another, the way her grandfather had taught her. He had been a pilot on this coast "
    "for "
    "forty years, and he used to say that a chart tells you where the rocks are, but only the "
    "birds "
    "tell you where they are today.\n\n"
    "\"Are you cold?\" asked the boy beside her. He was perhaps nine years old and held a paper "
    "bag of "
    "bread against his chest.\n\n"
    "\"Not very. Are those for the gulls?\"\n\n"
    "\"For my aunt. But she has three loaves, and she never eats more than two.\"\n\n"
    "How does a search engine find a page among billions? It does not read them when you ask. Long "
    "before, it has made a list for every word of all pages in which that word stands, much like "
    "the "
    "index at the back of a book. A query of two words is then the common part of two lists, "
    "sorted by "
    "how often others refer to each page. Three things follow: new pages are missing until the "
    "list is "
    "made again, common words cost more than rare ones, and the order of the results is an "
    "opinion.\n\n"
    "To find the mean of n numbers, add them up and divide by n; to find how far they spread, take "
    "the "
    "mean of the squared distances from it. For 2, 4, 4, 5 and 10 the mean is 5 and the variance "
    "is "
    "(9 + 1 + 1 + 0 + 25) / 5 = 7.2.\n\n"
    "def count_words(text):\n"
    "    counts = {}\n"
    "    for word in text.lower().split():\n"
    "        counts[word] = counts.get(word, 0) + 1\n"
    "    return sorted(counts.items(), key=lambda pair: -pair[1])\n\n"
    "Question: A train leaves at 14:20 and arrives at 17:05. How long is the journey?\n"
    "Answer: From 14:20 to 17:20 would be three hours; it arrives a quarter of an hour earlier, so "
    "it "
    "takes two hours and 45 minutes.\n\n"
    "Once there was a small owl who was afraid of the dark. Every evening, when her brothers flew "
    "out "
    "to hunt, she sat in the hollow of the tree and asked her mother to leave a star on. The "
    "mother "
    "laughed and said that nobody can leave a star on, because nobody can turn one off. So the owl "
    "looked, and waited, and it was true: behind the cloud they were all still there.\n";
