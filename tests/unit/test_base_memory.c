/* The allocator, the arena, the bounded buffer and the name table. */
#include "test_support.h"

#include "failing_allocator.h"

static bool aligned(const void *block, uintptr_t to)
{
    return !((uintptr_t)block % to);
}

/* An allocator with malloc's alignment and no more: blocks start at 16 past a multiple of 64 and
 * wander when they are resized. */
static void *odd_alloc(void *user, size_t bytes)
{
    int *turn = user;
    char *raw = aligned_alloc(64, (bytes + 191) / 64 * 64);
    if (!raw)
        return NULL;
    int skip = 16 * (1 + (*turn)++ % 4);
    raw[skip - 1] = (char)skip;
    return raw + skip;
}

static void odd_release(void *user, void *block)
{
    (void)user;
    char *at = block;
    free(at - at[-1]);
}

static void *odd_resize(void *user, void *block, size_t bytes)
{
    char *moved = odd_alloc(user, bytes);
    /* How much the old block had is not known here; the test only grows by less than it had. */
    if (moved) {
        memcpy(moved, block, bytes / 2);
        odd_release(user, block);
    }
    return moved;
}

static void blocks_are_aligned_and_counted(void **state)
{
    (void)state;
    struct mem mem;
    mem_init(&mem, NULL);
    char *a = mem_alloc(&mem, 100), *b = mem_calloc(&mem, 10, 10), *c = mem_alloc(&mem, 0);
    assert_true(a && b && c && aligned(a, 64) && aligned(b, 64) && aligned(c, 64));
    assert_int_equal(atomic_load(&mem.bytes_in_use), 201);
    for (int i = 0; i < 100; i++)
        assert_int_equal(b[i], 0);
    memset(a, 'a', 100);
    a = mem_resize(&mem, a, 100000);
    assert_true(a && aligned(a, 64));
    assert_int_equal(a[99], 'a');
    assert_int_equal(atomic_load(&mem.bytes_in_use), 100101);
    a = mem_resize(&mem, a, 0);
    assert_non_null(a);
    mem_free(&mem, a);
    mem_free(&mem, b);
    mem_free(&mem, c);
    mem_free(&mem, NULL);
    assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
}

static void resizing_keeps_bytes_when_the_host_moves_blocks(void **state)
{
    (void)state;
    int turn = 0;
    graft_allocator odd = {odd_alloc, odd_resize, odd_release, &turn};
    struct mem mem;
    mem_init(&mem, &odd);
    size_t size = 1000;
    unsigned char *block = mem_calloc(&mem, 1, size);
    assert_non_null(block);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(block[i], 0);
        block[i] = (unsigned char)(i * 7);
    }
    for (int round = 0; round < 8; round++) {
        size += size / 2;
        block = mem_resize(&mem, block, size);
        assert_true(block && aligned(block, 64));
        for (size_t i = 0; i < 700; i++)
            assert_int_equal(block[i], (unsigned char)(i * 7));
    }
    mem_free(&mem, block);
    assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    struct mem mem;
    mem_init(&mem, &(graft_allocator){0});
    char *block = mem_alloc(&mem, 8);
    assert_non_null(block);
    memcpy(block, "1234567", 8);
    assert_null(mem_alloc(&mem, SIZE_MAX));
    assert_null(mem_calloc(&mem, SIZE_MAX / 2, 3));
    assert_null(mem_calloc(&mem, 1, SIZE_MAX));
    assert_null(mem_resize(&mem, block, SIZE_MAX));
    assert_null(mem_strndup(&mem, "x", SIZE_MAX));
    assert_string_equal(block, "1234567");
    mem_free(&mem, block);
}

static void a_failing_host_loses_nothing(void **state)
{
    (void)state;
    struct failing_allocator failing;
    struct mem mem;
    failing_init(&failing, &mem, 2);
    char *block = mem_strdup(&mem, "kept");
    assert_null(mem_resize(&mem, block, 1000));
    assert_string_equal(block, "kept");
    failing.fail_at = 0;
    block = mem_resize(&mem, block, 1000);
    assert_string_equal(block, "kept");
    failing.fail_at = failing.calls + 1;
    assert_null(mem_calloc(&mem, 3, 3));
    char *zero = mem_calloc(&mem, 3, 3);
    assert_int_equal(zero[8], 0);
    mem_free(&mem, zero);
    mem_free(&mem, block);
    assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
}

static void a_null_mem_is_malloc(void **state)
{
    (void)state;
    char *text = mem_strndup(NULL, "abcdef", 3);
    assert_string_equal(text, "abc");
    text = mem_resize(NULL, text, 10);
    mem_free(NULL, text);
    text = mem_strndup(NULL, NULL, 0);
    assert_string_equal(text, "");
    mem_free(NULL, text);
}

static void an_arena_hands_out_separate_aligned_blocks_up_to_its_limit(void **state)
{
    (void)state;
    struct mem mem;
    struct arena arena;
    mem_init(&mem, NULL);
    arena_init(&arena, &mem, 3 << 20);
    char *previous = NULL;
    for (int i = 0; i < 1000; i++) {
        char *wide = arena_alloc(&arena, 100), *packed = arena_alloc_packed(&arena, 20);
        assert_true(wide && packed && aligned(wide, 64) && aligned(packed, 8));
        memset(wide, 1, 100);
        memset(packed, 2, 20);
        assert_int_equal(wide[99], 1);
        if (previous)
            assert_int_equal(*previous, 2);
        previous = packed;
    }
    assert_non_null(arena_alloc(&arena, 2 << 20)); /* larger than any chunk */
    assert_null(arena_alloc(&arena, 1 << 20));
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_true(arena.used <= arena.limit);
    assert_string_equal(arena_strndup(&arena, "words", 3), "wor");
    assert_null(arena_strndup(&arena, "x", SIZE_MAX));
    assert_non_null(arena_alloc(&arena, 0));
    arena_free(&arena);
    assert_int_equal(arena.used, 0);
    assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
    arena_free(&arena);
}

static void an_arena_limit_counts_padding(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL, 100);
    assert_non_null(arena_alloc(&arena, 1));
    assert_non_null(arena_alloc(&arena, 1)); /* at 64 */
    assert_null(arena_alloc(&arena, 1));     /* at 128 */
    assert_non_null(arena_alloc_packed(&arena, 8));
    arena_free(&arena);
}

static void an_arena_reports_missing_memory(void **state)
{
    (void)state;
    struct failing_allocator failing;
    struct mem mem;
    struct arena arena;
    failing_init(&failing, &mem, 1);
    arena_init(&arena, &mem, SIZE_MAX);
    assert_null(arena_alloc(&arena, 10));
    assert_null(arena_alloc(&arena, SIZE_MAX - 10));
    assert_non_null(arena_alloc(&arena, 10));
    failing.fail_at = failing.calls + 1;
    assert_null(arena_strndup(&arena, "long", 100000));
    arena_free(&arena);
    assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
}

static void a_buffer_grows_to_its_limit_and_then_stays_failed(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, NULL, 200);
    for (int i = 0; i < 20; i++)
        assert_true(buf_puts(&buf, "0123456789"));
    assert_int_equal(buf.size, 200);
    assert_int_equal(strlen(buf.data), 200);
    assert_true(buf_append(&buf, NULL, 0));
    assert_false(buf_putc(&buf, 'x'));
    assert_int_equal(buf.status, GRAFT_LIMIT);
    assert_false(buf_puts(&buf, "")); /* sticks */
    assert_null(buf_take(&buf, NULL));
    buf_free(&buf);
    assert_int_equal(buf.status, GRAFT_OK);
}

static void a_buffer_formats_and_hands_over(void **state)
{
    (void)state;
    struct buf buf;
    size_t size = 99;
    buf_init(&buf, NULL, SIZE_MAX);
    char *empty = buf_take(&buf, &size);
    assert_string_equal(empty, "");
    assert_int_equal(size, 0);
    mem_free(NULL, empty);
    buf_append(&buf, "a\0b", 3);
    assert_true(buf_printf(&buf, "%d %s", 42, "times"));
    char *text = buf_take(&buf, &size);
    assert_int_equal(size, 11);
    assert_memory_equal(text, "a\0b42 times", 12);
    assert_null(buf.data);
    mem_free(NULL, text);
    buf_init(&buf, NULL, 4);
    assert_false(buf_printf(&buf, "%d", 12345));
    assert_int_equal(buf.status, GRAFT_LIMIT);
    buf_free(&buf);
}

static void a_buffer_reports_missing_memory(void **state)
{
    (void)state;
    struct failing_allocator failing;
    struct mem mem;
    struct buf buf;
    failing_init(&failing, &mem, 2);
    buf_init(&buf, &mem, SIZE_MAX);
    assert_true(buf_puts(&buf, "short"));
    for (int i = 0; i < 10; i++)
        buf_puts(&buf, "and longer and longer");
    assert_int_equal(buf.status, GRAFT_NO_MEMORY);
    assert_string_equal(buf.data + buf.size - 6, "longer");
    buf_free(&buf);
    failing_init(&failing, &mem, 1);
    assert_null(path_join(&mem, "a", "b"));
}

static void names_map_to_their_first_value(void **state)
{
    (void)state;
    enum { N = 5000 };
    static char names[N][24];
    struct mem mem;
    struct str_map map;
    bool existing = true;
    mem_init(&mem, NULL);
    str_map_init(&map, &mem);
    assert_int_equal(str_map_get(&map, "x", 1), -1);
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof(names[i]), "name %d", i);
        assert_true(str_map_put(&map, names[i], strlen(names[i]), i, &existing));
        assert_false(existing);
    }
    assert_true(str_map_put(&map, names[7], strlen(names[7]), 70, &existing));
    assert_true(existing);
    assert_int_equal(map.count, N);
    for (int i = 0; i < N; i++)
        assert_int_equal(str_map_get(&map, names[i], strlen(names[i])), i);
    assert_int_equal(str_map_get(&map, "name", 4), -1);
    assert_true(str_map_put(&map, NULL, 0, 1234, NULL)); /* the empty name is a name */
    assert_int_equal(str_map_get(&map, "", 0), 1234);
    assert_int_equal(str_map_get(&map, "name 1\0", 7), -1);
    str_map_free(&map);
    assert_int_equal(str_map_get(&map, "name 1", 6), -1);
    assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
}

static void a_name_table_without_memory_keeps_what_it_has(void **state)
{
    (void)state;
    struct failing_allocator failing;
    struct mem mem;
    struct str_map map;
    failing_init(&failing, &mem, 2);
    str_map_init(&map, &mem);
    static const char letters[] = "abcdefghijklmnop";
    bool failed = false;
    for (int i = 0; i < 16; i++)
        failed |= !str_map_put(&map, letters + i, 1, i, NULL);
    assert_true(failed);
    assert_int_equal(str_map_get(&map, "a", 1), 0);
    assert_false(str_map_reserve(&map, SIZE_MAX));
    str_map_free(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_aligned_and_counted),
        cmocka_unit_test(resizing_keeps_bytes_when_the_host_moves_blocks),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(a_failing_host_loses_nothing),
        cmocka_unit_test(a_null_mem_is_malloc),
        cmocka_unit_test(an_arena_hands_out_separate_aligned_blocks_up_to_its_limit),
        cmocka_unit_test(an_arena_limit_counts_padding),
        cmocka_unit_test(an_arena_reports_missing_memory),
        cmocka_unit_test(a_buffer_grows_to_its_limit_and_then_stays_failed),
        cmocka_unit_test(a_buffer_formats_and_hands_over),
        cmocka_unit_test(a_buffer_reports_missing_memory),
        cmocka_unit_test(names_map_to_their_first_value),
        cmocka_unit_test(a_name_table_without_memory_keeps_what_it_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
