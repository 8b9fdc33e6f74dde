/* test_pack.c: packing at open: results keep their bits, the pages underneath are given back, and what is
 * packed is what was asked for.
 */
#include "conformance/conformance_support.h"
#include "conformance/oracle_model.h"
#include "unit/failing_allocator.h"

#include <unistd.h>

enum { N_ROWS = 9, PAGE_SLACK = 4 };

static int setup(void **state)
{
    return test_dir_open(state);
}

static int teardown(void **state)
{
    return test_dir_close(state);
}

/* A GGUF of an architecture, two layers 256 wide. */
static void make(const char *name, graft_type type, bool tied)
{
    struct oracle_model m;
    json_t *config = oracle_config_wide("llama");
    json_object_set_new(config, "num_hidden_layers", json_integer(2));
    json_object_set_new(config, "tie_word_embeddings", json_boolean(tied));
    oracle_model_make(&m, config, 3);
    oracle_write_gguf(&m, at(name), type);
    oracle_model_free(&m);
}

static struct model *open_packed(struct graft_runtime *rt, const char *name, const char *pack,
                                 enum map_mode map)
{
    struct model *m = NULL;
    graft_error error = {0};
    const struct model_options options = {.map = map, .pack = pack};
    if (model_open(rt, at(name), &options, &m, &error) != GRAFT_OK)
        fail_msg("%s, pack %s: %s", name, pack, error.message);
    return m;
}

/* Does the fastest tier that runs here pack the type? */
static const struct kernels *packing_tier(graft_type type)
{
    const struct kernels *found = NULL;
    for (int i = 0; kernels_tier(i); i++)
        if (kernels_tier(i)->splits[type])
            found = kernels_tier(i);
    return found;
}

/* ---- the same bits ---- */

/* Logits of N_ROWS rows, all of a role, [N_ROWS, n_logits]. */
static void logits_of(const struct model *m, enum role role, float *out)
{
    struct workspace *ws = NULL;
    struct kv_pool *pool = NULL;
    struct kv_seq *seq = NULL;
    struct row rows[N_ROWS];
    const struct kv_pool_options options = {KV_F16, KV_F16, 4};
    const int n = model_n_logits(m);
    assert_int_equal(workspace_open(m, N_ROWS, &ws, NULL), GRAFT_OK);
    assert_int_equal(kv_pool_open(m, &options, &pool, NULL), GRAFT_OK);
    assert_int_equal(kv_seq_open(pool, &seq, NULL), GRAFT_OK);
    for (int i = 0; i < N_ROWS; i++)
        rows[i] = (struct row){
            .token = 3 + 5 * i, .pos = i, .seq = seq, .role = role, .want_logits = true};
    assert_int_equal(model_forward(m, rows, N_ROWS, ws, NULL), GRAFT_OK);
    for (int i = 0; i < N_ROWS; i++)
        memcpy(out + (size_t)i * (size_t)n, workspace_logits(ws, i), (size_t)n * sizeof *out);
    kv_seq_close(&seq);
    kv_pool_close(&pool);
    workspace_close(&ws);
}

static void compare(struct graft_runtime *rt, const char *name, const char *pack, enum map_mode map)
{
    struct model *plain = open_packed(rt, name, "none", map);
    struct model *packed = open_packed(rt, name, pack, map);
    const size_t n = N_ROWS * (size_t)model_n_logits(plain);
    float *want = mem_alloc(NULL, n * sizeof *want), *got = mem_alloc(NULL, n * sizeof *got);
    uint8_t digests[2][32];
    assert_null(plain->packed);
    assert_int_equal(model_digest(plain, digests[0], NULL), GRAFT_OK);
    assert_int_equal(model_digest(packed, digests[1], NULL), GRAFT_OK);
    assert_memory_equal(digests[0], digests[1], sizeof digests[0]); /* it is the same model */
    for (int role = 0; role < ROLE_COUNT; role++) {
        logits_of(plain, (enum role)role, want);
        logits_of(packed, (enum role)role, got);
        assert_memory_equal(got, want, n * sizeof *want);
    }
    mem_free(NULL, want);
    mem_free(NULL, got);
    model_close(&plain);
    model_close(&packed);
}

static void logits_of_a_packed_model_have_the_bits_of_the_other(void **state)
{
    static const graft_type TYPES[] = {GRAFT_TYPE_Q4_0, GRAFT_TYPE_Q8_0, GRAFT_TYPE_F16,
                                       GRAFT_TYPE_Q4_K};
    (void)state;
    for (size_t t = 0; t < ARRAY_LEN(TYPES); t++)
        for (int tied = 0; tied < 2; tied++) {
            make("bits.gguf", TYPES[t], tied);
            for (int i = 0; kernels_tier(i); i++)
                for (int threads = 1; threads <= 2; threads++) {
                    struct graft_runtime rt;
                    runtime_start(&rt, threads, kernels_tier(i));
                    compare(&rt, "bits.gguf", "auto", MAP_SHARED_FILE);
                    compare(&rt, "bits.gguf", "blk.1.*", MAP_COPY);
                    runtime_stop(&rt);
                }
        }
}

/* ---- which ---- */

/* Weights that are no longer in the file; `split`: in a layout of their own. */
static int count_packed(const struct model *m, bool split)
{
    const struct file_map *map = &m->tensors.maps[0];
    int n = 0;
    for (int site = 0; site < model_n_sites(m); site++) {
        const struct matrix *w = model_site_weight(m, site);
        const uint8_t *data = w->data;
        bool in_file = data >= map->data && data < map->data + map->size;
        n += !in_file && (w->layout == LAYOUT_SPLIT) == split;
    }
    return n;
}

static void expect_packed(struct graft_runtime *rt, const char *pack, int n)
{
    struct model *m = open_packed(rt, "which.gguf", pack, MAP_SHARED_FILE);
    bool split = rt->kernels->splits[GRAFT_TYPE_Q8_0];
    assert_int_equal(count_packed(m, split), n);
    assert_int_equal(count_packed(m, !split), 0);
    assert_int_equal(m->packed != NULL, n > 0);
    assert_int_equal(m->embed.layout, LAYOUT_FILE); /* not tied: rows are looked up */
    model_close(&m);
}

static void what_is_packed_goes_by_the_names_of_tensors(void **state)
{
    struct graft_runtime rt;
    (void)state;
    if (!packing_tier(GRAFT_TYPE_Q8_0))
        skip();
    make("which.gguf", GRAFT_TYPE_Q8_0, false);
    runtime_start(&rt, 1, packing_tier(GRAFT_TYPE_Q8_0));
    expect_packed(&rt, "auto", 15);
    expect_packed(&rt, "none", 0);
    expect_packed(&rt, "*", 15);
    expect_packed(&rt, "blk.0.*", 7);
    expect_packed(&rt, "blk.?.ffn_down.weight", 2);
    expect_packed(&rt, "*attn_q*,output.weight", 3);
    runtime_stop(&rt);
    runtime_start(&rt, 1, kernels_find("scalar"));
    expect_packed(&rt, "auto", 15);
    expect_packed(&rt, "blk.0.*", 7);
    runtime_stop(&rt);
}

static void names_of_nothing_are_refused(void **state)
{
    static const char *const WRONG[] = {
        "", "all", "blk.0.*,", ",", "blk.0.*,blk.9.*", "blk.0", "token_embd.weight", "*x"};
    struct graft_runtime rt;
    (void)state;
    make("which.gguf", GRAFT_TYPE_Q8_0, false);
    runtime_start(&rt, 1, NULL);
    for (size_t i = 0; i < ARRAY_LEN(WRONG); i++) {
        struct model *m = NULL;
        graft_error error = {0};
        const struct model_options options = {.pack = WRONG[i]};
        assert_int_equal(model_open(&rt, at("which.gguf"), &options, &m, &error),
                         GRAFT_INVALID_ARGUMENT);
        assert_non_null(strstr(error.message, "pack: no weight"));
        assert_null(m);
    }
    runtime_stop(&rt);
}

/* ---- memory ---- */

/* "Rss" of the mapping that holds an address, in bytes. */
static size_t resident(const void *address)
{
    char line[512];
    unsigned long begin, end, kilobytes = 0;
    bool here = false, found = false;
    FILE *file = fopen("/proc/self/smaps", "r");
    if (!file)
        skip();
    while (!found && fgets(line, sizeof line, file)) {
        if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
            here = (uintptr_t)address >= begin && (uintptr_t)address < end;
        found = here && sscanf(line, "Rss: %lu kB", &kilobytes) == 1;
    }
    fclose(file);
    assert_true(found);
    return (size_t)kilobytes << 10;
}

static void read_all(const struct model *m)
{
    volatile uint8_t sink = 0;
    for (size_t i = 0; i < m->tensors.maps[0].size; i += 64)
        sink = (uint8_t)(sink + m->tensors.maps[0].data[i]);
}

static void pages_under_packed_weights_are_given_back(void **state)
{
    struct graft_runtime rt;
    (void)state;
    if (!packing_tier(GRAFT_TYPE_Q8_0))
        skip();
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    make("pages.gguf", GRAFT_TYPE_Q8_0, true);
    runtime_start(&rt, 2, packing_tier(GRAFT_TYPE_Q8_0));
    struct model *m = open_packed(&rt, "pages.gguf", "none", MAP_SHARED_FILE);
    read_all(m);
    const size_t size = m->tensors.maps[0].size, whole = resident(m->tensors.maps[0].data);
    assert_true(whole >= size / page * page);
    model_close(&m);

    const size_t before = atomic_load(&rt.mem.bytes_in_use);
    m = open_packed(&rt, "pages.gguf", "auto", MAP_SHARED_FILE);
    size_t packed = 0, rows = 0;
    for (int site = 0; site < model_n_sites(m); site++) {
        const struct matrix *w = model_site_weight(m, site);
        size_t in_file;
        assert_int_equal(w->layout, LAYOUT_SPLIT);
        assert_true(type_row_bytes(w->type, w->n_in, &in_file));
        rows += (size_t)w->n_out * in_file;
        packed += (size_t)w->n_out * w->row_bytes;
    }
    assert_true(rows > size / 2);
    assert_true(atomic_load(&rt.mem.bytes_in_use) - before >= packed);
    /* What is left: what is not packed, and the pages that two tensors share. */
    const size_t left = size - rows + (size_t)(model_n_sites(m) + PAGE_SLACK) * page;
    assert_in_range(resident(m->tensors.maps[0].data), 0, left);
    model_close(&m);
    assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
    runtime_stop(&rt);
}

static void lack_of_memory_leaves_nothing_behind(void **state)
{
    struct failing_allocator failing = {.failed = true};
    struct graft_runtime rt;
    (void)state;
    make("scarce.gguf", GRAFT_TYPE_Q4_0, false);
    runtime_start(&rt, 2, packing_tier(GRAFT_TYPE_Q4_0));
    const struct model_options options = {.pack = "auto"};
    for (size_t n = 1; failing.failed; n++) {
        struct graft_runtime scarce = {.kernels = rt.kernels, .pool = rt.pool, .pid = rt.pid};
        struct model *m = NULL;
        graft_error error = {0};
        failing_init(&failing, &scarce.mem, n);
        failing.ever_after = true;
        graft_status status = model_open(&scarce, at("scarce.gguf"), &options, &m, &error);
        if (status != (failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK))
            fail_msg("allocation %zu: %s", n, error.message);
        model_close(&m);
        assert_int_equal(atomic_load(&scarce.mem.bytes_in_use), 0);
    }
    runtime_stop(&rt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_of_a_packed_model_have_the_bits_of_the_other),
        cmocka_unit_test(what_is_packed_goes_by_the_names_of_tensors),
        cmocka_unit_test(names_of_nothing_are_refused),
        cmocka_unit_test(pages_under_packed_weights_are_given_back),
        cmocka_unit_test(lack_of_memory_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
