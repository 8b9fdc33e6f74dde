/* graft/session_state.h: sessions in files: saved between two tokens, and gone on with later, elsewhere.
 *
 * A file holds all that a session is: tokens and how each was evaluated, keys and values, sampling, stops, the place in the
 * answer with the text that is held back, and a note of the caller's. It does not hold the model and the adapters: it names
 * them, by what they compute, and goes with nothing else. Restored, a session says what the one that was saved would have
 * said, bit for bit. graft_session_fork does the same in memory, and copies nothing.
 */
#ifndef GRAFT_SESSION_STATE_H
#define GRAFT_SESSION_STATE_H

#include <graft/adapter.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the session to a file that appears whole or not at all; one that is there is replaced. The session goes on. Versions of
 * graft that write another format say so. GRAFT_IO: also when the path is one of the model's own files. GRAFT_STATE: tokens wait
 * to be computed under a mix that was swapped since (take a token first), or the session is in the midst of an answer that is
 * held to a constraint. Constraints, and how tokens are guessed (graft_session_set_draft), are not saved: set them again. */
GRAFT_API graft_status graft_session_save(const graft_session *session, const char *path,
                                          graft_error *error);

typedef struct graft_restore_options {
    size_t struct_size;
    graft_mix *mix;    /* the session takes a reference; NULL (default): the model's own mix */
    bool base;         /* no mix, whatever the model's own is; default false */
    int n_ctx;         /* 0 (default): as saved, if the model was made for that */
    int prefill_chunk; /* rows per forward pass of a prompt; default 256 */
    /* NULL (default): sampling, stops, cache types and flags as saved. Else these, and the tokens are all that is gone on with:
     * the answer in hand is over. Its n_ctx, where not 0, and prefill_chunk count in place of the above. */
    const graft_session_options *settings;
    /* Where the mix or a cache type is another one, or the kernels have other last bits (most other tiers, or those of another
     * version of graft), so that keys and values cannot be used as they are: false (default): refused with GRAFT_STATE; true:
     * computed again when the next token is asked for. Under another mix that is GRAFT_KV_REPLAY; with other kernels, what the
     * session would have come to there. */
    bool replay;
} graft_restore_options;
GRAFT_API void graft_restore_options_init(graft_restore_options *options, size_t struct_size);
static inline graft_restore_options graft_restore_options_default(void)
{
    graft_restore_options options;
    graft_restore_options_init(&options, sizeof options);
    return options;
}

/* A new session, the caller's to close, that is where the saved one was. The model must be the one that it was saved with,
 * opened in whatever way: other weights, or the same in another type, are refused. GRAFT_STATE: it was saved with another
 * model, other adapters or weights (their names are in the message), or by other kernels. GRAFT_FORMAT: it is no saved
 * session, or it is damaged; files may come from anybody. GRAFT_UNSUPPORTED: of another version. GRAFT_LIMIT: its context is
 * longer than the model was made for and n_ctx is 0, or its tokens do not fit n_ctx. `options` NULL: the defaults. */
GRAFT_API graft_status graft_session_restore(const graft_model *model, const char *path,
                                             const graft_restore_options *options,
                                             graft_session **out, graft_error *error);

/* What a file of a session says of itself, without a model: to look at before it is restored, or replaced; its tokens are told
 * by restoring it. Keys and values are not read, so one that was cut short behind the rest opens. The rest is read as a whole and
 * kept until the close: nine bytes for each token, and the note; who lists many files closes each before the next.
 * GRAFT_FORMAT: it is no saved session, or it is damaged; GRAFT_UNSUPPORTED: of another version. Close it before the runtime. */
typedef struct graft_session_file graft_session_file;
GRAFT_API graft_status graft_session_file_open(graft_runtime *runtime, const char *path,
                                               graft_session_file **out, graft_error *error);
GRAFT_API void graft_session_file_close(graft_session_file **file);
/* Texts are as the file has them, which may come from anybody. */
typedef struct graft_session_summary {
    size_t n_tokens;
    const char *architecture; /* "Qwen2ForCausalLM" */
    const char *model;        /* its path when the session was saved */
    const char *adapters;     /* for people, "coder=0.7 + tone=0.3"; "": none */
    const char *tier;         /* of the kernels, "avx2" */
} graft_session_summary;
/* Borrowed from the file; NULL for NULL. */
GRAFT_API const graft_session_summary *graft_session_file_summary(const graft_session_file *file);
/* With what it was saved, to be changed and given as graft_restore_options.settings. What they point to, and the note, are
 * borrowed from the file. NULL for NULL. */
GRAFT_API const graft_session_options *graft_session_file_options(const graft_session_file *file);
/* NULL: none. */
GRAFT_API const void *graft_session_file_note(const graft_session_file *file, size_t *size);

/* Bytes of the caller's own that go along with a session, into files and forks: who said what, a title. They are copied; at most
 * 16 MiB (GRAFT_LIMIT), size 0: none. */
GRAFT_API graft_status graft_session_set_note(graft_session *session, const void *note, size_t size,
                                              graft_error *error);
/* NULL: none. Borrowed until the next set. */
GRAFT_API const void *graft_session_note(const graft_session *session, size_t *size);

#ifdef __cplusplus
}
#endif
#endif
