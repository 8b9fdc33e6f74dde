/* vectors.c: vectors in memory: inputs in one array, targets in another, names by number.
 *
 * Arrays double when examples come one at a time. What is given may lie in them already: its place is taken down before they
 * move. Files are files.c's, made-up examples synthetic.c's.
 */
#include "train/vectors/vectors_internal.h"

#include <math.h>

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for vectors");
}

graft_status vectors_open(struct mem *mem, int n_in, int n_out, struct vectors **out,
                          graft_error *error)
{
    if (n_in < 1 || n_in > VECTORS_MAX_WIDTH || n_out < 1 || n_out > VECTORS_MAX_WIDTH)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "vectors of %d values with targets of %d; both must be 1 to %d", n_in,
                         n_out, VECTORS_MAX_WIDTH);
    struct vectors *v = mem_calloc(mem, 1, sizeof *v);
    if (!v)
        return no_memory(error);
    v->mem = mem;
    v->n_in = n_in;
    v->n_out = n_out;
    arena_init(&v->arena, mem, SIZE_MAX);
    str_map_init(&v->map, mem);
    *out = v;
    return GRAFT_OK;
}

void vectors_close(struct vectors **vectors)
{
    struct vectors *v = *vectors;
    if (!v)
        return;
    mem_free(v->mem, v->inputs);
    mem_free(v->mem, v->targets);
    mem_free(v->mem, v->labels);
    mem_free(v->mem, v->names);
    str_map_free(&v->map);
    arena_free(&v->arena);
    mem_free(v->mem, v);
    *vectors = NULL;
}

int vectors_in(const struct vectors *v)
{
    return v->n_in;
}

int vectors_out(const struct vectors *v)
{
    return v->n_out;
}

int64_t vectors_count(const struct vectors *v)
{
    return v->n;
}

struct vector_example vectors_at(const struct vectors *v, int64_t i)
{
    const struct vector_label *l = &v->labels[i];
    return (struct vector_example){.input = v->inputs + i * v->n_in,
                                   .target = l->has_target ? v->targets + i * v->n_out : NULL,
                                   .quality = l->quality,
                                   .task = l->task < 0 ? NULL : v->names[l->task],
                                   .domain = l->domain < 0 ? NULL : v->names[l->domain]};
}

/* ---- names ---------------------------------------------------------------------------------- */

static bool is_name(const char *text)
{
    const size_t n = strlen(text);
    uint32_t code;
    for (size_t i = 0, step; i < n; i += step)
        if (!(step = (size_t)utf8_decode(text + i, n - i, &code)))
            return false;
    return n <= VECTORS_MAX_NAME;
}

static graft_status find_name(struct vectors *v, const char *text, int32_t *out, graft_error *error)
{
    *out = -1;
    if (!text || !text[0])
        return GRAFT_OK;
    *out = str_map_get(&v->map, text, strlen(text));
    if (*out >= 0)
        return GRAFT_OK;
    if (!is_name(text))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the name of a task or domain is no UTF-8, or longer than %d bytes",
                         VECTORS_MAX_NAME);
    if (v->n_names == VECTORS_NAMES)
        return error_set(error, GRAFT_LIMIT, "more than %d tasks and domains", VECTORS_NAMES);
    if (v->n_names == v->names_capacity) {
        const int32_t capacity = v->names_capacity ? 2 * v->names_capacity : 16;
        const char **names = mem_resize(v->mem, v->names, (size_t)capacity * sizeof *names);
        if (!names)
            return no_memory(error);
        v->names = names;
        v->names_capacity = capacity;
    }
    char *copy = arena_strndup(&v->arena, text, strlen(text));
    if (!copy || !str_map_put(&v->map, copy, strlen(copy), v->n_names, NULL))
        return no_memory(error);
    v->names[v->n_names] = copy;
    *out = v->n_names++;
    return GRAFT_OK;
}

/* ---- adding --------------------------------------------------------------------------------- */

/* Arrays for `n` examples in all; without targets so far there is no room for them. */
static graft_status resize(struct vectors *v, int64_t n, bool targets, graft_error *error)
{
    size_t inputs, outputs, labels;
    if (!size_mul((size_t)n, (size_t)v->n_in * sizeof *v->inputs, &inputs) ||
        !size_mul((size_t)n, (size_t)v->n_out * sizeof *v->targets, &outputs) ||
        !size_mul((size_t)n, sizeof *v->labels, &labels))
        return no_memory(error);
    float *in = mem_resize(v->mem, v->inputs, inputs);
    if (!in)
        return no_memory(error);
    v->inputs = in;
    struct vector_label *all = mem_resize(v->mem, v->labels, labels);
    if (!all)
        return no_memory(error);
    v->labels = all;
    if (targets || v->targets) {
        float *out = mem_resize(v->mem, v->targets, outputs);
        if (!out)
            return no_memory(error);
        v->targets = out;
    }
    v->capacity = n;
    return GRAFT_OK;
}

graft_status vectors_grow(struct vectors *v, int64_t n, bool targets, float **inputs,
                          float **outputs, graft_error *error)
{
    const bool new = targets && !v->targets;
    const int64_t wanted = v->n + n, twice = n == 1 ? 2 * v->capacity : 0;
    graft_status status = GRAFT_OK;
    if (wanted > v->capacity || new)
        status = resize(v,
                        wanted <= v->capacity ? v->capacity
                        : wanted > twice      ? wanted
                                              : twice,
                        targets, error);
    if (status != GRAFT_OK)
        return status;
    *inputs = v->inputs + v->n * v->n_in;
    *outputs = targets ? v->targets + v->n * v->n_out : NULL;
    for (int64_t i = v->n; i < wanted; i++)
        v->labels[i] = (struct vector_label){1, -1, -1, targets};
    v->n = wanted;
    return GRAFT_OK;
}

graft_status vectors_label(struct vectors *v, int64_t i, float quality, const char *task,
                           const char *domain, graft_error *error)
{
    struct vector_label *l = &v->labels[i];
    l->quality = quality;
    graft_status status = find_name(v, task, &l->task, error);
    return status == GRAFT_OK ? find_name(v, domain, &l->domain, error) : status;
}

static bool are_numbers(const float *x, int64_t n)
{
    bool all = true;
    for (int64_t i = 0; i < n; i++)
        all = all && isfinite(x[i]);
    return all;
}

/* Where values lie that may be the dataset's own: the place is the same when its arrays have moved. */
struct place {
    float *const *array; /* NULL: elsewhere */
    ptrdiff_t at;
    const float *elsewhere;
};

static struct place place_of(const struct vectors *v, const float *x)
{
    float *const *const arrays[] = {&v->inputs, &v->targets};
    const int widths[] = {v->n_in, v->n_out};
    for (size_t i = 0; x && i < ARRAY_LEN(arrays); i++) {
        const uintptr_t first = (uintptr_t)*arrays[i], here = (uintptr_t)x;
        if (first && here >= first && here - first < (size_t)(v->n * widths[i]) * sizeof *x)
            return (struct place){.array = arrays[i], .at = x - *arrays[i]};
    }
    return (struct place){.elsewhere = x};
}

static const float *values_at(const struct place *place)
{
    return place->array ? *place->array + place->at : place->elsewhere;
}

graft_status vectors_add(struct vectors *v, const struct vector_example *e, graft_error *error)
{
    const struct place in = place_of(v, e->input), out = place_of(v, e->target);
    float *input, *target;
    if (!are_numbers(e->input, v->n_in) || (e->target && !are_numbers(e->target, v->n_out)))
        return error_set(error, GRAFT_INVALID_ARGUMENT, "a value is no number");
    if (!(e->quality >= 0 && e->quality <= 1))
        return error_set(error, GRAFT_INVALID_ARGUMENT, "the quality is no number from 0 to 1");
    graft_status status = vectors_grow(v, 1, e->target != NULL, &input, &target, error);
    if (status != GRAFT_OK)
        return status;
    memcpy(input, values_at(&in), (size_t)v->n_in * sizeof *input);
    if (target)
        memcpy(target, values_at(&out), (size_t)v->n_out * sizeof *target);
    status = vectors_label(v, v->n - 1, e->quality, e->task, e->domain, error);
    v->n -= status != GRAFT_OK;
    return status;
}
