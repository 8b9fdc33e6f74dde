/* graft/runtime.h: where work is done: threads, processor tier, memory, log.
 *
 * A runtime is made by the host and passed to every open call. Several may live in one process;
 * making one changes nothing process-wide (no signal, locale, environment or floating-point state).
 * It must outlive what was opened with it. All functions may be called from any thread.
 *
 * The rules of every header here:
 * - A function that can fail returns a graft_status; when that is not GRAFT_OK, its outputs are as
 *   before (arrays of the caller's that a call was to fill: undefined) and *error, which may be NULL,
 *   says why. NULL where an object or an output is needed is GRAFT_INVALID_ARGUMENT.
 * - Every function that works is GRAFT_FORKED in a child process made by fork: the workers are not
 *   there. Close functions may be called in the child.
 * - graft_x_close(&x) takes NULL and a pointer to NULL, and sets x to NULL.
 * - A thread that calls graft needs 256 kB of stack.
 * - Options structs are filled by graft_x_options_default() and then changed; a NULL options pointer
 *   means the defaults. struct_size is what makes an older program work with a newer library: leave
 *   it alone. Fields that the library does not know must be 0 (else GRAFT_UNSUPPORTED).
 */
#ifndef GRAFT_RUNTIME_H
#define GRAFT_RUNTIME_H

#include <graft/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct graft_runtime graft_runtime;

typedef enum graft_log_level {
    GRAFT_LOG_ERROR = 0,
    GRAFT_LOG_WARN = 1,
    GRAFT_LOG_INFO = 2,
    GRAFT_LOG_DEBUG = 3
} graft_log_level;

/* One line, no newline at its end. May be called from any thread; must not call graft. */
typedef void (*graft_log_fn)(void *user, graft_log_level level, const char *line);

/* All three functions or none. Called from any thread. `alloc` and `resize` return NULL when there is no
 * memory; blocks need the alignment of malloc. Libraries that graft uses (JSON, regular expressions) keep
 * using malloc. */
typedef struct graft_allocator {
    void *(*alloc)(void *user, size_t bytes);
    void *(*resize)(void *user, void *block, size_t bytes);
    void (*release)(void *user, void *block);
    void *user;
} graft_allocator;

typedef struct graft_runtime_options {
    size_t struct_size;
    /* Workers, the caller included, at most 1024; 0 (default): as many as there are processors that
     * this process may run on. */
    int threads;
    /* "scalar", "avx2", …; NULL (default): the environment's GRAFT_TIER, read once, else the best. */
    const char *tier;
    graft_allocator allocator; /* all NULL (default): malloc */
    graft_log_fn log;          /* NULL (default): silent */
    void *log_user;            /* handed to log */
    graft_log_level log_level; /* default GRAFT_LOG_WARN */
    /* Workers keep to one processor each: the second one to the second processor that the thread which
     * opens the runtime may run on, and so on. Threads of the host, which are the first worker of what they call,
     * stay as they are. Workers beyond the processors, and those for whom the system refuses, run anywhere,
     * with a warning to the log. For one runtime that has the machine to itself: two would bind to the
     * same processors. Default false. */
    bool affinity;
} graft_runtime_options;

/* What graft_runtime_options_default calls; for other languages. struct_size: of the caller's struct. */
GRAFT_API void graft_runtime_options_init(graft_runtime_options *options, size_t struct_size);
static inline graft_runtime_options graft_runtime_options_default(void)
{
    graft_runtime_options options;
    graft_runtime_options_init(&options, sizeof options);
    return options;
}

/* Makes a runtime and starts its workers. A tier that this processor cannot run, or a name that is no
 * tier, is GRAFT_UNSUPPORTED and lists those that can; GRAFT_LIMIT: the system gave fewer threads. */
GRAFT_API graft_status graft_runtime_open(const graft_runtime_options *options, graft_runtime **out,
                                          graft_error *error);

/* Stops the workers. Everything opened with it must be closed, and every block released, before. */
GRAFT_API void graft_runtime_close(graft_runtime **runtime);

/* Facts about a runtime. Strings live as long as the runtime. */
typedef struct graft_runtime_info {
    int threads;           /* workers, the caller included */
    int cores;             /* processors this process may run on */
    const char *tier;      /* the tier in use */
    const char *tiers;     /* all that this binary has and this processor runs, "scalar avx2" */
    const char *processor; /* its own name for itself, "" where unknown */
    size_t bytes_in_use;   /* through the allocator, now */
} graft_runtime_info;

GRAFT_API graft_status graft_runtime_describe(const graft_runtime *runtime, graft_runtime_info *out,
                                              graft_error *error);

/* Releases memory that a graft function returned and its contract says to release so; `runtime` is the
 * one that the function worked with. A NULL block is allowed. Any thread. */
GRAFT_API void graft_free(graft_runtime *runtime, void *block);

#ifdef __cplusplus
}
#endif
#endif
