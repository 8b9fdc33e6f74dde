/* report_internal.h: what is gathered of an adapter before it is told. */
#ifndef GRAFT_REPORT_INTERNAL_H
#define GRAFT_REPORT_INTERNAL_H

#include "adapter/adapter_internal.h"
#include "adapter/report/report.h"

struct facts {
    const struct model *model; /* or NULL */
    const struct source *source;
    const struct spec *spec;
    int64_t least_rank, most_rank;
    double least_scale, most_scale;
    uint64_t parameters, bytes;
    const char *dora, *biased, *embedding, *whole, *head; /* the first module that is so, or NULL */
};

/* The problems of a consumer with it: [{"what", "do"}]; NULL: no memory. */
json_t *facts_problems(const struct facts *facts, enum consumer consumer);

#endif
