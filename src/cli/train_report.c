/* train_report.c: `graft train report`: a run on one page that needs nothing else, not even a network.
 *
 * The page is HTML that is XML, too. All that comes from files goes through chart_text: prompts and answers may hold
 * anything. What a run has not kept is left out: settings (config.json), data (data.json), samples (samples.json).
 */
#include "train.h"
#include "train_chart.h"

#include <math.h>

enum { MAX_JSON = 64 << 20, MAX_DEPTH = 8, MAX_ROWS = 200 };

static const char page_style[] =
    ":root{color-scheme:light "
    "dark;--ink:#1f2328;--muted:#656d76;--rule:#e3e6ea;--paper:#fff;--box:#f6f7f9}\n"
    "@media "
    "(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--muted:#9aa3ad;--rule:#2c323a;--paper:#"
    "14171b;"
    "--box:#1c2127}}\n"
    "body{margin:2rem auto;padding:0 1rem;max-width:56rem;color:var(--ink);background:var(--paper);"
    "font-family:system-ui,sans-serif;line-height:1.45}\n"
    "h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2.2rem;border-bottom:1px solid "
    "var(--rule)}\n"
    ".figures{display:flex;flex-wrap:wrap;gap:.7rem;margin:0;padding:0}\n"
    ".figures div{background:var(--box);border-radius:.4rem;padding:.6rem .9rem;min-width:7rem}\n"
    "dt{color:var(--muted);font-size:.8rem}dd{margin:0;font-size:1.15rem}\n"
    "table{border-collapse:collapse;font-size:.9rem}td,th{text-align:left;vertical-align:top;"
    "padding:.15rem 1rem "
    ".15rem 0}th{color:var(--muted);font-weight:normal}td.number,th.number{text-align:right}\n"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--box);border-radius:.4rem;"
    "padding:.6rem .9rem;"
    "margin:.3rem 0}\n"
    ".sample{margin-bottom:1.6rem}.sample "
    "h3{font-size:.8rem;color:var(--muted);font-weight:normal;margin:.5rem 0 0}\n"
    ".note{color:var(--muted)}\n";

/* ---- JSON as tables ------------------------------------------------------------------------ */

static void put_text(struct buf *out, const json_t *string)
{
    chart_text(out, json_string_value(string), json_string_length(string));
}

static void put_value(struct buf *out, const json_t *value, int depth);

static void put_object(struct buf *out, const json_t *object, int depth)
{
    const char *key;
    json_t *value;
    buf_puts(out, "<table>");
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        buf_puts(out, "<tr><th>");
        chart_text(out, key, strlen(key));
        buf_puts(out, "</th><td>");
        put_value(out, value, depth + 1);
        buf_puts(out, "</td></tr>\n");
    }
    buf_puts(out, "</table>\n");
}

static void put_array(struct buf *out, const json_t *array, int depth)
{
    size_t n = json_array_size(array);
    for (size_t i = 0; i < n && i < MAX_ROWS; i++) {
        const json_t *value = json_array_get(array, i);
        buf_puts(out, i > 0 && !json_is_object(value) ? ", " : "");
        put_value(out, value, depth + 1);
    }
    if (n > MAX_ROWS) {
        buf_printf(out, " … %zu in all", n);
    }
}

static void put_value(struct buf *out, const json_t *value, int depth)
{
    if (depth > MAX_DEPTH) {
        buf_puts(out, "…");
    } else if (json_is_object(value)) {
        put_object(out, value, depth);
    } else if (json_is_array(value)) {
        put_array(out, value, depth);
    } else if (json_is_string(value)) {
        put_text(out, value);
    } else if (json_is_integer(value)) {
        buf_printf(out, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        buf_printf(out, "%.9g", json_real_value(value));
    } else {
        buf_puts(out, json_is_true(value) ? "true" : json_is_false(value) ? "false" : "none");
    }
}

/* A file of the run; *out NULL: there is none. */
static int read_json(const char *run, const char *name, json_t **out)
{
    graft_error error = {0};
    char *path = path_join(NULL, run, name);
    int status = path != NULL ? CLI_OK : cli_fail_text("out of memory");
    *out = NULL;
    if (status == CLI_OK && path_exists(path) &&
        json_read(NULL, path, MAX_JSON, out, &error) != GRAFT_OK) {
        error_at_file(&error, path);
        status = cli_fail(&error);
    }
    mem_free(NULL, path);
    return status;
}

/* ---- figures ------------------------------------------------------------------------------- */

static void put_figure(struct buf *out, const char *name, const char *format, ...)
    PRINTF_LIKE(3, 4);
static void put_figure(struct buf *out, const char *name, const char *format, ...)
{
    char text[160];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    buf_printf(out, "<div><dt>%s</dt><dd>%s</dd></div>\n", name, text);
}

static double sum_of(const struct run_history *h, enum run_column column)
{
    double sum = 0;
    for (size_t i = 0; i < h->n; i++) {
        sum += isnan(h->columns[column][i]) ? 0 : h->columns[column][i];
    }
    return sum;
}

/* Tokens fed in a second, over all steps of which the time is known. */
static double mean_speed(const struct run_history *h)
{
    double fed = 0, seconds = 0;
    for (size_t i = 0; i < h->n; i++) {
        double speed = h->columns[RUN_SPEED][i], tokens = h->columns[RUN_FED][i];
        if (speed > 0 && tokens > 0) {
            fed += tokens;
            seconds += tokens / speed;
        }
    }
    return seconds > 0 ? fed / seconds : NAN;
}

static void put_figures(struct buf *out, const struct run_history *h)
{
    size_t best = run_history_best(h);
    double epoch = run_history_last(h, RUN_EPOCH), loss = run_history_last(h, RUN_LOSS),
           speed = mean_speed(h);
    buf_puts(out, "<dl class=\"figures\">\n");
    put_figure(out, "steps", "%.0f", h->columns[RUN_STEP][h->n - 1]);
    if (!isnan(epoch)) {
        put_figure(out, "epochs", "%.3g", epoch);
    }
    if (!isnan(loss)) {
        put_figure(out, "loss of the last step", "%.4f", loss);
    }
    if (best < h->n) {
        put_figure(out, "best validation", "%.4f", h->columns[RUN_VALID][best]);
        put_figure(out, "at step", "%.0f", h->columns[RUN_STEP][best]);
        put_figure(out, "last validation", "%.4f", run_history_last(h, RUN_VALID));
    }
    put_figure(out, "tokens learned", "%.0f", sum_of(h, RUN_TOKENS));
    put_figure(out, "tokens fed", "%.0f", sum_of(h, RUN_FED));
    if (!isnan(speed)) {
        put_figure(out, "tokens fed per second", "%.0f", speed);
    }
    buf_puts(out, "</dl>\n");
}

static void put_skipped(struct buf *out, const struct run_history *h)
{
    size_t n = 0;
    for (size_t i = 0; i < h->n; i++) {
        if (h->columns[RUN_SKIPPED][i] > 0 && n++ < 20) {
            buf_printf(
                out, "%s%.0f",
                n == 1 ? "<p class=\"note\">Skipped, since loss or gradient were no numbers: steps "
                       : ", ",
                h->columns[RUN_STEP][i]);
        }
    }
    if (n > 20) {
        buf_printf(out, " … %zu in all", n);
    }
    buf_puts(out, n > 0 ? ".</p>\n" : "");
}

/* ---- charts and validations ---------------------------------------------------------------- */

static void put_charts(struct buf *out, const struct run_history *h)
{
    struct chart_panel panels[2] = {{.title = "Norm of the gradient, before clipping",
                                     .lines = {{"norm", "mean", h->columns[RUN_NORM], false}},
                                     .n_lines = 1,
                                     .height = 120,
                                     .from_zero = true,
                                     .log = true},
                                    {.title = "Tokens fed per second",
                                     .lines = {{"speed", "rate", h->columns[RUN_SPEED], false}},
                                     .n_lines = 1,
                                     .height = 120,
                                     .from_zero = true}};
    const struct chart chart = {.title = h->timed ? "Norm of the gradient and speed by step"
                                                  : "Norm of the gradient by step",
                                .x = h->columns[RUN_STEP],
                                .n = h->n,
                                .panels = panels,
                                .n_panels = h->timed ? 2 : 1};
    chart_write(out, &chart, false);
}

static void put_validations(struct buf *out, const struct run_history *h)
{
    size_t best = run_history_best(h);
    if (best == h->n) {
        return;
    }
    buf_puts(out,
             "<h2>Validations</h2>\n<table><tr><th class=\"number\">step</th><th "
             "class=\"number\">epoch</th>"
             "<th class=\"number\">loss</th><th class=\"number\">perplexity</th><th></th></tr>\n");
    for (size_t i = 0; i < h->n; i++) {
        double loss = h->columns[RUN_VALID][i], epoch = h->columns[RUN_EPOCH][i];
        if (isnan(loss)) {
            continue;
        }
        buf_printf(out, "<tr><td class=\"number\">%.0f</td><td class=\"number\">",
                   h->columns[RUN_STEP][i]);
        if (!isnan(epoch)) {
            buf_printf(out, "%.2f", epoch);
        }
        buf_printf(
            out,
            "</td><td class=\"number\">%.4f</td><td class=\"number\">%.4g</td><td>%s</td></tr>\n",
            loss, exp(loss), i == best ? "best" : "");
    }
    buf_puts(out, "</table>\n");
}

/* ---- data ---------------------------------------------------------------------------------- */

/* How many examples have how many tokens: the histogram of graft_dataset_report as bars. */
static void put_histogram(struct buf *out, const json_t *histogram)
{
    const json_t *counts = json_object_get(histogram, "counts");
    double width = json_number_value(json_object_get(histogram, "width"));
    size_t n = json_array_size(counts);
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, json_number_value(json_array_get(counts, i)));
    }
    if (n > MAX_ROWS || !(most > 0) || !(width > 0) || !(width < 1e9)) {
        return;
    }
    buf_puts(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" "
                  "width=\"840\" height=\"150\" "
                  "viewBox=\"0 0 840 150\"><title>Examples by their tokens</title>\n"
                  "<text class=\"title\" x=\"66\" y=\"16\">Examples by their tokens</text>\n");
    double bar = 756.0 / (double)n;
    for (size_t i = 0; i < n; i++) {
        double count = fmax(0, json_number_value(json_array_get(counts, i)));
        double x = 66 + bar * (double)i, tall = 94 * count / most;
        buf_printf(out,
                   "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
                   "class=\"bar\"><title>%.0f to %.0f "
                   "tokens: %.0f</title></rect>\n",
                   x, 126 - tall, fmax(0.5, bar - 1), tall, width * (double)i + 1,
                   width * (double)(i + 1), count);
    }
    buf_printf(
        out,
        "<path class=\"axis\" d=\"M66 126 H822\"/><text x=\"58\" y=\"36\" "
        "text-anchor=\"end\">%.0f</text>"
        "<text x=\"58\" y=\"130\" text-anchor=\"end\">0</text><text x=\"66\" y=\"144\">1</text>"
        "<text x=\"822\" y=\"144\" text-anchor=\"end\">%.0f tokens</text></svg>\n",
        most, width * (double)n);
}

static void put_data(struct buf *out, json_t *data)
{
    if (!json_is_object(data)) {
        return;
    }
    buf_puts(out, "<h2>Data</h2>\n");
    put_histogram(out, json_object_get(data, "histogram"));
    json_object_del(data, "histogram");
    json_object_del(data, "preview");
    put_object(out, data, 0);
}

static void put_settings(struct buf *out, const json_t *settings)
{
    if (json_is_object(settings)) {
        buf_puts(out, "<h2>Settings</h2>\n");
        put_object(out, settings, 0);
    }
}

/* ---- samples ------------------------------------------------------------------------------- */

static void put_samples(struct buf *out, const json_t *samples)
{
    static const struct {
        const char *key, *name;
    } parts[] = {
        {"prompt", "Prompt"}, {"before", "Before"}, {"after", "After"}, {"expected", "Expected"}};
    size_t n = json_array_size(samples);
    buf_puts(out, n > 0 ? "<h2>Samples</h2>\n" : "");
    for (size_t i = 0; i < n && i < MAX_ROWS; i++) {
        buf_puts(out, "<div class=\"sample\">");
        for (size_t k = 0; k < ARRAY_LEN(parts); k++) {
            const json_t *text = json_object_get(json_array_get(samples, i), parts[k].key);
            if (json_is_string(text)) {
                buf_printf(out, "<h3>%s</h3><pre>", parts[k].name);
                put_text(out, text);
                buf_puts(out, "</pre>\n");
            }
        }
        buf_puts(out, "</div>\n");
    }
}

/* ---- the page ------------------------------------------------------------------------------ */

struct kept {
    json_t *settings, *data, *samples;
};

static int read_kept(const char *run, struct kept *out)
{
    *out = (struct kept){NULL, NULL, NULL};
    int status = read_json(run, "config.json", &out->settings);
    status = status == CLI_OK ? read_json(run, "data.json", &out->data) : status;
    return status == CLI_OK ? read_json(run, "samples.json", &out->samples) : status;
}

static int write_page(struct buf *out, const char *run, const struct run_history *h,
                      const struct kept *kept)
{
    buf_puts(out,
             "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n"
             "<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" "
             "content=\"width=device-width\"/>\n<title>");
    chart_text(out, run, strlen(run));
    buf_printf(out, "</title>\n<style>\n%s%s</style>\n</head>\n<body>\n<h1>Training run ",
               page_style, chart_style);
    chart_text(out, run, strlen(run));
    buf_puts(out, "</h1>\n");
    put_figures(out, h);
    put_skipped(out, h);
    buf_puts(out, "<h2>Course</h2>\n");
    int status = run_chart_loss(h, out, false);
    put_charts(out, h);
    put_validations(out, h);
    put_samples(out, kept->samples);
    put_settings(out, kept->settings);
    put_data(out, kept->data);
    buf_printf(out, "<p class=\"note\">graft %s</p>\n</body>\n</html>\n", graft_version());
    return status;
}

/* ---- options ------------------------------------------------------------------------------- */

static const struct argp report_argp = {
    .options = run_options,
    .parser = run_parse,
    .args_doc = "RUN",
    .doc = "Write what is known of a run as one HTML page that needs nothing beside it: losses, "
           "learning rate, gradients, "
           "speed, settings, data, and answers before and after.\v"
           "Example:\n"
           "  graft train report RUN -o report.html\n"};

int verb_train_report(int argc, char **argv)
{
    struct run_args args = {.run = NULL};
    struct run_history history;
    struct kept kept;
    struct buf page;
    argp_parse(&report_argp, argc, argv, 0, NULL, &args);
    int status = run_history_read(args.run, &history);
    if (status != CLI_OK) {
        return status;
    }
    buf_init(&page, NULL, SIZE_MAX);
    status = read_kept(args.run, &kept);
    if (status == CLI_OK) {
        status = write_page(&page, args.run, &history, &kept);
    }
    if (status == CLI_OK) {
        status = run_write_text(args.path, &page, args.quiet);
    }
    buf_free(&page);
    json_decref(kept.settings);
    json_decref(kept.data);
    json_decref(kept.samples);
    run_history_free(&history);
    return status;
}
