/* timeline.c: one timeline of tokens: which rows come next, and what to make of their logits.
 *
 * A token's keys and values are computed when something needs them, so a picked token costs a row only if
 * generation goes on. Each token keeps the role it was first evaluated with; when it has to be evaluated again
 * (after a trim, a failure, or because its blocks were taken away) the numbers are the same.
 *
 * Guesses are verified by picking: the pick after each token is made as if nothing had been guessed, and a guess is
 * right if it is that pick. Its row was a decode row like any other, so what follows from it are the same bits as in
 * plain decoding: guesses change how many rows a pass has and nothing that anybody can read.
 */
#include "generate/timeline.h"

/* ---- open and close ---- */

static graft_status open_arrays(struct timeline *t, const graft_session_options *o,
                                graft_error *error)
{
    t->tokens = mem_calloc(t->mem, t->n_ctx, sizeof *t->tokens);
    t->roles = mem_calloc(t->mem, t->n_ctx, sizeof *t->roles);
    t->stop_ids = mem_calloc(t->mem, o->n_stop_ids, sizeof *t->stop_ids);
    if (t->tokens == NULL || t->roles == NULL || t->stop_ids == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a session of %zu tokens", t->n_ctx);
    }
    if (o->n_stop_ids > 0) {
        memcpy(t->stop_ids, o->stop_ids, o->n_stop_ids * sizeof *t->stop_ids);
    }
    t->n_stop_ids = o->n_stop_ids;
    return GRAFT_OK;
}

static graft_status check_options(const struct model *model, const graft_session_options *o,
                                  graft_error *error)
{
    if (o->n_stop_ids > 0 && o->stop_ids == NULL) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "stop_ids is NULL");
    }
    for (size_t i = 0; i < o->n_stop_ids; i++) {
        if (o->stop_ids[i] < 0 || o->stop_ids[i] >= model->config.n_vocab) {
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "stop token %d is not in the vocabulary of %d", (int)o->stop_ids[i],
                             model->config.n_vocab);
        }
    }
    return sampling_check(&o->sampling, error);
}

graft_status timeline_open(struct timeline *t, const struct model *model, struct kv_pool *pool,
                           size_t n_ctx, const graft_session_options *options, graft_error *error)
{
    *t = (struct timeline){.model = model,
                           .mem = &model->runtime->mem,
                           .sampling = options->sampling,
                           .ignore_eos = options->ignore_eos,
                           .n_ctx = n_ctx};
    graft_status status = check_options(model, options, error);
    if (status == GRAFT_OK) {
        status = text_open(&t->text, t->mem, model->tokenizer, options, error);
    }
    if (status == GRAFT_OK) {
        status = open_arrays(t, options, error);
    }
    if (status == GRAFT_OK) {
        status = kv_seq_open(pool, &t->seq, error);
    }
    if (status != GRAFT_OK) {
        timeline_close(t);
    }
    return status;
}

void timeline_forget_spans(struct timeline *t)
{
    while (t->n_spans > 0) {
        mix_release(&t->spans[--t->n_spans].mix);
    }
}

void timeline_close(struct timeline *t)
{
    if (t->mem != NULL) {
        kv_seq_close(&t->seq);
        text_close(&t->text);
        matcher_close(&t->matcher);
        mem_free(t->mem, t->tokens);
        mem_free(t->mem, t->roles);
        mem_free(t->mem, t->stop_ids);
        mem_free(t->mem, t->tops);
        timeline_forget_spans(t);
        mem_free(t->mem, t->spans);
        mix_release(&t->mix);
        *t = (struct timeline){0};
    }
}

graft_status timeline_want_top(struct timeline *t, int n, graft_error *error)
{
    if (n < 0 || n > TIMELINE_TOP_MOST) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "top must be from 0 to %d",
                         TIMELINE_TOP_MOST);
    }
    n = n < t->model->config.n_vocab ? n : t->model->config.n_vocab;
    if (n > 0) {
        t->tops = mem_calloc(t->mem, (size_t)(DRAFT_MOST + 2) * (size_t)n, sizeof *t->tops);
        if (t->tops == NULL) {
            return error_set(error, GRAFT_NO_MEMORY, "no memory for %d tokens in each place", n);
        }
    }
    t->n_top = n;
    return GRAFT_OK;
}

/* ---- tokens ---- */

graft_status timeline_check_ids(const struct timeline *t, const graft_token_id *ids, size_t n,
                                graft_error *error)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->model->config.n_vocab) {
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "token %d at position %zu is not in the vocabulary of %d", (int)ids[i],
                             i, t->model->config.n_vocab);
        }
    }
    return GRAFT_OK;
}

void timeline_rewind(struct timeline *t)
{
    t->n_ahead = 0;
    t->n_draft = 0;
    if ((size_t)kv_seq_length(t->seq) > t->n_tokens) {
        kv_seq_trim(t->seq, (int64_t)t->n_tokens);
    }
}

/* After a change of the mix the last token of a prompt waits to be computed again, for its logits, under the new one. With
 * another prompt behind it nobody wants those: it stays what it was. */
static void keep_last(struct timeline *t)
{
    struct mix_span *last = t->n_spans > 0 ? &t->spans[t->n_spans - 1] : NULL;
    if (last != NULL && last->end + 1 == t->n_tokens && t->roles[t->n_tokens - 1] == ROLE_PREFILL) {
        last->end = t->n_tokens;
        if (t->keeps_spans && (size_t)kv_seq_length(t->seq) == t->n_tokens) {
            kv_seq_trim(t->seq, (int64_t)t->n_tokens - 1); /* it may have been, already */
        }
    }
}

void timeline_append(struct timeline *t, const graft_token_id *ids, size_t n)
{
    timeline_rewind(t);
    if (n > 0) {
        keep_last(t);
    }
    memcpy(t->tokens + t->n_tokens, ids, n * sizeof *ids);
    memset(t->roles + t->n_tokens, ROLE_PREFILL, n);
    t->n_tokens += n;
    t->answer_begin = t->n_tokens;
}

static void forget_end(struct timeline *t)
{
    t->finish = GRAFT_FINISH_NONE;
    t->answering = false;
}

void timeline_resume(struct timeline *t)
{
    timeline_rewind(t); /* picks in hand are of the answer that ended */
    forget_end(t);
    t->answer_begin = t->n_tokens;
}

void timeline_trim(struct timeline *t, size_t n)
{
    t->n_tokens = n;
    t->answer_begin = t->answer_begin < n ? t->answer_begin : n;
    while (t->n_spans > 0 && (t->n_spans > 1 ? t->spans[t->n_spans - 2].end : 0) >= n) {
        mix_release(&t->spans[--t->n_spans].mix);
    }
    if (t->n_spans > 0 && t->spans[t->n_spans - 1].end > n) {
        t->spans[t->n_spans - 1].end = n;
    }
    timeline_rewind(t);
    forget_end(t);
}

/* ---- what answers are held to ---- */

graft_status timeline_hold(struct timeline *t, struct grammar *g, struct vocabulary *v,
                           graft_error *error)
{
    const struct config *config = &t->model->config;
    const struct matcher_options options = {
        .vocabulary = v, .ends = config->eos, .n_ends = config->n_eos};
    struct matcher *matcher = NULL;
    if (g != NULL) {
        graft_status status = matcher_open(t->mem, g, &options, &matcher, error);
        if (status != GRAFT_OK) {
            return status;
        }
    }
    timeline_rewind(t); /* picks in hand are of the old one */
    timeline_resume(t);
    matcher_close(&t->matcher);
    t->matcher = matcher;
    t->held_from = t->held_to = t->n_tokens;
    return GRAFT_OK;
}

/* Brings the matcher to the token at `end` of the answer; what it has seen of another answer, or of tokens that are gone,
 * it forgets. false: the answer is not one that it allows. */
static bool hold_to(struct timeline *t, size_t end)
{
    if (t->held_from != t->answer_begin || t->held_to > end) {
        matcher_reset(t->matcher);
        t->held_from = t->held_to = t->answer_begin;
    }
    while (t->held_to < end && matcher_accept(t->matcher, t->tokens[t->held_to])) {
        t->held_to++;
    }
    return t->held_to == end;
}

/* Guesses that cannot be picks are not worth a row. */
static void cut_guesses(struct timeline *t)
{
    if (t->matcher != NULL && t->n_draft > 0) {
        int allowed = hold_to(t, t->n_tokens)
                          ? matcher_allowed(t->matcher, t->tokens + t->n_tokens, t->n_draft)
                          : 0;
        t->guesses_cut = t->n_draft - (allowed < t->n_draft ? allowed : t->n_draft);
        t->n_draft -= t->guesses_cut;
    }
}

/* ---- passes ---- */

size_t timeline_pending(const struct timeline *t)
{
    size_t held = (size_t)kv_seq_length(t->seq);
    return held < t->n_tokens ? t->n_tokens - held : 1;
}

/* The mix of the row at a position; NULL: the base model. */
static struct mix *mix_at(const struct timeline *t, size_t at)
{
    for (int i = 0; i < t->n_spans; i++) {
        if (at < t->spans[i].end) {
            return t->spans[i].mix;
        }
    }
    return t->mix_off ? NULL : t->mix;
}

int timeline_plan(struct timeline *t, struct row *rows, int most)
{
    if ((size_t)kv_seq_length(t->seq) >= t->n_tokens) {
        kv_seq_trim(t->seq, (int64_t)t->n_tokens - 1);
    }
    t->guesses_cut = 0;
    cut_guesses(t);
    size_t first = (size_t)kv_seq_length(t->seq), left = t->n_tokens - first;
    t->planned_end = left <= (size_t)most;
    t->planned_tokens = t->planned_end ? (int)left : most;
    size_t room = t->n_ctx - t->n_tokens;
    int drafts = t->n_draft < most - t->planned_tokens ? t->n_draft : most - t->planned_tokens;
    t->planned_drafts = (size_t)drafts < room ? drafts : (int)room;
    int n = t->planned_tokens + t->planned_drafts;
    for (int i = 0; i < n; i++) {
        size_t at = first + (size_t)i;
        bool guess = i >= t->planned_tokens;
        rows[i] = (struct row){.token = t->tokens[at],
                               .pos = (int32_t)at,
                               .seq = t->seq,
                               .role = guess ? ROLE_DECODE : (enum role)t->roles[at],
                               .deltas = mix_deltas(mix_at(t, at)),
                               .want_logits = guess || at + 1 == t->n_tokens};
    }
    return n;
}

/* ---- picks ---- */

static bool is_end_token(const struct timeline *t, graft_token_id id)
{
    const struct config *config = &t->model->config;
    for (int i = 0; i < config->n_eos; i++) {
        if (config->eos[i] == id) {
            return true;
        }
    }
    const struct tokenizer *tokenizer = t->model->tokenizer;
    return tokenizer != NULL && id < tokenizer_size(tokenizer) && tokenizer_is_end(tokenizer, id);
}

static bool is_stop_token(const struct timeline *t, graft_token_id id)
{
    for (size_t i = 0; i < t->n_stop_ids; i++) {
        if (t->stop_ids[i] == id) {
            return true;
        }
    }
    return false;
}

/* An answer that is held to a grammar ends where that ends. */
static bool is_eos(const struct timeline *t, graft_token_id id)
{
    return (!t->ignore_eos || t->matcher != NULL) && is_end_token(t, id);
}

static bool ends_answer(const struct timeline *t, graft_token_id id)
{
    return is_eos(t, id) || is_stop_token(t, id);
}

static void take_top(struct timeline *t, const float *logits, const struct sampler *sampler)
{
    graft_token_id ids[TIMELINE_TOP_MOST];
    float logprobs[TIMELINE_TOP_MOST];
    graft_alternative *tops = t->tops + (t->n_ahead + 1) * t->n_top;
    sampler_top(sampler, logits, t->ahead[t->n_ahead].log_sum, (size_t)t->n_top, ids, logprobs);
    for (int i = 0; i < t->n_top; i++) {
        tops[i] = (graft_alternative){ids[i], logprobs[i]};
    }
}

/* The pick that follows the timeline and the picks in hand, which are in the array behind it. */
static graft_status pick_next(struct timeline *t, const float *logits, struct sampler *sampler,
                              graft_error *error)
{
    size_t at = t->n_tokens + (size_t)t->n_ahead;
    const uint32_t *mask = NULL;
    graft_status status = GRAFT_OK;
    if (t->matcher != NULL && !hold_to(t, at)) {
        return error_set(error, GRAFT_STATE,
                         "the answer so far is none that the constraint allows");
    }
    if (t->matcher != NULL) {
        size_t most = t->answer_most, end = t->n_ctx;
        end = most > 0 && most < end - t->answer_begin ? t->answer_begin + most : end;
        matcher_fit(t->matcher, end > at ? end - at : 1);
        status = matcher_mask(t->matcher, &mask, error);
    }
    if (status == GRAFT_OK) {
        status = sampler_pick(sampler, &t->sampling, logits, mask, t->tokens, at,
                              &t->ahead[t->n_ahead], error);
    }
    if (status == GRAFT_OK && t->n_top > 0) {
        take_top(t, logits, sampler);
    }
    t->n_ahead += status == GRAFT_OK;
    return status;
}

graft_status timeline_pick(struct timeline *t, const struct workspace *ws, int first,
                           struct sampler *sampler, graft_error *error)
{
    if (!t->planned_end) {
        return GRAFT_OK;
    }
    int last = first + t->planned_tokens - 1, drafts = t->planned_drafts, right = 0;
    graft_status status;
    t->n_draft = 0;
    t->verified = drafts;
    for (;;) {
        status = pick_next(t, workspace_logits(ws, last + right), sampler, error);
        if (status != GRAFT_OK || right == drafts) {
            break;
        }
        graft_token_id id = t->ahead[t->n_ahead - 1].id;
        bool same = id == t->tokens[t->n_tokens + (size_t)right];
        if (!same || ends_answer(t, id)) {
            t->verified = same ? right : drafts; /* behind an end nothing was looked at */
            break;
        }
        right++;
    }
    t->accepted = right;
    kv_seq_trim(t->seq, (int64_t)(t->n_tokens + (size_t)right));
    /* A failure behind right guesses is that of the pass which comes to it again. */
    return right > 0 && t->n_ahead > 0 ? GRAFT_OK : status;
}

graft_status timeline_pick_from(struct timeline *t, const float *logits, struct sampler *sampler,
                                graft_error *error)
{
    return pick_next(t, logits, sampler, error);
}

/* ---- records ---- */

bool timeline_is_over(const struct timeline *t)
{
    return t->finish == GRAFT_FINISH_EOS || t->finish == GRAFT_FINISH_STOP ||
           t->n_tokens == t->n_ctx;
}

graft_status timeline_end_record(struct timeline *t, graft_token *out, graft_error *error)
{
    graft_token record = {.id = -1, .text = ""};
    if (t->answering) {
        graft_status status = text_flush(&t->text, &record.text, &record.text_size, error);
        if (status != GRAFT_OK) {
            return status;
        }
    }
    t->answering = false;
    *out = record;
    return GRAFT_OK;
}

graft_status timeline_commit(struct timeline *t, graft_token *out, graft_error *error)
{
    const struct pick *pick = &t->ahead[0];
    if (!t->answering) {
        text_begin(&t->text, t->tokens, t->n_tokens);
        t->answering = true;
    }
    bool ends = is_eos(t, pick->id);
    bool is_stop = is_stop_token(t, pick->id);
    graft_token record = {.id = pick->id,
                          .text = "",
                          .logprob = pick->logprob,
                          .probability = pick->probability,
                          .is_eos = ends,
                          .top = t->tops,
                          .n_top = (size_t)t->n_top};
    if (!(ends || is_stop) || t->text.show_special) {
        graft_status status = text_push(&t->text, pick->id, &record.text, &record.text_size, error);
        if (status != GRAFT_OK) {
            return status;
        }
    }
    t->tokens[t->n_tokens] = pick->id;
    t->roles[t->n_tokens++] = ROLE_DECODE;
    if (t->n_top > 0) {
        memmove(t->tops, t->tops + t->n_top, (size_t)(t->n_ahead * t->n_top) * sizeof *t->tops);
    }
    t->n_ahead--;
    memmove(t->ahead, t->ahead + 1, (size_t)t->n_ahead * sizeof *t->ahead);
    t->finish = ends                         ? GRAFT_FINISH_EOS
                : is_stop || t->text.stopped ? GRAFT_FINISH_STOP
                                             : GRAFT_FINISH_NONE;
    if (timeline_is_over(t)) {
        timeline_rewind(t);
    }
    *out = record;
    return GRAFT_OK;
}

/* ---- the mix ----
 * A swap is a pointer: nothing is copied, packed or computed, and what steps need is reserved before it. Under
 * REPLAY the timeline becomes one prompt again, so that what follows is what a session would say that had the new
 * mix from its first token. */

static struct mix *mix_in_force(const struct timeline *t)
{
    return t->mix_off ? NULL : t->mix;
}

const struct delta_set *timeline_deltas(const struct timeline *t)
{
    return mix_deltas(mix_in_force(t));
}

const uint8_t *timeline_digest_now(const struct timeline *t)
{
    return mix_digest(mix_in_force(t));
}

const uint8_t *timeline_digest(const struct timeline *t, size_t begin, size_t end)
{
    const uint8_t *first = mix_digest(mix_at(t, begin));
    const uint8_t *last = mix_digest(mix_at(t, end - 1));
    bool same = memcmp(first, last, 32) == 0;
    for (int i = 0; i < t->n_spans && same; i++) {
        if (t->spans[i].end > begin && t->spans[i].end < end) {
            same = memcmp(mix_digest(t->spans[i].mix), first, 32) == 0;
        }
    }
    return same ? first : NULL;
}

graft_status timeline_reserve_span(struct timeline *t, graft_error *error)
{
    if (t->n_spans < t->span_capacity) {
        return GRAFT_OK;
    }
    int capacity = t->span_capacity > 0 ? 2 * t->span_capacity : 4;
    struct mix_span *spans = mem_resize(t->mem, t->spans, (size_t)capacity * sizeof *spans);
    if (spans == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory to remember %d mixes", capacity);
    }
    t->spans = spans;
    t->span_capacity = capacity;
    return GRAFT_OK;
}

/* The tokens so far are those of `mix`, also where they are not computed yet, so that it does not matter how far that has
 * come; but for the last one, whose logits are wanted: it is computed under the mix to come. */
static void remember(struct timeline *t, struct mix *mix)
{
    bool wanted = t->n_tokens > 0 && t->n_spans < t->span_capacity;
    size_t end = t->n_tokens - 1;
    if (wanted && t->n_spans > 0) {
        wanted = end > t->spans[t->n_spans - 1].end;
    }
    if (wanted && (t->keeps_spans || (size_t)kv_seq_length(t->seq) < end)) {
        t->spans[t->n_spans++] = (struct mix_span){end, mix_acquire(mix)};
    }
}

/* Takes a mix, in force or not; by content: whether an adapter was closed and opened again meanwhile must not be heard. */
static bool change_mix(struct timeline *t, struct mix *mix, bool off, graft_kv_policy policy)
{
    struct mix *old = mix_in_force(t), *new = off ? NULL : mix;
    bool changed = memcmp(mix_digest(old), mix_digest(new), 32) != 0;
    if (changed) {
        timeline_rewind(t);
        remember(t, old);
        if (t->n_tokens > 0 && t->roles[t->n_tokens - 1] == ROLE_DECODE) {
            /* A token that was picked is computed by the step that follows it: guesses may have done so already. */
            kv_seq_trim(t->seq, (int64_t)t->n_tokens - 1);
        }
    }
    if (changed && policy == GRAFT_KV_REPLAY) {
        timeline_forget_spans(t);
        kv_seq_trim(t->seq, 0);
        memset(t->roles, ROLE_PREFILL, t->n_tokens);
    }
    t->mix_off = off;
    return changed;
}

bool timeline_set_mix(struct timeline *t, struct mix *mix, graft_kv_policy policy)
{
    struct mix *old = t->mix;
    bool changed = change_mix(t, mix, t->mix_off, policy);
    t->mix = mix_acquire(mix);
    mix_release(&old);
    return changed;
}

bool timeline_enable_mix(struct timeline *t, bool on, graft_kv_policy policy)
{
    return change_mix(t, t->mix, !on, policy);
}

graft_status timeline_fork(struct timeline *t, const struct timeline *from, graft_error *error)
{
    struct kv_seq *seq = NULL;
    if (from->n_tokens > t->n_ctx) {
        return error_set(error, GRAFT_LIMIT, "%zu tokens do not fit a context of %zu",
                         from->n_tokens, t->n_ctx);
    }
    struct mix_span *spans = mem_calloc(t->mem, (size_t)from->n_spans + 1, sizeof *spans);
    graft_status status = spans != NULL ? kv_seq_fork(from->seq, &seq, error)
                                        : error_set(error, GRAFT_NO_MEMORY, "no memory for a fork");
    if (status != GRAFT_OK) {
        mem_free(t->mem, spans);
        return status;
    }
    kv_seq_close(&t->seq);
    t->seq = seq;
    mem_free(t->mem, t->spans);
    t->spans = spans;
    t->span_capacity = from->n_spans + 1;
    for (t->n_spans = 0; t->n_spans < from->n_spans; t->n_spans++) {
        spans[t->n_spans] = from->spans[t->n_spans];
        mix_acquire(spans[t->n_spans].mix);
    }
    t->mix = mix_acquire(from->mix);
    t->mix_off = from->mix_off;
    t->n_tokens = t->answer_begin = from->n_tokens;
    memcpy(t->tokens, from->tokens, from->n_tokens * sizeof *t->tokens);
    memcpy(t->roles, from->roles, from->n_tokens * sizeof *t->roles);
    timeline_rewind(t);
    return GRAFT_OK;
}

graft_status timeline_fork_answer(struct timeline *t, const struct timeline *from,
                                  graft_error *error)
{
    const struct text_state state = text_state(&from->text);
    graft_status status = GRAFT_OK;
    if (from->matcher != NULL) { /* it runs through the answer when the next pick asks it */
        status = timeline_hold(t, matcher_grammar(from->matcher), matcher_vocabulary(from->matcher),
                               error);
    }
    if (status == GRAFT_OK && from->answering) {
        status = text_resume(&t->text, &state, error);
    }
    if (status == GRAFT_OK) {
        t->answer_begin = from->answer_begin;
        t->answer_most = from->answer_most;
        t->answering = from->answering;
        t->finish = from->finish;
    }
    return status;
}
