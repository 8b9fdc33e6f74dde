/* state_file.c: a session in a file, and a session out of it.
 *
 * Little-endian: magic [8], version u32, bytes of the record u32, bytes of keys and values u64; the record (state_record.c);
 * SHA-256 of all so far; the keys and values of 64 positions after 64 (kv_copy.c); a SHA-256 of those, each piece's sum
 * summed with the sum so far. So the record is known to be whole before anything in it is looked at, and keys and values go
 * into their blocks as they are read, without a second copy.
 *
 * Files are untrusted: the sums find what a disk did, and every value is checked as if somebody had made the sums fit.
 */
#include "generate/generate_internal.h"
#include "generate/state.h"

enum { VERSION = 2, HEAD = 24, SUM = 32 };
enum { CHUNK = 256 }; /* of options that come out of a file */
static const char MAGIC[8] = "graftses";

/* *sum becomes the sum of itself and of some bytes. */
static graft_status add_to_sum(uint8_t sum[SUM], const uint8_t *bytes, size_t size,
                               graft_error *error)
{
    uint8_t both[2 * SUM];
    memcpy(both, sum, SUM);
    graft_status status = sha256(bytes, size, both + SUM, error);
    return status == GRAFT_OK ? sha256(both, sizeof both, sum, error) : status;
}

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for the file of a session");
}

/* Positions of the piece that begins at `at`. */
static int piece_at(size_t at, size_t n_held)
{
    return n_held - at < KV_BLOCK ? (int)(n_held - at) : KV_BLOCK;
}

/* ---- saving ---- */

/* What a record points to that the session does not have. */
struct pointed {
    const char *stops[STOPS_MAX];
    char base[FINGERPRINT_SIZE];
    char adapters[STATE_TEXT_MAX];
};

/* "coder=0.7 + tone": what to look for when the mix is not there. */
static void describe_mix(const struct mix *mix, char out[STATE_TEXT_MAX])
{
    int n, used = 0;
    const struct mix_part *parts = mix_parts(mix, &n);
    out[0] = '\0';
    for (int i = 0; i < n && used < STATE_TEXT_MAX; i++) {
        char weight[DECIMAL_SIZE];
        decimal_print((double)parts[i].weight, weight);
        used +=
            snprintf(out + used, (size_t)(STATE_TEXT_MAX - used), "%s%.200s=%s", i > 0 ? " + " : "",
                     path_base(adapter_info(parts[i].adapter)->path), weight);
    }
}

/* What a file has no room for: a grammar, and tokens that wait for rows under a mix that is in force no more. */
static graft_status check_savable(const struct timeline *t, graft_error *error)
{
    bool ended = t->finish == GRAFT_FINISH_EOS || t->finish == GRAFT_FINISH_STOP;
    if (t->matcher != NULL && t->n_tokens > t->answer_begin && !ended) {
        return error_set(error, GRAFT_STATE,
                         "the answer is held to a constraint, which is not saved: save when the "
                         "answer has ended");
    }
    if (t->n_spans > 0 && t->spans[t->n_spans - 1].end > (size_t)kv_seq_length(t->seq)) {
        return error_set(error, GRAFT_STATE,
                         "tokens wait to be computed under adapters that were swapped since: save "
                         "after the next token");
    }
    return GRAFT_OK;
}

static graft_status describe(const struct graft_session *s, struct pointed *p,
                             struct session_state *out, graft_error *error)
{
    const struct timeline *t = &s->line;
    const struct model *model = s->model;
    size_t held = (size_t)kv_seq_length(t->seq);
    describe_mix(t->mix, p->adapters);
    *out = (struct session_state){.tier = model->runtime->kernels->tier,
                                  .base = p->base,
                                  .architecture = model->config.architecture,
                                  .model_path = model->path,
                                  .adapters = p->adapters,
                                  .mix_off = t->mix_off,
                                  .options = session_settings(s, p->stops),
                                  .tokens = t->tokens,
                                  .roles = t->roles,
                                  .n_tokens = t->n_tokens,
                                  .n_held = held < t->n_tokens ? held : t->n_tokens,
                                  .answer_begin = t->answer_begin,
                                  .finish = t->finish,
                                  .answering = t->answering,
                                  .text = text_state(&t->text),
                                  .note = s->note,
                                  .n_note = s->n_note};
    memcpy(out->mix, mix_digest(t->mix), sizeof out->mix);
    graft_status status = base_fingerprint(model, p->base, error);
    if (status == GRAFT_OK) {
        status = kernels_digest(model->runtime->kernels, s->mem, out->arithmetic, error);
    }
    return status == GRAFT_OK ? model_digest(model, out->weights, error) : status;
}

/* Head, record and their sum. */
static graft_status make_record(const struct graft_session *s, struct buf *out, size_t *n_held,
                                graft_error *error)
{
    static const uint8_t ROOM[HEAD];
    struct pointed pointed;
    struct session_state state;
    graft_status status = describe(s, &pointed, &state, error);
    if (status != GRAFT_OK) {
        return status;
    }
    buf_append(out, ROOM, HEAD);
    status = state_write(&state, out, error);
    if (status != GRAFT_OK) {
        return status;
    }
    uint8_t *head = (uint8_t *)out->data;
    memcpy(head, MAGIC, sizeof MAGIC);
    bytes_put(head + 8, VERSION, 4);
    bytes_put(head + 12, out->size - HEAD, 4);
    bytes_put(head + 16, state.n_held * kv_seq_position_bytes(s->line.seq), 8);
    uint8_t sum[SUM];
    status = sha256(out->data, out->size, sum, error);
    if (status == GRAFT_OK && !buf_append(out, sum, SUM)) {
        status = no_memory(error);
    }
    *n_held = state.n_held;
    return status;
}

static graft_status write_cache(struct file_writer *w, const struct kv_seq *seq, size_t n_held,
                                struct mem *mem, graft_error *error)
{
    const size_t position = kv_seq_position_bytes(seq);
    uint8_t sum[SUM] = {0}, *piece = mem_alloc(mem, KV_BLOCK * position);
    graft_status status = piece != NULL ? GRAFT_OK : no_memory(error);
    for (size_t at = 0; at < n_held && status == GRAFT_OK; at += KV_BLOCK) {
        int n = piece_at(at, n_held);
        kv_seq_read(seq, (int64_t)(at / KV_BLOCK), n, piece);
        status = add_to_sum(sum, piece, (size_t)n * position, error);
        if (status == GRAFT_OK) {
            status = file_writer_write(w, piece, (size_t)n * position, error);
        }
    }
    mem_free(mem, piece);
    return status == GRAFT_OK ? file_writer_write(w, sum, SUM, error) : status;
}

graft_status session_save(const struct graft_session *s, const char *path, graft_error *error)
{
    struct file_writer w = {.mem = s->mem};
    struct buf record;
    size_t n_held = 0;
    buf_init(&record, s->mem, STATE_RECORD_MAX);
    graft_status status = check_savable(&s->line, error);
    if (status == GRAFT_OK) {
        status = model_refuse_output(s->model, path, error);
    }
    if (status == GRAFT_OK) {
        status = make_record(s, &record, &n_held, error);
    }
    if (status == GRAFT_OK) {
        status = file_writer_open(&w, s->mem, path, error);
    }
    if (status == GRAFT_OK) {
        status = file_writer_write(&w, record.data, record.size, error);
    }
    if (status == GRAFT_OK) {
        status = write_cache(&w, s->line.seq, n_held, s->mem, error);
    }
    if (status == GRAFT_OK) {
        status = file_writer_commit(&w, error);
    }
    file_writer_abort(&w);
    buf_free(&record);
    return status;
}

/* ---- reading ---- */

struct saved {
    struct file_reader file;
    struct mem *mem;
    uint8_t *record; /* head and record */
    size_t record_size, kv_size;
    struct arena arena;
    struct session_state state;
};

/* The record fits into the file; so does the rest, which restoring needs and a look does not (`whole`). */
static graft_status check_sizes(const struct saved *f, bool whole, graft_error *error)
{
    size_t said, least = f->record_size + HEAD + SUM;
    bool fits = f->record_size <= STATE_RECORD_MAX && least <= f->file.size;
    if (whole) {
        fits = fits && size_add(least + SUM, f->kv_size, &said) && said == f->file.size;
    }
    return fits
               ? GRAFT_OK
               : error_set(error, GRAFT_FORMAT,
                           "the saved session is damaged: it has %zu bytes, not those that it says",
                           f->file.size);
}

static graft_status read_head(struct saved *f, uint8_t head[HEAD], bool whole, graft_error *error)
{
    if (f->file.size < HEAD) {
        return error_set(error, GRAFT_FORMAT, "it is no saved session");
    }
    graft_status status = file_reader_read(&f->file, head, HEAD, error);
    if (status != GRAFT_OK) {
        return status;
    }
    if (memcmp(head, MAGIC, sizeof MAGIC) != 0) {
        return error_set(error, GRAFT_FORMAT, "it is no saved session");
    }
    if (bytes_get(head + 8, 4) != VERSION) {
        return error_set(error, GRAFT_UNSUPPORTED,
                         "it is a session of version %u, this graft reads version %d",
                         (unsigned)bytes_get(head + 8, 4), VERSION);
    }
    f->record_size = (size_t)bytes_get(head + 12, 4);
    f->kv_size = (size_t)bytes_get(head + 16, 8);
    return check_sizes(f, whole, error);
}

static graft_status read_record(struct saved *f, bool whole, graft_error *error)
{
    uint8_t head[HEAD], wanted[SUM], sum[SUM];
    graft_status status = read_head(f, head, whole, error);
    if (status != GRAFT_OK) {
        return status;
    }
    const size_t size = HEAD + f->record_size;
    f->record = mem_alloc(f->mem, size);
    if (f->record == NULL) {
        return no_memory(error);
    }
    memcpy(f->record, head, HEAD);
    status = file_reader_read(&f->file, f->record + HEAD, f->record_size, error);
    if (status == GRAFT_OK) {
        status = file_reader_read(&f->file, wanted, SUM, error);
    }
    if (status == GRAFT_OK) {
        status = sha256(f->record, size, sum, error);
    }
    if (status == GRAFT_OK && memcmp(sum, wanted, SUM) != 0) {
        status = error_set(error, GRAFT_FORMAT,
                           "the saved session is damaged: its checksum is another one");
    }
    return status == GRAFT_OK
               ? state_parse(f->record + HEAD, f->record_size, &f->arena, &f->state, error)
               : status;
}

static void saved_close(struct saved *f)
{
    file_reader_close(&f->file);
    arena_free(&f->arena);
    mem_free(f->mem, f->record);
}

/* ---- whether it may be used here ---- */

static graft_status check_model(const struct model *model, const struct session_state *state,
                                graft_error *error)
{
    char base[FINGERPRINT_SIZE];
    uint8_t weights[SUM];
    graft_status status = base_fingerprint(model, base, error);
    if (status == GRAFT_OK && strcmp(base, state->base) != 0) {
        status = error_set(error, GRAFT_STATE,
                           "the session was saved with a %.60s (%.160s), whose layers, widths or "
                           "vocabulary are not those of this model",
                           state->architecture, state->model_path);
    }
    if (status == GRAFT_OK) {
        status = model_digest(model, weights, error);
    }
    if (status == GRAFT_OK && memcmp(weights, state->weights, SUM) != 0) {
        status = error_set(error, GRAFT_STATE,
                           "the session was saved with a model of this shape but other weights "
                           "(%.200s)",
                           state->model_path);
    }
    return status;
}

static graft_status refuse_mix(const struct session_state *state, const struct mix *mix,
                               graft_error *error)
{
    char now[STATE_TEXT_MAX], was[17], is[17];
    describe_mix(mix, now);
    hex_write(state->mix, 8, was);
    hex_write(mix_digest(mix), 8, is);
    return error_set(error, GRAFT_STATE,
                     "the session was saved with %s%.150s (mix %s), not with %s%.100s (mix %s)",
                     state->adapters[0] != '\0' ? "the adapters " : "no adapter", state->adapters,
                     was, now[0] != '\0' ? "" : "no adapter", now, is);
}

static graft_status refuse_kernels(const struct session_state *state, const char *tier,
                                   graft_error *error)
{
    bool same_name = strcmp(tier, state->tier) == 0;
    return error_set(error, GRAFT_STATE,
                     "the session was computed by the kernels %.40s%s and these are %s: its keys "
                     "and values would have to be computed again (replay)",
                     state->tier, same_name ? " of a build with other last bits" : "", tier);
}

/* *replay: keys and values have to be computed again; *new_mix: under another mix. */
static graft_status check_fit(const struct model *model, const struct session_state *state,
                              const struct restore_options *o, bool *replay, bool *new_mix,
                              graft_error *error)
{
    const struct kernels *kernels = model->runtime->kernels;
    uint8_t arithmetic[SUM];
    graft_status status = check_model(model, state, error);
    if (status == GRAFT_OK) {
        status = kernels_digest(kernels, &model->runtime->mem, arithmetic, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    *new_mix = memcmp(state->mix, mix_digest(o->mix), SUM) != 0;
    if (*new_mix && !o->replay) {
        return refuse_mix(state, o->mix, error);
    }
    bool new_bits = memcmp(arithmetic, state->arithmetic, SUM) != 0, new_cache = false;
    if (o->settings != NULL) {
        new_cache = o->settings->cache_k != state->options.cache_k ||
                    o->settings->cache_v != state->options.cache_v;
    }
    *replay = *new_mix || new_bits || new_cache;
    if (new_cache && !o->replay) {
        return error_set(error, GRAFT_STATE,
                         "the session was saved with keys and values of other types: they would "
                         "have to be computed again (replay)");
    }
    if (new_bits && !o->replay) {
        return refuse_kernels(state, kernels->tier, error);
    }
    if (o->n_ctx == 0 && state->options.n_ctx > model->config.n_ctx) {
        return error_set(error, GRAFT_LIMIT,
                         "the session has a context of %d tokens, the model was made for %d: give "
                         "a context to allow it",
                         state->options.n_ctx, model->config.n_ctx);
    }
    if (o->n_ctx > 0 && state->n_tokens > (size_t)o->n_ctx) {
        return error_set(error, GRAFT_LIMIT, "its %zu tokens do not fit a context of %d",
                         state->n_tokens, o->n_ctx);
    }
    return GRAFT_OK;
}

/* ---- restoring ---- */

static graft_status read_cache(struct saved *f, struct kv_seq *seq, graft_error *error)
{
    const size_t position = kv_seq_position_bytes(seq), n_held = f->state.n_held;
    uint8_t sum[SUM] = {0}, wanted[SUM];
    if (f->kv_size / position != n_held || f->kv_size % position != 0) {
        return error_set(error, GRAFT_FORMAT,
                         "the saved session has %zu bytes of keys and values for %zu positions",
                         f->kv_size, n_held);
    }
    uint8_t *piece = mem_alloc(f->mem, KV_BLOCK * position);
    graft_status status = piece != NULL ? GRAFT_OK : no_memory(error);
    for (size_t at = 0; at < n_held && status == GRAFT_OK; at += KV_BLOCK) {
        int n = piece_at(at, n_held);
        status = file_reader_read(&f->file, piece, (size_t)n * position, error);
        if (status == GRAFT_OK) {
            status = add_to_sum(sum, piece, (size_t)n * position, error);
        }
        if (status == GRAFT_OK) {
            status = kv_seq_write(seq, n, piece, error);
        }
    }
    mem_free(f->mem, piece);
    if (status == GRAFT_OK) {
        status = file_reader_read(&f->file, wanted, SUM, error);
    }
    if (status == GRAFT_OK && memcmp(sum, wanted, SUM) != 0) {
        status = error_set(error, GRAFT_FORMAT,
                           "the saved session is damaged: its checksum is another one");
    }
    return status;
}

/* Tokens and answer; `s` is empty and has the mix. */
static graft_status take_state(struct graft_session *s, const struct session_state *state,
                               const struct restore_options *o, bool new_mix, graft_error *error)
{
    struct timeline *t = &s->line;
    const bool as_saved = o->settings == NULL;
    graft_status status = timeline_check_ids(t, state->tokens, state->n_tokens, error);
    if (status == GRAFT_OK && state->answering && as_saved) {
        status = text_resume(&t->text, &state->text, error);
    }
    if (status == GRAFT_OK) {
        status = session_set_note(s, state->note, state->n_note, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    t->n_tokens = state->n_tokens;
    if (t->n_tokens > 0) {
        memcpy(t->tokens, state->tokens, t->n_tokens * sizeof *t->tokens);
        memcpy(t->roles, state->roles, t->n_tokens);
    }
    if (new_mix) {
        memset(t->roles, ROLE_PREFILL, t->n_tokens);
    }
    t->answer_begin = t->n_tokens;
    if (as_saved) {
        t->answer_begin = state->answer_begin;
        t->answering = state->answering;
        t->finish = state->finish;
    }
    return GRAFT_OK;
}

/* What would be the caller's mistake is the file's. */
static graft_status as_damage(graft_status status, graft_error *error)
{
    if (status == GRAFT_INVALID_ARGUMENT && error != NULL) {
        error->status = GRAFT_FORMAT;
    }
    return status == GRAFT_INVALID_ARGUMENT ? GRAFT_FORMAT : status;
}

static graft_status make_session(const struct model *model, struct saved *f,
                                 const struct restore_options *o, struct graft_session **out,
                                 graft_error *error)
{
    graft_session_options options = o->settings != NULL ? *o->settings : f->state.options;
    bool replay = false, new_mix = false;
    struct graft_session *s = NULL;
    graft_status status = check_fit(model, &f->state, o, &replay, &new_mix, error);
    if (status != GRAFT_OK) {
        return status;
    }
    options.n_ctx = o->n_ctx > 0 ? o->n_ctx : f->state.options.n_ctx;
    options.prefill_chunk = o->prefill_chunk;
    status = session_open(model, &options, &s, error);
    if (o->settings == NULL) {
        status = as_damage(status, error);
    }
    if (status == GRAFT_OK) {
        status = session_reserve(s, o->mix, error);
    }
    if (status == GRAFT_OK) {
        session_set_mix(s, o->mix, GRAFT_KV_CONTINUE);
        session_enable_mix(s, !f->state.mix_off, GRAFT_KV_CONTINUE);
        status = as_damage(take_state(s, &f->state, o, new_mix, error), error);
    }
    if (status == GRAFT_OK && !replay) {
        status = read_cache(f, s->line.seq, error);
    }
    if (status != GRAFT_OK) {
        session_close(&s);
        return status;
    }
    *out = s;
    return GRAFT_OK;
}

graft_status session_restore(const struct model *model, const char *path,
                             const struct restore_options *options, struct graft_session **out,
                             graft_error *error)
{
    struct saved f = {.mem = &model->runtime->mem};
    struct restore_options o = *options;
    if (o.settings != NULL) {
        o.n_ctx = o.settings->n_ctx != 0 ? o.settings->n_ctx : o.n_ctx;
        o.prefill_chunk = o.settings->prefill_chunk;
    }
    if (o.prefill_chunk < 1 || o.prefill_chunk > CHUNK_MAX || o.n_ctx < 0 ||
        o.n_ctx > CONTEXT_MAX) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "prefill_chunk must be from 1 to %d, n_ctx from 0 to %d", CHUNK_MAX,
                         CONTEXT_MAX);
    }
    arena_init(&f.arena, f.mem, 2 * (size_t)STATE_RECORD_MAX);
    graft_status status = file_reader_open(&f.file, path, error);
    if (status == GRAFT_OK) {
        status = read_record(&f, true, error);
    }
    if (status == GRAFT_OK) {
        status = make_session(model, &f, &o, out, error);
    }
    if (status != GRAFT_OK) {
        error_at_file(error, path);
    }
    saved_close(&f);
    return status;
}

/* ---- a look ---- */

struct graft_session_file {
    struct saved saved;
    graft_session_summary summary; /* of it */
};

graft_status session_file_open(struct mem *mem, const char *path, struct graft_session_file **out,
                               graft_error *error)
{
    struct graft_session_file *f = mem_calloc(mem, 1, sizeof *f);
    if (f == NULL) {
        return no_memory(error);
    }
    f->saved.mem = mem;
    arena_init(&f->saved.arena, mem, 2 * (size_t)STATE_RECORD_MAX);
    graft_status status = file_reader_open(&f->saved.file, path, error);
    if (status == GRAFT_OK) {
        status = read_record(&f->saved, false, error);
    }
    file_reader_close(&f->saved.file);
    f->saved.state.options.prefill_chunk = CHUNK; /* which no file says */
    if (status != GRAFT_OK) {
        error_at_file(error, path);
        session_file_close(&f);
        return status;
    }
    const struct session_state *state = &f->saved.state;
    f->summary = (graft_session_summary){.n_tokens = state->n_tokens,
                                         .architecture = state->architecture,
                                         .model = state->model_path,
                                         .adapters = state->adapters,
                                         .tier = state->tier};
    *out = f;
    return GRAFT_OK;
}

void session_file_close(struct graft_session_file **file)
{
    struct graft_session_file *f = *file;
    if (f != NULL) {
        struct mem *mem = f->saved.mem;
        saved_close(&f->saved);
        mem_free(mem, f);
    }
    *file = NULL;
}

const graft_session_summary *session_file_summary(const struct graft_session_file *f)
{
    return &f->summary;
}

const graft_session_options *session_file_options(const struct graft_session_file *f)
{
    return &f->saved.state.options;
}

const void *session_file_note(const struct graft_session_file *f, size_t *size)
{
    *size = f->saved.state.n_note;
    return *size > 0 ? f->saved.state.note : NULL;
}
