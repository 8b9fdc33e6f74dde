/* test_kv.c: blocks are shared, copied before they are written, counted and given back. */
#include "conformance/conformance_support.h"
#include "model/arch/arch.h"
#include "model/kv_internal.h"
#include "unit/failing_allocator.h"

enum { LAYERS = 2, HEADS = 3, WIDTH = 16 };

/* A model as far as the cache looks at it. */
struct fixture {
    struct graft_runtime rt;
    struct model model;
    struct kv_pool *pool;
};

static void start(struct fixture *f, int64_t max_blocks)
{
    graft_error error = {0};
    *f = (struct fixture){0};
    mem_init(&f->rt.mem, NULL);
    f->model.runtime = &f->rt;
    f->model.config =
        (struct config){.n_layer = LAYERS, .n_kv = HEADS, .n_head = HEADS, .d_head = WIDTH};
    assert_int_equal(kv_pool_open(&f->model, &(struct kv_pool_options){KV_F32, KV_F16, max_blocks},
                                  &f->pool, &error),
                     GRAFT_OK);
}

static void stop(struct fixture *f)
{
    assert_int_equal(kv_pool_blocks_used(f->pool), 0);
    kv_pool_close(&f->pool);
    assert_null(f->pool);
    assert_int_equal(atomic_load(&f->rt.mem.bytes_in_use), 0);
}

static struct kv_seq *open_seq(struct fixture *f)
{
    struct kv_seq *seq = NULL;
    assert_int_equal(kv_seq_open(f->pool, &seq, NULL), GRAFT_OK);
    return seq;
}

/* What the forward pass does: room, writes, commit. Every position gets a mark. */
static void grow(struct kv_seq *seq, int64_t length, uint8_t mark)
{
    assert_int_equal(kv_seq_reserve(seq, length, NULL), GRAFT_OK);
    for (int64_t pos = seq->length; pos < length; pos++)
        for (int layer = 0; layer < LAYERS; layer++)
            for (int head = 0; head < HEADS; head++) {
                struct kv_block *block = seq->blocks[pos / KV_BLOCK];
                size_t at = (size_t)(pos % KV_BLOCK);
                memset(kv_block_keys(seq->pool, block, layer, head) + at * seq->pool->k_head_bytes,
                       mark, seq->pool->k_head_bytes);
                memset(kv_block_values(seq->pool, block, layer, head) +
                           at * seq->pool->v_head_bytes,
                       mark, seq->pool->v_head_bytes);
            }
    seq->length = length;
}

static uint8_t mark_at(const struct kv_seq *seq, int64_t pos)
{
    struct kv_block *block = seq->blocks[pos / KV_BLOCK];
    return kv_block_values(seq->pool, block, LAYERS - 1,
                           HEADS - 1)[(size_t)(pos % KV_BLOCK) * seq->pool->v_head_bytes];
}

static void blocks_have_room_for_all_layers_and_heads(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 4);
    assert_int_equal(kv_pool_block_bytes(f.pool), KV_BLOCK * LAYERS * HEADS * WIDTH * (4 + 2));
    struct kv_seq *seq = open_seq(&f);
    grow(seq, 1, 1);
    const struct kv_block *block = seq->blocks[0];
    const uint8_t *end =
        kv_block_values(f.pool, seq->blocks[0], LAYERS - 1, HEADS - 1) + KV_BLOCK * WIDTH * 2;
    assert_ptr_equal(end, block->data + kv_pool_block_bytes(f.pool));
    kv_seq_close(&seq);
    stop(&f);
}

static void options_are_checked(void **state)
{
    (void)state;
    struct fixture f;
    graft_error error = {0};
    start(&f, 1);
    struct kv_pool *pool = NULL;
    const struct kv_pool_options wrong[] = {
        {KV_TYPE_COUNT, KV_F16, 1}, {KV_F16, KV_TYPE_COUNT, 1}, {KV_F16, KV_F16, 0}};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(kv_pool_open(&f.model, &wrong[i], &pool, &error), GRAFT_INVALID_ARGUMENT);
    assert_null(pool);
    stop(&f);
}

static void blocks_come_as_positions_do_and_go_with_trim(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 8);
    struct kv_seq *seq = open_seq(&f);
    grow(seq, KV_BLOCK, 1);
    assert_int_equal(kv_pool_blocks_used(f.pool), 1);
    grow(seq, KV_BLOCK + 1, 2);
    assert_int_equal(kv_pool_blocks_used(f.pool), 2);
    grow(seq, 5 * KV_BLOCK, 3);
    assert_int_equal(kv_pool_blocks_used(f.pool), 5);
    kv_seq_trim(seq, 2 * KV_BLOCK + 1);
    assert_int_equal(kv_seq_length(seq), 2 * KV_BLOCK + 1);
    assert_int_equal(kv_pool_blocks_used(f.pool), 3);
    kv_seq_trim(seq, 1000);
    assert_int_equal(kv_seq_length(seq), 2 * KV_BLOCK + 1);
    assert_int_equal(mark_at(seq, 0), 1);
    kv_seq_trim(seq, -5);
    assert_int_equal(kv_seq_length(seq), 0);
    assert_int_equal(kv_pool_blocks_used(f.pool), 0);
    kv_seq_close(&seq);
    kv_seq_close(&seq); /* twice is nothing */
    stop(&f);
}

static void freed_blocks_are_used_again(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 4);
    struct kv_seq *seq = open_seq(&f);
    grow(seq, 4 * KV_BLOCK, 1);
    size_t before = atomic_load(&f.rt.mem.bytes_in_use);
    kv_seq_trim(seq, 0);
    grow(seq, 4 * KV_BLOCK, 2);
    assert_int_equal(atomic_load(&f.rt.mem.bytes_in_use), before);
    kv_seq_close(&seq);
    stop(&f);
}

static void a_full_pool_is_a_limit_and_changes_nothing(void **state)
{
    (void)state;
    struct fixture f;
    graft_error error = {0};
    start(&f, 3);
    struct kv_seq *a = open_seq(&f), *b = open_seq(&f);
    grow(a, 2 * KV_BLOCK, 1);
    assert_int_equal(kv_seq_reserve(b, KV_BLOCK + 1, &error), GRAFT_LIMIT);
    assert_non_null(strstr(error.message, "2 of 3"));
    assert_int_equal(kv_pool_blocks_used(f.pool), 2);
    assert_int_equal(kv_seq_reserve(b, KV_BLOCK, &error), GRAFT_OK);
    assert_int_equal(kv_seq_reserve(a, 2 * KV_BLOCK + 1, &error), GRAFT_LIMIT);
    assert_int_equal(kv_seq_length(a), 2 * KV_BLOCK);
    assert_int_equal(kv_seq_reserve(b, (int64_t)INT32_MAX + 1, &error), GRAFT_LIMIT);
    assert_int_equal(kv_seq_reserve(b, 0, &error), GRAFT_OK);
    kv_seq_close(&a);
    kv_seq_close(&b);
    stop(&f);
}

static void a_fork_shares_blocks_and_copies_the_one_it_writes(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 8);
    struct kv_seq *seq = open_seq(&f), *fork = NULL;
    grow(seq, KV_BLOCK + 10, 1);
    assert_int_equal(kv_seq_fork(seq, &fork, NULL), GRAFT_OK);
    assert_int_equal(kv_seq_length(fork), KV_BLOCK + 10);
    assert_int_equal(kv_pool_blocks_used(f.pool), 2);
    grow(fork, KV_BLOCK + 11, 2);
    assert_int_equal(kv_pool_blocks_used(f.pool), 3);
    assert_ptr_equal(fork->blocks[0], seq->blocks[0]);
    assert_ptr_not_equal(fork->blocks[1], seq->blocks[1]);
    assert_int_equal(mark_at(fork, KV_BLOCK + 9), 1); /* copied */
    assert_int_equal(mark_at(fork, KV_BLOCK + 10), 2);
    grow(seq, KV_BLOCK + 11, 3); /* alone on its block by now */
    assert_int_equal(kv_pool_blocks_used(f.pool), 3);
    assert_int_equal(mark_at(fork, KV_BLOCK + 10), 2);
    kv_seq_trim(seq, 5); /* block 0 is still shared */
    grow(seq, 6, 4);
    assert_ptr_not_equal(fork->blocks[0], seq->blocks[0]);
    assert_int_equal(mark_at(fork, 5), 1);
    assert_int_equal(mark_at(seq, 4), 1);
    assert_int_equal(mark_at(seq, 5), 4);
    kv_seq_close(&seq);
    assert_int_equal(mark_at(fork, 0), 1);
    kv_seq_close(&fork);
    stop(&f);
}

static void forking_at_a_block_boundary_or_of_nothing_needs_no_copy(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 3);
    struct kv_seq *seq = open_seq(&f), *fork = NULL, *empty = NULL;
    assert_int_equal(kv_seq_fork(seq, &empty, NULL), GRAFT_OK);
    grow(seq, KV_BLOCK, 1);
    assert_int_equal(kv_seq_reserve(seq, KV_BLOCK + 1, NULL),
                     GRAFT_OK); /* a spare block is not shared */
    assert_int_equal(kv_seq_fork(seq, &fork, NULL), GRAFT_OK);
    grow(fork, KV_BLOCK + 1, 2);
    assert_int_equal(kv_pool_blocks_used(f.pool), 3);
    assert_int_equal(kv_seq_length(empty), 0);
    kv_seq_close(&empty);
    kv_seq_close(&fork);
    kv_seq_close(&seq);
    stop(&f);
}

static void a_copy_counts_against_the_limit(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 1);
    struct kv_seq *seq = open_seq(&f), *fork = NULL;
    grow(seq, 10, 1);
    assert_int_equal(kv_seq_fork(seq, &fork, NULL), GRAFT_OK);
    assert_int_equal(kv_seq_reserve(fork, 11, NULL), GRAFT_LIMIT);
    assert_int_equal(kv_seq_reserve(fork, 10, NULL), GRAFT_OK);
    kv_seq_close(&seq);
    grow(fork, 11, 2); /* the last holder writes in place */
    assert_int_equal(kv_pool_blocks_used(f.pool), 1);
    kv_seq_close(&fork);
    stop(&f);
}

/* ---- memory ------------------------------------------------------------------------------- */

/* Everything that allocates, once; stops at the first failure, leaving sequences as they were. */
static graft_status use_everything(struct fixture *f)
{
    struct kv_seq *seq = NULL, *fork = NULL;
    graft_status status =
        kv_pool_open(&f->model, &(struct kv_pool_options){KV_Q8, KV_Q8, 8}, &f->pool, NULL);
    if (status == GRAFT_OK)
        status = kv_seq_open(f->pool, &seq, NULL);
    if (status == GRAFT_OK)
        status = kv_seq_reserve(seq, 3 * KV_BLOCK, NULL);
    if (status == GRAFT_OK)
        seq->length = 2 * KV_BLOCK + 1;
    else if (seq)
        assert_int_equal(seq->n_blocks, 0);
    if (status == GRAFT_OK)
        status = kv_seq_fork(seq, &fork, NULL);
    if (status == GRAFT_OK)
        status = kv_seq_reserve(fork, 4 * KV_BLOCK, NULL);
    if (status != GRAFT_OK && fork) {
        assert_int_equal(fork->n_blocks, 3);
        assert_ptr_equal(fork->blocks[2], seq->blocks[2]);
    }
    kv_seq_close(&fork);
    kv_seq_close(&seq);
    if (f->pool)
        assert_int_equal(kv_pool_blocks_used(f->pool), 0);
    kv_pool_close(&f->pool);
    return status;
}

static void running_out_of_memory_leaves_sequences_as_they_were(void **state)
{
    (void)state;
    struct failing_allocator failing = {.failed = true};
    size_t n_failed = 0;
    for (; failing.failed; n_failed++) {
        struct fixture f = {0};
        failing_init(&failing, &f.rt.mem, n_failed + 1);
        f.model.runtime = &f.rt;
        f.model.config = (struct config){.n_layer = 1, .n_kv = 1, .n_head = 1, .d_head = WIDTH};
        graft_status status = use_everything(&f);
        assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        assert_int_equal(atomic_load(&f.rt.mem.bytes_in_use), 0);
    }
    assert_true(n_failed > 8);
}

static void a_repeated_sequence_has_copies_of_its_own(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 16);
    struct kv_seq *seq = open_seq(&f), *copy = NULL;
    grow(seq, KV_BLOCK - 1, 'a');
    assert_int_equal(kv_seq_repeat(seq, 10, &copy, NULL), GRAFT_INVALID_ARGUMENT);
    grow(seq, 2 * KV_BLOCK + 3, 'b');
    assert_int_equal(kv_seq_repeat(seq, 5 * KV_BLOCK + 7, &copy, NULL), GRAFT_OK);
    assert_int_equal(kv_seq_length(copy), 5 * KV_BLOCK + 7);
    assert_int_equal(kv_pool_blocks_used(f.pool), 3 + 6);
    for (int i = 0; i < 6; i++) {
        assert_ptr_not_equal(copy->blocks[i], seq->blocks[i % 2]);
        assert_memory_equal(copy->blocks[i]->data, seq->blocks[i % 2]->data, f.pool->block_bytes);
    }
    struct kv_seq *more = NULL; /* 7 blocks are left of 16 */
    assert_int_equal(kv_seq_repeat(seq, 8 * KV_BLOCK, &more, NULL), GRAFT_LIMIT);
    assert_null(more);
    kv_seq_close(&copy);
    kv_seq_close(&seq);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_repeated_sequence_has_copies_of_its_own),
        cmocka_unit_test(blocks_have_room_for_all_layers_and_heads),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(blocks_come_as_positions_do_and_go_with_trim),
        cmocka_unit_test(freed_blocks_are_used_again),
        cmocka_unit_test(a_full_pool_is_a_limit_and_changes_nothing),
        cmocka_unit_test(a_fork_shares_blocks_and_copies_the_one_it_writes),
        cmocka_unit_test(forking_at_a_block_boundary_or_of_nothing_needs_no_copy),
        cmocka_unit_test(a_copy_counts_against_the_limit),
        cmocka_unit_test(running_out_of_memory_leaves_sequences_as_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
