/* fuzz_merge_config.c: hostile files that say a merge, YAML or JSON. What is accepted is whole: every input has a path, every
 * text is there; what is not says why in one line.
 */
#include "adapter/merge/merge.h"

#include <graft/graft.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem mem;
    graft_error error = {0};
    graft_merge_config *c = NULL;
    const graft_merge_options defaults = graft_merge_options_default();
    mem_init(&mem, NULL);
    graft_status status = merge_config_parse(&mem, (const char *)data, size, &defaults, &c, &error);
    if (status == GRAFT_OK) {
        size_t n;
        const graft_merge_input *inputs = graft_merge_config_inputs(c, &n);
        const graft_merge_options *o = graft_merge_config_options(c);
        require(n > 0 && n <= MERGE_MAX && o->rank >= 0);
        for (size_t i = 0; i < n; i++)
            require(inputs[i].path != NULL);
        require(o->method && o->sign && o->ties_divide && o->type && o->name && o->version);
        for (size_t i = 0; i < o->n_tags; i++)
            require(o->tags[i] != NULL);
    } else {
        require(c == NULL && error.status == status);
        require(error.message[0] && !strchr(error.message, '\n'));
    }
    graft_merge_config_close(&c);
    require(atomic_load(&mem.bytes_in_use) == 0);
    return 0;
}
