/* engine.h: many timelines stepped together as one batch. struct graft_engine and struct graft_stream of the public header are
 * the ones here; api/ checks arguments and calls the functions below, whose contracts are those of <graft/engine.h> unless a
 * comment adds to them.
 */
#ifndef GRAFT_GENERATE_ENGINE_H
#define GRAFT_GENERATE_ENGINE_H

#include "generate/constraint/constraint.h"
#include "generate/generate.h"

#include <graft/engine.h>

graft_engine_options engine_options_default(void);

/* `options` must be whole, its draft too; `draft` is the model of that, or NULL. The models must outlive the engine. `owner` is what
 * engine_owner gives back. */
graft_status engine_open(const struct model *model, const struct model *draft,
                         const graft_engine_options *options, const void *owner,
                         struct graft_engine **out, graft_error *error);
const void *engine_owner(const struct graft_engine *e);
void engine_close(struct graft_engine **engine);
const struct model *engine_model(const struct graft_engine *e);

/* What a request means, as inner layers have it. */
struct submission {
    const graft_request *request; /* whole, its sampling too */
    struct mix
        *mix; /* of the answer; NULL: the base model, or with `fork` that of the other stream */
    struct grammar
        *grammar; /* what it is held to, in the words of the model's vocabulary; NULL: nothing */
    struct vocabulary *vocabulary;
};
/* The stream takes references of its own. */
graft_status engine_submit(struct graft_engine *e, const struct submission *submission,
                           struct graft_stream **out, graft_error *error);
void engine_describe(struct graft_engine *e, graft_engine_info *out);
void engine_forget_prefixes(struct graft_engine *e);

struct graft_engine *stream_engine(const struct graft_stream *s);
/* `wait` false: BUSY when there is nothing yet. */
graft_status stream_take(struct graft_stream *s, bool wait, graft_token *out, graft_error *error);
graft_status stream_descriptor(struct graft_stream *s, int *out, graft_error *error);
void stream_cancel(struct graft_stream *s);
void stream_close(struct graft_stream **stream);
graft_finish stream_finish(const struct graft_stream *s);
void stream_set_mix(struct graft_stream *s, struct mix *mix, graft_kv_policy policy);
void stream_describe(const struct graft_stream *s, graft_stream_info *out);

#endif
