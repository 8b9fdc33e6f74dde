/* train_settings.c: settings of `graft train` by name: --config, --preset, --set, what is kept of them beside a run, and
 * `graft train settings`, which prints their table.
 */
#include "train.h"

#include <math.h>

/* ---- reading ------------------------------------------------------------------------------- */

/* KEY=VALUE; what is wrong with it is wrong with any file. */
static int read_set(graft_train_config *config, const char *typed)
{
    char key[128];
    graft_error error = {0};
    const char *value = strchr(typed, '=');
    if (value == NULL || value == typed || (size_t)(value - typed) >= sizeof key) {
        cli_fail_text("--set %s: give KEY=VALUE", typed);
        return CLI_USAGE;
    }
    snprintf(key, sizeof key, "%.*s", (int)(value - typed), typed);
    if (graft_train_config_set(config, key, value + 1, &error) != GRAFT_OK) {
        cli_fail(&error);
        return CLI_USAGE;
    }
    return CLI_OK;
}

static int read_all(const struct train_typed *typed, graft_train_config *config)
{
    graft_error error = {0};
    if (typed->config != NULL &&
        graft_train_config_load(config, typed->config, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    for (int i = 0; i < typed->n_presets; i++) {
        if (graft_train_config_preset(config, typed->presets[i], &error) != GRAFT_OK) {
            cli_fail(&error);
            return CLI_USAGE;
        }
    }
    int status = CLI_OK;
    for (int i = 0; i < typed->n_sets && status == CLI_OK; i++) {
        status = read_set(config, typed->sets[i]);
    }
    return status;
}

int train_read_config(const struct train_typed *typed, bool quiet, graft_train_config **out)
{
    graft_error error = {0};
    if (graft_train_config_open(NULL, out, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    int status = read_all(typed, *out);
    const char *note;
    for (size_t i = 0;
         status == CLI_OK && !quiet && (note = graft_train_config_note(*out, i)) != NULL; i++) {
        fprintf(stderr, "graft: note: %s\n", note);
    }
    if (status != CLI_OK) {
        graft_train_config_close(out);
    }
    return status;
}

void train_from_config(const graft_train_config *config, struct train_args *a)
{
    const graft_train_settings *s = graft_train_config_settings(config);
    a->common.model = s->model;
    a->data.fallback = s->data;
    a->data.options = s->dataset;
    a->out.path = s->output;
    a->format = s->format;
    a->options = s->train;
    a->recipe = s->recipe;
    a->run = s->train.run;
}

int train_to_config(const struct train_args *a, graft_train_config *config)
{
    graft_error error = {0};
    graft_train_settings s = *graft_train_config_settings(config);
    s.model = a->common.model;
    s.data = a->data.path;
    s.dataset = a->data.options;
    s.output = a->out.path;
    s.format = a->format;
    s.train = a->options;
    s.recipe = a->recipe;
    if (a->type != NULL && train_is_full(a)) {
        s.model_dtype = a->type;
    } else if (a->type != NULL) {
        s.recipe.type = a->type;
    }
    s.train.run = a->run;
    if (graft_train_config_take(config, &s, &error) != GRAFT_OK) {
        cli_fail(&error);
        return CLI_USAGE;
    }
    return CLI_OK;
}

/* ---- keeping ------------------------------------------------------------------------------- */

static int keep(const char *run, const char *name, const char *text)
{
    graft_error error = {0};
    char *path = path_join(NULL, run, name);
    graft_status status = path != NULL ? file_write_atomic(NULL, path, text, strlen(text), &error)
                                       : error_set(&error, GRAFT_NO_MEMORY, "no memory for a path");
    mem_free(NULL, path);
    return status == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

int train_keep(graft_train_config *config, const graft_dataset *data, graft_runtime *runtime,
               const char *run)
{
    graft_error error = {0};
    const char *settings;
    char *report = NULL;
    if (graft_train_config_json(config, &settings, &error) != GRAFT_OK ||
        graft_dataset_report(data, &report, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    int status = keep(run, "config.json", settings);
    if (status == CLI_OK) {
        status = keep(run, "data.json", report);
    }
    graft_free(runtime, report);
    return status;
}

/* ---- the table ----------------------------------------------------------------------------- */

/* Words with commas between. */
static void print_words(const char *words, const char *quote)
{
    while (*words != '\0') {
        size_t n = strcspn(words, " ");
        printf("%s%.*s%s", quote, (int)n, words, quote);
        words += n;
        words += strspn(words, " ");
        fputs(*words != '\0' ? ", " : "", stdout);
    }
}

/* What it is where nothing is said; nothing: none. */
static void print_default(const json_t *value)
{
    char *text =
        json_is_array(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    for (size_t i = 0; i < json_array_size(value); i++) {
        printf("%s%s", i > 0 ? ", " : "", json_string_value(json_array_get(value, i)));
    }
    if (value != NULL && text != NULL) {
        size_t quoted = json_is_string(value);
        printf("%.*s", (int)(strlen(text) - 2 * quoted), text + quoted);
    }
    free(text);
}

static void print_row(const graft_train_setting *s, const json_t *defaults)
{
    fputs("| ", stdout);
    print_words(s->name, "`");
    fputs(" | ", stdout);
    print_words(s->aliases, "`");
    fputs(*s->aliases != '\0' ? " | " : "| ", stdout);
    if (s->choices != NULL) {
        print_words(s->choices, "");
    } else if (s->high >= INT32_MAX) {
        printf("%s, from %.9g", s->type, s->low);
    } else if (s->high > s->low) {
        printf("%s, %.9g to %.9g", s->type, s->low, s->high);
    } else {
        fputs(s->type, stdout);
    }
    fputs(" | ", stdout);
    print_default(json_object_get(defaults, s->name));
    printf(" | %s |\n", s->meaning);
}

static int list_rows(void)
{
    graft_train_config *config = NULL;
    graft_error error = {0};
    const char *text;
    json_t *defaults = NULL;
    graft_train_setting s;
    if (graft_train_config_open(NULL, &config, &error) != GRAFT_OK ||
        graft_train_config_json(config, &text, &error) != GRAFT_OK ||
        json_parse(text, strlen(text), &defaults, &error) != GRAFT_OK) {
        graft_train_config_close(&config);
        return cli_fail(&error);
    }
    puts("| setting | also | value | default | |\n| --- | --- | --- | --- | --- |");
    for (size_t i = 0; graft_train_setting_at(i, &s); i++) {
        print_row(&s, defaults);
    }
    json_decref(defaults);
    graft_train_config_close(&config);
    return CLI_OK;
}

static int list_json(void)
{
    graft_train_setting s;
    json_t *all = json_array();
    for (size_t i = 0; graft_train_setting_at(i, &s); i++) {
        json_t *one = json_pack("{s:s, s:s, s:s, s:s}", "name", s.name, "aliases", s.aliases,
                                "type", s.type, "meaning", s.meaning);
        if (s.choices != NULL) {
            json_put(&one, "choices", json_string(s.choices));
        }
        if (s.high > s.low) {
            json_put(&one, "low", json_real(s.low));
            json_put(&one, "high", json_real(s.high));
        }
        json_append(&all, one);
    }
    return cli_print_json(json_pack("{s:o}", "settings", all));
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    if (key == 'j') {
        *(bool *)state->input = true;
        return 0;
    }
    if (key == ARGP_KEY_ARG) {
        argp_error(state, "no \"%s\" here", arg);
    }
    return ARGP_ERR_UNKNOWN;
}

int verb_train_settings(int argc, char **argv)
{
    static const struct argp_option options[] = {{"json", 'j', NULL, 0, "As one JSON object", 1},
                                                 {0}};
    static const struct argp settings_argp = {
        .options = options,
        .parser = parse,
        .doc = "List what --set and --config of graft train know: names, other names for them, "
               "values, meanings.\v"
               "Example:\n"
               "  graft train settings\n"};
    bool json = false;
    argp_parse(&settings_argp, argc, argv, 0, NULL, &json);
    return json ? list_json() : list_rows();
}
