/* generate.c: on top of a session: an answer by callback, the sampling in force, what else could have
 * been said. Nothing here touches the cache.
 */
#include "generate/generate_internal.h"

/* The last record of a call that gave max_tokens, or had nothing more to give. */
static graft_status end_call(struct graft_session *s, graft_token_fn callback, void *user,
                             graft_error *error)
{
    graft_token record = {.id = -1, .text = ""};
    if (timeline_is_over(&s->line)) {
        graft_status status = timeline_end_record(&s->line, &record, error);
        if (status != GRAFT_OK) {
            return status;
        }
    } else {
        text_pause(&s->line.text, &record.text, &record.text_size);
    }
    if (s->line.finish == GRAFT_FINISH_NONE) {
        s->line.finish = GRAFT_FINISH_LENGTH;
    }
    if (record.text_size > 0 && callback != NULL) {
        callback(user, &record);
    }
    return GRAFT_OK;
}

graft_status session_generate(struct graft_session *s, size_t max_tokens, graft_token_fn callback,
                              void *user, graft_error *error)
{
    graft_token token;
    if (s->line.finish == GRAFT_FINISH_LENGTH || s->line.finish == GRAFT_FINISH_CANCELLED) {
        s->line.finish = GRAFT_FINISH_NONE; /* how the last call ended, not the answer */
    }
    for (size_t n = 0; s->line.finish == GRAFT_FINISH_NONE && (max_tokens == 0 || n < max_tokens);
         n++) {
        graft_status status = session_next(s, &token, error);
        if (status == GRAFT_END) {
            if (token.text_size > 0 && callback != NULL) {
                callback(user, &token);
            }
            return GRAFT_OK;
        }
        if (status != GRAFT_OK) {
            return status;
        }
        if (callback != NULL && !callback(user, &token)) {
            s->line.finish =
                s->line.finish == GRAFT_FINISH_NONE ? GRAFT_FINISH_CANCELLED : s->line.finish;
            return GRAFT_OK;
        }
    }
    return end_call(s, callback, user, error);
}

enum kv_type cache_type(graft_kv_type type)
{
    static const enum kv_type TYPES[] = {
        [GRAFT_KV_F16] = KV_F16, [GRAFT_KV_F32] = KV_F32, [GRAFT_KV_Q8] = KV_Q8};
    return TYPES[type];
}

size_t context_size(const struct model *model, int wanted)
{
    enum { USUAL = 4096 };
    int most = model->config.n_ctx;
    if (wanted > most) {
        runtime_log(model->runtime, GRAFT_LOG_WARN,
                    "a context of %d tokens, but the model was made for %d: quality may drop",
                    wanted, most);
    }
    return (size_t)(wanted > 0 ? wanted : most < USUAL ? most : USUAL);
}

graft_sampling sampling_default(void)
{
    return (graft_sampling){.struct_size = sizeof(graft_sampling),
                            .temperature = 0.8f,
                            .top_k = 40,
                            .top_p = 0.95f,
                            .min_p = 0.05f,
                            .repetition_penalty = 1,
                            .penalty_window = 64};
}

graft_sampling sampling_for_model(const struct model *model)
{
    const struct generation_defaults *g = &model->generation;
    graft_sampling base = sampling_default();
    graft_sampling with = base;
    with.temperature = g->temperature >= 0 ? (float)g->temperature : base.temperature;
    with.top_k = g->top_k >= 0 ? g->top_k : base.top_k;
    with.top_p = g->top_p >= 0 ? (float)g->top_p : base.top_p;
    with.min_p = g->min_p >= 0 ? (float)g->min_p : base.min_p;
    with.repetition_penalty =
        g->repetition_penalty >= 0 ? (float)g->repetition_penalty : base.repetition_penalty;
    if (sampling_check(&with, NULL) != GRAFT_OK) {
        with = base; /* nonsense in the file: none of it */
    }
    if (g->do_sample_given && !g->do_sample) {
        with.temperature = 0;
    }
    return with;
}

graft_status session_set_sampling(struct graft_session *s, const graft_sampling *sampling,
                                  graft_error *error)
{
    if (s->sampler == NULL) {
        return error_set(error, GRAFT_UNSUPPORTED, "the model is a classifier: it samples nothing");
    }
    graft_status status = sampling_check(sampling, error);
    if (status == GRAFT_OK) {
        timeline_rewind(&s->line); /* picks in hand are of the old one */
        s->line.sampling = *sampling;
    }
    return status;
}

graft_sampling session_sampling(const struct graft_session *s)
{
    return s->line.sampling;
}

graft_status session_top(const struct graft_session *s, size_t n, graft_token_id *ids,
                         float *logprobs, graft_error *error)
{
    if (s->sampler == NULL || s->logits_row < 0) {
        return error_set(error, GRAFT_STATE, "no distribution: nothing was evaluated yet");
    }
    if (n < 1 || n > (size_t)s->model->config.n_vocab) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "the number of tokens must be from 1 to %d",
                         s->model->config.n_vocab);
    }
    const float *logits = workspace_logits(s->workspace, s->logits_row);
    sampler_top(s->sampler, logits, sampler_log_sum(s->sampler, logits), n, ids, logprobs);
    return GRAFT_OK;
}
