/* saved.c: datasets in a file: tokenised once, loaded in no time.
 *
 * A header of 128 bytes (magic, version, sizes, a digest over all that follows), a JSON object (what it was made
 * with, files, names, issues, counters), then examples, ids and marks as they lie in memory, each section on a boundary
 * of 64 bytes. Little-endian machines only, which are those that graft has tiers for. The file is mapped; all of it is
 * checked before anything is visible.
 */
#include "train/data/data_internal.h"

#include <math.h>

#define MAGIC "graft-data\n"
enum { VERSION = 1, ALIGNMENT = 64, META_BYTES = 1 << 30 };

struct header {
    char magic[12];
    uint32_t version;
    uint64_t meta_bytes, n_examples, n_ids;
    uint8_t digest[32]; /* SHA-256 of what follows the header */
    uint8_t zero[56];
};
_Static_assert(sizeof(struct header) == 128, "the header is 128 bytes");
_Static_assert(sizeof(struct stored) == 64, "an example is 64 bytes");

bool saved_is(const char *bytes, size_t size)
{
    return size >= sizeof MAGIC && memcmp(bytes, MAGIC, sizeof MAGIC) == 0;
}

static size_t padded(size_t size)
{
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* ---- writing ------------------------------------------------------------------------------- */

static json_t *names_json(const struct names *n)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < n->count; i++) {
        json_append(&list, json_string(n->text[i]));
    }
    return list;
}

static json_t *hex_json(const uint8_t digest[32])
{
    char text[65];
    hex_write(digest, 32, text);
    return json_string(text);
}

static json_t *issues_json(const struct dataset *d)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < d->n_issues; i++) {
        const struct data_issue *s = &d->issues[i];
        json_append(&list, json_pack("[i, i, I, s, s]", (int)s->kind, s->file, (json_int_t)s->line,
                                     s->reason, s->fix));
    }
    return list;
}

/* Counters that the examples do not tell. X(member). */
#define COUNTERS(X)                                                                                \
    X(records)                                                                                     \
    X(dropped) X(truncated) X(below_quality) X(divided) X(reopened) X(tokens_cut) X(longest_line)

static json_t *counters_json(const struct data_stats *s)
{
    json_t *out = json_object(), *formats = json_array();
#define PUT(name) json_put(&out, #name, json_integer(s->name));
    COUNTERS(PUT)
#undef PUT
    json_put(&out, "longest", json_integer(s->longest));
    json_put(&out, "longest_file", json_integer(s->longest_file));
    for (int i = 0; i < DATA_FORMATS; i++) {
        json_append(&formats, json_integer(s->formats[i]));
    }
    json_put(&out, "formats", formats);
    return out;
}

static json_t *meta_json(const struct dataset *d)
{
    json_t *meta = json_object();
    json_put(&meta, "tokenizer", hex_json(d->tokenizer));
    json_put(&meta, "chat", hex_json(d->chat));
    json_put(&meta, "vocabulary", json_integer(d->n_vocab));
    json_put(&meta, "labels", json_integer(d->n_labels));
    json_put(&meta, "made", json_string(d->made));
    json_put(&meta, "files", names_json(&d->files));
    json_put(&meta, "names", names_json(&d->names));
    json_put(&meta, "issues", issues_json(d));
    json_put(&meta, "counters", counters_json(&d->stats));
    return meta;
}

static bool append_padded(struct buf *out, const void *bytes, size_t size)
{
    static const char zeros[ALIGNMENT] = {0};
    return (size == 0 || buf_append(out, bytes, size)) &&
           buf_append(out, zeros, padded(size) - size);
}

graft_status dataset_save(const struct dataset *d, const char *path, graft_error *error)
{
    struct buf body;
    struct file_writer w = {0};
    json_t *meta = meta_json(d);
    char *text = meta != NULL ? json_dumps(meta, JSON_COMPACT) : NULL;
    graft_status status = GRAFT_OK;
    buf_init(&body, d->mem, SIZE_MAX);
    struct header h = {.version = VERSION,
                       .meta_bytes = text != NULL ? strlen(text) : 0,
                       .n_examples = (uint64_t)d->n_examples,
                       .n_ids = (uint64_t)d->n_ids};
    memcpy(h.magic, MAGIC, sizeof MAGIC);
    if (text == NULL || !append_padded(&body, text, h.meta_bytes) ||
        !append_padded(&body, d->examples, (size_t)d->n_examples * sizeof *d->examples) ||
        !append_padded(&body, d->ids, (size_t)d->n_ids * sizeof *d->ids) ||
        !append_padded(&body, d->learned, (size_t)d->n_ids)) {
        status = error_set(error, GRAFT_NO_MEMORY, "no memory to save a dataset");
    }
    if (status == GRAFT_OK) {
        status = sha256(body.data, body.size, h.digest, error);
    }
    if (status == GRAFT_OK) {
        status = file_writer_open(&w, d->mem, path, error);
    }
    if (status == GRAFT_OK) {
        status = file_writer_write(&w, &h, sizeof h, error);
        status = status == GRAFT_OK ? file_writer_write(&w, body.data, body.size, error) : status;
        status = status == GRAFT_OK ? file_writer_commit(&w, error) : status;
        file_writer_abort(&w);
    }
    free(text); /* jansson's */
    json_decref(meta);
    buf_free(&body);
    return status;
}

/* ---- what it was made with ----------------------------------------------------------------- */

/* "loss=auto max=2048 …": compared member by member when it is loaded. */
graft_status recipe_write(struct dataset *d, const struct data_options *o, graft_error *error)
{
    json_t *made = json_pack("{s:s, s:i, s:f, s:b, s:s}", "loss", data_loss_name(o->loss),
                             "max_len", o->max_len, "min_quality", o->min_quality, "raw",
                             (int)o->raw, "template", d->template);
    const char *const keys[][2] = {{"prompt_key", o->prompt_key},
                                   {"completion_key", o->completion_key},
                                   {"text_key", o->text_key}};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (keys[i][1] != NULL) {
            json_put(&made, keys[i][0], json_string(keys[i][1]));
        }
    }
    char *text = made != NULL ? json_dumps(made, JSON_COMPACT) : NULL;
    d->made = text != NULL ? arena_strndup(&d->arena, text, strlen(text)) : NULL;
    free(text); /* jansson's */
    json_decref(made);
    return d->made != NULL ? GRAFT_OK
                           : error_set(error, GRAFT_NO_MEMORY, "no memory for training data");
}

static graft_status made_otherwise(graft_error *error, const char *what)
{
    return error_set(error, GRAFT_INVALID_ARGUMENT,
                     "the saved dataset was made with another %s: make it again from its sources",
                     what);
}

static bool same_key(const json_t *made, const char *key, const char *given)
{
    const char *text = json_string_value(json_object_get(made, key));
    return given == NULL || (text != NULL && strcmp(text, given) == 0);
}

static graft_status compare_recipe(struct dataset *d, const json_t *made,
                                   const struct data_options *o, graft_error *error)
{
    const char *loss = json_string_value(json_object_get(made, "loss"));
    const char *template = json_string_value(json_object_get(made, "template"));
    int64_t max_len = json_integer_value(json_object_get(made, "max_len"));
    double min_quality = json_number_value(json_object_get(made, "min_quality"));
    bool raw = json_is_true(json_object_get(made, "raw"));
    int known = -1;
    for (int i = DATA_LOSS_AUTO; i <= DATA_LOSS_ALL && loss != NULL; i++) {
        known = strcmp(loss, data_loss_name((enum data_loss)i)) == 0 ? i : known;
    }
    if (known < 0 || template == NULL || max_len < 2 || max_len > INT32_MAX - 2 ||
        !(min_quality >= 0 && min_quality <= 1)) {
        return error_set(error, GRAFT_FORMAT, "the saved dataset does not say how it was made");
    }
    if (o->loss != DATA_LOSS_AUTO && (int)o->loss != known) {
        return made_otherwise(error, "loss");
    }
    if ((o->max_len != 0 && o->max_len != max_len) || max_len > d->n_ctx) {
        return made_otherwise(error, "sequence length");
    }
    if (o->min_quality > 0 && fabs(o->min_quality - min_quality) > 1e-12) {
        return made_otherwise(error, "least quality");
    }
    if ((o->raw && !raw) || !same_key(made, "prompt_key", o->prompt_key) ||
        !same_key(made, "completion_key", o->completion_key) ||
        !same_key(made, "text_key", o->text_key)) {
        return made_otherwise(error, "reading of its members");
    }
    d->options.loss = (enum data_loss)known;
    d->options.max_len = (int)max_len;
    d->options.min_quality = min_quality;
    d->options.raw = raw;
    d->template = arena_strndup(&d->arena, template, strlen(template));
    return d->template != NULL ? GRAFT_OK
                               : error_set(error, GRAFT_NO_MEMORY, "no memory for training data");
}

static bool same_digest(const json_t *meta, const char *key, const uint8_t own[32])
{
    const char *text = json_string_value(json_object_get(meta, key));
    uint8_t digest[32];
    return text != NULL && strlen(text) == 64 && hex_read(text, digest, 32) &&
           memcmp(digest, own, 32) == 0;
}

static graft_status check_maker(struct dataset *d, const json_t *meta, const struct data_options *o,
                                graft_error *error)
{
    json_t *made = NULL;
    const char *text = json_string_value(json_object_get(meta, "made"));
    if (!same_digest(meta, "tokenizer", d->tokenizer) ||
        json_integer_value(json_object_get(meta, "vocabulary")) != d->n_vocab ||
        json_integer_value(json_object_get(meta, "labels")) != d->n_labels) {
        return made_otherwise(error, "tokenizer or vocabulary");
    }
    if (!same_digest(meta, "chat", d->chat)) {
        return made_otherwise(error, "chat template");
    }
    if (o->valid_path != NULL) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "a saved dataset takes no file for validation: it was split, or is now");
    }
    graft_status status =
        text != NULL
            ? json_parse(text, strlen(text), &made, error)
            : error_set(error, GRAFT_FORMAT, "the saved dataset does not say how it was made");
    if (status == GRAFT_OK) {
        status = compare_recipe(d, made, o, error);
    }
    if (status == GRAFT_OK) {
        d->made = arena_strndup(&d->arena, text, strlen(text));
        status = d->made != NULL ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "no memory");
    }
    json_decref(made);
    return status;
}

/* ---- reading ------------------------------------------------------------------------------- */

static graft_status damaged(graft_error *error, const char *what)
{
    return error_set(error, GRAFT_FORMAT, "the saved dataset is damaged: %s", what);
}

static graft_status names_load(struct names *n, const json_t *list, size_t max, graft_error *error)
{
    if (!json_is_array(list) || json_array_size(list) > max) {
        return damaged(error, "its names");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *name = json_array_get(list, i);
        int32_t at;
        struct text text = {json_string_value(name), json_string_length(name)};
        if (!json_is_string(name)) {
            return damaged(error, "a name that is none");
        }
        if (!names_find(n, text, &at)) {
            return error_set(error, GRAFT_NO_MEMORY, "no memory for training data");
        }
        if (at != (int32_t)i) {
            return damaged(error, "a name twice");
        }
    }
    return GRAFT_OK;
}

static graft_status issues_load(struct dataset *d, const json_t *list, graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < json_array_size(list) && i < DATA_ISSUES_KEPT && status == GRAFT_OK;
         i++) {
        int kind, file;
        json_int_t line;
        const char *reason, *fix;
        struct why why = {0};
        if (json_unpack(json_array_get(list, i), "[i, i, I, s, s]", &kind, &file, &line, &reason,
                        &fix) != 0 ||
            (unsigned)kind >= DATA_ISSUE_KINDS || file < 0 || file >= d->files.count || line < 0 ||
            reason[0] == '\0') {
            return damaged(error, "an issue");
        }
        why_drop(&why, fix, "%s", reason);
        status = issue_add(d, (enum data_issue_kind)kind, file, line, &why, error);
    }
    return status;
}

static graft_status counter_load(const json_t *from, const char *key, int64_t max, int64_t *out,
                                 graft_error *error)
{
    *out = 0;
    return json_get_int(from, key, 0, max, out, error);
}

static graft_status counters_load(struct dataset *d, const json_t *from, graft_error *error)
{
    struct data_stats *s = &d->stats;
    int64_t longest = 0, file = 0;
    graft_status status = GRAFT_OK;
#define GET(name)                                                                                  \
    if (status == GRAFT_OK) {                                                                      \
        status = counter_load(from, #name, INT64_MAX, &s->name, error);                            \
    }
    COUNTERS(GET)
#undef GET
    if (status == GRAFT_OK) {
        status = counter_load(from, "longest", INT32_MAX, &longest, error);
    }
    if (status == GRAFT_OK) {
        status = counter_load(from, "longest_file", DATA_FILES, &file, error);
    }
    s->longest = (int)longest;
    s->longest_file = (int)file;
    for (size_t i = 0; i < DATA_FORMATS; i++) {
        s->formats[i] = json_integer_value(json_array_get(json_object_get(from, "formats"), i));
    }
    return status;
}

static graft_status meta_load(struct dataset *d, const struct data_options *o, const char *text,
                              size_t size, graft_error *error)
{
    json_t *meta = NULL;
    graft_status status = json_parse(text, size, &meta, error);
    if (status == GRAFT_OK) {
        status = check_maker(d, meta, o, error);
    }
    if (status == GRAFT_OK) {
        status = names_load(&d->files, json_object_get(meta, "files"), DATA_FILES, error);
    }
    if (status == GRAFT_OK) {
        status = names_load(&d->names, json_object_get(meta, "names"), 2 * DATA_NAMES, error);
    }
    if (status == GRAFT_OK) {
        status = issues_load(d, json_object_get(meta, "issues"), error);
    }
    if (status == GRAFT_OK) { /* after the issues, which count themselves */
        status = counters_load(d, json_object_get(meta, "counters"), error);
    }
    json_decref(meta);
    return status;
}

static bool example_fits(const struct dataset *d, const struct stored *s, uint64_t at,
                         int64_t record)
{
    return s->at == at && s->n_tok >= 1 && s->n_tok <= d->options.max_len &&
           (uint64_t)s->n_tok + 1 <= (uint64_t)d->n_ids - at && s->part <= PART_OPEN &&
           s->format < DATA_FORMATS && s->truncated <= 1 && s->record >= record && s->line >= 1 &&
           isfinite(s->weight) && s->weight > 0 && s->task >= -1 && s->task < d->names.count &&
           s->domain >= -1 && s->domain < d->names.count && s->file >= 0 &&
           s->file < d->files.count && !s->rewarded && s->session == 0;
}

static bool tokens_fit(const struct dataset *d, const struct stored *s)
{
    int64_t learned = 0;
    const graft_token_id *ids = d->ids + s->at;
    int bound = s->format == DATA_FORMAT_LABEL ? d->n_labels : d->n_vocab;
    for (int32_t t = 0; t < s->n_tok; t++) {
        if (ids[t] < 0 || ids[t] >= d->n_vocab || d->learned[s->at + (uint64_t)t] > 1) {
            return false;
        }
        learned += d->learned[s->at + (uint64_t)t];
    }
    return learned == s->n_learned && learned > 0 && ids[s->n_tok] >= 0 && ids[s->n_tok] < bound;
}

static graft_status check_examples(const struct dataset *d, graft_error *error)
{
    uint64_t at = 0;
    int64_t record = 0;
    for (int64_t i = 0; i < d->n_examples; i++) {
        const struct stored *s = &d->examples[i];
        if (!example_fits(d, s, at, record) || !tokens_fit(d, s)) {
            return damaged(error, "an example");
        }
        at += (uint64_t)s->n_tok + 1;
        record = s->record;
    }
    return at == (uint64_t)d->n_ids ? GRAFT_OK : damaged(error, "tokens of no example");
}

/* Where the sections lie; sizes are the header's and not to be trusted. */
static graft_status place(struct dataset *d, const struct header *h, const uint8_t *body,
                          size_t left, graft_error *error)
{
    if (h->version != VERSION) {
        return error_set(error, GRAFT_UNSUPPORTED,
                         "a saved dataset of version %u, which graft does not know: make it again",
                         h->version);
    }
    if (h->meta_bytes > META_BYTES || h->n_examples > left / sizeof(struct stored) ||
        h->n_ids > left / (sizeof(graft_token_id) + 1)) {
        return damaged(error, "it is cut off");
    }
    size_t examples = padded(h->meta_bytes);
    size_t ids = examples + padded(h->n_examples * sizeof(struct stored));
    size_t learned = ids + padded(h->n_ids * sizeof(graft_token_id));
    if (learned + padded(h->n_ids) != left) {
        return damaged(error, "its size is not what it says");
    }
    d->examples = (const struct stored *)(const void *)(body + examples);
    d->ids = (const graft_token_id *)(const void *)(body + ids);
    d->learned = body + learned;
    d->n_examples = (int64_t)h->n_examples;
    d->n_ids = (int64_t)h->n_ids;
    return GRAFT_OK;
}

graft_status saved_parse(struct dataset *d, const uint8_t *bytes, size_t size,
                         const struct data_options *given, graft_error *error)
{
    struct header h;
    uint8_t digest[32];
    if (size < sizeof h) {
        return damaged(error, "it is cut off");
    }
    memcpy(&h, bytes, sizeof h);
    const uint8_t *body = bytes + sizeof h;
    size -= sizeof h;
    graft_status status = place(d, &h, body, size, error);
    if (status == GRAFT_OK) {
        status = sha256(body, size, digest, error);
    }
    if (status == GRAFT_OK && memcmp(digest, h.digest, sizeof digest) != 0) {
        status = damaged(error, "its checksum is not that of its bytes");
    }
    if (status == GRAFT_OK) {
        status = meta_load(d, given, (const char *)body, h.meta_bytes, error);
    }
    if (status == GRAFT_OK) {
        status = check_examples(d, error);
    }
    d->loaded = status == GRAFT_OK;
    return status;
}

graft_status saved_load(struct dataset *d, const char *path, const struct data_options *given,
                        graft_error *error)
{
    graft_status status = file_map_open(&d->map, d->mem, path, MAP_SHARED_FILE, error);
    if (status == GRAFT_OK) {
        status = saved_parse(d, d->map.data, d->map.size, given, error);
    }
    if (status != GRAFT_OK) {
        error_at_file(error, path);
    }
    return status;
}
