/* outputs.c: what fusing writes beside the model, and that none of it is there without the rest.
 *
 * A certificate and a sidecar come before the model, which is renamed into its place last: whatever fails until then
 * takes both away again. What cannot be written, or would lie in the way of something else, is refused at the begin.
 */
#include "adapter/fuse/fuse_internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
}

/* ---- names in each other's way ------------------------------------------------------------ */

/* Without links, dots and slashes at the end; the last name need not be there. */
static char *canonical(struct mem *mem, const char *path)
{
    char *plain = mem_strdup(mem, path);
    size_t n = plain ? strlen(plain) : 0;
    while (n > 1 && plain[n - 1] == '/')
        plain[--n] = '\0';
    if (!plain)
        return NULL;
    char *real = realpath(plain, NULL), *out = NULL;
    if (real) {
        out = mem_strdup(mem, real);
    } else {
        size_t length = (size_t)(path_base(plain) - plain);
        char *dir = length ? mem_strndup(mem, plain, length) : mem_strdup(mem, ".");
        real = dir ? realpath(dir, NULL) : NULL;
        out = real ? path_join(mem, real, path_base(plain)) : mem_strdup(mem, plain);
        mem_free(mem, dir);
    }
    free(real); /* from realpath */
    mem_free(mem, plain);
    return out;
}

static bool is_within(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static graft_status refuse_overlap(const struct outputs *o, const char *path, graft_error *error)
{
    char *a = canonical(o->mem, path), *b = canonical(o->mem, o->sidecar);
    graft_status status = a && b ? GRAFT_OK : no_memory(error);
    if (status == GRAFT_OK && (is_within(a, b) || is_within(b, a)))
        status = error_set(error, GRAFT_INVALID_ARGUMENT,
                           "the sidecar %s lies in the way of %s: choose another name for it",
                           o->sidecar, path);
    mem_free(o->mem, a);
    mem_free(o->mem, b);
    return status;
}

/* ---- what is read ------------------------------------------------------------------------- */

static graft_status refuse_inputs(const struct outputs *o, const struct model *model,
                                  const graft_fuse_member *members, size_t n, graft_error *error)
{
    const char *const targets[] = {o->out, o->certificate};
    graft_status status = GRAFT_OK;
    for (size_t t = 0; t < ARRAY_LEN(targets) && status == GRAFT_OK; t++) {
        status = model_refuse_output(model, targets[t], error);
        for (size_t i = 0; i < n && status == GRAFT_OK; i++)
            status = adapter_refuse_output(o->mem, members[i].path, targets[t], error);
    }
    return status;
}

/* ---- begin, write, take back -------------------------------------------------------------- */

static graft_status try_sidecar(struct outputs *o, graft_error *error)
{
    struct folder_writer trial;
    graft_status status = refuse_overlap(o, o->out, error);
    if (status == GRAFT_OK)
        status = refuse_overlap(o, o->certificate, error);
    if (status != GRAFT_OK)
        return status;
    o->had_folder = path_is_dir(o->sidecar);
    status = folder_writer_open(&trial, o->sidecar, error);
    folder_writer_abort(&trial);
    return status;
}

graft_status outputs_open(struct outputs *o, const struct model *model,
                          const graft_fuse_member *members, size_t n_members, graft_error *error)
{
    o->certificate = NULL;
    if (o->folder) {
        o->certificate = path_join(o->mem, o->out, FOLDER_CERTIFICATE);
    } else {
        struct buf path;
        buf_init(&path, o->mem, SIZE_MAX);
        buf_printf(&path, "%s.fuse.json", o->out);
        o->certificate = buf_take(&path, NULL);
    }
    if (!o->certificate)
        return no_memory(error);
    graft_status status = refuse_inputs(o, model, members, n_members, error);
    if (status == GRAFT_OK && o->sidecar)
        status = try_sidecar(o, error);
    if (status == GRAFT_OK && !o->folder)
        status = file_writer_open(&o->writer, o->mem, o->certificate, error);
    return status;
}

graft_status outputs_add_sidecar(struct outputs *o, const struct sidecar *sidecar,
                                 graft_error *error)
{
    graft_status status = sidecar_write(sidecar, o->sidecar, o->out, error);
    o->sidecar_written = status == GRAFT_OK;
    return status;
}

graft_status outputs_add_certificate(struct outputs *o, const char *at, const char *text,
                                     graft_error *error)
{
    if (o->folder) {
        char *path = path_join(o->mem, at, FOLDER_CERTIFICATE);
        graft_status status =
            path ? file_write_atomic(o->mem, path, text, strlen(text), error) : no_memory(error);
        mem_free(o->mem, path);
        return status;
    }
    graft_status status = file_writer_write(&o->writer, text, strlen(text), error);
    if (status == GRAFT_OK)
        status = file_writer_commit(&o->writer, error);
    o->certificate_written = status == GRAFT_OK;
    return status;
}

void outputs_close(struct outputs *o, bool keep)
{
    if (!keep && o->sidecar_written) {
        folder_remove(AT_FDCWD, o->sidecar);
        if (o->had_folder)
            (void)!mkdir(o->sidecar, 0777);
    }
    if (!keep && o->certificate_written)
        folder_remove(AT_FDCWD, o->certificate);
    file_writer_abort(&o->writer);
    mem_free(o->mem, o->certificate);
    o->certificate = NULL;
}
