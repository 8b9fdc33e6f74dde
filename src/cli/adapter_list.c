/* adapter_list.c: `graft adapter list`: names with their slots, or the versions of one name; for people a table,
 * for machines JSON.
 */
#include "adapter.h"

#include <time.h>

enum { KEY_JSON = 0x200, MAX_COLUMNS = 9, TIME_TEXT = 32 };

/* ---- tables ---- */

/* Cells are collected, since their widths are known at the end only. */
struct table {
    int n_columns;
    size_t n; /* cells */
    size_t widths[MAX_COLUMNS];
    struct buf cells; /* each with a NUL behind it */
};

static size_t characters(const char *text)
{
    size_t n = 0;
    for (; *text != '\0'; text++) {
        n += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return n;
}

/* What would break the line or drive the terminal becomes a blank. */
static void add_cell(struct table *t, const char *text)
{
    size_t width = characters(text), column = t->n++ % (size_t)t->n_columns;
    for (const char *c = text; *c != '\0'; c++) {
        size_t control = utf8_control(c, strlen(c));
        buf_putc(&t->cells, control > 0 ? ' ' : *c);
        c += control > 1;
    }
    buf_putc(&t->cells, '\0');
    t->widths[column] = width > t->widths[column] ? width : t->widths[column];
}

static void table_begin(struct table *t, const char *const *heads, int n_columns)
{
    *t = (struct table){.n_columns = n_columns};
    buf_init(&t->cells, NULL, SIZE_MAX);
    for (int i = 0; i < n_columns; i++) {
        add_cell(t, heads[i]);
    }
}

static int table_end(struct table *t)
{
    int status = t->cells.status == GRAFT_OK ? CLI_OK : cli_fail_text("out of memory");
    const char *cell = t->cells.data;
    size_t blanks = 0; /* not written behind the last cell that says something */
    for (size_t i = 0; status == CLI_OK && i < t->n; i++, cell += strlen(cell) + 1) {
        size_t column = i % (size_t)t->n_columns;
        if (*cell != '\0') {
            printf("%*s%s", (int)blanks, "", cell);
            blanks = 0;
        }
        blanks += t->widths[column] - characters(cell) + 2;
        if (column + 1 == (size_t)t->n_columns) {
            putchar('\n');
            blanks = 0;
        }
    }
    buf_free(&t->cells);
    return status;
}

/* ---- words ---- */

static const char *version_in(const graft_registry_entry *e, int slot)
{
    return slot >= 0 ? e->versions[slot].version : NULL;
}

static const char *slot_of(const graft_registry_entry *e, int version)
{
    return version == e->active     ? "active"
           : version == e->standby  ? "standby"
           : version == e->previous ? "previous"
                                    : "";
}

static void time_text(int64_t seconds, const char *format, char out[TIME_TEXT])
{
    struct tm t;
    time_t when = (time_t)seconds;
    if (gmtime_r(&when, &t) == NULL || strftime(out, TIME_TEXT, format, &t) == 0) {
        snprintf(out, TIME_TEXT, "unknown");
    }
}

static void add_tags(struct table *t, const graft_registry_version *v)
{
    struct buf text;
    buf_init(&text, NULL, SIZE_MAX);
    for (size_t i = 0; i < v->n_tags; i++) {
        buf_printf(&text, "%s%s", i > 0 ? "," : "", v->tags[i]);
    }
    add_cell(t, text.size > 0 ? text.data : "");
    buf_free(&text);
}

/* ---- for people ---- */

static bool add_name(void *user, const graft_registry_entry *e)
{
    struct table *t = user;
    const graft_registry_version *v =
        &e->versions[e->active >= 0 ? (size_t)e->active : e->n_versions - 1];
    char text[80], size[CLI_SIZE_TEXT];
    uint64_t bytes = 0;
    bool pinned = e->pinned;
    for (size_t i = 0; i < e->n_versions; i++) {
        bytes += e->versions[i].bytes;
        pinned = pinned || e->versions[i].pinned;
    }
    add_cell(t, e->name);
    add_cell(t, e->active >= 0 ? version_in(e, e->active) : "-");
    snprintf(text, sizeof text, "%s%s", e->standby >= 0 ? "→ " : "-",
             e->standby >= 0 ? version_in(e, e->standby) : "");
    add_cell(t, text);
    snprintf(text, sizeof text, "%zu", e->n_versions);
    add_cell(t, text);
    cli_size_text(bytes, size);
    add_cell(t, size);
    snprintf(text, sizeof text, "%.19s", e->base);
    add_cell(t, e->base[0] != '\0' ? text : "any");
    add_cell(t, pinned ? "pinned" : "");
    add_tags(t, v);
    add_cell(t, v->description);
    return true;
}

static bool add_versions(void *user, const graft_registry_entry *e)
{
    struct table *t = user;
    char text[TIME_TEXT], size[CLI_SIZE_TEXT];
    for (size_t i = e->n_versions; i-- > 0;) {
        const graft_registry_version *v = &e->versions[i];
        bool pinned = v->pinned || (e->pinned && (int)i == e->active);
        add_cell(t, i + 1 == e->n_versions ? e->name : "");
        add_cell(t, v->version);
        add_cell(t, slot_of(e, (int)i));
        cli_size_text(v->bytes, size);
        add_cell(t, size);
        time_text(v->created, "%Y-%m-%d", text);
        add_cell(t, text);
        add_cell(t, pinned ? "pinned" : "");
        add_tags(t, v);
        add_cell(t, v->description);
    }
    return true;
}

/* ---- for machines ---- */

static json_t *json_version(const graft_registry_version *v)
{
    char created[TIME_TEXT], modified[TIME_TEXT];
    json_t *tags = json_array();
    for (size_t i = 0; i < v->n_tags; i++) {
        json_append(&tags, json_string(v->tags[i]));
    }
    time_text(v->created, "%Y-%m-%dT%H:%M:%SZ", created);
    time_text(v->modified, "%Y-%m-%dT%H:%M:%SZ", modified);
    return json_pack("{s:s, s:s, s:o, s:s, s:I, s:I, s:s, s:s, s:b}", "version", v->version,
                     "description", v->description, "tags", tags, "digest", v->digest, "bytes",
                     (json_int_t)v->bytes, "memory", (json_int_t)v->memory, "created", created,
                     "modified", modified, "pinned", (int)v->pinned);
}

static json_t *json_entry(const graft_registry_entry *e)
{
    json_t *versions = json_array();
    for (size_t i = 0; i < e->n_versions; i++) {
        json_append(&versions, json_version(&e->versions[i]));
    }
    return json_pack("{s:s, s:s, s:s?, s:s?, s:s?, s:b, s:b, s:o}", "name", e->name, "base",
                     e->base, "active", version_in(e, e->active), "standby",
                     version_in(e, e->standby), "previous", version_in(e, e->previous),
                     "swap_in_progress", (int)(e->standby >= 0), "pinned", (int)e->pinned,
                     "versions", versions);
}

static bool add_json(void *user, const graft_registry_entry *e)
{
    json_t **list = user;
    json_append(list, json_entry(e));
    return *list != NULL;
}

static bool print_json(void *user, const graft_registry_entry *e)
{
    *(int *)user = cli_print_json(json_entry(e));
    return true;
}

/* ---- the verb ---- */

static int list_failed(graft_error *error)
{
    return cli_fail_hint(
        error, error->status == GRAFT_NOT_FOUND ? "`graft adapter list` shows the names" : NULL);
}

int cli_print_entry(const struct cli_store *store, const char *name, bool json)
{
    static const char *const heads[] = {"NAME",    "VERSION", "SLOT", "SIZE",
                                        "CREATED", "",        "TAGS", "DESCRIPTION"};
    graft_error error = {0};
    struct table t;
    int status = CLI_OK;
    if (json) {
        return graft_registry_list(store->registry, name, print_json, &status, &error) == GRAFT_OK
                   ? status
                   : list_failed(&error);
    }
    table_begin(&t, heads, ARRAY_LEN(heads));
    if (graft_registry_list(store->registry, name, add_versions, &t, &error) != GRAFT_OK) {
        buf_free(&t.cells);
        return list_failed(&error);
    }
    return table_end(&t);
}

static int print_all_json(const struct cli_store *store)
{
    graft_error error = {0};
    json_t *list = json_array();
    if (graft_registry_list(store->registry, NULL, add_json, &list, &error) != GRAFT_OK) {
        json_decref(list);
        return cli_fail(&error);
    }
    return cli_print_json(json_pack("{s:o}", "adapters", list));
}

static int print_all(const struct cli_store *store)
{
    static const char *const heads[] = {"NAME", "ACTIVE", "STANDBY", "VERSIONS",   "SIZE",
                                        "BASE", "",       "TAGS",    "DESCRIPTION"};
    graft_error error = {0};
    struct table t;
    table_begin(&t, heads, ARRAY_LEN(heads));
    if (graft_registry_list(store->registry, NULL, add_name, &t, &error) != GRAFT_OK) {
        buf_free(&t.cells);
        return cli_fail(&error);
    }
    if (t.n == ARRAY_LEN(heads)) {
        buf_free(&t.cells);
        fputs("no adapter is registered yet: `graft adapter add PATH` does it\n", stderr);
        return CLI_OK;
    }
    return table_end(&t);
}

struct list_args {
    const char *name;
    bool json;
};

static error_t parse_list(int key, char *arg, struct argp_state *state)
{
    struct list_args *a = state->input;
    if (key == KEY_JSON) {
        a->json = true;
        return 0;
    }
    if (key == ARGP_KEY_ARG && a->name != NULL) {
        argp_error(state, "unexpected argument \"%s\"", arg);
    }
    if (key == ARGP_KEY_ARG) {
        a->name = cli_parse_name(state, "NAME", arg);
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static const struct argp_option list_options[] = {
    {"json", KEY_JSON, NULL, 0, "One JSON object on stdout, for machines", 0},
    {0},
};
static const struct argp list_argp = {
    .options = list_options,
    .parser = parse_list,
    .args_doc = "[NAME]",
    .doc =
        "Show the adapters of the home (GRAFT_HOME), or the versions of one. → before a version: "
        "it is on standby, a swap is in progress.\v"
        "Examples:\n"
        "  graft adapter list\n"
        "  graft adapter list coder --json\n"};

int verb_adapter_list(int argc, char **argv)
{
    struct list_args args = {0};
    struct cli_store store;
    argp_parse(&list_argp, argc, argv, 0, NULL, &args);
    int status = cli_open_store(&store, false);
    if (status == CLI_OK) {
        status = args.name != NULL ? cli_print_entry(&store, args.name, args.json)
                 : args.json       ? print_all_json(&store)
                                   : print_all(&store);
        cli_close_store(&store);
    }
    return status;
}
