/* checkpoint.c: RUN/checkpoint.safetensors: all that a run needs to go on with the same bits.
 *
 * Values, moments and the best values are tensors; the rest is one JSON text in the header's metadata, with what makes
 * the run what it is: its options, its data, its base. Numbers are written so that they come back bit by bit. The file
 * is put in place whole, after the history it speaks of has reached the disk.
 */
#include "train/train_internal.h"

#include <math.h>
#include <stdlib.h>

enum { N_TENSORS = 4, VERSION = 1, MOST_COUNTED = 1000000 };
static const char KEY[] = "graft.run";

/* ---- what makes a run ---------------------------------------------------------------------- */

/* All digits that a double has; what is no number is said in words. */
static json_t *exact(double x)
{
    return isfinite(x) ? json_real(x) : json_string("nan");
}

/* What is trained beside linears: the embedding's rank and scale, and modules that are held whole. */
static void append_others(const struct trainer *t, json_t **all)
{
    const struct train_set *set = &t->trainable->set;
    const struct train_delta *embed = &set->embed_delta;
    if (t->trainable->whole)
        return;
    if (embed->rank)
        json_append(all, json_pack("[s, I, o, b]", "embed", (json_int_t)embed->rank,
                                   exact((double)embed->scale), embed->magnitude.value != NULL));
    if (set->embed.value)
        json_append(all, json_string("embed"));
    if (set->sites[model_head_site(t->model)].weight.value)
        json_append(all, json_string("head"));
    for (int norm = 0; norm < model_n_norms(t->model); norm++)
        if (t->trainable->norms[norm].value)
            json_append(all, json_integer(norm));
}

/* What each linear is trained with. */
static json_t *adapter_json(const struct trainer *t)
{
    const struct train_set *set = &t->trainable->set;
    json_t *all = json_array();
    for (int site = 0; site < model_n_sites(t->model); site++) {
        const struct train_delta *d = &set->sites[site].delta;
        if (!d->rank)
            continue;
        json_t *one = json_array();
        json_append(&one, json_integer(site));
        json_append(&one, json_integer(d->rank));
        json_append(&one, exact((double)d->scale));
        json_append(&one, exact((double)d->dropout));
        json_append(&one, json_boolean(d->magnitude.value != NULL));
        json_append(&one, json_boolean(d->bias.value != NULL));
        json_append(&all, one);
    }
    append_others(t, &all);
    return all;
}

/* What is held is read again from the adapter that is continued: this names it. */
static json_t *ewc_json(const struct trainer *t)
{
    if (!t->options.ewc)
        return json_null();
    json_t *json = json_object();
    json_put(&json, "lambda", exact(t->ewc.options.lambda));
    json_put(&json, "decay", exact(t->ewc.options.decay));
    json_put(&json, "state", json_string(t->ewc.state));
    return json;
}

/* What an older graft did not know is named where it is used: its checkpoints stay what they are. */
static void put_later_options(const struct trainer *t, json_t **json)
{
    const struct trainer_options *o = &t->options;
    if (t->trainable->whole)
        json_put(json, "fine_tune_type", json_string("full"));
    if (o->schedule == SCHEDULE_STABLE)
        json_put(json, "lr_decay_ratio", exact(o->decay_ratio));
    if (o->optimiser.kind == OPTIM_ADAMW)
        return;
    json_put(json, "optim", json_string(optim_name(o->optimiser.kind)));
    json_put(json, "muon_lr", exact(o->muon_rate));
    json_put(json, "muon_momentum", exact(o->optimiser.momentum));
}

static json_t *options_json(const struct trainer *t)
{
    const struct trainer_options *o = &t->options;
    json_t *json = json_object();
    json_put(&json, "batch_size", json_integer(o->rows));
    json_put(&json, "gradient_accumulation", json_integer(o->accumulation));
    json_put(&json, "packing", json_boolean(o->pack));
    json_put(&json, "shuffle", json_boolean(o->shuffle));
    json_put(&json, "seed", json_integer((json_int_t)o->seed));
    json_put(&json, "steps", json_integer(t->schedule.steps));
    json_put(&json, "warmup", json_integer(t->schedule.warmup));
    json_put(&json, "schedule", json_string(schedule_name(o->schedule)));
    json_put(&json, "learning_rate", exact(o->rate));
    json_put(&json, "beta1", exact(o->optimiser.beta1));
    json_put(&json, "beta2", exact(o->optimiser.beta2));
    json_put(&json, "epsilon", exact(o->optimiser.eps));
    json_put(&json, "weight_decay", exact(o->optimiser.weight_decay));
    json_put(&json, "loraplus", exact(o->optimiser.loraplus));
    json_put(&json, "max_grad_norm", exact(o->max_norm));
    json_put(&json, "bf16", json_boolean(o->half));
    json_put(&json, "gradient_checkpointing", json_boolean(o->checkpoint && o->half));
    json_put(&json, "eval_steps", json_integer(o->eval_steps));
    json_put(&json, "patience", json_integer(o->patience));
    json_put(&json, "min_improvement", exact(o->min_improvement));
    json_put(&json, "ewc", ewc_json(t));
    json_put(&json, "init", json_string(init_name(t->trainable->init)));
    put_later_options(t, &json);
    json_put(&json, "values", json_integer(t->trainable->n_values));
    json_put(&json, "tier", json_string(t->model->runtime->kernels->tier));
    json_put(&json, "rank, alpha, dropout and targets", adapter_json(t));
    return json;
}

static graft_status identity_json(const struct trainer *t, json_t **out, graft_error *error)
{
    char base[FINGERPRINT_SIZE], data[65];
    uint8_t digest[32];
    graft_status status = base_fingerprint(t->model, base, error);
    if (status == GRAFT_OK)
        status = dataset_digest(t->dataset, digest, error);
    if (status != GRAFT_OK)
        return status;
    hex_write(digest, sizeof digest, data);
    json_t *json = options_json(t);
    json_put(&json, "base", json_string(base));
    json_put(&json, "data", json_string(data));
    *out = json;
    return json ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "no memory for a checkpoint");
}

/* ---- state --------------------------------------------------------------------------------- */

static json_t *state_json(const struct trainer *t)
{
    const struct trainer_state *s = &t->state;
    json_t *json = json_object();
    json_put(&json, "version", json_integer(VERSION));
    json_put(&json, "step", json_integer(s->step));
    json_put(&json, "updates", json_integer(t->optimiser.steps));
    json_put(&json, "bad", json_integer(s->bad));
    json_put(&json, "stale", json_integer(s->stale));
    json_put(&json, "over", json_boolean(s->over));
    json_put(&json, "first_valid", exact(s->first_valid));
    json_put(&json, "last_valid", exact(s->last_valid));
    json_put(&json, "best_loss", exact(s->best_loss));
    json_put(&json, "last_loss", exact(s->last_loss));
    json_put(&json, "best_step", json_integer(s->best_step));
    json_put(&json, "history", json_integer((json_int_t)t->history.bytes));
    return json;
}

static graft_status get_exact(const json_t *json, const char *key, double *out, graft_error *error)
{
    const json_t *value = json_object_get(json, key);
    const char *text = json_string_value(value);
    if (!json_is_real(value) && !(text && !strcmp(text, "nan")))
        return error_set(error, GRAFT_FORMAT, "its \"%s\" is no number", key);
    *out = text ? NAN : json_real_value(value);
    return GRAFT_OK;
}

struct restored {
    struct trainer_state state;
    int64_t updates, history;
};

static graft_status read_state(const json_t *json, const struct trainer *t, struct restored *out,
                               graft_error *error)
{
    struct trainer_state *s = &out->state;
    int64_t version = 0, bad = 0, stale = 0, most = t->schedule.steps;
    const struct {
        const char *key;
        int64_t most, *to;
    } integers[] = {{"version", INT_MAX, &version},       {"step", most, &s->step},
                    {"updates", most, &out->updates},     {"bad", MOST_COUNTED, &bad},
                    {"stale", MOST_COUNTED, &stale},      {"best_step", most, &s->best_step},
                    {"history", INT64_MAX, &out->history}};
    const struct {
        const char *key;
        double *to;
    } numbers[] = {{"first_valid", &s->first_valid},
                   {"last_valid", &s->last_valid},
                   {"best_loss", &s->best_loss},
                   {"last_loss", &s->last_loss}};
    graft_status status = json_is_boolean(json_object_get(json, "over"))
                              ? json_get_bool(json, "over", &s->over, error)
                              : error_set(error, GRAFT_FORMAT, "does not say whether it is over");
    for (size_t i = 0; i < ARRAY_LEN(integers) && status == GRAFT_OK; i++)
        if (!json_object_get(json, integers[i].key))
            status = error_set(error, GRAFT_FORMAT, "has no \"%s\"", integers[i].key);
    for (size_t i = 0; i < ARRAY_LEN(integers) && status == GRAFT_OK; i++)
        status = json_get_int(json, integers[i].key, 0, integers[i].most, integers[i].to, error);
    for (size_t i = 0; i < ARRAY_LEN(numbers) && status == GRAFT_OK; i++)
        status = get_exact(json, numbers[i].key, numbers[i].to, error);
    s->bad = (int)bad;
    s->stale = (int)stale;
    if (status == GRAFT_OK && version != VERSION)
        return error_set(error, GRAFT_FORMAT, "is of version %lld, and this graft reads %d",
                         (long long)version, VERSION);
    return status;
}

/* ---- write --------------------------------------------------------------------------------- */

struct tensors {
    const char *names[N_TENSORS];
    float *data[N_TENSORS];
    size_t n;
};

static struct tensors tensors_of(const struct trainer *t)
{
    struct tensors all = {{"values", "moment1", "moment2", "best"},
                          {t->trainable->values, t->optimiser.m, t->optimiser.v, t->best},
                          t->best ? 4 : 3};
    return all;
}

/* {"graft.run": "{…}"} */
static json_t *make_metadata(json_t *identity, const struct trainer *t)
{
    json_t *all = json_object(), *metadata = json_object();
    json_put(&all, "run", identity);
    json_put(&all, "state", state_json(t));
    char *text = all ? json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(all);
    json_put(&metadata, KEY, text ? json_string(text) : NULL);
    free(text);
    return metadata;
}

static graft_status write_tensors(const struct trainer *t, struct file_writer *w,
                                  const json_t *metadata, graft_error *error)
{
    const struct tensors all = tensors_of(t);
    const int64_t n = t->trainable->n_values;
    struct tensor_decl decls[N_TENSORS];
    for (size_t i = 0; i < all.n; i++)
        decls[i] = (struct tensor_decl){all.names[i], GRAFT_TYPE_F32, 1, {n}};
    graft_status status = safetensors_write_header(w, decls, all.n, metadata, error);
    for (size_t i = 0; i < all.n && status == GRAFT_OK; i++)
        status = file_writer_write(w, all.data[i], (size_t)n * sizeof(float), error);
    return status == GRAFT_OK ? file_writer_commit(w, error) : status;
}

graft_status checkpoint_write(struct trainer *t, graft_error *error)
{
    struct file_writer file = {0};
    json_t *identity = NULL;
    graft_status status = history_sync(&t->history, error);
    if (status == GRAFT_OK)
        status = identity_json(t, &identity, error);
    if (status != GRAFT_OK)
        return status;
    json_t *metadata = make_metadata(identity, t);
    char *path = path_join(t->mem, t->options.run, CHECKPOINT_NAME);
    status = metadata && path ? file_writer_open(&file, t->mem, path, error)
                              : error_set(error, GRAFT_NO_MEMORY, "no memory for a checkpoint");
    if (status == GRAFT_OK)
        status = write_tensors(t, &file, metadata, error);
    file_writer_abort(&file);
    mem_free(t->mem, path);
    json_decref(metadata);
    return status;
}

/* ---- read ---------------------------------------------------------------------------------- */

static graft_status tell_difference(const char *key, const json_t *theirs, const json_t *ours,
                                    graft_error *error)
{
    char *was = theirs ? json_dumps(theirs, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    char *is = ours ? json_dumps(ours, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    graft_status status = error_set(
        error, GRAFT_INVALID_ARGUMENT,
        "is of another run: its \"%s\" is %.120s, not %.120s; resume with the same options, or "
        "begin a new run",
        key, was ? was : "not given", is ? is : "given");
    free(was);
    free(is);
    return status;
}

/* INVALID_ARGUMENT names the first thing in which the runs differ, also one that only they name. */
static graft_status compare(json_t *ours, json_t *theirs, graft_error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach(ours, key, value)
    {
        const json_t *other = json_object_get(theirs, key);
        if (!other || !json_equal(value, other))
            return tell_difference(key, other, value, error);
    }
    json_object_foreach(theirs, key, value)
    {
        if (!json_object_get(ours, key))
            return tell_difference(key, value, NULL, error);
    }
    return GRAFT_OK;
}

static graft_status check_tensors(const struct trainer *t, const struct safetensors *file,
                                  graft_error *error)
{
    const struct tensors all = tensors_of(t);
    for (size_t i = 0; i < all.n; i++) {
        const struct tensor_info *tensor = safetensors_find(file, all.names[i]);
        if (!tensor || tensor->type != GRAFT_TYPE_F32 || tensor->n_dims != 1 ||
            tensor->shape[0] != t->trainable->n_values)
            return error_set(error, GRAFT_FORMAT, "has no \"%s\" of %lld floats", all.names[i],
                             (long long)t->trainable->n_values);
        const float *x = (const float *)(const void *)tensor->data;
        bool square = all.data[i] == t->optimiser.v;
        for (int64_t k = 0; k < t->trainable->n_values; k++)
            if (!isfinite(x[k]) || (square && x[k] < 0))
                return error_set(error, GRAFT_FORMAT, "value %lld of its \"%s\" cannot be",
                                 (long long)k, all.names[i]);
    }
    return GRAFT_OK;
}

static graft_status restore(struct trainer *t, const struct safetensors *file, graft_error *error)
{
    const char *text = json_string_value(json_object_get(file->metadata, KEY));
    struct restored found = {.history = 0};
    json_t *all = NULL, *ours = NULL;
    if (!text)
        return error_set(error, GRAFT_FORMAT, "is no checkpoint of a run");
    graft_status status = json_parse(text, strlen(text), &all, error);
    if (status == GRAFT_OK)
        status = identity_json(t, &ours, error);
    if (status == GRAFT_OK)
        status = compare(ours, json_object_get(all, "run"), error);
    if (status == GRAFT_OK)
        status = read_state(json_object_get(all, "state"), t, &found, error);
    if (status == GRAFT_OK)
        status = check_tensors(t, file, error);
    json_decref(all);
    json_decref(ours);
    if (status == GRAFT_OK) {
        history_close(&t->history);
        status = history_open(&t->history, t->mem, t->options.run, (uint64_t)found.history, error);
    }
    if (status != GRAFT_OK)
        return status;
    const struct tensors tensors = tensors_of(t);
    for (size_t i = 0; i < tensors.n; i++)
        memcpy(tensors.data[i], safetensors_find(file, tensors.names[i])->data,
               (size_t)t->trainable->n_values * sizeof(float));
    t->state = found.state;
    t->optimiser.steps = found.updates;
    return train_tape_refresh(t->tape, error);
}

graft_status trainer_resume(struct trainer *t, graft_error *error)
{
    struct file_map map = {0};
    struct safetensors file = {0};
    if (!t->options.run)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "a run without a folder has no checkpoint");
    char *path = path_join(t->mem, t->options.run, CHECKPOINT_NAME);
    graft_status status = path ? file_map_open(&map, t->mem, path, MAP_SHARED_FILE, error)
                               : error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    if (status == GRAFT_OK)
        status = safetensors_parse(&file, t->mem, map.data, map.size, error);
    if (status == GRAFT_OK)
        status = restore(t, &file, error);
    if (status != GRAFT_OK && path)
        error_at_file(error, path);
    safetensors_free(&file);
    file_map_close(&map);
    mem_free(t->mem, path);
    return status;
}
