/* dataset.c: opening data: which files, with which template; and what callers ask of it. */
#include "train/data/data_internal.h"

#include <stdlib.h>

enum { DEFAULT_LEN = 2048, TEMPLATE_BYTES = 1 << 20 };

static const struct {
    const char *name, *source;
} TEMPLATES[] = {
    {"chatml", "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + "
               "'<|im_end|>\\n' }}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"},
    {"plain", "{% for m in messages %}{{ '### ' + m['role'] | capitalize + ':\\n' }}"
              "{% if m['role'] == 'assistant' %}"
              "{% generation %}{{ m['content'] + (eos_token or '') }}{% endgeneration %}"
              "{% else %}{{ m['content'] }}{% endif %}{{ '\\n\\n' }}{% endfor %}"
              "{% if add_generation_prompt %}{{ '### Assistant:\\n' }}{% endif %}"},
};

static graft_status out_of_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for training data");
}

graft_status data_model_of(const struct model *model, struct data_model *out, graft_error *error)
{
    if (model->tokenizer == NULL) {
        return error_set(error, GRAFT_NOT_FOUND, "the model has no tokenizer");
    }
    *out = (struct data_model){.tokenizer = model->tokenizer,
                               .chat = model->chat,
                               .chat_source = tokenizer_chat_template(model->tokenizer),
                               .n_vocab = model->config.n_vocab,
                               .n_ctx = model->config.n_ctx,
                               .n_labels = model->config.n_labels,
                               .labels = (const char *const *)model->config.labels};
    return GRAFT_OK;
}

/* ---- life ---------------------------------------------------------------------------------- */

static void names_init(struct names *n, struct mem *mem, struct arena *arena)
{
    *n = (struct names){.arena = arena};
    str_map_init(&n->map, mem);
}

graft_status dataset_new(struct mem *mem, struct dataset **out, graft_error *error)
{
    struct dataset *d = mem_calloc(mem, 1, sizeof *d);
    if (d == NULL) {
        return out_of_memory(error);
    }
    d->mem = mem;
    arena_init(&d->arena, mem, SIZE_MAX);
    d->own_ids.mem = mem;
    buf_init(&d->own_learned, mem, SIZE_MAX);
    names_init(&d->files, mem, &d->arena);
    names_init(&d->names, mem, &d->arena);
    *out = d;
    return GRAFT_OK;
}

static void names_free(struct names *n)
{
    mem_free(n->map.mem, n->text);
    str_map_free(&n->map);
}

void dataset_close(struct dataset **dataset)
{
    struct dataset *d = *dataset;
    if (d == NULL) {
        return;
    }
    *dataset = NULL;
    for (int p = 0; p < DATA_PARTS; p++) {
        mem_free(d->mem, d->index[p]);
    }
    names_free(&d->files);
    names_free(&d->names);
    tokens_free(&d->own_ids);
    buf_free(&d->own_learned);
    mem_free(d->mem, d->own_examples);
    mem_free(d->mem, d->issues);
    mem_free(d->mem, d->groups[0]);
    mem_free(d->mem, d->groups[1]);
    file_map_close(&d->map);
    arena_free(&d->arena);
    mem_free(d->mem, d);
}

/* ---- options ------------------------------------------------------------------------------- */

static graft_status check_options(const struct data_model *model, const struct data_options *o,
                                  graft_error *error)
{
    if (o->max_len != 0 && (o->max_len < 2 || o->max_len > model->n_ctx)) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "a sequence length of %d: it is 2 to %d, the positions of the model",
                         o->max_len, model->n_ctx);
    }
    if (!(o->min_quality >= 0 && o->min_quality <= 1)) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "a quality of %g: it is 0 to 1",
                         o->min_quality);
    }
    if (!(o->valid_share >= 0 && o->valid_share < 1)) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "a share of %g for validation: it is 0 to less than 1", o->valid_share);
    }
    return (unsigned)o->loss <= DATA_LOSS_ALL
               ? GRAFT_OK
               : error_set(error, GRAFT_INVALID_ARGUMENT,
                           "the loss is none of auto, assistant, completion and all");
}

graft_status dataset_bind(struct dataset *d, const struct data_model *model,
                          const struct data_options *options, const char *name, struct text chat,
                          graft_error *error)
{
    struct data_options *o = &d->options;
    *o = *options; /* its texts are read while it is opened only */
    if (o->max_len == 0) {
        o->max_len = model->n_ctx < DEFAULT_LEN ? model->n_ctx : DEFAULT_LEN;
    }
    d->n_vocab = model->n_vocab;
    d->n_labels = model->n_labels;
    d->n_ctx = model->n_ctx;
    d->template = arena_strndup(&d->arena, name, strlen(name));
    graft_status status = d->template != NULL ? recipe_write(d, o, error) : out_of_memory(error);
    if (status == GRAFT_OK) {
        status = sha256(chat.data, chat.size, d->chat, error);
    }
    return status == GRAFT_OK ? tokenizer_digest(d->mem, model->tokenizer, d->tokenizer, error)
                              : status;
}

/* The template that counts: its source, and compiled. */
struct chosen {
    const char *name; /* "model" or as it was asked for */
    struct text source;
    char *owned;                    /* the source, when it was read from a file */
    struct chat_template *compiled; /* NULL: the model's own */
    bool builtin;
};

static graft_status choose_template(struct mem *mem, const struct data_model *model,
                                    const char *wanted, struct chosen *out, graft_error *error)
{
    *out = (struct chosen){.name = wanted != NULL ? wanted : "model", .source = {"", 0}};
    if (wanted == NULL && model->chat != NULL) {
        const char *source = model->chat_source != NULL ? model->chat_source : "";
        out->source = (struct text){source, strlen(source)};
        return GRAFT_OK;
    }
    if (wanted == NULL) { /* for conversations; pairs and instructions stay plain text */
        out->name = wanted = "plain";
    }
    for (size_t i = 0; i < ARRAY_LEN(TEMPLATES); i++) {
        if (strcmp(wanted, TEMPLATES[i].name) == 0) {
            out->builtin = true;
            out->source = (struct text){TEMPLATES[i].source, strlen(TEMPLATES[i].source)};
        }
    }
    graft_status status = GRAFT_OK;
    if (!out->builtin) {
        status = file_read(mem, wanted, TEMPLATE_BYTES, &out->owned, &out->source.size, error);
        out->source.data = out->owned;
    }
    if (status == GRAFT_OK) {
        status = template_compile(mem, out->source.data, out->source.size, &out->compiled, error);
        if (status != GRAFT_OK) {
            error_at_file(error, wanted);
        }
    }
    return status;
}

static void chosen_free(struct mem *mem, struct chosen *c)
{
    template_free(&c->compiled);
    mem_free(mem, c->owned);
}

/* ---- files --------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcasecmp(text + n - m, end) == 0;
}

static graft_status refuse_container(const char *path, const uint8_t *bytes, size_t size,
                                     graft_error *error)
{
    static const char *const others[] = {".csv", ".tsv", ".parquet", ".arrow", ".feather",
                                         ".gz",  ".zst", ".xz",      ".bz2",   ".zip",
                                         ".tar", ".pkl", ".h5",      ".yaml",  ".xml"};
    static const char lfs[] = "version https://git-lfs";
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        if (ends_with(path, others[i])) {
            error_set(error, GRAFT_UNSUPPORTED,
                      "training data is JSONL, JSON or text, not %s: convert it", others[i]);
            error_at_file(error, path);
            return GRAFT_UNSUPPORTED;
        }
    }
    if (size >= sizeof lfs && memcmp(bytes, lfs, sizeof lfs - 1) == 0) {
        error_set(error, GRAFT_UNSUPPORTED,
                  "a Git LFS pointer, not the data: fetch it with `git lfs pull`");
        error_at_file(error, path);
        return GRAFT_UNSUPPORTED;
    }
    return GRAFT_OK;
}

/* By its name, else by how it begins. */
static bool is_text(const char *path, const uint8_t *bytes, size_t size)
{
    if (ends_with(path, ".txt") || ends_with(path, ".text") || ends_with(path, ".md")) {
        return true;
    }
    if (ends_with(path, ".jsonl") || ends_with(path, ".json") || ends_with(path, ".ndjson")) {
        return false;
    }
    size_t at = size >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    while (at < size && (bytes[at] == ' ' || (bytes[at] >= '\t' && bytes[at] <= '\r'))) {
        at++;
    }
    return at < size && bytes[at] != '{' && bytes[at] != '[';
}

graft_status build_file(struct builder *b, const char *path, int part, graft_error *error)
{
    struct file_map map = {0};
    int32_t file = 0;
    graft_status status = file_map_open(&map, b->d->mem, path, MAP_SHARED_FILE, error);
    if (status == GRAFT_OK) {
        status = refuse_container(path, map.data, map.size, error);
    }
    if (status == GRAFT_OK && !names_find(&b->d->files, (struct text){path, strlen(path)}, &file)) {
        status = out_of_memory(error);
    }
    if (status == GRAFT_OK) {
        const char *bytes = (const char *)map.data;
        b->file = file;
        b->part = part;
        b->total += map.size;
        status = is_text(path, map.data, map.size) ? build_text(b, bytes, map.size, error)
                                                   : build_records(b, bytes, map.size, error);
        b->done += map.size;
        if (status != GRAFT_OK) {
            error_at_file(error, path);
        }
    }
    file_map_close(&map);
    return status;
}

graft_status build_memory(struct builder *b, const char *name, struct text bytes,
                          graft_error *error)
{
    int32_t file = 0;
    if (!names_find(&b->d->files, (struct text){name, strlen(name)}, &file)) {
        return out_of_memory(error);
    }
    b->file = file;
    b->part = PART_OPEN;
    b->total = bytes.size;
    return build_records(b, bytes.data, bytes.size, error);
}

static const struct {
    const char *stem;
    enum data_part part;
} PARTS[] = {{"train", DATA_TRAIN},
             {"valid", DATA_VALID},
             {"validation", DATA_VALID},
             {"val", DATA_VALID},
             {"test", DATA_TEST}};

/* *out: DIR/STEM.jsonl and the like, or NULL where there is none. False: no memory. */
static bool find_part(struct mem *mem, const char *dir, const char *stem, char **out)
{
    static const char *const ends[] = {".jsonl", ".json", ".txt"};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", stem, ends[i]);
        *out = path_join(mem, dir, name);
        if (*out == NULL || path_exists(*out)) {
            return *out != NULL;
        }
        mem_free(mem, *out);
        *out = NULL;
    }
    return true;
}

static graft_status build_folder(struct builder *b, const char *dir, bool with_valid,
                                 graft_error *error)
{
    struct mem *mem = b->d->mem;
    char *paths[ARRAY_LEN(PARTS)] = {0};
    bool has[DATA_PARTS] = {0};
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < ARRAY_LEN(PARTS) && status == GRAFT_OK; i++) {
        bool wanted = !has[PARTS[i].part] && (with_valid || PARTS[i].part != DATA_VALID);
        if (wanted && !find_part(mem, dir, PARTS[i].stem, &paths[i])) {
            status = error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
        }
        has[PARTS[i].part] |= paths[i] != NULL;
    }
    if (status == GRAFT_OK && !has[DATA_TRAIN] && !has[DATA_TEST]) {
        status = error_set(error, GRAFT_NOT_FOUND,
                           "the folder has no train.jsonl (nor .json, .txt) to learn from");
        error_at_file(error, dir);
    }
    bool split = !has[DATA_VALID] && with_valid;
    for (size_t i = 0; i < ARRAY_LEN(PARTS) && status == GRAFT_OK; i++) {
        int part = PARTS[i].part == DATA_TRAIN && split ? PART_OPEN : (int)PARTS[i].part;
        status = paths[i] != NULL ? build_file(b, paths[i], part, error) : GRAFT_OK;
    }
    for (size_t i = 0; i < ARRAY_LEN(PARTS); i++) {
        mem_free(mem, paths[i]);
    }
    return status;
}

static graft_status build_path(struct builder *b, const char *path, graft_error *error)
{
    const char *valid = b->d->options.valid_path;
    graft_status status = path_is_dir(path)
                              ? build_folder(b, path, valid == NULL, error)
                              : build_file(b, path, valid == NULL ? PART_OPEN : DATA_TRAIN, error);
    return status == GRAFT_OK && valid != NULL ? build_file(b, valid, DATA_VALID, error) : status;
}

/* ---- opening ------------------------------------------------------------------------------- */

graft_status builder_open(struct builder *b, struct dataset *d, const struct data_model *model,
                          graft_error *error)
{
    const struct data_options *o = &d->options;
    *b = (struct builder){.d = d, .model = model};
    encoded_init(&b->scratch, d->mem);
    graft_status status = sheet_maker_open(&b->maker, d->mem, model->tokenizer, error);
    b->maker.chat = model->chat;
    b->maker.loss = o->loss;
    b->rules = (struct record_rules){.prompt_key = o->prompt_key,
                                     .completion_key = o->completion_key,
                                     .text_key = o->text_key,
                                     .verdicts = o->verdicts,
                                     .as_chat = model->chat != NULL && !o->raw,
                                     .n_labels = model->n_labels,
                                     .labels = model->labels};
    return status;
}

void builder_close(struct builder *b)
{
    sheet_maker_close(&b->maker);
    encoded_free(&b->scratch);
}

/* `bytes`, where they are not NULL, in place of the file. */
static graft_status read_sources(struct dataset *d, const struct data_model *model,
                                 const char *path, struct text bytes, const struct chosen *chosen,
                                 graft_error *error)
{
    struct builder b;
    graft_status status = builder_open(&b, d, model, error);
    b.maker.adds_bos = chosen->builtin;
    b.maker.chat = chosen->compiled != NULL ? chosen->compiled : model->chat;
    b.rules.as_chat = !d->options.raw && (model->chat != NULL || d->options.chat_template != NULL);
    if (status == GRAFT_OK) {
        status =
            bytes.data != NULL ? build_memory(&b, path, bytes, error) : build_path(&b, path, error);
    }
    builder_close(&b);
    return status;
}

static bool is_saved(const char *path)
{
    char head[16] = "";
    FILE *file = path_is_dir(path) ? NULL : fopen(path, "rbe");
    size_t n = file != NULL ? fread(head, 1, sizeof head, file) : 0;
    if (file != NULL) {
        fclose(file);
    }
    return saved_is(head, n);
}

static graft_status load(struct dataset *d, const char *path, const struct data_options *o,
                         graft_error *error)
{
    if (o->verdicts != DATA_VERDICTS_IGNORED) {
        error_set(error, GRAFT_UNSUPPORTED,
                  "a saved dataset keeps neither verdicts nor sessions: give the records");
        error_at_file(error, path);
        return GRAFT_UNSUPPORTED;
    }
    return saved_load(d, path, o, error);
}

static graft_status open_source(struct mem *mem, const struct data_model *model, const char *path,
                                struct text bytes, const struct data_options *options,
                                struct dataset **out, graft_error *error)
{
    static const struct data_options none = {0};
    struct dataset *d = NULL;
    struct chosen chosen = {0};
    const struct data_options *o = options != NULL ? options : &none;
    graft_status status = check_options(model, o, error);
    if (status == GRAFT_OK) {
        status = dataset_new(mem, &d, error);
    }
    if (status == GRAFT_OK) {
        status = choose_template(mem, model, o->chat_template, &chosen, error);
    }
    if (status == GRAFT_OK) {
        status = dataset_bind(d, model, o, chosen.name, chosen.source, error);
    }
    if (status == GRAFT_OK && bytes.data == NULL && is_saved(path)) {
        status = load(d, path, o, error);
    } else if (status == GRAFT_OK) {
        status = read_sources(d, model, path, bytes, &chosen, error);
    }
    chosen_free(mem, &chosen);
    if (status == GRAFT_OK) {
        status = dataset_finish(d, error);
    }
    if (status != GRAFT_OK) {
        if (d != NULL) {
            dataset_close(&d);
        }
        return status;
    }
    *out = d;
    return GRAFT_OK;
}

graft_status dataset_open(struct mem *mem, const struct data_model *model, const char *path,
                          const struct data_options *options, struct dataset **out,
                          graft_error *error)
{
    return open_source(mem, model, path, (struct text){NULL, 0}, options, out, error);
}

graft_status dataset_read(struct mem *mem, const struct data_model *model, const char *name,
                          const char *bytes, size_t size, const struct data_options *options,
                          struct dataset **out, graft_error *error)
{
    return open_source(mem, model, name, (struct text){bytes, size}, options, out, error);
}

/* ---- finishing ----------------------------------------------------------------------------- */

/* What is known of the parts, once there are some. */
static void count_parts(struct dataset *d)
{
    struct data_stats *s = &d->stats;
    int longest = 0;
    for (int64_t i = 0; i < d->n_examples; i++) {
        longest = d->examples[i].n_tok > longest ? d->examples[i].n_tok : longest;
    }
    s->bucket = (longest + DATA_BUCKETS - 1) / DATA_BUCKETS;
    s->bucket = s->bucket > 0 ? s->bucket : 1;
    for (int p = 0; p < DATA_PARTS; p++) {
        s->examples[p] = d->count[p];
        for (int64_t i = 0; i < d->count[p]; i++) {
            const struct stored *e = &d->examples[d->index[p][i]];
            s->tokens[p] += e->n_tok;
            s->learned[p] += e->n_learned;
            s->histogram[(e->n_tok - 1) / s->bucket]++;
        }
    }
}

static int by_name(const void *a, const void *b)
{
    const struct data_group *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Tasks (0) or domains (1) of the training part. */
static graft_status count_groups(struct dataset *d, int which, graft_error *error)
{
    int n = 0, all = d->names.count;
    struct data_group *groups = mem_calloc(d->mem, (size_t)all + 1, sizeof *groups);
    if (groups == NULL) {
        return out_of_memory(error);
    }
    for (int64_t i = 0; i < d->count[DATA_TRAIN]; i++) {
        const struct stored *e = &d->examples[d->index[DATA_TRAIN][i]];
        int32_t name = which == 0 ? e->task : e->domain;
        if (name >= 0) {
            groups[name].name = d->names.text[name];
            groups[name].examples++;
            groups[name].learned += e->n_learned;
        }
    }
    for (int i = 0; i < all; i++) {
        if (groups[i].name != NULL) {
            groups[n++] = groups[i];
        }
    }
    qsort(groups, (size_t)n, sizeof *groups, by_name);
    d->groups[which] = groups;
    d->n_groups[which] = n;
    return GRAFT_OK;
}

graft_status dataset_finish(struct dataset *d, graft_error *error)
{
    if (!d->loaded) {
        d->ids = d->own_ids.ids;
        d->learned = (const uint8_t *)d->own_learned.data;
        d->examples = d->own_examples;
        d->n_ids = (int64_t)d->own_ids.count;
    }
    graft_status status = dataset_split(d, error);
    if (status == GRAFT_OK) {
        count_parts(d);
        status = count_groups(d, 0, error);
    }
    return status == GRAFT_OK ? count_groups(d, 1, error) : status;
}

/* ---- asking -------------------------------------------------------------------------------- */

int64_t dataset_count(const struct dataset *d, enum data_part part)
{
    return d->count[part];
}

int64_t dataset_number(const struct dataset *d, enum data_part part, int64_t index)
{
    return d->index[part][index];
}

struct data_example dataset_example(const struct dataset *d, enum data_part part, int64_t index)
{
    const struct stored *s = &d->examples[d->index[part][index]];
    return (struct data_example){.tokens = d->ids + s->at,
                                 .learned = d->learned + s->at,
                                 .n_tok = s->n_tok,
                                 .n_learned = s->n_learned,
                                 .weight = s->weight,
                                 .task = s->task,
                                 .domain = s->domain,
                                 .session = s->session - 1,
                                 .rewarded = s->rewarded != 0,
                                 .reward = s->reward,
                                 .file = s->file,
                                 .line = s->line,
                                 .record = s->record,
                                 .format = (enum data_format)s->format,
                                 .truncated = s->truncated != 0};
}

const struct data_stats *dataset_stats(const struct dataset *d)
{
    return &d->stats;
}

const char *dataset_template(const struct dataset *d)
{
    return d->template;
}

enum data_loss dataset_loss(const struct dataset *d)
{
    return d->options.loss;
}

int dataset_max_len(const struct dataset *d)
{
    return d->options.max_len;
}

const char *dataset_file(const struct dataset *d, int file)
{
    return file >= 0 && file < d->files.count ? d->files.text[file] : NULL;
}

const char *dataset_name(const struct dataset *d, int name)
{
    return name >= 0 && name < d->names.count ? d->names.text[name] : NULL;
}

int64_t dataset_issues(const struct dataset *d)
{
    return d->n_issues;
}

const struct data_issue *dataset_issue(const struct dataset *d, int64_t index)
{
    return index >= 0 && index < d->n_issues ? &d->issues[index] : NULL;
}

static bool group_at(const struct dataset *d, int which, int index, struct data_group *out)
{
    bool there = index >= 0 && index < d->n_groups[which];
    if (there) {
        *out = d->groups[which][index];
    }
    return there;
}

bool dataset_task(const struct dataset *d, int index, struct data_group *out)
{
    return group_at(d, 0, index, out);
}

bool dataset_domain(const struct dataset *d, int index, struct data_group *out)
{
    return group_at(d, 1, index, out);
}
