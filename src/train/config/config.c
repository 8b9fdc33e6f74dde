/* config.c: a configuration: opened with defaults, changed by names, read as structs, written as JSON.
 *
 * What is said is kept as it was said, and what it comes to is worked out after each change: mlx-lm's scale and counts of
 * batches depend on settings that may come later.
 */
#include "adapter/save/save.h"
#include "train/config/config_internal.h"

#include <math.h>

/* ---- open, close --------------------------------------------------------------------------- */

static graft_status settle(graft_train_config *c, graft_error *error);

graft_status config_open(struct mem *mem, const graft_train_settings *defaults,
                         graft_train_config **out, graft_error *error)
{
    graft_train_config *c = mem_calloc(mem, 1, sizeof *c);
    if (!c)
        return config_no_memory(error);
    c->mem = mem;
    c->said = *defaults;
    c->scale = NAN;
    arena_init(&c->texts, mem, CONFIG_ARENA);
    graft_status status = settle(c, error);
    if (status == GRAFT_OK)
        *out = c;
    else
        config_close(&c);
    return status;
}

void config_close(graft_train_config **config)
{
    graft_train_config *c = *config;
    *config = NULL;
    if (!c)
        return;
    arena_free(&c->texts);
    mem_free(c->mem, c->json);
    mem_free(c->mem, c);
}

/* ---- what it comes to ---------------------------------------------------------------------- */

static graft_status in_steps(graft_train_config *c, const char *name, int64_t *batches,
                             bool counted, graft_error *error)
{
    int64_t each = c->said.train.gradient_accumulation_steps;
    if (!counted || *batches <= 0 || each == 1)
        return GRAFT_OK;
    int64_t said = *batches;
    *batches = (said + each - 1) / each;
    return said % each == 0
               ? GRAFT_OK
               : config_add_note(
                     c, error,
                     "%s: %lld batches are %lld steps of %lld, the last one more than asked for",
                     name, (long long)said, (long long)*batches, (long long)each);
}

static graft_status settle(graft_train_config *c, graft_error *error)
{
    graft_train_settings *s = &c->settings;
    graft_status status = GRAFT_OK;
    *s = c->said;
    s->train.recipe = &s->recipe;
    s->recipe.num_layers = s->recipe.num_layers < 0 ? 0 : s->recipe.num_layers;
    s->train.max_steps = s->train.max_steps < 0 ? 0 : s->train.max_steps;
    status = in_steps(c, "iters", &s->train.max_steps, c->max_in_batches, error);
    if (status == GRAFT_OK)
        status = in_steps(c, "steps_per_eval", &s->train.eval_steps, c->eval_in_batches, error);
    if (status == GRAFT_OK)
        status = in_steps(c, "save_every", &s->train.save_steps, c->save_in_batches, error);
    if (status != GRAFT_OK || isnan(c->scale))
        return status;
    double by = s->recipe.rslora ? sqrt(s->recipe.rank) : s->recipe.rank;
    s->recipe.alpha = c->scale * by;
    const struct setting *alpha = setting_find("lora_alpha");
    if (s->recipe.alpha < alpha->low || s->recipe.alpha > alpha->high)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "scale: at rank %d it is a lora_alpha of %g, beyond %g to %g",
                         s->recipe.rank, s->recipe.alpha, alpha->low, alpha->high);
    if (s->recipe.alpha / by == c->scale)
        return GRAFT_OK;
    return config_add_note(c, error, "scale: %.17g is %.17g / %.17g only to the last digit",
                           c->scale, s->recipe.alpha, by);
}

/* All of a change or nothing of it. Texts of one that failed stay in the arena until the end. */
struct before {
    graft_train_settings said;
    double scale;
    bool max_in_batches, eval_in_batches, save_in_batches;
    size_t n_notes;
};

static struct before remember(graft_train_config *c)
{
    c->ratio_given = false;
    return (struct before){
        c->said, c->scale, c->max_in_batches, c->eval_in_batches, c->save_in_batches, c->n_notes};
}

static graft_status conclude(graft_train_config *c, const struct before *before,
                             graft_status status, graft_error *error)
{
    if (status == GRAFT_OK)
        status = settle(c, error);
    if (status == GRAFT_OK)
        return status;
    c->said = before->said;
    c->scale = before->scale;
    c->max_in_batches = before->max_in_batches;
    c->eval_in_batches = before->eval_in_batches;
    c->save_in_batches = before->save_in_batches;
    settle(c, NULL);
    c->n_notes = before->n_notes;
    return status;
}

/* ---- presets ------------------------------------------------------------------------------- */

static size_t length(const char *const *list)
{
    size_t n = 0;
    while (n < PRESET_LISTS && list[n])
        n++;
    return n;
}

static void put_way(graft_train_config *c, double epochs, double rate, const char *schedule,
                    int patience, double improvement)
{
    c->said.train.num_epochs = epochs;
    c->said.train.learning_rate = rate;
    c->said.train.lr_scheduler = schedule;
    c->said.train.patience = patience;
    c->said.train.min_improvement = improvement;
}

static graft_status put_preset(graft_train_config *c, const char *name, graft_error *error)
{
    const struct adapter_preset *p = preset_find(name);
    if (!strcmp(name, "quick"))
        put_way(c, 1, 5e-3, "constant", 1, 0);
    else if (!strcmp(name, "stable")) {
        put_way(c, 5, 5e-4, "cosine", 5, 1e-4);
        c->said.train.ewc_lambda = 5000;
    } else if (!p)
        return error_set(error, GRAFT_NOT_FOUND,
                         "no preset \"%.60s\"; there are quick, stable, and of tasks coder, "
                         "researcher, security, architect, reviewer",
                         name);
    if (!p)
        return GRAFT_OK;
    graft_adapter_recipe *r = &c->said.recipe;
    r->name = p->name;
    r->description = p->description;
    r->rank = p->rank;
    r->alpha = p->alpha;
    r->dropout = p->dropout;
    r->targets = p->targets;
    r->n_targets = length(p->targets);
    r->tags = p->tags;
    r->n_tags = length(p->tags);
    c->scale = NAN;
    return GRAFT_OK;
}

static graft_status put_presets(graft_train_config *c, const json_t *value, graft_error *error)
{
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < n && status == GRAFT_OK; i++) {
        const json_t *name = json_is_array(value) ? json_array_get(value, i) : value;
        status = json_is_string(name)
                     ? put_preset(c, json_string_value(name), error)
                     : config_wrong("preset", "the name of one, or a list of names", value, error);
    }
    return status;
}

graft_status config_preset(graft_train_config *c, const char *name, graft_error *error)
{
    struct before before = remember(c);
    return conclude(c, &before, put_preset(c, name, error), error);
}

/* ---- settings ------------------------------------------------------------------------------ */

static graft_status put(graft_train_config *c, const char *key, const json_t *value,
                        graft_error *error)
{
    const struct special *special = special_find(key);
    const struct setting *s = setting_find(key);
    if (json_is_null(value))
        return special || s ? GRAFT_OK : config_unknown(key, error);
    if (special)
        return special->put ? special->put(c, key, value, error) : put_presets(c, value, error);
    return s ? setting_put(c, s, key, value, error) : config_unknown(key, error);
}

static bool is_utf8(const char *text)
{
    uint32_t code;
    int n = 1;
    for (size_t size = strlen(text); size > 0 && n > 0; size -= (size_t)n, text += n)
        n = utf8_decode(text, size, &code);
    return n > 0;
}

graft_status config_set(graft_train_config *c, const char *key, const char *value,
                        graft_error *error)
{
    json_t *json = setting_from_text(setting_find(key), value);
    struct before before = remember(c);
    graft_status status = json             ? put(c, key, json, error)
                          : is_utf8(value) ? config_no_memory(error)
                                           : error_set(error, GRAFT_INVALID_ARGUMENT,
                                                       "%.80s: the value is no UTF-8 text", key);
    json_decref(json);
    return conclude(c, &before, status, error);
}

/* ---- files --------------------------------------------------------------------------------- */

enum { KEY = 128, MAX_KEYS = 512 };

struct entry {
    char key[KEY];
    const json_t *value;
    int turn;
};
struct entries {
    struct entry *items; /* [MAX_KEYS] */
    size_t n;
};

static int by_turn(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->turn != y->turn)
        return x->turn < y->turn ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* Members of objects as "object.member", but for those that are a setting as a whole. */
static graft_status flatten(struct entries *e, const char *prefix, const json_t *object,
                            graft_error *error)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        char key[KEY];
        int n = snprintf(key, sizeof key, "%s%s%s", prefix, *prefix ? "." : "", name);
        if (n >= KEY || e->n == MAX_KEYS)
            return error_set(error, GRAFT_LIMIT,
                             "more than %d settings, or a name of more than %d bytes", MAX_KEYS,
                             KEY - 1);
        const struct special *special = special_find(key);
        if (json_is_object(value) && !*prefix && !special && !setting_find(key)) {
            graft_status status = flatten(e, key, value, error);
            if (status != GRAFT_OK)
                return status;
            continue;
        }
        e->items[e->n] = (struct entry){.value = value, .turn = special ? special->turn : 0};
        memcpy(e->items[e->n++].key, key, (size_t)n + 1);
    }
    return GRAFT_OK;
}

static graft_status put_all(graft_train_config *c, const json_t *object, graft_error *error)
{
    if (!json_is_object(object))
        return error_set(error, GRAFT_FORMAT, "settings are an object: names and values");
    struct entries e = {.items = mem_calloc(c->mem, MAX_KEYS, sizeof *e.items)};
    if (!e.items)
        return config_no_memory(error);
    graft_status status = flatten(&e, "", object, error);
    qsort(e.items, e.n, sizeof *e.items, by_turn);
    for (size_t i = 0; i < e.n && status == GRAFT_OK; i++)
        status = put(c, e.items[i].key, e.items[i].value, error);
    mem_free(c->mem, e.items);
    return status;
}

static bool looks_like_json(const char *text, size_t size)
{
    size_t i = 0;
    while (i < size && strchr(" \t\r\n", text[i]) && text[i])
        i++;
    return i < size && text[i] == '{';
}

graft_status config_parse(graft_train_config *c, const char *text, size_t size,
                          enum config_language language, graft_error *error)
{
    json_t *json = NULL;
    if (size > CONFIG_BYTES)
        return error_set(error, GRAFT_LIMIT, "settings of more than %d KiB", CONFIG_BYTES >> 10);
    if (language == CONFIG_EITHER)
        language = looks_like_json(text, size) ? CONFIG_JSON : CONFIG_YAML;
    graft_status status = language == CONFIG_JSON ? json_parse(text, size, &json, error)
                                                  : yaml_parse(text, size, &json, error);
    if (status != GRAFT_OK)
        return status;
    struct before before = remember(c);
    status = conclude(c, &before, put_all(c, json, error), error);
    json_decref(json);
    return status;
}

graft_status config_load(graft_train_config *c, const char *path, graft_error *error)
{
    char *text;
    size_t size;
    enum config_language language = text_ends_with(path, ".json") ? CONFIG_JSON
                                    : text_ends_with(path, ".yaml") || text_ends_with(path, ".yml")
                                        ? CONFIG_YAML
                                        : CONFIG_EITHER;
    graft_status status = file_read(c->mem, path, CONFIG_BYTES, &text, &size, error);
    if (status != GRAFT_OK)
        return status;
    status = config_parse(c, text, size, language, error);
    mem_free(c->mem, text);
    if (status != GRAFT_OK)
        error_at_file(error, path);
    return status;
}

/* ---- in and out as structs, out as JSON ------------------------------------------------------ */

const graft_train_settings *config_settings(const graft_train_config *c)
{
    return &c->settings;
}

static graft_status take_text(graft_train_config *c, const struct setting *s,
                              const graft_train_settings *given, graft_error *error)
{
    const char *text = *(const char *const *)((const char *)given + s->at);
    const char **said = (const char **)((char *)&c->said + s->at);
    if (text == *said)
        return GRAFT_OK;
    *said = NULL;
    return text ? config_copy(c, text, said, error) : GRAFT_OK;
}

/* Row by row, each as the value that it would be in a file, so that what comes in is checked as that is. */
static graft_status take_row(graft_train_config *c, const struct setting *s,
                             const graft_train_settings *given, graft_error *error)
{
    bool failed = false;
    if (s->kind == SETTING_TEXT)
        return take_text(c, s, given, error);
    json_t *now = setting_get(&c->settings, s, &failed), *value = setting_get(given, s, &failed);
    graft_status status = failed ? config_no_memory(error) : GRAFT_OK;
    if (status == GRAFT_OK && value && !(now && json_equal(now, value)))
        status = setting_put(c, s, s->name, value, error);
    else if (status == GRAFT_OK && !value && now)
        status = error_set(error, GRAFT_INVALID_ARGUMENT, "%s: there is nothing", s->name);
    json_decref(now);
    json_decref(value);
    return status;
}

static graft_status take_all(graft_train_config *c, const graft_train_settings *given,
                             graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (size_t i = 0; setting_at(i) && status == GRAFT_OK; i++)
        status = take_row(c, setting_at(i), given, error);
    return status;
}

/* A count of batches stays one as long as the steps that it came to are not changed. */
static bool still_in_batches(bool counted, int64_t given, int64_t was, int64_t said, int64_t *now)
{
    if (!counted || given != was)
        return false;
    *now = said;
    return true;
}

graft_status config_take(graft_train_config *c, const graft_train_settings *settings,
                         graft_error *error)
{
    struct before before = remember(c);
    const graft_train_settings given = *settings,
                               was = c->settings; /* the first may be the second */
    graft_train_options *now = &c->said.train;
    c->said = was;
    graft_status status = take_all(c, &given, error);
    c->scale = given.recipe.alpha == was.recipe.alpha ? c->scale : NAN;
    c->max_in_batches =
        still_in_batches(c->max_in_batches, given.train.max_steps, was.train.max_steps,
                         before.said.train.max_steps, &now->max_steps);
    c->eval_in_batches =
        still_in_batches(c->eval_in_batches, given.train.eval_steps, was.train.eval_steps,
                         before.said.train.eval_steps, &now->eval_steps);
    c->save_in_batches =
        still_in_batches(c->save_in_batches, given.train.save_steps, was.train.save_steps,
                         before.said.train.save_steps, &now->save_steps);
    return conclude(c, &before, status, error);
}

/* Steps of warmup take the ratio's place, and 0 of them beside one would be read as the ratio. */
static bool is_said(const graft_train_config *c, const struct setting *s)
{
    return s->at != offsetof(graft_train_settings, train.warmup_ratio) ||
           c->settings.train.warmup_steps < 0;
}

static void write_value(struct buf *out, const json_t *value)
{
    char number[DECIMAL_SIZE];
    char *text = json_is_real(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY);
    if (json_is_real(value)) {
        decimal_print(json_real_value(value), number);
        buf_puts(out, number);
    } else if (text)
        buf_puts(out, text);
    else
        out->status = GRAFT_NO_MEMORY;
    free(text);
}

graft_status config_json(graft_train_config *c, const char **json, graft_error *error)
{
    struct buf out;
    bool failed = false;
    buf_init(&out, c->mem, SIZE_MAX);
    for (size_t i = 0; setting_at(i); i++) {
        json_t *value =
            is_said(c, setting_at(i)) ? setting_get(&c->settings, setting_at(i), &failed) : NULL;
        if (value) {
            buf_printf(&out, "%s\n  \"%s\": ", out.size > 0 ? "," : "{", setting_at(i)->name);
            write_value(&out, value);
        }
        json_decref(value);
    }
    buf_puts(&out, "\n}\n");
    char *text = failed ? NULL : buf_take(&out, NULL);
    buf_free(&out);
    if (!text)
        return config_no_memory(error);
    mem_free(c->mem, c->json);
    c->json = text;
    *json = text;
    return GRAFT_OK;
}

const char *config_note(const graft_train_config *c, size_t i)
{
    return i < c->n_notes ? c->notes[i] : NULL;
}
