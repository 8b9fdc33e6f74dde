/* fuzz_batch_request.c: hostile lines of a file of requests. What is accepted is whole: tokens, an id, adapters with names; what is
 * not says why in one line.
 */
#include "cli/batch.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void check_accepted(const struct batch_request *r)
{
    const graft_request *q = &r->request;
    require(r->custom_id != NULL && q->prompt == r->ids && q->n_stops <= BATCH_STOPS);
    require(r->n_members <= BATCH_MEMBERS);
    for (size_t i = 0; i < q->n_stops; i++) {
        require(q->stops[i] != NULL && q->stops[i][0] != '\0');
    }
    for (size_t i = 0; i < q->n_prompt; i++) {
        require(r->ids[i] >= 0);
    }
    for (size_t i = 0; i < r->n_members; i++) {
        require(r->members[i].name[0] != '\0' && isfinite(r->members[i].weight));
    }
    require(isfinite(q->sampling.temperature) && isfinite(q->sampling.top_p));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Without a model: prompts are ids, or refused behind all other checks. */
    const struct batch_defaults defaults = {.info.path = "models/tiny",
                                            .request = graft_request_default()};
    struct batch_request request;
    graft_error error = {0};
    uint8_t key[BATCH_KEY];
    graft_status status = batch_request_read(&defaults, (const char *)data, size, &request, &error);
    batch_key_of(request.json, key);
    if (status == GRAFT_OK) {
        check_accepted(&request);
        require(!batch_key_is_none(key));
    } else {
        require(error.status == status && error.message[0] != '\0');
        require(strchr(error.message, '\n') == NULL);
    }
    batch_request_close(&request);
    return 0;
}
