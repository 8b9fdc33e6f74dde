/* test_forward.c: the contract of model_forward: which rows it takes, what a failing call leaves behind,
 * what it gives out, and that nothing is allocated on the way but KV blocks.
 */
#include "conformance/delta_support.h"
#include "model/forward_internal.h"
#include "unit/failing_allocator.h"

#include <math.h>

enum { MAX_ROWS = 80 };

struct fixture {
    char *dir;
    struct failing_allocator meter;
    struct graft_runtime rt;
    struct model *model;
    struct kv_pool *pool;
    struct workspace *ws;
    struct kv_seq *seq;
};

static void start_threads(struct fixture *f, const char *arch, int64_t max_blocks, int threads)
{
    graft_error error = {0};
    *f = (struct fixture){.dir = temp_dir()};
    struct oracle_model m;
    char path[768];
    snprintf(path, sizeof(path), "%s/model", f->dir);
    oracle_model_make(&m, oracle_config(arch), 1);
    oracle_write_hf(&m, path, GRAFT_TYPE_F32);
    oracle_model_free(&m);
    runtime_start(&f->rt, threads, NULL);
    f->rt.mem.allocator =
        (graft_allocator){failing_alloc, failing_resize, failing_release, &f->meter};
    f->model = open_model(&f->rt, path);
    const struct kv_pool_options options = {KV_F32, KV_F32, max_blocks};
    assert_int_equal(kv_pool_open(f->model, &options, &f->pool, &error), GRAFT_OK);
    assert_int_equal(workspace_open(f->model, MAX_ROWS, &f->ws, &error), GRAFT_OK);
    assert_int_equal(kv_seq_open(f->pool, &f->seq, &error), GRAFT_OK);
}

static void start(struct fixture *f, const char *arch, int64_t max_blocks)
{
    start_threads(f, arch, max_blocks, 2);
}

static void stop(struct fixture *f)
{
    kv_seq_close(&f->seq);
    workspace_close(&f->ws);
    kv_pool_close(&f->pool);
    model_close(&f->model);
    /* the pool's threads were allocated by malloc before the meter came */
    pool_close(&f->rt.pool);
    temp_remove(f->dir);
    free(f->dir);
}

static struct row make_row(struct kv_seq *seq, int token, int pos)
{
    return (struct row){
        .token = token, .pos = pos, .seq = seq, .role = ROLE_DECODE, .want_logits = true};
}

/* n rows at the end of a sequence, the last one with logits. */
static graft_status feed(struct fixture *f, struct kv_seq *seq, int n, int salt, enum role role)
{
    struct row rows[MAX_ROWS];
    for (int i = 0; i < n; i++) {
        int pos = (int)kv_seq_length(seq) + i;
        rows[i] = make_row(seq, (pos * 37 + salt) % 331, pos);
        rows[i].role = role;
        rows[i].want_logits = i == n - 1;
    }
    return model_forward(f->model, rows, n, f->ws, NULL);
}

static void refuse(struct fixture *f, const struct row *rows, int n, graft_status status,
                   const char *words)
{
    graft_error error = {0};
    int64_t length = kv_seq_length(f->seq), used = kv_pool_blocks_used(f->pool);
    graft_status found = model_forward(f->model, rows, n, f->ws, &error);
    if (found != status || !strstr(error.message, words))
        fail_msg("status %d, \"%s\"; expected %d and \"%s\"", (int)found, error.message,
                 (int)status, words);
    assert_int_equal(kv_seq_length(f->seq), length);
    assert_int_equal(kv_pool_blocks_used(f->pool), used);
    assert_null(workspace_logits(f->ws, 0));
}

static void rows_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, "llama", 8);
    struct row r = make_row(f.seq, 331, 0);
    refuse(&f, &r, 1, GRAFT_INVALID_ARGUMENT, "token 331");
    r = make_row(f.seq, -1, 0);
    refuse(&f, &r, 1, GRAFT_INVALID_ARGUMENT, "token -1");
    r = make_row(f.seq, 1, 1);
    refuse(&f, &r, 1, GRAFT_INVALID_ARGUMENT, "position 1, expected 0");
    r = make_row(NULL, 1, 0);
    refuse(&f, &r, 1, GRAFT_INVALID_ARGUMENT, "sequence");
    r = make_row(f.seq, 1, 0);
    r.role = ROLE_COUNT;
    refuse(&f, &r, 1, GRAFT_INVALID_ARGUMENT, "role");
    struct row gap[2] = {make_row(f.seq, 1, 0), make_row(f.seq, 1, 2)};
    refuse(&f, gap, 2, GRAFT_INVALID_ARGUMENT, "row 1: position 2, expected 1");
    struct row twice[2] = {make_row(f.seq, 1, 0), make_row(f.seq, 1, 0)};
    refuse(&f, twice, 2, GRAFT_INVALID_ARGUMENT, "row 1: position 0, expected 1");
    refuse(&f, gap, -1, GRAFT_INVALID_ARGUMENT, "rows");
    refuse(&f, gap, MAX_ROWS + 1, GRAFT_INVALID_ARGUMENT, "rows");
    assert_int_equal(model_forward(f.model, gap, 0, f.ws, NULL), GRAFT_OK);
    assert_int_equal(feed(&f, f.seq, 3, 0, ROLE_PREFILL), GRAFT_OK); /* and it still works */
    assert_int_equal(kv_seq_length(f.seq), 3);
    stop(&f);
}

static void a_sequence_or_workspace_of_another_model_is_refused(void **state)
{
    (void)state;
    struct fixture f, other;
    start(&f, "llama", 8);
    start(&other, "llama-bias", 8);
    struct row r = make_row(other.seq, 1, 0);
    refuse(&f, &r, 1, GRAFT_INVALID_ARGUMENT, "another model");
    r = make_row(f.seq, 1, 0);
    assert_int_equal(model_forward(f.model, &r, 1, other.ws, NULL), GRAFT_INVALID_ARGUMENT);
    stop(&other);
    stop(&f);
}

static void a_full_cache_leaves_every_sequence_as_it_was(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, "llama", 3);
    struct kv_seq *other = NULL;
    assert_int_equal(kv_seq_open(f.pool, &other, NULL), GRAFT_OK);
    assert_int_equal(feed(&f, f.seq, 64, 0, ROLE_PREFILL), GRAFT_OK);
    assert_int_equal(feed(&f, other, 64, 0, ROLE_PREFILL), GRAFT_OK);
    struct row rows[2] = {make_row(f.seq, 1, 64), make_row(other, 1, 64)};
    refuse(&f, rows, 2, GRAFT_LIMIT, "full"); /* the first got its block, the second none */
    assert_int_equal(kv_seq_length(other), 64);
    assert_int_equal(model_forward(f.model, &rows[1], 1, f.ws, NULL), GRAFT_OK);
    kv_seq_close(&other);
    stop(&f);
}

static void a_token_whose_weights_are_nan_is_a_typed_error(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, "llama", 8);
    /* the same model with a hole in one row of the embedding */
    struct oracle_model m;
    char path[768];
    snprintf(path, sizeof(path), "%s/hole", f.dir);
    oracle_model_make(&m, oracle_config("llama"), 1);
    oracle_find(&m, "model.embed_tokens.weight")->values[7 * 96 + 3] = NAN;
    oracle_write_hf(&m, path, GRAFT_TYPE_F32);
    oracle_model_free(&m);
    kv_seq_close(&f.seq);
    workspace_close(&f.ws);
    kv_pool_close(&f.pool);
    model_close(&f.model);
    f.model = open_model(&f.rt, path);
    const struct kv_pool_options options = {KV_F32, KV_F32, 8};
    assert_int_equal(kv_pool_open(f.model, &options, &f.pool, NULL), GRAFT_OK);
    assert_int_equal(workspace_open(f.model, MAX_ROWS, &f.ws, NULL), GRAFT_OK);
    assert_int_equal(kv_seq_open(f.pool, &f.seq, NULL), GRAFT_OK);

    struct row rows[3] = {make_row(f.seq, 6, 0), make_row(f.seq, 7, 1), make_row(f.seq, 8, 2)};
    refuse(&f, rows, 2, GRAFT_NUMERIC, "position 1");
    rows[1].want_logits = false;
    assert_int_equal(model_forward(f.model, rows, 2, f.ws, NULL), GRAFT_OK); /* nobody asked */
    refuse(&f, &rows[2], 1, GRAFT_NUMERIC, "position 2"); /* it attends to the broken one */
    stop(&f);
}

static void only_what_was_asked_for_is_given_out(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, "qwen2", 8);
    struct row rows[6];
    for (int i = 0; i < 6; i++) {
        rows[i] = make_row(f.seq, 10 + i, i);
        rows[i].role = i % 2 ? ROLE_DECODE : ROLE_PREFILL;
        rows[i].want_logits = i == 1 || i == 4;
        rows[i].want_hidden = i == 2 || i == 4;
    }
    assert_int_equal(workspace_max_rows(f.ws), MAX_ROWS);
    assert_int_equal(model_forward(f.model, rows, 6, f.ws, NULL), GRAFT_OK);
    for (int i = -1; i <= 6; i++) {
        assert_int_equal(workspace_logits(f.ws, i) != NULL, i == 1 || i == 4);
        assert_int_equal(workspace_hidden(f.ws, i) != NULL, i == 2 || i == 4);
    }
    /* the head is tied: logits are the hidden state times the embedding */
    const float *hidden = workspace_hidden(f.ws, 4), *logits = workspace_logits(f.ws, 4);
    float row[96];
    double sum = 0;
    f.rt.kernels->dequantize[f.model->embed.type](&f.model->embed, 200, 0, 96, row);
    for (int i = 0; i < 96; i++)
        sum += (double)row[i] * (double)hidden[i];
    assert_true(fabs(sum - (double)logits[200]) < 1e-4);
    stop(&f);
}

static float *copy_logits(const struct fixture *f, int row)
{
    size_t bytes = (size_t)model_n_logits(f->model) * sizeof(float);
    float *copy = malloc(bytes);
    assert_non_null(workspace_logits(f->ws, row));
    return memcpy(copy, workspace_logits(f->ws, row), bytes);
}

static void check_same(const struct fixture *f, float *want, int row)
{
    assert_memory_equal(workspace_logits(f->ws, row), want,
                        (size_t)model_n_logits(f->model) * sizeof(float));
    free(want);
}

static void going_back_and_forth_gives_the_same_bytes(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, "mistral", 16);
    assert_int_equal(feed(&f, f.seq, 70, 5, ROLE_PREFILL), GRAFT_OK);
    assert_int_equal(feed(&f, f.seq, 1, 5, ROLE_DECODE), GRAFT_OK);
    float *want = copy_logits(&f, 0);
    kv_seq_trim(f.seq, 60);
    assert_int_equal(feed(&f, f.seq, 9, 99, ROLE_PREFILL), GRAFT_OK); /* another story */
    kv_seq_trim(f.seq, 60);
    assert_int_equal(feed(&f, f.seq, 10, 5, ROLE_PREFILL), GRAFT_OK);
    assert_int_equal(feed(&f, f.seq, 1, 5, ROLE_DECODE), GRAFT_OK);
    check_same(&f, want, 0);
    stop(&f);
}

static void small_regions_on_the_caller_alone_give_the_same_bytes(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, "qwen2", 16);
    assert_int_equal(f.rt.small_region, 0); /* nothing is small: all regions have two workers */
    assert_int_equal(feed(&f, f.seq, 20, 3, ROLE_PREFILL), GRAFT_OK);
    assert_int_equal(feed(&f, f.seq, 1, 3, ROLE_DECODE), GRAFT_OK);
    for (int64_t small = 20000; small < INT64_MAX / 1000; small *= 1000) {
        float *want = copy_logits(&f, 0);
        kv_seq_trim(f.seq, 0);
        f.rt.small_region = small;
        assert_int_equal(feed(&f, f.seq, 20, 3, ROLE_PREFILL), GRAFT_OK);
        assert_int_equal(feed(&f, f.seq, 1, 3, ROLE_DECODE), GRAFT_OK);
        check_same(&f, want, 0);
    }
    stop(&f);
}

static void a_fork_goes_its_own_way_without_touching_the_other(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, "llama", 16);
    struct kv_seq *fork = NULL;
    assert_int_equal(feed(&f, f.seq, 70, 5, ROLE_PREFILL), GRAFT_OK);
    assert_int_equal(kv_seq_fork(f.seq, &fork, NULL), GRAFT_OK);
    assert_int_equal(feed(&f, fork, 5, 99, ROLE_DECODE), GRAFT_OK);
    assert_int_equal(feed(&f, f.seq, 5, 5, ROLE_DECODE), GRAFT_OK);
    float *want = copy_logits(&f, 4);
    assert_int_equal(kv_pool_blocks_used(f.pool), 3); /* the first is shared */
    kv_seq_trim(fork, 70);
    assert_int_equal(feed(&f, fork, 5, 5, ROLE_DECODE), GRAFT_OK);
    check_same(&f, want, 4);
    kv_seq_close(&fork);
    stop(&f);
}

static void decoding_allocates_nothing_but_kv_blocks(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, "qwen3", 16);
    assert_int_equal(feed(&f, f.seq, 20, 5, ROLE_PREFILL), GRAFT_OK);
    size_t before = atomic_load(&f.meter.calls);
    for (int i = 20; i < 64; i++)
        assert_int_equal(feed(&f, f.seq, 1, 5, ROLE_DECODE), GRAFT_OK);
    assert_int_equal(atomic_load(&f.meter.calls), before);
    assert_int_equal(feed(&f, f.seq, 1, 5, ROLE_DECODE), GRAFT_OK);
    assert_int_equal(atomic_load(&f.meter.calls), before + 1);
    stop(&f);
}

static void sequences_longer_than_the_model_grow_the_block_lists(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, "llama", 16);
    for (int i = 0; i < 12; i++) /* 768 positions; the model was made for 256 */
        assert_int_equal(feed(&f, f.seq, 64, 5, ROLE_PREFILL), GRAFT_OK);
    assert_int_equal(kv_seq_length(f.seq), 768);
    stop(&f);
}

/* The logits of `rows` decode rows in one pass after 1090 positions, with those of another sequence. */
static float *decode_far(struct fixture *f, int rows)
{
    struct kv_seq *other;
    struct row all[8];
    assert_int_equal(kv_seq_open(f->pool, &other, NULL), GRAFT_OK);
    assert_int_equal(feed(f, other, 7, 3, ROLE_PREFILL), GRAFT_OK);
    for (int n = 0; n<1090; n += n + 64> 1090 ? 1090 - n : 64)
        assert_int_equal(feed(f, f->seq, n + 64 > 1090 ? 1090 - n : 64, 5, ROLE_PREFILL), GRAFT_OK);
    for (int i = 0; i < rows; i++)
        all[i] = make_row(f->seq, 17 + i, 1090 + i);
    all[rows] = make_row(other, 4, 7);
    all[rows].role = ROLE_PREFILL;
    assert_int_equal(model_forward(f->model, all, rows + 1, f->ws, NULL), GRAFT_OK);
    size_t n = (size_t)model_n_logits(f->model), bytes = n * sizeof(float);
    float *copy = malloc((size_t)(rows + 1) * bytes);
    for (int i = 0; i <= rows; i++)
        memcpy(copy + (size_t)i * n, workspace_logits(f->ws, i), bytes);
    kv_seq_close(&other);
    return copy;
}

static void workers_that_share_a_row_give_the_same_bytes(void **state)
{
    (void)state;
    static const char *const ARCHS[] = {"llama", "mistral"};
    for (size_t a = 0; a < ARRAY_LEN(ARCHS); a++)
        for (int rows = 1; rows <= 3; rows += 2) {
            float *want = NULL;
            for (int threads = 1; threads <= 5; threads += 2) {
                struct fixture f;
                start_threads(&f, ARCHS[a], 24, threads);
                float *got = decode_far(&f, rows);
                size_t bytes = (size_t)(rows + 1) * (size_t)model_n_logits(f.model) * sizeof *got;
                /* tiles are shared where there are more workers than KV heads */
                assert_int_equal(f.ws->part_capacity > 0, threads > 1);
                if (want)
                    assert_memory_equal(got, want, bytes);
                free(want);
                want = got;
                stop(&f);
            }
            free(want);
        }
}

/* Has the n-th allocation from now on fail; 0: none. */
static void fail_next(struct fixture *f, size_t n)
{
    f->meter.fail_at = n > 0 ? atomic_load(&f->meter.calls) + n : 0;
    f->meter.failed = false;
}

static void running_out_of_memory_leaves_the_sequence_as_it_was(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, "llama", 16);
    for (int i = 0; i < 5; i++)
        assert_int_equal(feed(&f, f.seq, 64, 5, ROLE_PREFILL), GRAFT_OK);
    size_t n_failed = 0;
    for (f.meter.failed = true; f.meter.failed; n_failed++) {
        fail_next(&f, n_failed + 1);
        graft_status status = feed(&f, f.seq, 64, 5, ROLE_PREFILL); /* block and longer lists */
        assert_int_equal(status, f.meter.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        assert_int_equal(kv_seq_length(f.seq), f.meter.failed ? 320 : 384);
        assert_int_equal(kv_pool_blocks_used(f.pool), f.meter.failed ? 5 : 6);
    }
    assert_true(n_failed >= 2);
    struct workspace *ws = NULL;
    size_t before = atomic_load(&f.rt.mem.bytes_in_use);
    f.meter.failed = true;
    for (size_t n = 1; f.meter.failed; n++) {
        fail_next(&f, n);
        graft_status status = workspace_open(f.model, 3, &ws, NULL);
        assert_int_equal(status, f.meter.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        if (f.meter.failed)
            assert_int_equal(atomic_load(&f.rt.mem.bytes_in_use), before);
    }
    fail_next(&f, 0);
    workspace_close(&ws);
    assert_int_equal(workspace_open(f.model, 0, &ws, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(workspace_open(f.model, INT32_MAX, &ws, NULL), GRAFT_INVALID_ARGUMENT);
    stop(&f);
}

static const struct adapter_plan SMALL = {.rank = 2, .type = GRAFT_TYPE_F32, .scale = 1};
static const struct adapter_plan LARGE = {.rank = 9, .type = GRAFT_TYPE_F32, .scale = 1};
static const float ONE = 1;

static void a_mix_of_another_model_is_refused(void **state)
{
    (void)state;
    struct fixture f, other;
    struct adapter adapter;
    start(&f, "qwen2", 8);
    start(&other, "qwen2", 8);
    adapter_make(&adapter, other.model, NULL, &SMALL);
    struct delta_set *set = mix_open(other.model, &adapter, &ONE, 1);
    struct row r = make_row(f.seq, 1, 0);
    r.deltas = set;
    refuse(&f, &r, 1, GRAFT_INVALID_ARGUMENT, "mix is of another model");
    delta_set_close(&set);
    adapter_free(&adapter);
    stop(&other);
    stop(&f);
}

/* One decode row at the end of the fixture's sequence. */
static graft_status step(struct fixture *f, const struct delta_set *deltas)
{
    struct row r = make_row(f->seq, 7, (int)kv_seq_length(f->seq));
    r.deltas = deltas;
    return model_forward(f->model, &r, 1, f->ws, NULL);
}

static void deltas_allocate_only_where_they_bring_more_ranks(void **state)
{
    (void)state;
    struct fixture f;
    struct adapter adapters[2];
    start(&f, "qwen2", 8);
    adapter_make(&adapters[0], f.model, NULL, &SMALL);
    adapter_make(&adapters[1], f.model, NULL, &LARGE);
    struct delta_set *small = mix_open(f.model, &adapters[0], &ONE, 1);
    struct delta_set *large = mix_open(f.model, &adapters[1], &ONE, 1);
    assert_int_equal(step(&f, NULL), GRAFT_OK); /* the block */
    size_t before = atomic_load(&f.meter.calls);
    assert_int_equal(step(&f, large), GRAFT_OK);
    assert_true(atomic_load(&f.meter.calls) > before);
    before = atomic_load(&f.meter.calls);
    for (int i = 0; i < 9; i++)
        assert_int_equal(step(&f, i % 3 == 0 ? NULL : i % 3 == 1 ? small : large), GRAFT_OK);
    assert_int_equal(atomic_load(&f.meter.calls), before);
    delta_set_close(&small);
    delta_set_close(&large);
    adapter_free(&adapters[0]);
    adapter_free(&adapters[1]);
    stop(&f);
}

static void no_memory_for_deltas_leaves_the_sequence_as_it_was(void **state)
{
    (void)state;
    struct fixture f;
    struct adapter adapter;
    start(&f, "qwen2", 8);
    adapter_make(&adapter, f.model, NULL, &SMALL);
    struct delta_set *set = NULL;
    const struct delta_member member = {.lowranks = adapter.places, .weight = 1};
    fail_next(&f, 1);
    assert_int_equal(delta_set_open(f.model, &member, 1, &set, NULL), GRAFT_NO_MEMORY);
    fail_next(&f, 0);
    assert_int_equal(delta_set_open(f.model, &member, 1, &set, NULL), GRAFT_OK);
    assert_int_equal(step(&f, NULL), GRAFT_OK);
    float *want = copy_logits(&f, 0);
    static const size_t FAILING[] = {1, 2,
                                     2}; /* inner products; then jobs; then what goes with them */
    for (size_t i = 0; i < ARRAY_LEN(FAILING); i++) {
        fail_next(&f, FAILING[i]);
        assert_int_equal(step(&f, set), GRAFT_NO_MEMORY);
        assert_int_equal(kv_seq_length(f.seq), 1);
    }
    fail_next(&f, 0);
    assert_int_equal(step(&f, set), GRAFT_OK);
    kv_seq_trim(f.seq, 0);
    assert_int_equal(step(&f, NULL), GRAFT_OK);
    check_same(&f, want, 0);
    delta_set_close(&set);
    adapter_free(&adapter);
    stop(&f);
}

static void rotary_angles_are_those_of_the_c_library_to_a_float(void **state)
{
    (void)state;
    static const float FREQ[] = {1.0f, 0.75f, 0.1f, 3.14159265f, 1e-3f, 1e-7f, 0.0f};
    float cosines[ARRAY_LEN(FREQ)], sines[ARRAY_LEN(FREQ)];
    for (int32_t pos = 0; pos < 1 << 20; pos += 1 + pos / 50) {
        rope_angles(FREQ, ARRAY_LEN(FREQ), pos, 0.5f, cosines, sines);
        for (size_t i = 0; i < ARRAY_LEN(FREQ); i++) {
            double angle = (double)pos * (double)FREQ[i];
            assert_true(fabs((double)cosines[i] - 0.5 * cos(angle)) < 4e-8);
            assert_true(fabs((double)sines[i] - 0.5 * sin(angle)) < 4e-8);
        }
    }
}

static void a_classifier_scores_its_labels(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, "qwen2-cls", 8);
    assert_int_equal(model_n_logits(f.model), 3);
    assert_int_equal(feed(&f, f.seq, 5, 5, ROLE_PREFILL), GRAFT_OK);
    const float *scores = workspace_logits(f.ws, 4);
    assert_true(isfinite(scores[0]) && isfinite(scores[1]) && isfinite(scores[2]));
    assert_true(scores[0] != scores[1] && scores[1] != scores[2]);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_that_make_no_sense_are_refused),
        cmocka_unit_test(a_sequence_or_workspace_of_another_model_is_refused),
        cmocka_unit_test(a_full_cache_leaves_every_sequence_as_it_was),
        cmocka_unit_test(a_token_whose_weights_are_nan_is_a_typed_error),
        cmocka_unit_test(only_what_was_asked_for_is_given_out),
        cmocka_unit_test(going_back_and_forth_gives_the_same_bytes),
        cmocka_unit_test(small_regions_on_the_caller_alone_give_the_same_bytes),
        cmocka_unit_test(a_fork_goes_its_own_way_without_touching_the_other),
        cmocka_unit_test(decoding_allocates_nothing_but_kv_blocks),
        cmocka_unit_test(sequences_longer_than_the_model_grow_the_block_lists),
        cmocka_unit_test(workers_that_share_a_row_give_the_same_bytes),
        cmocka_unit_test(running_out_of_memory_leaves_the_sequence_as_it_was),
        cmocka_unit_test(a_mix_of_another_model_is_refused),
        cmocka_unit_test(deltas_allocate_only_where_they_bring_more_ranks),
        cmocka_unit_test(no_memory_for_deltas_leaves_the_sequence_as_it_was),
        cmocka_unit_test(rotary_angles_are_those_of_the_c_library_to_a_float),
        cmocka_unit_test(a_classifier_scores_its_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
