/* config.h: merges as files say them. */
#ifndef GRAFT_MERGE_CONFIG_H
#define GRAFT_MERGE_CONFIG_H

#include "base/base.h"

#include <graft/merge.h>

struct graft_merge_config {
    struct mem *mem;
    struct arena arena; /* texts */
    graft_merge_input *inputs;
    size_t n_inputs;
    graft_merge_options options;
    const char *base;
};

/* `defaults` are the options that nobody sets. Text is YAML, or JSON where it begins with '{'. The error names the key. */
graft_status merge_config_parse(struct mem *mem, const char *text, size_t size,
                                const graft_merge_options *defaults, graft_merge_config **out,
                                graft_error *error);
graft_status merge_config_open(struct mem *mem, const char *path,
                               const graft_merge_options *defaults, graft_merge_config **out,
                               graft_error *error);
void merge_config_close(graft_merge_config **config);

#endif
