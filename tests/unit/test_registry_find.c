/* test_registry_find.c: adapters by task and by tag: the name first, then the only one with the tag, else the list of
 * those that fit; what is registered before what lies in a folder.
 */
#include "registry_fixture.h"

#include "failing_allocator.h"
#include "must.h"

/* NAME@VERSION, of one or two tags (NULL: none). */
static void have(struct fixture *f, const char *name, const char *version, const char *tag,
                 const char *other, enum registry_place place)
{
    const char *tags[] = {tag, other};
    char text[64];
    const struct registry_card card = {.name = name,
                                       .version = version,
                                       .tags = tags,
                                       .n_tags = tag == NULL     ? 0
                                                 : other == NULL ? 1
                                                                 : 2};
    snprintf(text, sizeof text, "- - - %s %s", name, version);
    MUST(registry_add(f->registry, fixture_adapter(f, "source", text), &card, place, NULL, error));
}

/* A folder SHIPPED/NAME with a card. */
static void ship(struct fixture *f, const char *name, const char *card)
{
    char path[64];
    mkdir(scratch_path(&f->s, "shipped"), 0777);
    snprintf(path, sizeof path, "shipped/%s", name);
    const char *folder = fixture_adapter(f, path, "x");
    char *file = path_join(NULL, folder, "graft.json");
    assert_int_equal(file_write_atomic(NULL, file, card, strlen(card), NULL), GRAFT_OK);
    mem_free(NULL, file);
}

static void finds(struct fixture *f, const char *query, const char *folder, const char *want)
{
    char *found = NULL;
    MUST(registry_query(f->registry, &f->mem, query, folder, &found, error));
    assert_string_equal(found, want);
    mem_free(&f->mem, found);
}

static void refuses(struct fixture *f, const char *query, const char *folder, graft_status status,
                    const char *words)
{
    char *found = NULL;
    graft_error why;
    assert_int_equal(registry_query(f->registry, &f->mem, query, folder, &found, &why), status);
    if (strstr(why.message, words) == NULL)
        fail_msg("%s: %s", query, why.message);
    assert_null(found);
}

static void a_task_is_a_name_or_else_the_only_one_with_the_tag(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f, 0);
    have(&f, "coder", "1.0.0", "code", "tests", REGISTRY_ADD);
    have(&f, "poet", "1.0.0", "coder", "verse", REGISTRY_ADD);
    have(&f, "tester", "1.0.0", "tests", NULL, REGISTRY_ADD);
    finds(&f, "task:coder", NULL, "coder");
    finds(&f, "task:poet", NULL, "poet");
    finds(&f, "task:verse", NULL, "poet");
    finds(&f, "tag:coder", NULL, "poet");
    finds(&f, "tag:code", NULL, "coder");
    refuses(&f, "tag:tests", NULL, GRAFT_STATE,
            "2 adapters have the tag \"tests\": coder, tester;");
    refuses(&f, "task:tests", NULL, GRAFT_STATE, "coder, tester");
    refuses(&f, "tag:poet", NULL, GRAFT_NOT_FOUND, "no adapter has the tag \"poet\"");
    refuses(&f, "task:nobody", NULL, GRAFT_NOT_FOUND, "is called \"nobody\" or has the tag");
    static const char *const wrong[] = {"", "coder", "task:", "tag:", "Tag:code", "name:coder"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        refuses(&f, wrong[i], NULL, GRAFT_INVALID_ARGUMENT, "asks for no adapter");
    fixture_end(&f);
}

static void tags_are_those_of_the_active_version(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f, 0);
    have(&f, "coder", "1.0.0", "old", NULL, REGISTRY_ADD);
    have(&f, "coder", "2.0.0", "new", NULL, REGISTRY_STAGE);
    finds(&f, "tag:old", NULL, "coder");
    refuses(&f, "tag:new", NULL, GRAFT_NOT_FOUND, "no adapter");
    MUST(registry_promote(f.registry, "coder", NULL, error));
    finds(&f, "tag:new", NULL, "coder");
    refuses(&f, "tag:old", NULL, GRAFT_NOT_FOUND, "no adapter");
    fixture_end(&f);
}

static void a_long_list_is_cut(void **state)
{
    (void)state;
    struct fixture f;
    char name[16];
    fixture_begin(&f, 0);
    for (int i = 0; i < 12; i++) {
        snprintf(name, sizeof name, "a%02d", 11 - i);
        have(&f, name, "1.0.0", "all", NULL, REGISTRY_ADD);
    }
    refuses(
        &f, "tag:all", NULL, GRAFT_STATE,
        "12 adapters have the tag \"all\": a00, a01, a02, a03, a04, a05, a06, a07, ...; name one");
    fixture_end(&f);
}

static void a_folder_is_looked_at_where_nothing_registered_fits(void **state)
{
    (void)state;
    struct fixture f;
    char shipped[200], want[256];
    fixture_begin(&f, 0);
    have(&f, "coder", "1.0.0", "code", NULL, REGISTRY_ADD);
    ship(&f, "security", "{\"tags\":[\"audit\",\"code\"]}");
    ship(&f, "reviewer", "{\"tags\":[\"quality\",\"audit\",7]}");
    ship(&f, "broken", "{\"tags\":");
    ship(&f, "odd", "{\"tags\":\"quality\"}");
    snprintf(shipped, sizeof shipped, "%s", scratch_path(&f.s, "shipped"));
    finds(&f, "tag:code", shipped, "coder");
    snprintf(want, sizeof want, "%s/security", shipped);
    finds(&f, "task:security", shipped, want);
    snprintf(want, sizeof want, "%s/reviewer", shipped);
    finds(&f, "tag:quality", shipped, want);
    finds(&f, "task:quality", shipped, want);
    refuses(&f, "tag:audit", shipped, GRAFT_STATE, "reviewer, security");
    refuses(&f, "tag:audit", NULL, GRAFT_NOT_FOUND, "no adapter");
    refuses(&f, "task:..", shipped, GRAFT_NOT_FOUND, "no adapter");
    refuses(&f, "task:security/../coder", shipped, GRAFT_NOT_FOUND, "no adapter");
    refuses(&f, "tag:x", "/no/such/folder", GRAFT_NOT_FOUND, "/no/such/folder");
    have(&f, "security", "1.0.0", NULL, NULL, REGISTRY_ADD);
    finds(&f, "task:security", shipped, "security");
    fixture_end(&f);
}

static void a_lack_of_memory_is_an_error(void **state)
{
    (void)state;
    struct fixture f;
    char shipped[200];
    fixture_begin(&f, 0);
    have(&f, "coder", "1.0.0", "code", NULL, REGISTRY_ADD);
    have(&f, "other", "1.0.0", "code", NULL, REGISTRY_ADD);
    ship(&f, "security", "{\"tags\":[\"audit\"]}");
    snprintf(shipped, sizeof shipped, "%s", scratch_path(&f.s, "shipped"));
    static const char *const queries[] = {"tag:code", "task:coder"};
    for (size_t q = 0; q < ARRAY_LEN(queries); q++)
        for (size_t n = 1;; n++) {
            struct failing_allocator failing;
            struct mem mem;
            char *found = NULL;
            failing_init(&failing, &mem, n);
            graft_status status =
                registry_query(f.registry, &mem, queries[q], shipped, &found, NULL);
            graft_status without = q == 0 ? GRAFT_STATE : GRAFT_OK;
            assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : without);
            mem_free(&mem, found);
            assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
            if (!failing.failed)
                break;
        }
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_task_is_a_name_or_else_the_only_one_with_the_tag),
        cmocka_unit_test(tags_are_those_of_the_active_version),
        cmocka_unit_test(a_long_list_is_cut),
        cmocka_unit_test(a_folder_is_looked_at_where_nothing_registered_fits),
        cmocka_unit_test(a_lack_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
