/* test_merge_laws.c: laws of merging on modules made by hand: sums against dense singular values, angles, which elements the
 * sparse methods keep, how signs are elected, and the same bytes for any number of threads.
 */
#include "unit/merge_laws.h"
#include "unit/merge_runtimes.h"

/* ---- sums --------------------------------------------------------------------------------- */

enum kind {
    RANDOM,
    NEARLY_EQUAL, /* singular values */
    DEFICIENT,    /* rows that are multiples of others, and zeros */
    BADLY_SCALED,
    DUPLICATED, /* adapters */
    GEOMETRIC,  /* singular values */
    CANCELLING, /* all but a part in 5000 */
    KINDS
};

static float *a_of(struct bench_site *b, size_t i)
{
    return b->changes.a + b->changes.begins[i] * b->site.n_in;
}

static float *bt_of(struct bench_site *b, size_t i)
{
    return b->changes.bt + b->changes.begins[i] * b->site.n_out;
}

static void fill(struct rng *rng, float *x, int64_t n, double size)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)any_number(rng, -size, size);
}

/* Of length 1 each; orthogonal as far as there is room. */
static void make_orthogonal(float *x, int64_t k, int64_t n)
{
    for (int64_t r = 0; r < k; r++) {
        for (int64_t s = 0; s < r && r < n; s++) {
            double along = 0;
            for (int64_t i = 0; i < n; i++)
                along += (double)x[r * n + i] * (double)x[s * n + i];
            for (int64_t i = 0; i < n; i++)
                x[r * n + i] -= (float)(along * (double)x[s * n + i]);
        }
        double length = 0;
        for (int64_t i = 0; i < n; i++)
            length += (double)x[r * n + i] * (double)x[r * n + i];
        for (int64_t i = 0; i < n; i++)
            x[r * n + i] /= (float)sqrt(length);
    }
}

static void bend(struct bench_site *b, enum kind kind, struct rng *rng)
{
    const int64_t n_in = b->site.n_in, n_out = b->site.n_out, rank = b->site.rank;
    float *a = b->changes.a, *bt = b->changes.bt;
    if (kind == NEARLY_EQUAL || kind == GEOMETRIC) {
        make_orthogonal(a, rank, n_in);
        make_orthogonal(bt, rank, n_out);
    }
    for (int64_t r = 0; r < rank; r++) {
        const double size = kind == GEOMETRIC      ? pow(0.3, (double)r)
                            : kind == NEARLY_EQUAL ? 1 + 1e-6 * rng_uniform(rng)
                            : kind == BADLY_SCALED ? (r % 2 ? 1e6 : 1e-6)
                                                   : 1;
        for (int64_t i = 0; i < n_in && kind == BADLY_SCALED; i++)
            a[r * n_in + i] /= (float)size;
        for (int64_t o = 0; o < n_out; o++)
            bt[r * n_out + o] *= (float)size;
        const int64_t from = any_count(rng, 0, rank - 1);
        if (kind == DEFICIENT && r % 3 == 1)
            memcpy(a + r * n_in, a + from * n_in, (size_t)n_in * sizeof *a);
        if (kind == DEFICIENT && r % 3 == 2)
            memset(bt + r * n_out, 0, (size_t)n_out * sizeof *bt);
    }
    for (size_t i = 1; i < b->inputs.n && (kind == DUPLICATED || kind == CANCELLING); i++) {
        memcpy(a_of(b, i), a, (size_t)(b->changes.begins[1] * n_in) * sizeof *a);
        memcpy(bt_of(b, i), bt, (size_t)(b->changes.begins[1] * n_out) * sizeof *bt);
        for (int64_t k = 0; k < b->changes.begins[1] * n_in && kind == CANCELLING; k++)
            a_of(b, i)[k] += (float)any_number(rng, -2e-4, 2e-4);
    }
}

/* Inputs of any number, ranks and scales. */
static void open_any(struct bench_site *b, const struct model *model, enum kind kind,
                     struct rng *rng)
{
    int64_t ranks[4];
    const bool alike = kind == DUPLICATED || kind == CANCELLING;
    const size_t n = kind == CANCELLING ? 2 : (size_t)any_count(rng, 1, 4);
    for (size_t i = 0; i < n; i++)
        ranks[i] = alike && i ? ranks[0] : any_count(rng, 1, 8);
    bench_site_open(b, model, any_count(rng, 3, 60), any_count(rng, 3, 60), ranks, n);
    fill(rng, b->changes.a, b->site.rank * b->site.n_in, 1);
    fill(rng, b->changes.bt, b->site.rank * b->site.n_out, 1);
    bend(b, kind, rng);
    for (size_t i = 0; i < n; i++) {
        b->changes.scales[i] = kind == CANCELLING ? 1.5 : any_number(rng, 0.1, 4);
        b->site.factors[i] = kind == CANCELLING ? 1 - 2 * (double)i : any_number(rng, -1, 1);
    }
}

/* Σ factors ΔW; *sizes: Σ ‖factors ΔW‖. */
static double *sum_of(const struct bench_site *b, double *sizes)
{
    const int64_t count = b->site.n_in * b->site.n_out;
    double *sum = calloc((size_t)count, sizeof *sum);
    *sizes = 0;
    for (size_t i = 0; i < b->inputs.n; i++) {
        double *one = change_of(b, i);
        for (int64_t k = 0; k < count; k++)
            sum[k] += b->site.factors[i] * one[k];
        *sizes += fabs(b->site.factors[i]) * norm_of(one, count);
        free(one);
    }
    return sum;
}

static void check_recompression(struct bench_site *b, int64_t rank, int kind)
{
    graft_error error = {0};
    const int64_t count = b->site.n_in * b->site.n_out;
    double sizes, *want = sum_of(b, &sizes);
    bench_site_want(b, rank);
    must(merge_sum(&b->changes, &b->result, &error), &error);
    double *got = result_of(b);
    const double off = distance(got, want, count), all = norm_of(want, count);
    const double best = best_distance(want, b->site.n_out, b->site.n_in, rank);
    /* What floats of the result cannot say, and of the factors where they cancel. */
    if (!(off <= (1 + 1e-5) * best + 3e-7 * all + 3e-8 * sizes))
        fail_msg("kind %d, rank %lld of %lld: ‖ΔW − result‖ is %.9g of %.9g, at best %.9g", kind,
                 (long long)rank, (long long)b->site.rank, off, all, best);
    if (rank < b->site.rank) {
        assert_true(fabs(b->result.all - all * all) <= 1e-9 * sizes * sizes);
        assert_true(fabs(b->result.all - b->result.kept - best * best) <= 1e-9 * sizes * sizes);
    }
    free(got);
    free(want);
}

static void recompression_is_the_best_of_its_rank(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 1, 0);
    for (int round = 0; round < 30 * KINDS; round++) {
        struct bench_site b;
        open_any(&b, &models[round % RUNTIMES], (enum kind)(round % KINDS), &rng);
        const int64_t least = b.site.n_in < b.site.n_out ? b.site.n_in : b.site.n_out;
        check_recompression(&b, any_count(&rng, 1, b.site.rank < least ? b.site.rank : least),
                            round % KINDS);
        check_recompression(&b, b.site.rank, round % KINDS);
        bench_site_close(&b);
    }
}

static void spectra_are_those_of_the_dense_change(void **state)
{
    (void)state;
    struct rng rng;
    graft_error error = {0};
    rng_init(&rng, 2, 0);
    for (int round = 0; round < 4 * KINDS; round++) {
        struct bench_site b;
        double squares[64] = {0}, values[64] = {0}, sizes;
        int64_t n = 0;
        open_any(&b, &models[1], (enum kind)(round % KINDS), &rng);
        const int64_t least = b.site.n_in < b.site.n_out ? b.site.n_in : b.site.n_out;
        double *sum = sum_of(&b, &sizes);
        singular_values(sum, b.site.n_out, b.site.n_in, values);
        must(merge_spectrum(&b.changes, squares, &n, &error), &error);
        for (int64_t i = 0; i < least; i++)
            assert_true(fabs((i < n ? squares[i] : 0) - values[i] * values[i]) <=
                        1e-9 * sizes * sizes);
        free(sum);
        bench_site_close(&b);
    }
}

/* A − A is nothing, of which nothing is discarded. */
static void an_adapter_without_itself_is_nothing(void **state)
{
    (void)state;
    struct rng rng;
    graft_error error = {0};
    rng_init(&rng, 3, 0);
    for (int round = 0; round < 10; round++) {
        struct bench_site b;
        open_any(&b, &models[0], DUPLICATED, &rng);
        const int64_t count = b.site.n_in * b.site.n_out;
        double sizes, sum = 0;
        for (size_t i = 0; i < b.inputs.n; i++) {
            b.changes.scales[i] = 1;
            sum += b.site.factors[i] = i + 1 < b.inputs.n ? 0.5 : -sum;
        }
        free(sum_of(&b, &sizes));
        bench_site_want(&b, 1);
        if (b.site.rank > 1) {
            must(merge_sum(&b.changes, &b.result, &error), &error);
            double *got = result_of(&b);
            assert_true(norm_of(got, count) <= 1e-9 * sizes);
            assert_true(b.result.all == 0 && b.result.kept == 0);
            free(got);
        }
        bench_site_close(&b);
    }
}

/* ---- directions --------------------------------------------------------------------------- */

/* Rows of a are of length 1 and orthogonal to each other, or zero. */
static void check_basis(const float *a, int64_t rank, int64_t n_in)
{
    for (int64_t r = 0; r < rank; r++)
        for (int64_t s = 0; s <= r; s++) {
            double along = 0;
            for (int64_t i = 0; i < n_in; i++)
                along += (double)a[r * n_in + i] * (double)a[s * n_in + i];
            if (!(fabs(along - (r == s)) <= 1e-5) && along != 0)
                fail_msg("rows %lld and %lld: %g", (long long)r, (long long)s, along);
        }
}

/* However steep a spectrum is, and whatever is left of it within the rounding of floats. */
static void directions_of_steep_spectra_are_the_best(void **state)
{
    (void)state;
    static const double STEPS[] = {1, 0.9, 0.5, 0.1, 1e-2, 1e-3, 1e-5, 0};
    enum { N_OUT = 70, N_IN = 90, COUNT = N_OUT * N_IN };
    struct rng rng;
    graft_error error = {0};
    rng_init(&rng, 12, 0);
    for (int round = 0; round < 32; round++) {
        float u[N_OUT * N_OUT], v[N_OUT * N_IN], l[COUNT], a[20 * N_IN], b[20 * N_OUT];
        double dense[COUNT] = {0}, got[COUNT] = {0}, all, kept;
        const int64_t rank = round / 8 % 2 ? 20 : 5, terms = round / 16 ? 12 : N_OUT;
        fill(&rng, u, N_OUT * N_OUT, 1);
        fill(&rng, v, N_OUT * N_IN, 1);
        make_orthogonal(u, N_OUT, N_OUT);
        make_orthogonal(v, N_OUT, N_IN);
        for (int64_t r = 0; r < terms; r++)
            for (int64_t k = 0; k < COUNT; k++)
                dense[k] += pow(STEPS[round % 8], (double)r) * (double)u[r * N_OUT + k / N_IN] *
                            (double)v[r * N_IN + k % N_IN];
        for (int64_t k = 0; k < COUNT; k++) {
            l[k] = (float)dense[k];
            dense[k] = (double)l[k];
        }
        const struct leading_source source = {.n_out = N_OUT, .n_in = N_IN, .at_hand = l};
        must(leading_directions(&runtimes[1], &source, rank, a, b, &all, &kept, &error), &error);
        check_basis(a, rank, N_IN);
        add_dense(got, 1, a, b, N_OUT, N_IN, rank, rank, 1);
        const double off = distance(got, dense, COUNT), size = norm_of(dense, COUNT);
        const double best = best_distance(dense, N_OUT, N_IN, rank);
        if (!(off <= 1.001 * best + 1e-6 * size))
            fail_msg("steps of %g, rank %lld: %.9g, at best %.9g", STEPS[round % 8],
                     (long long)rank, off, best);
        assert_true(fabs(all - kept - off * off) <= 1e-6 * size * size);
    }
}

static void directions_of_nothing_are_nothing(void **state)
{
    (void)state;
    float l[12 * 9] = {0}, a[4 * 9], b[4 * 12];
    double all, kept;
    graft_error error = {0};
    const struct leading_source source = {.n_out = 12, .n_in = 9, .at_hand = l};
    must(leading_directions(&runtimes[2], &source, 4, a, b, &all, &kept, &error), &error);
    assert_true(all == 0 && kept == 0);
    for (int i = 0; i < 4 * 12; i++)
        assert_true(b[i] == 0 && a[i % 36] == 0);
}

/* ---- angles ------------------------------------------------------------------------------- */

static double inner_product(const double *x, const double *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

static void slerp_is_the_great_circle_between_dense_changes(void **state)
{
    (void)state;
    struct rng rng;
    graft_error error = {0};
    rng_init(&rng, 4, 0);
    for (int round = 0; round < 20; round++) {
        struct bench_site b;
        const int64_t ranks[2] = {any_count(&rng, 1, 6), any_count(&rng, 1, 6)};
        const double t = round < 2 ? round : rng_uniform(&rng);
        double inner[4], off = 0, size = 0;
        bench_site_open(&b, &models[1], any_count(&rng, 3, 40), any_count(&rng, 3, 40), ranks, 2);
        fill(&rng, b.changes.a, b.site.rank * b.site.n_in, 1);
        fill(&rng, b.changes.bt, b.site.rank * b.site.n_out, 1);
        b.changes.scales[1] = 3;
        double *x = change_of(&b, 0), *y = change_of(&b, 1);
        const int64_t count = b.site.n_in * b.site.n_out;
        must(changes_inner(&b.changes, inner, &error), &error);
        const double xx = inner_product(x, x, count), yy = inner_product(y, y, count);
        const double xy = inner_product(x, y, count), angle = acos(xy / sqrt(xx * yy));
        assert_true(fabs(inner[0] - xx) <= 1e-10 * xx && fabs(inner[3] - yy) <= 1e-10 * yy);
        assert_true(fabs(inner[1] - xy) <= 1e-10 * sqrt(xx * yy) &&
                    fabs(inner[2] - xy) <= 1e-10 * sqrt(xx * yy));
        merge_slerp_factors(inner, t, b.site.factors);
        bench_site_want(&b, b.site.rank);
        must(merge_sum(&b.changes, &b.result, &error), &error);
        double *got = result_of(&b);
        for (int64_t k = 0; k < count; k++) {
            const double want =
                sin((1 - t) * angle) / sin(angle) * x[k] + sin(t * angle) / sin(angle) * y[k];
            off += (got[k] - want) * (got[k] - want);
            size += want * want;
        }
        assert_true(sqrt(off) <= 1e-6 * sqrt(size));
        if (t == 0 || t == 1)
            assert_true(distance(got, t == 0 ? x : y, count) <= 1e-6 * sqrt(size));
        free(x);
        free(y);
        free(got);
        bench_site_close(&b);
    }
}

static void slerp_is_a_line_where_there_is_no_angle(void **state)
{
    (void)state;
    static const double CASES[][4] = {
        {1, 2, 2, 4},   /* parallel */
        {1, -2, -2, 4}, /* against each other */
        {0, 0, 0, 3},   /* one is nothing */
        {2, 0, 0, 0},   {1, 0.9996, 0.9996, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        double out[2];
        merge_slerp_factors(CASES[i], 0.25, out);
        assert_true(out[0] == 0.75 && out[1] == 0.25);
    }
    double out[2];
    merge_slerp_factors((double[4]){1, 0, 0, 1}, 0.5, out);
    assert_true(fabs(out[0] - sqrt(0.5)) < 1e-15 && fabs(out[1] - sqrt(0.5)) < 1e-15);
}

static void model_stock_follows_the_mean_angle(void **state)
{
    (void)state;
    double inner[16];
    for (size_t n = 1; n <= 4; n++)
        for (int tenth = -5; tenth <= 10; tenth++) {
            const double cosine = tenth / 10.0, bound = fmax(cosine, 0);
            for (size_t i = 0; i < n; i++)
                for (size_t j = 0; j < n; j++) /* of lengths 1, 2, … */
                    inner[i * n + j] = (i == j ? 1 : cosine) * (double)((i + 1) * (j + 1));
            const double t = n > 1 ? (double)n * bound / (1 + (double)(n - 1) * bound) : 1;
            assert_true(fabs(merge_stock_factor(inner, n) - t / (double)n) < 1e-12);
        }
    memset(inner, 0, sizeof inner);
    assert_true(merge_stock_factor(inner, 3) == 1.0 / 3); /* no angles at all: the mean */
}

/* ---- which elements ----------------------------------------------------------------------- */

/* One input with elements of any size within [0.5, 1.5], so that a dropped one cannot be mistaken. */
static float *open_elements(struct bench_site *b, const struct model *model, int64_t n_out,
                            int64_t n_in, bool equal, struct rng *rng)
{
    float *x = malloc((size_t)(n_out * n_in) * sizeof *x);
    for (int64_t i = 0; i < n_out * n_in; i++)
        x[i] = (float)copysign(equal ? 1 : any_number(rng, 0.5, 1.5), rng_uniform(rng) - 0.5);
    bench_site_open(b, model, n_out, n_in, &n_in, 1);
    bench_site_set(b, 0, x);
    bench_site_want(b, n_out < n_in ? n_out : n_in);
    return x;
}

struct place {
    double size;
    int64_t at;
};

/* Largest first; of equals the first. */
static int by_size(const void *left, const void *right)
{
    const struct place *a = left, *b = right;
    return a->size != b->size ? (a->size < b->size ? 1 : -1) : (a->at > b->at) - (a->at < b->at);
}

static struct place *places_of(const float *x, int64_t n)
{
    struct place *p = malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++)
        p[i] = (struct place){fabs((double)x[i]), i};
    qsort(p, (size_t)n, sizeof *p, by_size);
    return p;
}

static void run_one(struct bench_site *b, enum merge_method method, struct merge_input input)
{
    graft_error error = {0};
    input.weight = 1;
    input.name = "a";
    const struct merge_plan plan = {.method = method, .inputs = &input, .n = 1, .lambda = 1};
    must(merge_check(&plan, &error), &error);
    must(merge_dense(&plan, &b->changes, &b->result, &error), &error);
}

/* Elements top .. top + keep of the order by size are there, and no others. */
static void check_kept(const struct bench_site *b, const float *x, int64_t top, int64_t keep)
{
    const int64_t n = b->site.n_in * b->site.n_out;
    struct place *p = places_of(x, n);
    double *got = result_of(b);
    for (int64_t i = 0; i < n; i++) {
        const double want = i >= top && i < top + keep ? (double)x[p[i].at] : 0;
        if (!(fabs(got[p[i].at] - want) < 1e-4))
            fail_msg("element %lld, the %lldth of %lld, %lld kept from %lld: %g, not %g",
                     (long long)p[i].at, (long long)i, (long long)n, (long long)keep,
                     (long long)top, got[p[i].at], want);
    }
    free(got);
    free(p);
}

static void densities_keep_exactly_their_share(void **state)
{
    (void)state;
    static const double DENSITIES[] = {0.001, 0.1, 0.29, 0.5, 0.7, 0.999, 1};
    static const enum merge_method METHODS[] = {MERGE_TIES, MERGE_MAGNITUDE_PRUNE,
                                                MERGE_BREADCRUMBS, MERGE_BREADCRUMBS_TIES};
    struct rng rng;
    rng_init(&rng, 5, 0);
    for (int round = 0; round < 56; round++) {
        struct bench_site b;
        const enum merge_method method = METHODS[round % 4];
        const bool crumbs = method == MERGE_BREADCRUMBS || method == MERGE_BREADCRUMBS_TIES;
        const struct merge_input input = {.density = DENSITIES[round % ARRAY_LEN(DENSITIES)],
                                          .gamma = round % 3 * 0.15};
        float *x = open_elements(&b, &models[round % RUNTIMES], any_count(&rng, 1, 70),
                                 any_count(&rng, 1, 40), round % 5 == 0, &rng);
        const int64_t n = b.site.n_in * b.site.n_out;
        const int64_t keep = (int64_t)(input.density * (double)n);
        int64_t top = crumbs ? (int64_t)(input.gamma * (double)n) : 0;
        top = top + keep > n ? n - keep : top;
        run_one(&b, method, input);
        check_kept(&b, x, top, keep);
        free(x);
        bench_site_close(&b);
    }
}

static void dare_is_unbiased_and_of_its_density(void **state)
{
    (void)state;
    enum { SEEDS = 4000, N = 60 };
    static const double DENSITIES[] = {0.1, 0.5, 0.9, 1};
    for (size_t d = 0; d < ARRAY_LEN(DENSITIES); d++) {
        const double density = DENSITIES[d];
        double mean[N] = {0}, kept = 0;
        for (int seed = 0; seed < SEEDS; seed++) {
            const struct sparsifier s = {
                .kind = SPARSE_RANDOM, .density = density, .key = (uint64_t)seed, .stream = 9};
            float x[N];
            for (int i = 0; i < N; i++)
                x[i] = (float)(i + 1);
            sparsify(&s, 3, 4, N / 4, x, NULL);
            for (int i = 0; i < N; i++) {
                const double want = (i + 1) / density;
                assert_true(x[i] == 0 || fabs((double)x[i] - want) <= 1e-6 * want);
                mean[i] += (double)x[i] / SEEDS;
                kept += x[i] != 0;
            }
        }
        /* Five standard deviations. */
        const double each = 5 * sqrt((1 - density) / density / SEEDS);
        for (int i = 0; i < N; i++)
            assert_true(fabs(mean[i] / (i + 1) - 1) <= each + 1e-6);
        assert_true(fabs(kept / (SEEDS * N) - density) <=
                    5 * sqrt(density * (1 - density) / (SEEDS * N)));
    }
}

static void chance_belongs_to_elements_not_to_blocks(void **state)
{
    (void)state;
    enum { ROWS = 7, N = 37 };
    struct sparsifier s = {.density = 0.4, .epsilon = 0.2, .key = 5, .stream = 6};
    float all[ROWS * N], one[ROWS * N];
    uint64_t order[2 * N];
    for (int kind = SPARSE_RANDOM; kind <= SPARSE_RANKED; kind++) {
        for (int i = 0; i < ROWS * N; i++)
            all[i] = one[i] = (float)((i * 29) % 101 + 1);
        s.kind = kind;
        sparsify(&s, 0, ROWS, N, all, order);
        for (int row = 0; row < ROWS; row++)
            sparsify(&s, row, 1, N, one + row * N, order);
        assert_memory_equal(all, one, sizeof all);
    }
}

static void della_keeps_by_rank_within_a_row(void **state)
{
    (void)state;
    enum { SEEDS = 6000, N = 9 };
    static const float VALUES[N] = {-3, 0.5f, 8, -1, 2, 2, -20, 0.25f, 4};
    static const int RANKS[N] = {5, 1, 7, 2, 3, 4, 8, 0, 6}; /* of equals the first is below */
    double kept[2][N] = {{0}}, mean[2][N] = {{0}};
    for (int seed = 0; seed < SEEDS; seed++) {
        const struct sparsifier s = {.kind = SPARSE_RANKED,
                                     .density = 0.5,
                                     .epsilon = 0.3,
                                     .key = (uint64_t)seed,
                                     .stream = 1};
        uint64_t order[2 * N];
        float x[2 * N];
        memcpy(x, VALUES, sizeof VALUES);
        memcpy(x + N, VALUES, sizeof VALUES);
        sparsify(&s, 0, 2, N, x, order);
        for (int i = 0; i < 2 * N; i++) {
            kept[i / N][i % N] += x[i] != 0;
            mean[i / N][i % N] += (double)x[i];
        }
    }
    for (int i = 0; i < 2 * N; i++) {
        const int at = i % N;
        const double p = 0.2 + 0.6 * RANKS[at] / (N - 1);
        assert_true(fabs(kept[i / N][at] / SEEDS - p) <= 5 * sqrt(p * (1 - p) / SEEDS));
        assert_true(fabs(mean[i / N][at] / SEEDS / (double)VALUES[at] - 1) <=
                    5 * sqrt((1 - p) / p / SEEDS));
    }
}

static void della_and_dare_that_drop_nothing_give_back(void **state)
{
    (void)state;
    static const enum merge_method METHODS[] = {MERGE_DELLA, MERGE_DELLA_LINEAR, MERGE_DARE_LINEAR,
                                                MERGE_DARE_TIES};
    struct rng rng;
    rng_init(&rng, 6, 0);
    for (size_t i = 0; i < ARRAY_LEN(METHODS); i++) {
        struct bench_site b;
        float *x = open_elements(&b, &models[i % RUNTIMES], 30, 17, false, &rng);
        run_one(&b, METHODS[i], (struct merge_input){.density = 1});
        check_kept(&b, x, 0, 30 * 17);
        free(x);
        bench_site_close(&b);
    }
}

/* ---- together ----------------------------------------------------------------------------- */

/* Signs and sums of one element, as the definitions have them. */
static double elected(const struct combination *c, float *const *x, int64_t at)
{
    double vote = 0, total = 0, parts = 0;
    for (size_t i = 0; i < c->n; i++) {
        const double ballot = (c->by_weight ? c->weights[i] : 1) * (double)x[i][at];
        vote += c->by_frequency ? (ballot > 0) - (ballot < 0) : ballot;
    }
    for (size_t i = 0; i < c->n; i++) {
        const double ballot = (c->by_weight ? c->weights[i] : 1) * (double)x[i][at];
        if (vote >= 0 ? ballot > 0 : ballot < 0) {
            total += c->weights[i] * (double)x[i][at];
            parts += c->by_weight ? c->weights[i] : 1;
        }
    }
    return c->lambda * total / (parts == 0 ? 1 : parts);
}

static void elections_are_those_of_the_definition(void **state)
{
    (void)state;
    enum { N = 300 };
    struct rng rng;
    rng_init(&rng, 7, 0);
    for (int round = 0; round < 64; round++) {
        float values[5][N], scaled[N], out[N], *x[5];
        double weights[5], twice[5];
        struct combination c = {.elect = round % 8 != 7,
                                .by_frequency = round & 1,
                                .by_weight = round & 2,
                                .weights = weights,
                                .n = (size_t)any_count(&rng, 1, 5),
                                .lambda = any_number(&rng, 0.2, 2)};
        for (size_t i = 0; i < c.n; i++) {
            x[i] = values[i];
            weights[i] = any_number(&rng, round & 4 ? -1 : 0.1, 1);
            twice[i] = 2 * weights[i];
            for (int j = 0; j < N; j++) /* with zeros, and sums that are zero */
                values[i][j] = (float)any_count(&rng, -3, 3) / 10;
        }
        combine(&c, x, N, out);
        for (int j = 0; j < N; j++) {
            double want = 0;
            for (size_t i = 0; i < c.n; i++)
                want += c.lambda * weights[i] * (double)x[i][j];
            want = c.elect ? elected(&c, x, j) : want;
            if (!(fabs((double)out[j] - want) <= 1e-6 * (1 + fabs(want))))
                fail_msg("round %d, element %d: %g, not %g", round, j, (double)out[j], want);
        }
        c.weights = twice; /* sums are linear; a division by weights takes it away again */
        combine(&c, x, N, scaled);
        for (int j = 0; j < N; j++) {
            const double want = (c.elect && c.by_weight ? 1 : 2) * (double)out[j];
            assert_true(fabs((double)scaled[j] - want) <= 1e-6 * (1 + fabs(want)));
        }
    }
}

/* Votes that cancel do so in any order. */
static void the_order_of_inputs_elects_nobody(void **state)
{
    (void)state;
    static const float VALUES[3] = {0.1f, 0.7f, -0.8f};
    static const int ORDERS[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    const double weights[3] = {1, 1, 1};
    const struct combination c = {.elect = true, .weights = weights, .n = 3, .lambda = 1};
    for (int scale = 1; scale < 400; scale++) {
        float first = 0;
        for (int i = 0; i < 6; i++) {
            float values[3], out, *x[3];
            for (int j = 0; j < 3; j++) {
                values[j] = VALUES[ORDERS[i][j]] * (float)scale;
                x[j] = &values[j];
            }
            combine(&c, x, 1, &out);
            first = i ? first : out;
            assert_true(fabsf(out - first) <= 1e-6f * fabsf(first));
        }
    }
}

static void weights_that_cancel_divide_nothing(void **state)
{
    (void)state;
    static const float VALUES[3] = {1, 2, -3};
    static const double WEIGHTS[2][3] = {{0.1, 0.2, -0.3}, {1, 0.7, -1.7}};
    for (int w = 0; w < 2; w++)
        for (int turn = 0; turn < 3; turn++) {
            float values[3], out, *x[3];
            double weights[3], want = 0;
            for (int j = 0; j < 3; j++) {
                values[j] = VALUES[(j + turn) % 3];
                weights[j] = WEIGHTS[w][(j + turn) % 3];
                x[j] = &values[j];
                want += weights[j] * (double)values[j];
            }
            const struct combination c = {
                .elect = true, .by_weight = true, .weights = weights, .n = 3, .lambda = 1};
            combine(&c, x, 1, &out);
            assert_true(fabs((double)out - want) < 1e-6);
        }
}

/* ---- threads ------------------------------------------------------------------------------ */

static void run_plan(struct bench_site *b, const struct merge_plan *plan)
{
    graft_error error = {0};
    double inner[4];
    must(merge_check(plan, &error), &error);
    if (plan->method == MERGE_SLERP) {
        must(changes_inner(&b->changes, inner, &error), &error);
        merge_slerp_factors(inner, plan->t, b->site.factors);
    }
    must(merge_is_dense(plan->method) ? merge_dense(plan, &b->changes, &b->result, &error)
                                      : merge_sum(&b->changes, &b->result, &error),
         &error);
}

/* Two inputs of rank 3, of n_out x n_in, merged on `runtimes` of them: bits of the factors are the same. */
static void check_threads(const struct merge_plan *plan, int64_t n_out, int64_t n_in,
                          int n_runtimes)
{
    float *a = NULL, *b = NULL;
    const int64_t ranks[2] = {3, 3}, rank = 2;
    for (int i = 0; i < n_runtimes; i++) {
        struct bench_site site;
        struct rng rng;
        rng_init(&rng, 8, 0);
        bench_site_open(&site, &models[i], n_out, n_in, ranks, 2);
        fill(&rng, site.changes.a, 6 * n_in, 1);
        fill(&rng, site.changes.bt, 6 * n_out, 1);
        site.site.factors[0] = 0.7;
        bench_site_want(&site, rank);
        run_plan(&site, plan);
        if (i) {
            assert_memory_equal(a, site.result.a, (size_t)(rank * n_in) * sizeof *a);
            assert_memory_equal(b, site.result.b, (size_t)(rank * n_out) * sizeof *b);
        } else {
            a = malloc((size_t)(rank * n_in) * sizeof *a);
            b = malloc((size_t)(rank * n_out) * sizeof *b);
            memcpy(a, site.result.a, (size_t)(rank * n_in) * sizeof *a);
            memcpy(b, site.result.b, (size_t)(rank * n_out) * sizeof *b);
        }
        bench_site_close(&site);
    }
    free(a);
    free(b);
}

static void any_number_of_threads_makes_the_same_bits(void **state)
{
    (void)state;
    const struct merge_input inputs[2] = {
        {.name = "a", .weight = 0.7, .density = 0.6, .epsilon = 0.2, .gamma = 0.1},
        {.name = "b", .weight = 1, .density = 0.5, .epsilon = 0.1, .gamma = 0.05}};
    for (int method = 0; method < MERGE_METHOD_COUNT; method++) {
        const struct merge_plan plan = {
            .method = (enum merge_method)method, .inputs = inputs, .n = 2, .lambda = 1, .t = 0.3};
        check_threads(&plan, 201, 130, RUNTIMES);
    }
}

/* Rows come in slabs: one and a bit of them. */
static void modules_beyond_one_slab_too(void **state)
{
    (void)state;
    enum { N_IN = 4096, N_OUT = LEADING_BYTES / (N_IN * 4) + 5 };
    const struct merge_input inputs[2] = {{.name = "a", .weight = 0.7, .density = 0.6},
                                          {.name = "b", .weight = 1, .density = 0.5}};
    const struct merge_plan plan = {.method = MERGE_TIES, .inputs = inputs, .n = 2, .lambda = 1};
    check_threads(&plan, N_OUT, N_IN, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recompression_is_the_best_of_its_rank),
        cmocka_unit_test(spectra_are_those_of_the_dense_change),
        cmocka_unit_test(an_adapter_without_itself_is_nothing),
        cmocka_unit_test(directions_of_steep_spectra_are_the_best),
        cmocka_unit_test(directions_of_nothing_are_nothing),
        cmocka_unit_test(slerp_is_the_great_circle_between_dense_changes),
        cmocka_unit_test(slerp_is_a_line_where_there_is_no_angle),
        cmocka_unit_test(model_stock_follows_the_mean_angle),
        cmocka_unit_test(densities_keep_exactly_their_share),
        cmocka_unit_test(dare_is_unbiased_and_of_its_density),
        cmocka_unit_test(chance_belongs_to_elements_not_to_blocks),
        cmocka_unit_test(della_keeps_by_rank_within_a_row),
        cmocka_unit_test(della_and_dare_that_drop_nothing_give_back),
        cmocka_unit_test(elections_are_those_of_the_definition),
        cmocka_unit_test(the_order_of_inputs_elects_nobody),
        cmocka_unit_test(weights_that_cancel_divide_nothing),
        cmocka_unit_test(any_number_of_threads_makes_the_same_bits),
        cmocka_unit_test(modules_beyond_one_slab_too),
    };
    return cmocka_run_group_tests(tests, open_runtimes, close_runtimes);
}
