/* bench_figures.c: the figures of a bench: a line of JSON for each, at once, or a table for people at the end.
 */
#include "bench_figures.h"

#include <math.h>
#include <stdlib.h>

/* ---- JSON ---- */

static void set_number(json_t *object, const char *key, double value)
{
    if (!isnan(value)) {
        json_object_set_new(object, key, json_real(value));
    }
}

static void set_text(json_t *object, const char *key, const char *text)
{
    if (text != NULL) {
        json_object_set_new(object, key, json_any_text(text, strlen(text)));
    }
}

static void print_json(const struct bench_figures *f, const graft_bench_result *r)
{
    json_t *object = json_object();
    set_text(object, "bench", r->bench);
    set_text(object, "case", r->name);
    set_text(object, "subject", r->subject);
    set_number(object, "value", r->value);
    set_text(object, "unit", r->unit);
    set_text(object, "limit", r->limit);
    set_number(object, "limit_share", r->limit_share);
    set_number(object, "share_spread", r->share_spread);
    set_text(object, "baseline_case", r->baseline);
    set_number(object, "baseline", r->baseline_value);
    set_number(object, "ratio", r->ratio);
    set_number(object, "ratio_spread", r->ratio_spread);
    set_number(object, "spread", r->spread);
    json_object_set_new(object, "samples", json_integer(r->samples));
    set_number(object, "seconds", r->seconds);
    set_text(object, "clock", r->clock);
    set_text(object, "checked", r->checked);
    set_text(object, "tier", f->info.tier);
    json_object_set_new(object, "threads", json_integer(f->info.threads));
    set_text(object, "command", f->command);
    cli_print_json(object);
}

/* ---- a table ---- */

enum { NAME_SIZE = 160, NUMBER_SIZE = 32, LIMIT_SIZE = 96, DIGITS = 4, DECIMALS = 12 };

struct bench_row {
    char name[NAME_SIZE], value[NUMBER_SIZE], unit[NUMBER_SIZE], spread[NUMBER_SIZE];
    char limit[LIMIT_SIZE], baseline[NAME_SIZE + LIMIT_SIZE];
};

/* How far the first digit that is not 0, rounded, is before the point; 1 for 0 and for what is no number. */
static int digits_before(double value)
{
    char text[NUMBER_SIZE];
    snprintf(text, sizeof text, "%.*e", DIGITS - 1, value);
    const char *power = strchr(text, 'e');
    return power != NULL ? (int)strtol(power + 1, NULL, 10) + 1 : 1;
}

/* Four digits from the first that is not 0, more only in front of the point, and no powers of ten. */
static void put_number(char out[NUMBER_SIZE], double value)
{
    int before = digits_before(value), after = before < DIGITS ? DIGITS - before : 0;
    snprintf(out, NUMBER_SIZE, "%.*f", after < DECIMALS ? after : DECIMALS, value);
}

/* Of one sample there is none. */
static void put_spread(char out[NUMBER_SIZE], const char *format, double spread, int samples)
{
    out[0] = '\0';
    if (samples > 1) {
        snprintf(out, NUMBER_SIZE, format, 100 * spread);
    }
}

static void print_head(const struct bench_figures *f, const graft_bench_result *r)
{
    printf("%s: %s; tier %s, %d thread%s\n", r->bench, r->subject, f->info.tier, f->info.threads,
           f->info.threads > 1 ? "s" : "");
    if (r->checked != NULL) {
        printf("equal to the scalar tier: %s\n", r->checked);
    }
    if (r->samples > 1) {
        printf("medians of %d samples, ", r->samples);
    }
    printf("%s time%s\n\n", r->clock,
           r->samples > 1 ? "; spread, of ratios in brackets: between the quartiles" : "");
    fflush(stdout);
}

static void take_row(struct bench_figures *f, const graft_bench_result *r)
{
    struct bench_row row = {.name = ""};
    char spread[NUMBER_SIZE];
    snprintf(row.name, sizeof row.name, "%s", r->name);
    snprintf(row.unit, sizeof row.unit, "%s", r->unit);
    put_number(row.value, r->value);
    put_spread(row.spread, "%.0f %%", r->spread, r->samples);
    if (r->limit != NULL && !isnan(r->limit_share)) {
        snprintf(row.limit, sizeof row.limit, "%.2f of %s", r->limit_share, r->limit);
    }
    if (r->baseline != NULL) {
        put_spread(spread, " (%.0f %%)", r->ratio_spread, r->samples);
        snprintf(row.baseline, sizeof row.baseline, "%.3f%s x %s", r->ratio, spread, r->baseline);
    }
    buf_append(&f->rows, &row, sizeof row);
}

/* A line without blanks at its end. */
static void print_line(const char *line)
{
    size_t n = strlen(line);
    while (n > 0 && line[n - 1] == ' ') {
        n--;
    }
    printf("%.*s\n", (int)n, line);
}

static void print_rows(const struct bench_row *rows, size_t n)
{
    char line[sizeof *rows + 32];
    int name = 0, value = 0, unit = 0, spread = 0, limit = 0;
    for (size_t i = 0; i < n; i++) {
        const struct bench_row *r = &rows[i];
        name = (int)fmax(name, (double)strlen(r->name));
        value = (int)fmax(value, (double)strlen(r->value));
        unit = (int)fmax(unit, (double)strlen(r->unit));
        spread = r->spread[0] != '\0' ? 8 : spread; /* two blanks, and the head of the column */
        limit = (int)fmax(limit, (double)strlen(r->limit));
    }
    snprintf(line, sizeof line, "  %-*s  %*s %*s%*s", name, "case", value, "", unit, "", spread,
             spread > 0 ? "spread" : "");
    print_line(line);
    for (size_t i = 0; i < n; i++) {
        const struct bench_row *r = &rows[i];
        snprintf(line, sizeof line, "  %-*s  %*s %-*s%*s%s%-*s  %s", name, r->name, value, r->value,
                 unit, r->unit, spread, r->spread, limit > 0 ? "  " : "", limit, r->limit,
                 r->baseline);
        print_line(line);
    }
}

/* ---- both ---- */

void bench_figures_begin(struct bench_figures *f)
{
    buf_init(&f->rows, NULL, 1 << 20);
}

void bench_figures_take(void *user, const graft_bench_result *r)
{
    struct bench_figures *f = user;
    cli_progress_end(&f->progress);
    if (f->json) {
        print_json(f, r);
        return;
    }
    if (f->rows.size == 0) {
        print_head(f, r);
    }
    take_row(f, r);
}

void bench_figures_end(struct bench_figures *f)
{
    cli_progress_end(&f->progress);
    if (f->rows.size > 0) {
        print_rows((const struct bench_row *)f->rows.data, f->rows.size / sizeof(struct bench_row));
    }
    buf_free(&f->rows);
}
