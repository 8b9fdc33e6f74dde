/* outline.c: what an adapter's files say of themselves, for those who have no model at hand: the format, the size, the
 * card. The configuration and the tensors' names go through the same parsers as at opening.
 */
#include "adapter/adapter_internal.h"

static graft_status fill(struct adapter_outline *out, struct source *source,
                         const struct spec *spec, graft_error *error)
{
    out->format = source->format;
    for (size_t i = 0; i < tensor_set_count(&source->tensors); i++)
        out->bytes += tensor_set_at(&source->tensors, i)->size;
    out->card = json_incref(source->card);
    if (spec->base && !(out->base = mem_strdup(out->mem, spec->base)))
        return error_set(error, GRAFT_NO_MEMORY, "no memory to describe an adapter");
    return GRAFT_OK;
}

graft_status adapter_outline_open(struct adapter_outline *out, struct mem *mem, const char *path,
                                  graft_error *error)
{
    struct adapter_outline outline = {.mem = mem};
    struct source source = {0};
    struct spec spec = {0};
    graft_status status = source_open(&source, mem, path, error);
    if (status == GRAFT_OK)
        status = source_parse(&source, NULL, &spec, error);
    if (status == GRAFT_OK)
        status = fill(&outline, &source, &spec, error);
    spec_free(&spec);
    source_close(&source);
    if (status == GRAFT_OK)
        *out = outline;
    else
        adapter_outline_close(&outline);
    return status;
}

graft_status adapter_refuse_output(struct mem *mem, const char *path, const char *out,
                                   graft_error *error)
{
    struct source source = {0};
    graft_status status = source_open(&source, mem, path, error);
    if (status == GRAFT_OK)
        status = source_refuse_output(&source, out, error);
    source_close(&source);
    return status;
}

void adapter_outline_close(struct adapter_outline *outline)
{
    mem_free(outline->mem, outline->base);
    json_decref(outline->card);
    *outline = (struct adapter_outline){0};
}
