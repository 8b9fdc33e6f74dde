/* table.c: the file of a router: one safetensors file whose metadata says what it is, and its scores.
 *
 * __metadata__ has one member, "graft.router", a JSON text: version, labels, base, how it was trained, and the confusion
 * table of the held-out prompts. Tensors, all F32: weight [labels, width], bias [labels], mean and scale [width]. Files are
 * untrusted: nothing is believed that was not checked.
 */
#include "generate/router/router_internal.h"

#include <math.h>

enum { VERSION = 1, MAX_HEADER = 4 << 20 };
static const char KEY[] = "graft.router";

void router_table_free(struct router_table *t)
{
    for (int i = 0; t->labels && i < t->n_labels; i++)
        mem_free(t->mem, t->labels[i]);
    mem_free(t->mem, t->labels);
    mem_free(t->mem, t->values);
    mem_free(t->mem, t->confusion);
    json_decref(t->base);
    *t = (struct router_table){.mem = NULL};
}

int router_label(const struct router_table *t, const char *name)
{
    for (int i = 0; i < t->n_labels; i++)
        if (!strcmp(t->labels[i], name))
            return i;
    return -1;
}

void router_scores(const struct router_table *t, const float *embedding, double *scores)
{
    for (int c = 0; c < t->n_labels; c++) {
        const float *w = t->weight + (size_t)c * (size_t)t->width;
        double sum = (double)t->bias[c];
        for (int j = 0; j < t->width; j++) {
            float z = (embedding[j] - t->mean[j]) * t->scale[j];
            sum += (double)w[j] * (double)z;
        }
        scores[c] = sum;
    }
}

/* ---- memory ------------------------------------------------------------------------------- */

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for a router");
}

static size_t count_values(const struct router_table *t)
{
    return (size_t)t->n_labels * (size_t)t->width + (size_t)t->n_labels + 2 * (size_t)t->width;
}

graft_status router_table_make(struct router_table *t, struct mem *mem, int n_labels, int width,
                               graft_error *error)
{
    size_t weights = (size_t)n_labels * (size_t)width;
    *t = (struct router_table){.mem = mem, .n_labels = n_labels, .width = width};
    t->labels = mem_calloc(mem, (size_t)n_labels, sizeof *t->labels);
    t->confusion = mem_calloc(mem, (size_t)n_labels * (size_t)n_labels, sizeof *t->confusion);
    t->values = mem_calloc(mem, count_values(t), sizeof *t->values);
    if (!t->labels || !t->confusion || !t->values)
        return no_memory(error);
    t->weight = t->values;
    t->bias = t->values + weights;
    t->mean = t->bias + n_labels;
    t->scale = t->mean + width;
    return GRAFT_OK;
}

/* ---- reading ------------------------------------------------------------------------------ */

/* Names in the order of their bytes, each once. */
static graft_status read_labels(struct router_table *t, const json_t *labels, graft_error *error)
{
    for (int i = 0; i < t->n_labels; i++) {
        const json_t *label = json_array_get(labels, (size_t)i);
        const char *name = json_string_value(label);
        if (!name || strlen(name) != json_string_length(label) || !router_label_valid(name))
            return error_set(error, GRAFT_FORMAT, "label %d is no NAME[@VERSION] of an adapter", i);
        if (i > 0 && strcmp(t->labels[i - 1], name) >= 0)
            return error_set(error, GRAFT_FORMAT,
                             "the labels are not in order, or one is twice there");
        t->labels[i] = mem_strdup(t->mem, name);
        if (!t->labels[i])
            return no_memory(error);
    }
    return GRAFT_OK;
}

static graft_status read_confusion(struct router_table *t, const json_t *rows, graft_error *error)
{
    bool good = json_array_size(rows) == (size_t)t->n_labels;
    for (int i = 0; good && i < t->n_labels * t->n_labels; i++) {
        const json_t *row = json_array_get(rows, (size_t)(i / t->n_labels));
        const json_t *cell = json_array_get(row, (size_t)(i % t->n_labels));
        t->confusion[i] = json_integer_value(cell);
        good = json_array_size(row) == (size_t)t->n_labels && json_is_integer(cell) &&
               t->confusion[i] >= 0 && t->confusion[i] <= INT32_MAX;
    }
    return good ? GRAFT_OK
                : error_set(error, GRAFT_FORMAT, "its \"confusion\" is no table of counts");
}

static graft_status read_numbers(struct router_table *t, const json_t *about, graft_error *error)
{
    int64_t seed = 0;
    graft_status status = json_get_number(about, "l2", &t->l2, error);
    if (status == GRAFT_OK)
        status = json_get_number(about, "held_out_share", &t->held_out_share, error);
    if (status == GRAFT_OK)
        status = json_get_int(about, "seed", INT64_MIN, INT64_MAX, &seed, error);
    if (status == GRAFT_OK)
        status = json_get_int(about, "examples", 0, INT32_MAX, &t->examples, error);
    if (status == GRAFT_OK)
        status = json_get_int(about, "right", 0, t->examples, &t->right, error);
    if (status == GRAFT_OK)
        status = json_get_int(about, "iterations", 0, INT32_MAX, &t->iterations, error);
    t->seed = (uint64_t)seed;
    return status;
}

/* The shape of a tensor, which must be F32 and finite; its values go to `out`, unless that is NULL. */
static graft_status read_tensor(const struct safetensors *st, const char *name, int n_dims,
                                const int64_t *shape, float *out, graft_error *error)
{
    const struct tensor_info *tensor = safetensors_find(st, name);
    if (!tensor)
        return error_set(error, GRAFT_FORMAT, "there is no tensor \"%s\" in it", name);
    bool same = tensor->type == GRAFT_TYPE_F32 && tensor->n_dims == n_dims;
    for (int i = 0; same && i < n_dims; i++)
        same = tensor->shape[i] == shape[i];
    if (!same)
        return error_set(error, GRAFT_FORMAT, "tensor \"%s\" is no F32 of the shape that it needs",
                         name);
    memcpy(out, tensor->data, tensor->size);
    for (size_t i = 0; i < tensor->size / sizeof *out; i++)
        if (!isfinite(out[i]))
            return error_set(error, GRAFT_NUMERIC, "value %zu of tensor \"%s\" is not finite", i,
                             name);
    return GRAFT_OK;
}

static graft_status read_tensors(struct router_table *t, const struct safetensors *st,
                                 graft_error *error)
{
    const int64_t shape[] = {t->n_labels, t->width};
    float *bias = t->values + (size_t)t->n_labels * (size_t)t->width, *mean = bias + t->n_labels;
    if (st->n_tensors != 4)
        return error_set(error, GRAFT_FORMAT, "it has %zu tensors, a router has 4", st->n_tensors);
    graft_status status = read_tensor(st, "weight", 2, shape, t->values, error);
    if (status == GRAFT_OK)
        status = read_tensor(st, "bias", 1, shape, bias, error);
    if (status == GRAFT_OK)
        status = read_tensor(st, "mean", 1, shape + 1, mean, error);
    return status == GRAFT_OK ? read_tensor(st, "scale", 1, shape + 1, mean + t->width, error)
                              : status;
}

static graft_status read_header(const struct safetensors *st, json_t **out, graft_error *error)
{
    const json_t *text = json_object_get(st->metadata, KEY);
    int64_t version = 0;
    if (!text)
        return error_set(error, GRAFT_FORMAT, "it is no router: there is no \"%s\" in it", KEY);
    if (json_string_length(text) > MAX_HEADER)
        return error_set(error, GRAFT_LIMIT, "its \"%s\" has more than 4 MiB", KEY);
    graft_status status = json_parse(json_string_value(text), json_string_length(text), out, error);
    if (status != GRAFT_OK)
        return status;
    if (!json_is_object(*out))
        return error_set(error, GRAFT_FORMAT, "its \"%s\" is no JSON object", KEY);
    status = json_get_int(*out, "version", 1, INT32_MAX, &version, error);
    if (status == GRAFT_OK && version != VERSION)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "it is of version %lld, this graft reads version %d", (long long)version,
                         VERSION);
    return status;
}

/* How many labels, and how wide: what memory is taken for. */
static graft_status read_sizes(const struct safetensors *st, const json_t *about, int *n_labels,
                               int *width, graft_error *error)
{
    const size_t n = json_array_size(json_object_get(about, "labels"));
    const struct tensor_info *mean = safetensors_find(st, "mean");
    if (n < 2 || n > ROUTER_MAX_LABELS)
        return error_set(error, GRAFT_FORMAT, "it has %zu labels, a router has 2 to %d", n,
                         ROUTER_MAX_LABELS);
    if (!mean || mean->n_dims != 1 || mean->shape[0] < 1 || mean->shape[0] > ROUTER_MAX_WIDTH)
        return error_set(error, GRAFT_FORMAT, "tensor \"mean\" does not say how wide it is");
    const struct tensor_info *weight = safetensors_find(st, "weight");
    if (!weight || weight->n_dims != 2 || weight->shape[0] != (int64_t)n ||
        weight->shape[1] != mean->shape[0])
        return error_set(error, GRAFT_FORMAT,
                         "tensor \"weight\" is not of %zu labels by %lld values", n,
                         (long long)mean->shape[0]);
    *n_labels = (int)n;
    *width = (int)mean->shape[0];
    return GRAFT_OK;
}

static graft_status read_table(struct router_table *t, struct mem *mem,
                               const struct safetensors *st, const json_t *about,
                               graft_error *error)
{
    json_t *card = NULL;
    int n_labels = 0, width = 0;
    graft_status status = read_sizes(st, about, &n_labels, &width, error);
    if (status == GRAFT_OK)
        status = router_table_make(t, mem, n_labels, width, error);
    if (status == GRAFT_OK)
        status = read_labels(t, json_object_get(about, "labels"), error);
    if (status == GRAFT_OK)
        status = read_numbers(t, about, error);
    if (status == GRAFT_OK)
        status = read_confusion(t, json_object_get(about, "confusion"), error);
    if (status == GRAFT_OK)
        status = read_tensors(t, st, error);
    if (status != GRAFT_OK)
        return status;
    t->base = json_deep_copy(json_object_get(about, "base"));
    card = json_object();
    json_put(&card, "base", json_incref(t->base));
    const bool described = json_is_object(t->base) && card && !card_wrong_key(card) &&
                           json_is_string(json_object_get(t->base, "fingerprint"));
    json_decref(card);
    return described ? GRAFT_OK
                     : error_set(error, GRAFT_FORMAT, "its \"base\" does not say what it is for");
}

graft_status router_table_parse(struct router_table *out, struct mem *mem, const uint8_t *bytes,
                                size_t size, graft_error *error)
{
    struct safetensors st = {.mem = mem};
    struct router_table t = {.mem = mem};
    json_t *about = NULL;
    graft_status status = safetensors_parse(&st, mem, bytes, size, error);
    if (status == GRAFT_OK)
        status = read_header(&st, &about, error);
    if (status == GRAFT_OK)
        status = read_table(&t, mem, &st, about, error);
    json_decref(about);
    safetensors_free(&st);
    if (status != GRAFT_OK)
        router_table_free(&t);
    else
        *out = t;
    return status;
}

/* ---- writing ------------------------------------------------------------------------------ */

static json_t *write_confusion(const struct router_table *t)
{
    json_t *rows = json_array();
    for (int i = 0; i < t->n_labels; i++) {
        json_t *row = json_array();
        for (int j = 0; j < t->n_labels; j++)
            json_append(&row, json_integer(t->confusion[i * t->n_labels + j]));
        json_append(&rows, row);
    }
    return rows;
}

static graft_status write_header(const struct router_table *t, json_t **out, graft_error *error)
{
    json_t *about = json_object(), *labels = json_array(), *metadata = json_object();
    for (int i = 0; i < t->n_labels; i++)
        json_append(&labels, json_string(t->labels[i]));
    json_put(&about, "version", json_integer(VERSION));
    json_put(&about, "graft", json_string(graft_version()));
    json_put(&about, "labels", labels);
    json_put(&about, "base", json_incref(t->base));
    json_put(&about, "pooling", json_string("mean"));
    json_put(&about, "tokens", json_integer(ROUTER_TOKENS));
    json_put(&about, "l2", json_real(t->l2));
    json_put(&about, "held_out_share", json_real(t->held_out_share));
    json_put(&about, "seed", json_integer((json_int_t)t->seed));
    json_put(&about, "examples", json_integer(t->examples));
    json_put(&about, "right", json_integer(t->right));
    json_put(&about, "iterations", json_integer(t->iterations));
    json_put(&about, "confusion", write_confusion(t));
    char *text = about ? json_dumps(about, JSON_COMPACT) : NULL;
    json_put(&metadata, KEY, text ? json_string(text) : NULL);
    free(text); /* from jansson */
    json_decref(about);
    *out = metadata;
    return metadata ? GRAFT_OK : no_memory(error);
}

graft_status router_table_write(const struct router_table *t, const char *path, graft_error *error)
{
    const int64_t k = t->n_labels, d = t->width;
    const struct tensor_decl tensors[] = {{"weight", GRAFT_TYPE_F32, 2, {k, d}},
                                          {"bias", GRAFT_TYPE_F32, 1, {k}},
                                          {"mean", GRAFT_TYPE_F32, 1, {d}},
                                          {"scale", GRAFT_TYPE_F32, 1, {d}}};
    struct file_writer w = {0};
    json_t *metadata = NULL;
    graft_status status = write_header(t, &metadata, error);
    if (status == GRAFT_OK)
        status = file_writer_open(&w, t->mem, path, error);
    if (status == GRAFT_OK)
        status = safetensors_write_header(&w, tensors, ARRAY_LEN(tensors), metadata, error);
    if (status == GRAFT_OK)
        status = file_writer_write(&w, t->values, count_values(t) * sizeof *t->values, error);
    if (status == GRAFT_OK)
        status = file_writer_commit(&w, error);
    file_writer_abort(&w);
    json_decref(metadata);
    return status;
}
