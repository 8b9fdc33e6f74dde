/* train_line.c: what `graft train` says on stderr: what it learns from, then step, losses, rate, speed, memory, time left. */
#include "adapter.h"
#include "train.h"

#include <math.h>
#include <unistd.h>

static const double REDRAW_EVERY = 0.1, TELL_EVERY = 10; /* seconds */
static const double SMOOTH = 0.9;

uint64_t train_memory(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    unsigned long long kilobytes = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "RssAnon: %llu", &kilobytes) == 1) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return (uint64_t)kilobytes << 10;
}

void train_time_text(double seconds, char out[TRAIN_TIME_TEXT])
{
    long long s = seconds > 0 && seconds < 1e9 ? (long long)(seconds + 0.5) : 0;
    if (s >= 3600) {
        snprintf(out, TRAIN_TIME_TEXT, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    } else {
        snprintf(out, TRAIN_TIME_TEXT, "%lld:%02lld", s / 60, s % 60);
    }
}

void train_tell_data(graft_runtime *runtime, const graft_dataset *data)
{
    graft_error error = {0};
    char *text = NULL;
    json_t *report = NULL;
    if (graft_dataset_report(data, &text, &error) == GRAFT_OK) {
        report = json_loads(text, 0, NULL);
    }
    if (report != NULL) {
        json_int_t dropped = json_integer_value(json_object_get(report, "dropped"));
        const char *form = json_string_value(json_object_get(report, "template"));
        cli_print_loss(stderr, report);
        fprintf(stderr, "%-12s%lld to train on, %lld to validate with", "examples",
                (long long)graft_dataset_count(data, GRAFT_PART_TRAIN),
                (long long)graft_dataset_count(data, GRAFT_PART_VALID));
        if (dropped > 0) {
            fprintf(stderr, "; %lld records dropped, `graft data check` says why",
                    (long long)dropped);
        }
        fprintf(stderr, "%s%s\n", strcmp(form, "model") != 0 ? "; template: " : "",
                strcmp(form, "model") != 0 ? form : "");
    }
    json_decref(report);
    graft_free(runtime, text);
}

void train_line_begin(struct train_line *line, bool quiet, FILE *timing)
{
    double now = time_seconds();
    *line = (struct train_line){.quiet = quiet,
                                .terminal = isatty(STDERR_FILENO) != 0,
                                .begun = now,
                                .told = now,
                                .first_step = -1,
                                .loss = NAN,
                                .last_valid = NAN,
                                .timing = timing};
}

static void write_timing(const struct train_line *line, const graft_train_step *s, double now)
{
    if (line->timing != NULL) {
        fprintf(line->timing, "{\"step\":%lld,\"seconds\":%.3f,\"fed\":%lld}\n", (long long)s->step,
                now - line->begun, (long long)s->fed);
        fflush(line->timing);
    }
}

static void print_line(const struct train_line *line, const graft_train_step *s, double now)
{
    char size[CLI_SIZE_TEXT], left[TRAIN_TIME_TEXT], valid[80] = "";
    int64_t done = s->step - line->first_step;
    double each = done > 0 ? (now - line->begun) / (double)done : 0;
    cli_size_text(train_memory(), size);
    train_time_text(each * (double)(s->steps - s->step), left);
    if (!isnan(line->last_valid)) {
        snprintf(valid, sizeof valid, "  valid %.4f%s", line->last_valid,
                 s->best_step == s->step && !isnan(s->valid_loss) && s->step > 0 ? " (best)" : "");
    }
    fprintf(stderr, "step %lld/%lld  loss %.4f%s  lr %.2e  %.0f tok/s  %s  %s left",
            (long long)s->step, (long long)s->steps, line->loss, valid, s->learning_rate,
            (double)line->fed / fmax(now - line->begun, 1e-9), size, left);
}

void train_line_step(struct train_line *line, const graft_train_step *s)
{
    double now = time_seconds();
    bool validated = !isnan(s->valid_loss);
    if (line->first_step < 0) {
        line->first_step = s->loss == s->loss ? s->step - 1 : s->step;
    }
    line->fed += s->fed;
    line->last_valid = validated ? s->valid_loss : line->last_valid;
    if (s->step > 0 && !s->skipped) {
        line->loss = isnan(line->loss) ? s->loss : SMOOTH * line->loss + (1 - SMOOTH) * s->loss;
    }
    if (s->fed > 0) {
        write_timing(line, s, now);
    }
    if (line->quiet) {
        return;
    }
    if (s->fed == 0) { /* before the first step */
        fprintf(stderr, "validation loss before training: %.4f\n", s->valid_loss);
        return;
    }
    bool last = s->step == s->steps, keep = validated || last || s->skipped;
    double since = line->terminal ? now - line->drawn : now - line->told;
    if (!keep && since < (line->terminal ? REDRAW_EVERY : TELL_EVERY)) {
        return;
    }
    if (line->terminal) {
        fputs("\r\033[K", stderr);
    }
    print_line(line, s, now);
    if (s->skipped) {
        fputs("  (skipped: no number)", stderr);
    }
    fputs(keep || !line->terminal ? "\n" : "", stderr);
    line->visible = line->terminal && !keep;
    line->drawn = line->told = now;
    fflush(stderr);
}

void train_line_end(struct train_line *line)
{
    if (line->visible) {
        fputs("\n", stderr);
    }
    line->visible = false;
}
