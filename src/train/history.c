/* history.c: RUN/history.jsonl, what people plot. It holds nothing that depends on the machine or the hour, so that the
 * history of a resumed run is that of one that was never stopped, byte by byte. */
#include "train/train_internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Says why, and closes it. */
static graft_status failed(struct history *h, const char *what, graft_error *error)
{
    graft_status status = error_set(error, GRAFT_IO, "cannot %s: %s", what, strerror(errno));
    error_at_file(error, h->path);
    history_close(h);
    return status;
}

graft_status history_open(struct history *h, struct mem *mem, const char *run, uint64_t keep,
                          graft_error *error)
{
    struct stat about;
    *h = (struct history){.mem = mem, .path = path_join(mem, run, "history.jsonl"), .bytes = keep};
    if (!h->path)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    if (mkdir(run, 0777) && errno != EEXIST)
        return failed(h, "make its folder", error);
    h->file = fopen(h->path, keep ? "r+e" : "we");
    if (!h->file || fstat(fileno(h->file), &about))
        return failed(h, "open", error);
    if ((uint64_t)about.st_size < keep) {
        graft_status status = error_set(
            error, GRAFT_FORMAT, "has %lld bytes, fewer than the %llu that the checkpoint knows",
            (long long)about.st_size, (unsigned long long)keep);
        error_at_file(error, h->path);
        history_close(h);
        return status;
    }
    if (ftruncate(fileno(h->file), (off_t)keep) || fseeko(h->file, (off_t)keep, SEEK_SET))
        return failed(h, "cut", error);
    return GRAFT_OK;
}

static void put_number(json_t **line, const char *key, double x)
{
    json_put(line, key, isfinite(x) ? json_real(x) : json_null());
}

/* Through jansson, whose numbers have a point in every locale. */
static char *line_of(const struct trainer_report *r)
{
    json_t *line = json_object();
    json_put(&line, "step", json_integer(r->step));
    put_number(&line, "epoch", r->epoch);
    if (r->step) {
        put_number(&line, "loss", r->loss);
        if (!isnan(r->penalty))
            put_number(&line, "penalty", r->penalty);
        put_number(&line, "grad_norm", r->grad_norm);
        put_number(&line, "learning_rate", r->rate);
        json_put(&line, "tokens", json_integer(r->tokens));
        json_put(&line, "fed", json_integer(r->fed));
    }
    if (r->skipped)
        json_put(&line, "skipped", json_true());
    if (!isnan(r->valid_loss))
        put_number(&line, "valid_loss", r->valid_loss);
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(line);
    return text;
}

graft_status history_add(struct history *h, const struct trainer_report *report, graft_error *error)
{
    char *line = line_of(report);
    if (!line)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a line of history");
    size_t n = strlen(line);
    bool written =
        fwrite(line, 1, n, h->file) == n && putc('\n', h->file) != EOF && fflush(h->file) == 0;
    free(line);
    if (!written)
        return failed(h, "write", error);
    h->bytes += n + 1;
    return GRAFT_OK;
}

graft_status history_sync(struct history *h, graft_error *error)
{
    return fflush(h->file) || fsync(fileno(h->file)) ? failed(h, "write", error) : GRAFT_OK;
}

void history_close(struct history *h)
{
    if (h->file)
        fclose(h->file);
    mem_free(h->mem, h->path);
    *h = (struct history){.mem = NULL};
}
