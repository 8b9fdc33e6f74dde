/* The registry's index: ten thousand names, records in and out, and bytes that are no index. */
#include "registry_fixture.h"

#include "adapter/registry/registry_internal.h"
#include "failing_allocator.h"

enum { MANY = 10000 };

/* An index of `n` names, every tenth with three versions and the others with one, as bytes. */
static char *many_names(size_t n, size_t *size)
{
    struct registry_name *names = calloc(n, sizeof(*names));
    struct registry_version versions[3] = {{0}};
    const char *tags[] = {"skill", "tenant"};
    char(*texts)[32] = calloc(n, sizeof(*texts));
    struct index_view empty = {0};
    struct buf out;
    const char *numbers[] = {"1.0.0", "1.1.0", "2.0.0"};
    for (size_t v = 0; v < 3; v++) {
        versions[v].version = numbers[v];
        versions[v].description = "what a tenant wants of a model, in one line of usual length";
        versions[v].file = "";
        versions[v].tags = tags;
        versions[v].n_tags = ARRAY_LEN(tags);
        memset(versions[v].digest, (int)v, sizeof(versions[v].digest));
    }
    for (size_t i = 0; i < n; i++) {
        snprintf(texts[i], sizeof(texts[i]), "tenant-%05zu", (i * 7919) % n);
        names[i] = (struct registry_name){.name = texts[i],
                                          .base = "llama:0123456789abcdef",
                                          .active = 0,
                                          .standby = REGISTRY_NO_SLOT,
                                          .previous = REGISTRY_NO_SLOT,
                                          .versions = versions,
                                          .n_versions = i % 10 ? 1 : 3};
    }
    buf_init(&out, NULL, SIZE_MAX);
    assert_int_equal(index_write(&out, &empty, names, n, NULL), GRAFT_OK);
    free(names);
    free(texts);
    return buf_take(&out, size);
}

struct count {
    size_t names, versions;
    char last[80];
};

static bool count_names(void *user, const struct registry_name *name)
{
    struct count *count = user;
    assert_true(strcmp(count->last, name->name) < 0);
    snprintf(count->last, sizeof(count->last), "%s", name->name);
    count->names++;
    count->versions += name->n_versions;
    return true;
}

/* Prints what it measured; the bounds of the project (resolve 1 ms, list 50 ms) are looked at by people. */
static void ten_thousand_names_are_found_and_listed(void **state)
{
    (void)state;
    struct fixture f;
    size_t size;
    char path[128], address[64];
    struct count count = {0};
    char *bytes = many_names(MANY, &size);
    fixture_begin(&f, SIZE_MAX);
    fixture_have(&f, "source", "1.0.0", "text", REGISTRY_ADD);
    snprintf(path, sizeof(path), "%s/registry/index", f.home);
    registry_close(&f.registry);
    assert_int_equal(file_write_atomic(NULL, path, bytes, size, NULL), GRAFT_OK);
    mem_free(NULL, bytes);
    double start = time_seconds();
    struct registry_version_id id;
    f.registry = fixture_open(&f, SIZE_MAX);
    assert_int_equal(registry_resolve(f.registry, "tenant-00042", &id, NULL), GRAFT_OK);
    double opened = time_seconds();
    for (size_t i = 0; i < MANY; i++) {
        snprintf(address, sizeof(address), "tenant-%05zu", i);
        assert_int_equal(registry_resolve(f.registry, address, &id, NULL), GRAFT_OK);
        assert_string_equal(id.name, address);
    }
    double resolved = time_seconds();
    assert_int_equal(registry_list(f.registry, NULL, count_names, &count, NULL), GRAFT_OK);
    double listed = time_seconds();
    assert_int_equal(count.names, MANY);
    assert_int_equal(count.versions, MANY / 10 * 12);
    struct registry *other = fixture_open(&f, SIZE_MAX);
    double changing = time_seconds();
    assert_int_equal(registry_pin(other, "tenant-00042", true, NULL), GRAFT_OK);
    double changed = time_seconds();
    assert_int_equal(registry_resolve(f.registry, "tenant-00042", &id, NULL), GRAFT_OK);
    double seen = time_seconds();
    assert_int_equal(id.generation, 2);
    printf("%d names, %zu bytes of index: open and resolve %.3f ms, resolve %.4f ms, list %.1f ms, "
           "change %.1f ms, resolve after it elsewhere %.3f ms\n",
           MANY, size, 1e3 * (opened - start), 1e3 * (resolved - opened) / MANY,
           1e3 * (listed - resolved), 1e3 * (changed - changing), 1e3 * (seen - changed));
    assert_int_equal(registry_pin(other, "tenant-00042", false, NULL), GRAFT_OK);
    assert_int_equal(registry_remove(other, "tenant-00042", NULL), GRAFT_OK);
    assert_int_equal(registry_resolve(f.registry, "tenant-00042", &id, NULL), GRAFT_NOT_FOUND);
    assert_int_equal(registry_resolve(f.registry, "tenant-00043", &id, NULL), GRAFT_OK);
    registry_close(&other);
    fixture_end(&f);
}

static void a_change_replaces_adds_and_leaves_out_names(void **state)
{
    (void)state;
    size_t size;
    char *bytes = many_names(5, &size);
    struct index_view view, after;
    struct arena arena;
    struct buf out;
    struct registry_name name, changed[3];
    struct registry_version version = {.version = "9.0.0", .description = "", .file = "x.gguf"};
    assert_int_equal(index_parse(&view, bytes, size, NULL), GRAFT_OK);
    assert_int_equal(view.generation, 1);
    struct registry_name fresh = {.base = "",
                                  .active = 0,
                                  .standby = REGISTRY_NO_SLOT,
                                  .previous = REGISTRY_NO_SLOT,
                                  .versions = &version,
                                  .n_versions = 1};
    changed[0] = changed[1] = changed[2] = fresh;
    changed[0].name = "zebra";
    changed[1].name = "tenant-00003";
    changed[2].name = "tenant-00001";
    changed[2].n_versions = 0;
    buf_init(&out, NULL, SIZE_MAX);
    assert_int_equal(index_write(&out, &view, changed, 3, NULL), GRAFT_OK);
    assert_int_equal(index_parse(&after, out.data, out.size, NULL), GRAFT_OK);
    assert_int_equal(after.generation, 2);
    assert_int_equal(after.n_names, 5);
    assert_int_equal(index_find(&after, "tenant-00001"), -1);
    assert_int_equal(index_find(&after, "tenant-00002"), 1);
    assert_int_equal(index_find(&after, "zebra"), 4);
    arena_init(&arena, NULL, SIZE_MAX);
    assert_int_equal(index_read(&after, 2, &arena, &name, NULL), GRAFT_OK);
    assert_string_equal(name.name, "tenant-00003");
    assert_int_equal(name.n_versions, 1);
    assert_string_equal(name.versions[0].file, "x.gguf");
    assert_int_equal(name.standby, REGISTRY_NO_SLOT);
    arena_free(&arena);
    buf_free(&out);
    mem_free(NULL, bytes);
}

static void every_cut_and_every_changed_byte_is_noticed(void **state)
{
    (void)state;
    size_t size;
    char *bytes = many_names(3, &size);
    struct index_view view;
    for (size_t cut = 0; cut < size; cut++)
        assert_int_not_equal(index_parse(&view, bytes, cut, NULL), GRAFT_OK);
    for (size_t i = 0; i < size; i++) {
        struct arena arena;
        struct registry_name name;
        int bad = 0;
        bytes[i] ^= 0x20;
        arena_init(&arena, NULL, SIZE_MAX);
        if (index_parse(&view, bytes, size, NULL) != GRAFT_OK)
            bad++;
        else
            for (uint32_t j = 0; j < view.n_names; j++)
                bad += index_read(&view, j, &arena, &name, NULL) == GRAFT_FORMAT;
        assert_int_equal(bad, 1);
        arena_free(&arena);
        bytes[i] ^= 0x20;
    }
    mem_free(NULL, bytes);
}

static void an_index_of_another_format_is_refused_by_its_number(void **state)
{
    (void)state;
    size_t size;
    char *bytes = many_names(1, &size);
    struct index_view view;
    graft_error error = {0};
    bytes[8] = 3;
    assert_int_equal(index_parse(&view, bytes, size, &error), GRAFT_UNSUPPORTED);
    assert_non_null(strstr(error.message, "format 3"));
    mem_free(NULL, bytes);
}

static void writing_without_memory_is_an_error(void **state)
{
    (void)state;
    size_t size;
    char *bytes = many_names(40, &size);
    struct index_view view;
    graft_status status = GRAFT_NO_MEMORY;
    assert_int_equal(index_parse(&view, bytes, size, NULL), GRAFT_OK);
    for (size_t n = 1; status != GRAFT_OK; n++) {
        struct failing_allocator failing;
        struct mem mem;
        struct buf out;
        failing_init(&failing, &mem, n);
        buf_init(&out, &mem, SIZE_MAX);
        status = index_write(&out, &view, NULL, 0, NULL);
        assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        buf_free(&out);
        assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
    }
    mem_free(NULL, bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_names_are_found_and_listed),
        cmocka_unit_test(a_change_replaces_adds_and_leaves_out_names),
        cmocka_unit_test(every_cut_and_every_changed_byte_is_noticed),
        cmocka_unit_test(an_index_of_another_format_is_refused_by_its_number),
        cmocka_unit_test(writing_without_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
