/* The registry on disk: addresses, adding, slots, pins, removing, listing, and what other processes see. */
#include "registry_fixture.h"

#include <unistd.h>

/* ---- addresses ---------------------------------------------------------------------------- */

static void an_address_has_a_name_a_version_and_a_weight(void **state)
{
    (void)state;
    struct registry_address a;
    assert_int_equal(registry_parse_address("coder", &a, NULL), GRAFT_OK);
    assert_string_equal(a.name, "coder");
    assert_string_equal(a.version, "");
    assert_false(a.is_path || a.has_weight);
    assert_true(a.weight == 1);
    assert_int_equal(registry_parse_address("coder@1.2.3-rc.1+x=0.25", &a, NULL), GRAFT_OK);
    assert_string_equal(a.version, "1.2.3-rc.1+x");
    assert_true(a.has_weight && a.weight == 0.25);
    assert_int_equal(registry_parse_address("a=-1.5e-1", &a, NULL), GRAFT_OK);
    assert_true(a.weight == -0.15);
    assert_int_equal(registry_parse_address("a=.5", &a, NULL), GRAFT_OK);
    assert_true(a.weight == 0.5);
    assert_int_equal(registry_parse_address("a=0", &a, NULL), GRAFT_OK);
    assert_true(a.has_weight && a.weight == 0);
}

static void a_path_contains_a_slash_and_may_end_in_a_weight(void **state)
{
    (void)state;
    struct registry_address a;
    assert_int_equal(registry_parse_address("./my@adapter=0.5", &a, NULL), GRAFT_OK);
    assert_true(a.is_path && a.has_weight && a.weight == 0.5);
    assert_int_equal(a.path_length, strlen("./my@adapter"));
    assert_int_equal(registry_parse_address("/a=b/c", &a, NULL), GRAFT_OK);
    assert_true(a.is_path && !a.has_weight && a.weight == 1);
    assert_int_equal(a.path_length, strlen("/a=b/c"));
}

static void names_and_versions_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const WRONG[] = {
        "",
        ".",
        "..",
        "-x",
        "a b",
        "a\n",
        "\xC3\xA9",
        "a@",
        "a@1",
        "a@1.2",
        "a@01.2.3",
        "a@1.2.3-",
        "a@1.2.3-01",
        "a@1.2.3+",
        "a@1.2.3-a..b",
        "a@../x",
        "a=",
        "a=x",
        "a=1x",
        "a=inf",
        "a=nan",
        "a=1e999",
        "a=0x10",
        "a@1.2.3=",
        "@1.2.3",
        "=1",
        "a234567890123456789012345678901234567890123456789012345678901234x"};
    for (size_t i = 0; i < ARRAY_LEN(WRONG); i++) {
        struct registry_address a;
        graft_error error = {0};
        if (strchr(WRONG[i], '/'))
            continue; /* a path to the parser; the registry refuses it below */
        if (registry_parse_address(WRONG[i], &a, &error) != GRAFT_INVALID_ARGUMENT)
            fail_msg("\"%s\" was taken", WRONG[i]);
        assert_true(error.message[0]);
    }
}

static void a_path_is_no_name_for_the_registry(void **state)
{
    (void)state;
    struct fixture f;
    struct registry_version_id id;
    fixture_begin(&f, SIZE_MAX);
    assert_int_equal(registry_resolve(f.registry, "../../etc", &id, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(registry_remove(f.registry, "../objects", NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(fixture_add(&f, "../x", "1.0.0", "t", REGISTRY_ADD, NULL),
                     GRAFT_INVALID_ARGUMENT);
    assert_int_equal(fixture_add(&f, "x", "../1.0.0", "t", REGISTRY_ADD, NULL),
                     GRAFT_INVALID_ARGUMENT);
    fixture_end(&f);
}

static void versions_are_ordered_as_semver_says(void **state)
{
    (void)state;
    static const char *const ORDER[] = {"0.9.9",
                                        "1.0.0-alpha",
                                        "1.0.0-alpha.1",
                                        "1.0.0-alpha.beta",
                                        "1.0.0-beta",
                                        "1.0.0-beta.2",
                                        "1.0.0-beta.11",
                                        "1.0.0-rc.1",
                                        "1.0.0",
                                        "1.0.0+a",
                                        "1.0.0+b",
                                        "1.0.10",
                                        "1.2.0",
                                        "2.0.0-0",
                                        "2.0.0",
                                        "10.0.0",
                                        "99999999999999999999.0.0"};
    for (size_t i = 0; i < ARRAY_LEN(ORDER); i++)
        for (size_t j = 0; j < ARRAY_LEN(ORDER); j++) {
            int order = registry_version_compare(ORDER[i], ORDER[j]);
            if ((order > 0) - (order < 0) != (i > j) - (i < j))
                fail_msg("%s and %s: %d", ORDER[i], ORDER[j], order);
        }
}

static void times_are_read_and_written_as_rfc_3339(void **state)
{
    (void)state;
    int64_t t;
    char text[32];
    assert_true(registry_parse_time("2024-02-29T12:00:00Z", &t));
    assert_int_equal(t, 1709208000);
    registry_format_time(t, text);
    assert_string_equal(text, "2024-02-29T12:00:00Z");
    assert_true(registry_parse_time("2024-02-29t14:30:00.125+02:30", &t));
    assert_int_equal(t, 1709208000);
    assert_true(registry_parse_time("1969-12-31T23:59:60Z", &t));
    static const char *const WRONG[] = {"",
                                        "2024-02-30T12:00:00Z",
                                        "2023-02-29T12:00:00Z",
                                        "2024-13-01T12:00:00Z",
                                        "2024-00-10T12:00:00Z",
                                        "2024-02-29T24:00:00Z",
                                        "2024-02-29T12:00:00",
                                        "2024-02-29T12:00:00+2:00",
                                        "2024-02-29T12:00:00.Z",
                                        "2024-02-29T12:00:00Zx"};
    for (size_t i = 0; i < ARRAY_LEN(WRONG); i++)
        assert_false(registry_parse_time(WRONG[i], &t));
    registry_format_time(-1, text);
    assert_string_equal(text, "unknown");
}

/* ---- adding --------------------------------------------------------------------------------- */

struct seen {
    char text[2048];
    size_t names;
};

/* "name[base]: version flags, ..." with * active, > standby, < previous, ! pinned. */
static bool write_down(void *user, const struct registry_name *name)
{
    struct seen *seen = user;
    size_t length = strlen(seen->text);
    char *at = seen->text + length;
    size_t left = sizeof(seen->text) - length;
    int n =
        snprintf(at, left, "%s%s%s%s%s%s:", length ? "; " : "", name->name, name->pinned ? "!" : "",
                 name->base[0] ? "[" : "", name->base, name->base[0] ? "]" : "");
    for (int i = 0; i < (int)name->n_versions; i++)
        n += snprintf(at + n, left - (size_t)n, " %s%s%s%s%s", name->versions[i].version,
                      i == name->active ? "*" : "", i == name->standby ? ">" : "",
                      i == name->previous ? "<" : "", name->versions[i].pinned ? "!" : "");
    seen->names++;
    return true;
}

static void assert_listed(struct registry *registry, const char *expected)
{
    struct seen seen = {.names = 0};
    graft_error error = {0};
    if (registry_list(registry, NULL, write_down, &seen, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    assert_string_equal(seen.text, expected);
}

static void assert_means(struct registry *registry, const char *address, const char *version)
{
    struct registry_version_id id;
    graft_error error = {0};
    if (registry_resolve(registry, address, &id, &error) != GRAFT_OK)
        fail_msg("%s: %s", address, error.message);
    assert_string_equal(id.version, version);
}

static void the_first_version_of_a_name_becomes_active(void **state)
{
    (void)state;
    struct fixture f;
    struct registry_version_id id;
    fixture_begin(&f, SIZE_MAX);
    assert_int_equal(registry_resolve(f.registry, "coder", &id, NULL), GRAFT_NOT_FOUND);
    fixture_have(&f, "coder", "1.0.0", "one", REGISTRY_ADD);
    fixture_have(&f, "coder", "2.0.0", "two", REGISTRY_ADD);
    fixture_have(&f, "coder", "0.5.0", "half", REGISTRY_ADD);
    fixture_have(&f, "actor", "3.0.0", "three", REGISTRY_ADD);
    assert_listed(f.registry, "actor: 3.0.0*; coder: 0.5.0 1.0.0* 2.0.0");
    assert_means(f.registry, "coder", "1.0.0");
    assert_means(f.registry, "coder@2.0.0=0.5", "2.0.0");
    assert_int_equal(registry_resolve(f.registry, "coder@9.0.0", &id, NULL), GRAFT_NOT_FOUND);
    fixture_end(&f);
}

static bool check_card(void *user, const struct registry_name *name)
{
    const struct registry_version *v = &name->versions[0];
    *(bool *)user = true;
    assert_string_equal(name->base, "base-1");
    assert_string_equal(v->description, "writes C \xC3\xA9");
    assert_int_equal(v->n_tags, 2);
    assert_string_equal(v->tags[1], "c11");
    assert_int_equal(v->created, 1000);
    assert_int_equal(v->modified, 2000);
    assert_int_equal(v->memory, 12345);
    assert_int_equal(v->bytes, 4);
    assert_string_equal(v->file, "");
    return true;
}

static void what_is_said_about_a_version_is_kept(void **state)
{
    (void)state;
    struct fixture f;
    bool called = false;
    const char *tags[] = {"code", "c11"};
    struct registry_card card = {"coder", "1.0.0", "writes C \xC3\xA9", "base-1", tags, 2, 1000,
                                 2000,    12345};
    fixture_begin(&f, SIZE_MAX);
    assert_int_equal(registry_add(f.registry, fixture_adapter(&f, "source", "text"), &card,
                                  REGISTRY_ADD, NULL, NULL),
                     GRAFT_OK);
    registry_close(&f.registry);
    f.registry = fixture_open(&f, SIZE_MAX);
    assert_int_equal(registry_list(f.registry, "coder", check_card, &called, NULL), GRAFT_OK);
    assert_true(called);
    assert_int_equal(registry_list(f.registry, "nobody", check_card, &called, NULL),
                     GRAFT_NOT_FOUND);
    fixture_end(&f);
}

static void cards_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    static char long_text[REGISTRY_TEXT_MAX + 2];
    memset(long_text, 'x', sizeof(long_text) - 1);
    const char *many[REGISTRY_TAGS_MAX + 1], *empty[] = {""};
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        many[i] = "t";
    struct registry_card cards[] = {{.name = "a", .description = long_text},
                                    {.name = "a", .description = "\xFF"},
                                    {.name = "a", .base = long_text},
                                    {.name = "a", .tags = many, .n_tags = 65},
                                    {.name = "a", .tags = empty, .n_tags = 1},
                                    {.name = "a b"},
                                    {.name = "a", .version = "1"}};
    fixture_begin(&f, SIZE_MAX);
    for (size_t i = 0; i < ARRAY_LEN(cards); i++) {
        graft_error error = {0};
        graft_status status = registry_add(f.registry, fixture_adapter(&f, "source", "t"),
                                           &cards[i], REGISTRY_ADD, NULL, &error);
        assert_true(status == GRAFT_INVALID_ARGUMENT || status == GRAFT_LIMIT);
        assert_true(error.message[0] && error.file[0]);
    }
    assert_listed(f.registry, "");
    assert_int_equal(registry_add(f.registry, f.s.folder, NULL, REGISTRY_ADD, NULL, NULL),
                     GRAFT_FORMAT);
    assert_int_equal(registry_add(f.registry, "/nowhere/at-all", NULL, REGISTRY_ADD, NULL, NULL),
                     GRAFT_NOT_FOUND);
    fixture_end(&f);
}

static void a_name_and_a_version_are_found_where_nobody_says_them(void **state)
{
    (void)state;
    struct fixture f;
    struct registry_version_id id;
    fixture_begin(&f, SIZE_MAX);
    const char *path = fixture_adapter(&f, "poet", "one");
    assert_int_equal(registry_add(f.registry, path, NULL, REGISTRY_ADD, &id, NULL), GRAFT_OK);
    assert_string_equal(id.name, "poet");
    assert_string_equal(id.version, "1.0.0");
    fixture_have(&f, "poet", "1.4.0-rc.1", "rc", REGISTRY_ADD);
    path = fixture_adapter(&f, "poet", "two");
    assert_int_equal(registry_add(f.registry, path, NULL, REGISTRY_ADD, &id, NULL), GRAFT_OK);
    assert_string_equal(id.version, "1.4.0");
    path = fixture_adapter(&f, "poet", "three");
    assert_int_equal(registry_add(f.registry, path, NULL, REGISTRY_ADD, &id, NULL), GRAFT_OK);
    assert_string_equal(id.version, "1.4.1");
    fixture_end(&f);
}

static uint64_t generation_of(struct registry *registry)
{
    struct registry_stats stats;
    registry_stats(registry, &stats);
    return stats.generation;
}

static void the_same_content_again_changes_nothing_and_other_content_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    graft_error error = {0};
    fixture_begin(&f, SIZE_MAX);
    fixture_have(&f, "coder", "1.0.0", "one", REGISTRY_ADD);
    uint64_t before = generation_of(f.registry);
    fixture_have(&f, "coder", "1.0.0", "one", REGISTRY_ADD);
    fixture_have(&f, "coder", NULL, "one", REGISTRY_ADD);
    assert_int_equal(generation_of(f.registry), before);
    assert_int_equal(fixture_add(&f, "coder", "1.0.0", "other", REGISTRY_ADD, &error), GRAFT_STATE);
    assert_listed(f.registry, "coder: 1.0.0*");
    fixture_end(&f);
}

static void a_name_is_bound_to_the_base_of_its_first_version(void **state)
{
    (void)state;
    struct fixture f;
    graft_error error = {0};
    struct registry_card one = {.name = "a", .version = "1.0.0", .base = "llama"};
    struct registry_card two = {.name = "a", .version = "2.0.0", .base = "qwen"};
    struct registry_card three = {.name = "a", .version = "3.0.0"};
    fixture_begin(&f, SIZE_MAX);
    const char *path = fixture_adapter(&f, "source", "one");
    assert_int_equal(registry_add(f.registry, path, &one, REGISTRY_ADD, NULL, NULL), GRAFT_OK);
    path = fixture_adapter(&f, "source", "two");
    assert_int_equal(registry_add(f.registry, path, &two, REGISTRY_ADD, NULL, &error), GRAFT_STATE);
    assert_non_null(strstr(error.message, "llama"));
    assert_int_equal(registry_add(f.registry, path, &three, REGISTRY_ADD, NULL, &error),
                     GRAFT_STATE);
    assert_non_null(strstr(error.message, "nothing says what this adapter was made for"));
    assert_string_equal(error.file, path);
    assert_listed(f.registry, "a[llama]: 1.0.0*");
    three.base = "llama";
    assert_int_equal(registry_add(f.registry, path, &three, REGISTRY_ADD, NULL, NULL), GRAFT_OK);
    three.base = NULL; /* known content is no news */
    assert_int_equal(registry_add(f.registry, path, &three, REGISTRY_ADD, NULL, NULL), GRAFT_OK);
    assert_listed(f.registry, "a[llama]: 1.0.0* 3.0.0");
    fixture_end(&f);
}

static int objects_of(struct fixture *f)
{
    char path[128];
    int n = 0;
    snprintf(path, sizeof(path), "%s/registry/objects", f->home);
    DIR *dir = opendir(path);
    for (struct dirent *entry; (entry = readdir(dir));)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void equal_content_is_stored_once_and_removed_with_its_last_version(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f, SIZE_MAX);
    fixture_have(&f, "a", "1.0.0", "same", REGISTRY_ADD);
    fixture_have(&f, "b", "1.0.0", "same", REGISTRY_ADD);
    assert_int_equal(objects_of(&f), 1);
    assert_int_equal(registry_remove(f.registry, "a", NULL), GRAFT_OK);
    assert_int_equal(objects_of(&f), 1);
    assert_int_equal(registry_prefetch(f.registry, "b", NULL), GRAFT_OK);
    assert_int_equal(registry_remove(f.registry, "b", NULL), GRAFT_OK);
    assert_int_equal(objects_of(&f), 0);
    assert_listed(f.registry, "");
    fixture_end(&f);
}

struct reports {
    int good, bad;
};

static void count_report(void *user, const char *path, graft_status status,
                         const graft_error *error, const struct registry_version_id *id)
{
    struct reports *reports = user;
    assert_non_null(strrchr(path, '/'));
    assert_true((status == GRAFT_OK) == (id != NULL));
    assert_true((status == GRAFT_OK) == !error->message[0]);
    reports->good += status == GRAFT_OK;
    reports->bad += status != GRAFT_OK;
}

static void a_folder_of_adapters_is_added_in_one_change_without_those_that_fail(void **state)
{
    (void)state;
    struct fixture f;
    struct reports reports = {0};
    size_t added = 99;
    fixture_begin(&f, SIZE_MAX);
    registry_close(&f.registry);
    struct registry_options options = {
        .home = f.home,
        .mem = &f.mem,
        .loader = {fake_open, fake_close, NULL, fake_describe, &f.loader},
    };
    assert_int_equal(registry_open(&f.registry, &options, NULL), GRAFT_OK);
    mkdir(scratch_path(&f.s, "many"), 0777);
    fixture_adapter(&f, "many/a", "- 1.0.0 llama one");
    fixture_adapter(&f, "many/b", "named 2.0.0 - two");
    fixture_adapter(&f, "many/c", "named 2.0.0 - another under the same number");
    fixture_adapter(&f, "many/d", "worse");
    mkdir(scratch_path(&f.s, "many/no-adapter"), 0777);
    uint64_t before = generation_of(f.registry);
    assert_int_equal(registry_add_many(f.registry, scratch_path(&f.s, "many"), count_report,
                                       &reports, &added, NULL),
                     GRAFT_OK);
    assert_int_equal(added, 2);
    assert_int_equal(reports.good, 2);
    assert_int_equal(reports.bad, 2);
    assert_int_equal(generation_of(f.registry), before + 1);
    assert_int_equal(objects_of(&f), 2);
    assert_listed(f.registry, "a[llama]: 1.0.0*; named: 2.0.0*");
    assert_int_equal(registry_add_many(f.registry, scratch_path(&f.s, "many/no-adapter"), NULL,
                                       NULL, &added, NULL),
                     GRAFT_NOT_FOUND);
    fixture_end(&f);
}

static void only_files_that_adapters_are_made_of_are_copied(void **state)
{
    (void)state;
    struct fixture f;
    char path[256];
    struct registry_version_id id, again;
    fixture_begin(&f, SIZE_MAX);
    fixture_adapter(&f, "a", "one");
    for (const char *const *name =
             (const char *const[]){"optimizer.pt", ".hidden.json", "x.safetensors", NULL};
         *name; name++) {
        snprintf(path, sizeof(path), "%s/a/%s", f.s.folder, *name);
        assert_int_equal(file_write_atomic(NULL, path, "12345", 5, NULL), GRAFT_OK);
    }
    snprintf(path, sizeof(path), "%s/a/checkpoint.json", f.s.folder);
    mkdir(path, 0777);
    snprintf(path, sizeof(path), "%s/a/linked.gguf", f.s.folder);
    assert_int_equal(symlink("x.safetensors", path), 0);
    snprintf(path, sizeof(path), "%s/a", f.s.folder);
    assert_int_equal(registry_add(f.registry, path, NULL, REGISTRY_ADD, &id, NULL), GRAFT_OK);
    char object[256];
    int n = snprintf(object, sizeof(object), "%s/registry/objects/", f.home);
    hex_write(id.digest, sizeof(id.digest), object + n);
    int files = 0;
    DIR *dir = opendir(object);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        files += entry->d_name[0] != '.';
    closedir(dir);
    assert_int_equal(files, 3); /* the configuration, the tensors, and what the link means */
    snprintf(path, sizeof(path), "%s/x.gguf", f.s.folder);
    assert_int_equal(file_write_atomic(NULL, path, "GGUF", 4, NULL), GRAFT_OK);
    assert_int_equal(registry_add(f.registry, path, NULL, REGISTRY_ADD, &again, NULL), GRAFT_OK);
    assert_string_equal(again.name, "x");
    fixture_end(&f);
}

static void verify_finds_files_that_were_changed_and_adding_again_heals_them(void **state)
{
    (void)state;
    struct fixture f;
    struct registry_version_id id;
    char path[256];
    graft_error error = {0};
    fixture_begin(&f, SIZE_MAX);
    fixture_have(&f, "a", "1.0.0", "one", REGISTRY_ADD);
    assert_int_equal(registry_verify(f.registry, "a", &error), GRAFT_OK);
    assert_int_equal(registry_resolve(f.registry, "a", &id, NULL), GRAFT_OK);
    int n = snprintf(path, sizeof(path), "%s/registry/objects/", f.home);
    hex_write(id.digest, sizeof(id.digest), path + n);
    n += 2 * (int)sizeof(id.digest);
    snprintf(path + n, sizeof(path) - (size_t)n, "/adapter_config.json");
    assert_int_equal(file_write_atomic(NULL, path, "two", 3, NULL), GRAFT_OK);
    assert_int_equal(registry_verify(f.registry, "a", &error), GRAFT_FORMAT);
    assert_string_equal(error.file, path);
    assert_non_null(strstr(error.message, "a@1.0.0 is damaged: the file is not the one"));
    fixture_have(&f, "a", "1.0.0", "one", REGISTRY_ADD);
    assert_int_equal(registry_verify(f.registry, "a", &error), GRAFT_OK);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(registry_verify(f.registry, "a", &error), GRAFT_FORMAT);
    assert_string_equal(error.file, path);
    assert_non_null(strstr(error.message, "was there when"));
    fixture_have(&f, "a", "1.0.0", "one", REGISTRY_ADD);
    snprintf(path + n, sizeof(path) - (size_t)n, "/more.json");
    assert_int_equal(file_write_atomic(NULL, path, "{}", 2, NULL), GRAFT_OK);
    assert_int_equal(registry_verify(f.registry, "a", &error), GRAFT_FORMAT);
    assert_string_equal(error.file, path);
    snprintf(path + n, sizeof(path) - (size_t)n, "/.sums"); /* without it the folder is named */
    assert_int_equal(file_write_atomic(NULL, path, "", 0, NULL), GRAFT_OK);
    assert_int_equal(registry_verify(f.registry, "a", &error), GRAFT_FORMAT);
    assert_memory_equal(error.file, path, (size_t)n);
    assert_int_equal(strlen(error.file), n);
    fixture_have(&f, "a", "1.0.0", "one", REGISTRY_ADD);
    assert_int_equal(registry_verify(f.registry, "a", &error), GRAFT_OK);
    fixture_end(&f);
}

/* ---- slots ------------------------------------------------------------------------------------ */

static void stage_promote_and_rollback_move_versions_between_slots(void **state)
{
    (void)state;
    struct fixture f;
    struct registry_version_id id;
    fixture_begin(&f, SIZE_MAX);
    fixture_have(&f, "a", "1.0.0", "one", REGISTRY_ADD);
    assert_int_equal(registry_promote(f.registry, "a", NULL, NULL), GRAFT_STATE);
    assert_int_equal(registry_rollback(f.registry, "a", NULL, NULL), GRAFT_STATE);
    assert_int_equal(registry_stage(f.registry, "a@1.0.0", NULL), GRAFT_STATE);
    fixture_have(&f, "a", "1.1.0", "two", REGISTRY_STAGE);
    assert_listed(f.registry, "a: 1.0.0* 1.1.0>");
    assert_means(f.registry, "a", "1.0.0");
    assert_int_equal(registry_promote(f.registry, "a@1.0.0", NULL, NULL), GRAFT_STATE);
    assert_int_equal(registry_promote(f.registry, "a", &id, NULL), GRAFT_OK);
    assert_string_equal(id.version, "1.1.0");
    assert_int_equal(id.generation, generation_of(f.registry));
    assert_listed(f.registry, "a: 1.0.0< 1.1.0*");
    assert_int_equal(registry_rollback(f.registry, "a", &id, NULL), GRAFT_OK);
    assert_string_equal(id.version, "1.0.0");
    assert_listed(f.registry, "a: 1.0.0* 1.1.0<");
    assert_int_equal(registry_rollback(f.registry, "a@1.0.0", NULL, NULL), GRAFT_STATE);
    assert_int_equal(registry_stage(f.registry, "a@1.1.0", NULL), GRAFT_OK);
    assert_listed(f.registry, "a: 1.0.0* 1.1.0><");
    assert_int_equal(registry_rollback(f.registry, "a", NULL, NULL), GRAFT_OK);
    assert_listed(f.registry, "a: 1.0.0< 1.1.0*");
    fixture_end(&f);
}

static void publish_is_one_change_and_activate_leaves_another_staged(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f, SIZE_MAX);
    fixture_have(&f, "a", "1.0.0", "one", REGISTRY_ADD);
    fixture_have(&f, "a", "2.0.0", "two", REGISTRY_PUBLISH);
    assert_listed(f.registry, "a: 1.0.0< 2.0.0*");
    fixture_have(&f, "a", "3.0.0", "three", REGISTRY_STAGE);
    assert_int_equal(registry_activate(f.registry, "a@1.0.0", NULL), GRAFT_OK);
    assert_listed(f.registry, "a: 1.0.0* 2.0.0< 3.0.0>");
    uint64_t before = generation_of(f.registry);
    assert_int_equal(registry_activate(f.registry, "a@1.0.0", NULL), GRAFT_OK);
    assert_int_equal(generation_of(f.registry), before);
    assert_int_equal(registry_publish(f.registry, "a@2.0.0", NULL), GRAFT_OK);
    assert_int_equal(generation_of(f.registry), before + 1);
    assert_listed(f.registry, "a: 1.0.0< 2.0.0* 3.0.0");
    assert_int_equal(registry_publish(f.registry, "a", NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(registry_activate(f.registry, "a@7.0.0", NULL), GRAFT_NOT_FOUND);
    assert_int_equal(registry_activate(f.registry, "b@7.0.0", NULL), GRAFT_NOT_FOUND);
    fixture_end(&f);
}

static void what_is_active_pinned_or_held_is_not_removed(void **state)
{
    (void)state;
    struct fixture f;
    struct registry_lease lease;
    graft_error error = {0};
    fixture_begin(&f, SIZE_MAX);
    fixture_have(&f, "a", "1.0.0", "one", REGISTRY_ADD);
    fixture_have(&f, "a", "1.1.0", "two", REGISTRY_PUBLISH);
    fixture_have(&f, "a", "1.2.0", "three", REGISTRY_STAGE);
    assert_int_equal(registry_remove(f.registry, "a@1.1.0", &error), GRAFT_STATE);
    assert_non_null(strstr(error.message, "active"));
    assert_int_equal(registry_remove(f.registry, "a@1.2.0", &error), GRAFT_OK);
    assert_listed(f.registry, "a: 1.0.0< 1.1.0*"); /* staging is taken back so */
    assert_int_equal(registry_promote(f.registry, "a", NULL, NULL), GRAFT_STATE);
    fixture_have(&f, "a", "1.2.0", "three", REGISTRY_STAGE);
    assert_int_equal(registry_acquire(f.registry, "a@1.0.0", &lease, NULL), GRAFT_OK);
    assert_int_equal(registry_remove(f.registry, "a@1.0.0", &error), GRAFT_STATE);
    assert_non_null(strstr(error.message, "in use"));
    assert_int_equal(registry_remove(f.registry, "a", &error), GRAFT_STATE);
    registry_release(&lease);
    assert_int_equal(registry_pin(f.registry, "a@1.0.0", true, NULL), GRAFT_OK);
    assert_listed(f.registry, "a: 1.0.0<! 1.1.0* 1.2.0>");
    assert_int_equal(registry_remove(f.registry, "a@1.0.0", &error), GRAFT_STATE);
    assert_non_null(strstr(error.message, "pinned"));
    assert_int_equal(registry_remove(f.registry, "a", &error), GRAFT_STATE);
    assert_int_equal(registry_pin(f.registry, "a@1.0.0", false, NULL), GRAFT_OK);
    assert_int_equal(registry_remove(f.registry, "a@1.0.0", NULL), GRAFT_OK);
    assert_listed(f.registry, "a: 1.1.0* 1.2.0>");
    assert_int_equal(registry_rollback(f.registry, "a", NULL, NULL), GRAFT_STATE);
    assert_int_equal(registry_remove(f.registry, "a", NULL), GRAFT_OK);
    assert_int_equal(registry_remove(f.registry, "a", NULL), GRAFT_NOT_FOUND);
    fixture_end(&f);
}

/* ---- several registries on one home ------------------------------------------------------------- */

static void a_change_by_one_is_seen_by_the_next_resolve_of_another(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f, SIZE_MAX);
    struct registry *other = fixture_open(&f, SIZE_MAX);
    fixture_have(&f, "a", "1.0.0", "one", REGISTRY_ADD);
    assert_means(other, "a", "1.0.0");
    fixture_have(&f, "a", "2.0.0", "two", REGISTRY_PUBLISH);
    assert_means(other, "a", "2.0.0");
    assert_int_equal(registry_rollback(other, "a", NULL, NULL), GRAFT_OK);
    assert_means(f.registry, "a", "1.0.0");
    registry_close(&other);
    fixture_end(&f);
}

static void a_damaged_index_is_an_error_that_names_the_file(void **state)
{
    (void)state;
    struct fixture f;
    char path[128], *bytes;
    size_t size;
    struct registry *other = NULL;
    struct registry_options options = {.home = f.home};
    graft_error error = {0};
    fixture_begin(&f, SIZE_MAX);
    fixture_have(&f, "a", "1.0.0", "one", REGISTRY_ADD);
    snprintf(path, sizeof(path), "%s/registry/index", f.home);
    assert_int_equal(file_read(NULL, path, 1 << 20, &bytes, &size, NULL), GRAFT_OK);
    for (size_t i = 0; i < size; i++) {
        struct registry_version_id id;
        bytes[i] ^= 4;
        assert_int_equal(file_write_atomic(NULL, path, bytes, size, NULL), GRAFT_OK);
        graft_status status = registry_open(&other, &options, &error);
        if (status == GRAFT_OK) /* a damaged record is found out when it is looked at */
            status = registry_resolve(other, "a", &id, &error);
        assert_true(status == GRAFT_FORMAT || status == GRAFT_UNSUPPORTED ||
                    status == GRAFT_NOT_FOUND);
        registry_close(&other);
        bytes[i] ^= 4;
    }
    assert_int_equal(file_write_atomic(NULL, path, bytes, size - 1, NULL), GRAFT_OK);
    assert_int_equal(registry_open(&other, &options, &error), GRAFT_FORMAT);
    assert_string_equal(error.file, path);
    assert_int_equal(file_write_atomic(NULL, path, bytes, size, NULL), GRAFT_OK);
    mem_free(NULL, bytes);
    fixture_end(&f);
}

static void what_a_dying_process_left_is_cleared_away(void **state)
{
    (void)state;
    struct fixture f;
    char path[160];
    fixture_begin(&f, SIZE_MAX);
    fixture_have(&f, "a", "0.9.0", "zero", REGISTRY_ADD);
    snprintf(path, sizeof(path), "%s/registry/index.tmp-abcdef", f.home);
    assert_int_equal(file_write_atomic(NULL, path, "x", 1, NULL), GRAFT_OK);
    snprintf(path, sizeof(path), "%s/registry/incoming/adapter", f.home);
    mkdir(path, 0777);
    snprintf(path, sizeof(path), "%s/registry/incoming/adapter/half.safetensors", f.home);
    assert_int_equal(file_write_atomic(NULL, path, "x", 1, NULL), GRAFT_OK);
    fixture_have(&f, "a", "1.0.0", "one", REGISTRY_ADD);
    assert_false(path_exists(path));
    snprintf(path, sizeof(path), "%s/registry/index.tmp-abcdef", f.home);
    assert_false(path_exists(path));
    fixture_end(&f);
}

static void a_home_that_cannot_be_made_is_an_error(void **state)
{
    (void)state;
    struct fixture f;
    struct registry *other = NULL;
    graft_error error = {0};
    char file[160];
    fixture_begin(&f, SIZE_MAX);
    snprintf(file, sizeof(file), "%s/plain", f.s.folder);
    assert_int_equal(file_write_atomic(NULL, file, "x", 1, NULL), GRAFT_OK);
    struct registry_options options = {.home = file};
    assert_int_not_equal(registry_open(&other, &options, &error), GRAFT_OK);
    assert_null(other);
    assert_true(error.message[0] && error.file[0]);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_has_a_name_a_version_and_a_weight),
        cmocka_unit_test(a_path_contains_a_slash_and_may_end_in_a_weight),
        cmocka_unit_test(names_and_versions_that_are_none_are_refused),
        cmocka_unit_test(a_path_is_no_name_for_the_registry),
        cmocka_unit_test(versions_are_ordered_as_semver_says),
        cmocka_unit_test(times_are_read_and_written_as_rfc_3339),
        cmocka_unit_test(the_first_version_of_a_name_becomes_active),
        cmocka_unit_test(what_is_said_about_a_version_is_kept),
        cmocka_unit_test(cards_that_do_not_fit_are_refused),
        cmocka_unit_test(a_name_and_a_version_are_found_where_nobody_says_them),
        cmocka_unit_test(the_same_content_again_changes_nothing_and_other_content_is_refused),
        cmocka_unit_test(a_name_is_bound_to_the_base_of_its_first_version),
        cmocka_unit_test(equal_content_is_stored_once_and_removed_with_its_last_version),
        cmocka_unit_test(a_folder_of_adapters_is_added_in_one_change_without_those_that_fail),
        cmocka_unit_test(only_files_that_adapters_are_made_of_are_copied),
        cmocka_unit_test(verify_finds_files_that_were_changed_and_adding_again_heals_them),
        cmocka_unit_test(stage_promote_and_rollback_move_versions_between_slots),
        cmocka_unit_test(publish_is_one_change_and_activate_leaves_another_staged),
        cmocka_unit_test(what_is_active_pinned_or_held_is_not_removed),
        cmocka_unit_test(a_change_by_one_is_seen_by_the_next_resolve_of_another),
        cmocka_unit_test(a_damaged_index_is_an_error_that_names_the_file),
        cmocka_unit_test(what_a_dying_process_left_is_cleared_away),
        cmocka_unit_test(a_home_that_cannot_be_made_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
