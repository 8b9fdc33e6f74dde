/* data.c: the public functions on training data: check, call inward, tell in JSON. */
#include "train/data/data.h"
#include "api/api_internal.h"

#include <stdlib.h>

/* ---- opening ------------------------------------------------------------------------------- */

void graft_dataset_options_init(graft_dataset_options *options, size_t struct_size)
{
    graft_dataset_options defaults = {.valid_share = 0.2};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

static struct data_options inner_options(const graft_dataset_options *o)
{
    return (struct data_options){.loss = (enum data_loss)o->loss,
                                 .max_len = o->max_seq_length,
                                 .min_quality = o->min_quality,
                                 .valid_path = o->valid,
                                 .valid_share = o->valid_share,
                                 .seed = o->seed,
                                 .raw = o->raw,
                                 .prompt_key = o->prompt_key,
                                 .completion_key = o->completion_key,
                                 .text_key = o->text_key,
                                 .chat_template = o->chat_template,
                                 .progress = o->progress,
                                 .progress_user = o->progress_user};
}

graft_status graft_dataset_open(const graft_model *model, const char *path,
                                const graft_dataset_options *options, graft_dataset **out,
                                graft_error *error)
{
    REQUIRE(model);
    REQUIRE(path);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    struct mem *mem = &model->runtime->mem;
    graft_dataset_options o = graft_dataset_options_default();
    struct data_model data;
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status == GRAFT_OK) {
        status = data_model_of(model->model, &data, error);
    }
    graft_dataset *handle = status == GRAFT_OK ? mem_calloc(mem, 1, sizeof *handle) : NULL;
    if (status == GRAFT_OK && handle == NULL) {
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for training data");
    }
    if (status == GRAFT_OK) {
        struct data_options inner = inner_options(&o);
        handle->runtime = model->runtime;
        status = dataset_open(mem, &data, path, &inner, &handle->dataset, error);
    }
    if (status != GRAFT_OK) {
        mem_free(mem, handle);
        return status;
    }
    *out = handle;
    return GRAFT_OK;
}

void graft_dataset_close(graft_dataset **dataset)
{
    if (dataset == NULL || *dataset == NULL) {
        return;
    }
    graft_dataset *handle = *dataset;
    *dataset = NULL;
    dataset_close(&handle->dataset);
    mem_free(&handle->runtime->mem, handle);
}

/* ---- asking -------------------------------------------------------------------------------- */

int64_t graft_dataset_count(const graft_dataset *dataset, graft_part part)
{
    return dataset != NULL && (unsigned)part < DATA_PARTS
               ? dataset_count(dataset->dataset, (enum data_part)part)
               : 0;
}

static const char *name_or_empty(const struct dataset *d, int name)
{
    const char *text = dataset_name(d, name);
    return text != NULL ? text : "";
}

graft_status graft_dataset_example(const graft_dataset *dataset, graft_part part, int64_t index,
                                   graft_example *out, graft_error *error)
{
    REQUIRE(dataset);
    REQUIRE(out);
    const struct dataset *d = dataset->dataset;
    if (index < 0 || index >= graft_dataset_count(dataset, part)) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "there is no example %lld in that part",
                         (long long)index);
    }
    struct data_example e = dataset_example(d, (enum data_part)part, index);
    *out = (graft_example){.tokens = e.tokens,
                           .learned = e.learned,
                           .n_tokens = e.n_tok,
                           .n_learned = e.n_learned,
                           .weight = e.weight,
                           .format = data_format_name(e.format),
                           .task = name_or_empty(d, e.task),
                           .domain = name_or_empty(d, e.domain),
                           .file = dataset_file(d, e.file),
                           .line = e.line,
                           .truncated = e.truncated};
    return GRAFT_OK;
}

int64_t graft_dataset_issues(const graft_dataset *dataset)
{
    return dataset != NULL ? dataset_issues(dataset->dataset) : 0;
}

graft_status graft_dataset_issue(const graft_dataset *dataset, int64_t index, graft_data_issue *out,
                                 graft_error *error)
{
    REQUIRE(dataset);
    REQUIRE(out);
    const struct data_issue *issue = dataset_issue(dataset->dataset, index);
    if (issue == NULL) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "there is no issue %lld", (long long)index);
    }
    *out = (graft_data_issue){.dropped = issue->kind == DATA_DROPPED,
                              .file = dataset_file(dataset->dataset, issue->file),
                              .reason = issue->reason,
                              .fix = issue->fix,
                              .line = issue->line};
    return GRAFT_OK;
}

graft_status graft_dataset_save(const graft_dataset *dataset, const char *path, graft_error *error)
{
    REQUIRE(dataset);
    REQUIRE(path);
    CHECK_RUNTIME(dataset->runtime);
    return dataset_save(dataset->dataset, path, error);
}

/* ---- the report ---------------------------------------------------------------------------- */

static json_t *text_json(const char *text)
{
    json_t *value = json_string(text);
    return value != NULL ? value : json_string("(a name that is not UTF-8)");
}

static json_t *parts_json(const int64_t counts[DATA_PARTS])
{
    return json_pack("{s:I, s:I, s:I}", "train", (json_int_t)counts[DATA_TRAIN], "valid",
                     (json_int_t)counts[DATA_VALID], "test", (json_int_t)counts[DATA_TEST]);
}

static json_t *groups_json(const struct dataset *d,
                           bool (*at)(const struct dataset *, int, struct data_group *))
{
    json_t *list = json_array();
    struct data_group group;
    for (int i = 0; at(d, i, &group); i++) {
        json_append(&list,
                    json_pack("{s:o, s:I, s:I}", "name", text_json(group.name), "examples",
                              (json_int_t)group.examples, "learned", (json_int_t)group.learned));
    }
    return list;
}

static json_t *formats_json(const struct data_stats *s)
{
    json_t *object = json_object();
    for (int i = 0; i < DATA_FORMATS; i++) {
        if (s->formats[i] > 0) {
            json_put(&object, data_format_name((enum data_format)i), json_integer(s->formats[i]));
        }
    }
    return object;
}

static json_t *histogram_json(const struct data_stats *s)
{
    json_t *counts = json_array();
    for (int i = 0; i < DATA_BUCKETS; i++) {
        json_append(&counts, json_integer(s->histogram[i]));
    }
    return json_pack("{s:i, s:o}", "width", s->bucket, "counts", counts);
}

static json_t *files_json(const struct dataset *d)
{
    json_t *list = json_array();
    const char *file;
    for (int i = 0; (file = dataset_file(d, i)) != NULL; i++) {
        json_append(&list, text_json(file));
    }
    return list;
}

/* How many rows packing makes of the training part. */
static graft_status packed_rows(struct mem *mem, const struct dataset *d, int64_t *rows,
                                graft_error *error)
{
    struct data_plan plan;
    struct data_plan_options options = {.rows = 1, .pack = true};
    graft_status status = data_plan_make(mem, d, DATA_TRAIN, &options, &plan, error);
    if (status == GRAFT_OK) {
        *rows = plan.n_rows;
        data_plan_free(&plan);
    }
    return status;
}

static json_t *report_json(const struct dataset *d, int64_t rows, const uint8_t digest[32])
{
    const struct data_stats *s = dataset_stats(d);
    char hex[65];
    const char *longest = dataset_file(d, s->longest_file);
    json_t *out = json_object();
    hex_write(digest, 32, hex);
    json_put(&out, "files", files_json(d));
    json_put(&out, "loss", json_string(data_loss_name(dataset_loss(d))));
    json_put(&out, "template", text_json(dataset_template(d)));
    json_put(&out, "max_seq_length", json_integer(dataset_max_len(d)));
    json_put(&out, "records", json_integer(s->records));
    json_put(&out, "formats", formats_json(s));
    json_put(&out, "examples", parts_json(s->examples));
    json_put(&out, "tokens", parts_json(s->tokens));
    json_put(&out, "learned", parts_json(s->learned));
    json_put(&out, "packed_rows", json_integer(rows));
    json_put(&out, "dropped", json_integer(s->dropped));
    json_put(&out, "below_quality", json_integer(s->below_quality));
    json_put(&out, "truncated", json_integer(s->truncated));
    json_put(&out, "tokens_cut", json_integer(s->tokens_cut));
    json_put(&out, "divided", json_integer(s->divided));
    json_put(&out, "reopened", json_integer(s->reopened));
    json_put(&out, "longest",
             json_pack("{s:i, s:o, s:I}", "tokens", s->longest, "file",
                       text_json(longest != NULL ? longest : ""), "line",
                       (json_int_t)s->longest_line));
    json_put(&out, "histogram", histogram_json(s));
    json_put(&out, "tasks", groups_json(d, dataset_task));
    json_put(&out, "domains", groups_json(d, dataset_domain));
    json_put(&out, "digest", json_string(hex));
    return out;
}

graft_status graft_dataset_report(const graft_dataset *dataset, char **json, graft_error *error)
{
    REQUIRE(dataset);
    REQUIRE(json);
    CHECK_RUNTIME(dataset->runtime);
    struct mem *mem = &dataset->runtime->mem;
    uint8_t digest[32];
    int64_t rows = 0;
    graft_status status = packed_rows(mem, dataset->dataset, &rows, error);
    if (status == GRAFT_OK) {
        status = dataset_digest(dataset->dataset, digest, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    json_t *report = report_json(dataset->dataset, rows, digest);
    char *text = report != NULL ? json_dumps(report, JSON_COMPACT) : NULL;
    char *copy = text != NULL ? mem_strdup(mem, text) : NULL;
    free(text); /* jansson's */
    json_decref(report);
    if (copy == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the report");
    }
    *json = copy;
    return GRAFT_OK;
}
