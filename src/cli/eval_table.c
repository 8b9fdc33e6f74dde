/* eval_table.c: what `graft eval` found out: adapters by files, one block for each thing that was measured; for people
 * in columns that fit the terminal, for machines as JSON. Computes means with their spread from sums by example.
 */
#include "eval.h"

#include <math.h>

enum { CELL = 96, NAME_MOST = 44, BETWEEN = 2, INDENT = 2 };

static const struct {
    const char *name, *heading;
} metrics[] = {
#define EVAL_METRIC_ROW(name, text, heading) {text, heading},
    EVAL_METRIC_LIST(EVAL_METRIC_ROW)
#undef EVAL_METRIC_ROW
};

/* ---- means --------------------------------------------------------------------------------- */

struct eval_mean eval_mean_of(const double *sum, const double *minus, const double *weight,
                              size_t n)
{
    double total = 0, weights = 0, squares = 0;
    size_t counted = 0;
    for (size_t i = 0; i < n; i++) {
        total += weight[i] > 0 ? sum[i] - (minus != NULL ? minus[i] : 0) : 0;
        weights += weight[i];
        counted += weight[i] > 0;
    }
    if (counted == 0) {
        return (struct eval_mean){NAN, NAN};
    }
    double mean = total / weights;
    for (size_t i = 0; i < n; i++) {
        double off = sum[i] - (minus != NULL ? minus[i] : 0) - mean * weight[i];
        squares += weight[i] > 0 ? off * off : 0;
    }
    double each = (double)counted / ((double)counted - 1);
    return (struct eval_mean){mean, counted > 1 ? sqrt(each * squares) / weights : NAN};
}

/* ---- what stands out ----------------------------------------------------------------------- */

struct eval_cell *eval_cell_at(const struct eval_table *t, size_t row, size_t column)
{
    return &t->cells[row * t->n_columns + column];
}

static double value_at(const struct eval_table *t, size_t row, size_t column,
                       enum eval_metric metric)
{
    const struct eval_cell *cell = eval_cell_at(t, row, column);
    return cell->done ? cell->of[metric].mean : NAN;
}

static bool has_in(const struct eval_table *t, size_t column, enum eval_metric metric)
{
    size_t row = 0;
    while (row < t->n_rows && isnan(value_at(t, row, column, metric))) {
        row++;
    }
    return row < t->n_rows;
}

bool eval_has(const struct eval_table *t, enum eval_metric metric)
{
    size_t column = 0;
    while (column < t->n_columns && !has_in(t, column, metric)) {
        column++;
    }
    return column < t->n_columns;
}

bool eval_is_best(const struct eval_table *t, size_t row, size_t column, enum eval_metric metric)
{
    double sign = metric == EVAL_LOSS || metric == EVAL_PERPLEXITY ? -1 : 1;
    double own = sign * value_at(t, row, column, metric);
    bool others = false;
    for (size_t i = 0; i < t->n_rows; i++) {
        double other = sign * value_at(t, i, column, metric);
        if (other > own) {
            return false;
        }
        others = others || other < own;
    }
    return others;
}

/* ---- for people ---------------------------------------------------------------------------- */

static size_t characters(const char *text)
{
    size_t n = 0;
    for (; *text != '\0'; text++) {
        n += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return n;
}

static void put_padded(FILE *out, const char *text, size_t width)
{
    size_t n = characters(text);
    cli_put_text(out, text, strlen(text), ' ');
    fprintf(out, "%*s", n < width ? (int)(width - n) : 0, "");
}

/* The end of a long name says more than its beginning. */
static void shorten(const char *name, char out[4 * NAME_MOST + 4])
{
    size_t n = characters(name);
    const char *from = name;
    for (size_t skip = n > NAME_MOST ? n - NAME_MOST + 1 : 0; skip > 0; skip--) {
        from++;
        while (((unsigned char)*from & 0xC0) == 0x80) {
            from++;
        }
    }
    snprintf(out, 4 * NAME_MOST + 4, "%s%s", n > NAME_MOST ? "…" : "", from);
}

static const char *row_name(const struct eval_table *t, size_t row)
{
    return t->rows[row] != NULL ? t->rows[row] : "base";
}

static void describe_cell(const struct eval_table *t, size_t row, size_t column,
                          enum eval_metric metric, char out[CELL])
{
    const struct eval_cell *cell = eval_cell_at(t, row, column);
    struct eval_mean of = cell->of[metric], change = cell->change[metric];
    const char *mark = eval_is_best(t, row, column, metric) ? "*" : " ";
    double scale = metric == EVAL_LOSS || metric == EVAL_PERPLEXITY ? 1 : 100;
    int digits = metric == EVAL_LOSS ? 4 : metric == EVAL_PERPLEXITY ? 2 : 1;
    if (!cell->done || isnan(of.mean)) {
        snprintf(out, CELL, " -");
        return;
    }
    if (metric == EVAL_PERPLEXITY && of.mean >= 1e6) {
        snprintf(out, CELL, "%s%.4g", mark, of.mean);
    } else {
        snprintf(out, CELL, "%s%.*f", mark, digits, scale * of.mean);
    }
    size_t n = strlen(out);
    if (metric != EVAL_PERPLEXITY && !isnan(of.error)) {
        snprintf(out + n, CELL - n, " ± %.*f", digits, scale * of.error);
        n = strlen(out);
    }
    if (isnan(change.mean)) {
        return;
    }
    if (metric == EVAL_PERPLEXITY) {
        snprintf(out + n, CELL - n, " (%+.1f %%)", 100 * change.mean);
    } else if (isnan(change.error)) {
        snprintf(out + n, CELL - n, " (%+.*f)", digits, scale * change.mean);
    } else {
        snprintf(out + n, CELL - n, " (%+.*f ± %.*f)", digits, scale * change.mean, digits,
                 scale * change.error);
    }
}

static size_t column_width(const struct eval_table *t, size_t column)
{
    char text[CELL], name[4 * NAME_MOST + 4];
    shorten(t->columns[column].path, name);
    size_t most = 1 + characters(name);
    for (size_t row = 0; row < t->n_rows; row++) {
        for (int m = 0; m < EVAL_METRICS; m++) {
            describe_cell(t, row, column, (enum eval_metric)m, text);
            most = characters(text) > most ? characters(text) : most;
        }
    }
    return most;
}

static size_t label_width(const struct eval_table *t)
{
    char name[4 * NAME_MOST + 4];
    size_t most = 0;
    for (size_t row = 0; row < t->n_rows; row++) {
        shorten(row_name(t, row), name);
        most = characters(name) > most ? characters(name) : most;
    }
    return most + INDENT;
}

/* Columns [begin, end) of all blocks. */
static void print_band(const struct eval_table *t, FILE *out, size_t label, size_t begin,
                       size_t end)
{
    char text[CELL], name[4 * NAME_MOST + 4];
    fprintf(out, "%*s", (int)label, "");
    for (size_t c = begin; c < end; c++) {
        shorten(t->columns[c].path, name);
        fprintf(out, "%*s ", BETWEEN, "");
        put_padded(out, name, c + 1 < end ? column_width(t, c) - 1 : 0);
    }
    fputc('\n', out);
    for (int m = 0; m < EVAL_METRICS; m++) {
        if (!eval_has(t, (enum eval_metric)m)) {
            continue;
        }
        fprintf(out, "%s\n", metrics[m].heading);
        for (size_t row = 0; row < t->n_rows; row++) {
            shorten(row_name(t, row), name);
            fprintf(out, "%*s", INDENT, "");
            put_padded(out, name, label - INDENT);
            for (size_t c = begin; c < end; c++) {
                describe_cell(t, row, c, (enum eval_metric)m, text);
                fprintf(out, "%*s", BETWEEN, "");
                put_padded(out, text, c + 1 < end ? column_width(t, c) : 0);
            }
            fputc('\n', out);
        }
    }
}

static void print_measured(const struct eval_table *t, FILE *out)
{
    for (size_t i = 0; i < t->n_columns; i++) {
        const struct eval_column *c = &t->columns[i];
        put_padded(out, c->path, 0);
        fprintf(out, ": part %s, ", c->part);
        if (c->examples < c->count) {
            fprintf(out, "%lld of ", (long long)c->examples);
        }
        fprintf(out, "%lld examples, %lld tokens, %lld of them learned", (long long)c->count,
                (long long)c->tokens, (long long)c->learned);
        if (c->questions > 0) {
            fprintf(out, "; %lld asked", (long long)c->questions);
        }
        if (t->pattern != NULL && c->questions > 0) {
            fprintf(out, ", the pattern is in %lld references", (long long)c->found);
        }
        fprintf(out, "; of %lld records %lld dropped; %lld cut\n", (long long)c->records,
                (long long)c->dropped, (long long)c->truncated);
    }
}

static void print_legend(const struct eval_table *t, FILE *out)
{
    bool base = false, other = false;
    for (size_t row = 0; row < t->n_rows; row++) {
        base = base || t->rows[row] == NULL;
        other = other || t->rows[row] != NULL;
    }
    if (eval_has(t, EVAL_EXACT)) {
        fprintf(out, "Answers are greedy, of at most %d tokens.\n", t->max_tokens);
    }
    fputs("±: standard error, by example.", out);
    if (base && other) {
        fputs(" In brackets: change against the base, in pairs of examples.", out);
    }
    fputs(t->n_rows > 1 ? " *: the best of its column.\n" : "\n", out);
}

void eval_print(const struct eval_table *t, FILE *out, size_t width)
{
    size_t label = label_width(t);
    for (size_t begin = 0, end; begin < t->n_columns; begin = end) {
        size_t used = label;
        for (end = begin; end < t->n_columns; end++) {
            used += BETWEEN + column_width(t, end);
            if (used > width && end > begin) {
                break;
            }
        }
        print_band(t, out, label, begin, end);
        fputc('\n', out);
    }
    print_measured(t, out);
    print_legend(t, out);
}

/* ---- for machines -------------------------------------------------------------------------- */

static json_t *text_json(const char *text)
{
    return text != NULL ? json_any_text(text, strlen(text)) : json_null();
}

static json_t *number_json(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *column_json(const struct eval_table *t, const struct eval_column *c)
{
    json_t *json = json_pack(
        "{s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "file", text_json(c->path), "part",
        c->part, "records", (json_int_t)c->records, "dropped", (json_int_t)c->dropped, "truncated",
        (json_int_t)c->truncated, "available", (json_int_t)c->count, "examples",
        (json_int_t)c->examples, "tokens", (json_int_t)c->tokens, "learned", (json_int_t)c->learned,
        "questions", (json_int_t)c->questions);
    if (t->pattern != NULL) {
        json_put(&json, "matched", json_integer(c->found));
    }
    return json;
}

static json_t *cell_json(const struct eval_table *t, size_t row, size_t column)
{
    const struct eval_cell *cell = eval_cell_at(t, row, column);
    json_t *json = json_pack("{s:o, s:o}", "adapter", text_json(t->rows[row]), "file",
                             text_json(t->columns[column].path));
    for (int m = 0; m < EVAL_METRICS; m++) {
        struct eval_mean of = cell->of[m], change = cell->change[m];
        if (isnan(of.mean)) {
            continue;
        }
        json_put(&json, metrics[m].name,
                 json_pack("{s:o, s:o, s:o, s:o, s:b}", "value", number_json(of.mean), "error",
                           number_json(of.error), "change", number_json(change.mean),
                           "change_error", number_json(change.error), "best",
                           (int)eval_is_best(t, row, column, (enum eval_metric)m)));
    }
    return json;
}

json_t *eval_json(const struct eval_table *t)
{
    json_t *files = json_array(), *results = json_array();
    for (size_t i = 0; i < t->n_columns; i++) {
        json_append(&files, column_json(t, &t->columns[i]));
    }
    for (size_t row = 0; row < t->n_rows; row++) {
        for (size_t i = 0; i < t->n_columns; i++) {
            if (eval_cell_at(t, row, i)->done) {
                json_append(&results, cell_json(t, row, i));
            }
        }
    }
    return json_pack("{s:o, s:o, s:i, s:b, s:o, s:o}", "model", text_json(t->model), "pattern",
                     text_json(t->pattern), "max_tokens", t->max_tokens, "interrupted",
                     (int)t->interrupted, "files", files, "results", results);
}
