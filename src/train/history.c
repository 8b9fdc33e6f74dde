/* history.c: RUN/history.jsonl, what people plot. It holds nothing that depends on the machine or the hour, so that the
 * history of a resumed run is that of one that was never stopped, byte by byte. */
#include "train/train_internal.h"

#include <errno.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static graft_status failed(const struct history *h, const char *what, graft_error *error)
{
    graft_status status = error_set(error, GRAFT_IO, "cannot %s: %s", what, strerror(errno));
    error_at_file(error, h->path);
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
        return status;
    }
    if (ftruncate(fileno(h->file), (off_t)keep) || fseeko(h->file, (off_t)keep, SEEK_SET))
        return failed(h, "cut", error);
    return GRAFT_OK;
}

static int put_number(char *out, size_t size, const char *key, double x)
{
    return isfinite(x) ? snprintf(out, size, ",\"%s\":%.9g", key, x)
                       : snprintf(out, size, ",\"%s\":null", key);
}

graft_status history_add(struct history *h, const struct trainer_report *r, graft_error *error)
{
    char line[512];
    int n = snprintf(line, sizeof line, "{\"step\":%lld", (long long)r->step);
    n += put_number(line + n, sizeof line - (size_t)n, "epoch", r->epoch);
    if (r->step) {
        n += put_number(line + n, sizeof line - (size_t)n, "loss", r->loss);
        if (!isnan(r->penalty))
            n += put_number(line + n, sizeof line - (size_t)n, "penalty", r->penalty);
        n += put_number(line + n, sizeof line - (size_t)n, "grad_norm", r->grad_norm);
        n += put_number(line + n, sizeof line - (size_t)n, "learning_rate", r->rate);
        n += snprintf(line + n, sizeof line - (size_t)n, ",\"tokens\":%lld,\"fed\":%lld",
                      (long long)r->tokens, (long long)r->fed);
    }
    if (r->skipped)
        n += snprintf(line + n, sizeof line - (size_t)n, ",\"skipped\":true");
    if (!isnan(r->valid_loss))
        n += put_number(line + n, sizeof line - (size_t)n, "valid_loss", r->valid_loss);
    n += snprintf(line + n, sizeof line - (size_t)n, "}\n");
    if (fwrite(line, 1, (size_t)n, h->file) != (size_t)n || fflush(h->file))
        return failed(h, "write", error);
    h->bytes += (uint64_t)n;
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
