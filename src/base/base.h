/* base.h: what every layer stands on.
 *
 * Status and error records, checked arithmetic, memory (allocator, arena, bounded buffer), files
 * (maps, atomic writes), thread pool, random numbers, hashes, UTF-8, JSON access, and the runtime
 * record that carries them. Knows nothing of tensors beyond their element types, nor of models.
 *
 * Threads: unless a comment says otherwise an object belongs to one thread at a time.
 */
#ifndef GRAFT_BASE_H
#define GRAFT_BASE_H

#include <graft/runtime.h>
#include <graft/types.h>

#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include "banned.h"

#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define ARRAY_LEN(x) (sizeof(x) / sizeof((x)[0]))

/* ---- errors ------------------------------------------------------------------------------- */

/* Fills *error (which may be NULL) and returns status. Message: one line, no newline. Clears file,
 * tensor and shapes. */
graft_status error_set(graft_error *error, graft_status status, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* Names the file / the tensor of an error already set, unless one is named already. */
void error_at_file(graft_error *error, const char *path);
void error_at_tensor(graft_error *error, const char *tensor);
void error_shapes(graft_error *error, int expected_dims, const int64_t *expected, int found_dims,
                  const int64_t *found);

/* ---- checked arithmetic: false on overflow, *out untouched -------------------------------- */

bool size_mul(size_t a, size_t b, size_t *out);
bool size_add(size_t a, size_t b, size_t *out);

/* ---- element types ------------------------------------------------------------------------ */

struct type_traits {
    const char *name;
    int ggml_id;          /* -1: GGUF has no such type */
    int64_t block_values; /* values per block */
    size_t block_bytes;
};
const struct type_traits *type_traits(graft_type type);
/* Bytes of one row of n values; false when n is no multiple of the block or on overflow. */
bool type_row_bytes(graft_type type, int64_t n, size_t *out);
graft_type type_from_ggml(uint32_t ggml_id); /* GRAFT_TYPE_COUNT when unknown */

/* ---- memory ------------------------------------------------------------------------------- */

/* Counts what it hands out. All blocks are 64-byte aligned. Safe from any thread. A NULL `struct
 * mem *` means malloc, uncounted. */
struct mem {
    graft_allocator allocator;
    atomic_size_t bytes_in_use;
};
void mem_init(struct mem *mem, const graft_allocator *allocator); /* NULL or all-NULL: malloc */
void *mem_alloc(struct mem *mem, size_t bytes); /* contents undefined; 0 → 1 byte */
void *mem_calloc(struct mem *mem, size_t count, size_t bytes); /* overflow-checked, zeroed */
void *mem_resize(struct mem *mem, void *block, size_t bytes);  /* NULL block allowed */
void mem_free(struct mem *mem, void *block);                   /* NULL allowed */
/* Makes zeros of bytes that nobody else shall see. What is zero is only read, so that pages which nobody wrote stay without
 * memory. NULL with size 0 allowed. */
void mem_wipe(void *bytes, size_t size);
/* Of the pages that lie wholly within some bytes: the system should keep them in large ones where it can;
 * it may have them back, as nobody will read them again (those of a mapped file come back when somebody
 * does). Hints: nothing fails. */
void pages_want_large(void *bytes, size_t size);
void pages_give_back(const void *bytes, size_t size);
char *mem_strdup(struct mem *mem, const char *text);
char *mem_strndup(struct mem *mem, const char *text, size_t length);

/* Bump allocator: chunks that only grow, freed together. Alignment 64 unless asked for less. */
struct arena_chunk;
struct arena {
    struct mem *mem;
    struct arena_chunk *chunks; /* newest first */
    size_t used, limit;         /* bytes handed out; most that may be */
};
void arena_init(struct arena *arena, struct mem *mem, size_t limit);
void *arena_alloc(struct arena *arena,
                  size_t bytes); /* 64-byte aligned; NULL: limit or no memory */
void *arena_alloc_packed(struct arena *arena, size_t bytes); /* 8-byte aligned */
char *arena_strndup(struct arena *arena, const char *text, size_t length);
/* mem_wipe of all that was handed out; it stays handed out. */
void arena_wipe(struct arena *arena);
void arena_free(struct arena *arena);

/* Growable byte buffer with a maximum. Failure sticks: later appends do nothing, buf_status tells. */
struct buf {
    struct mem *mem;
    char *data; /* always NUL-terminated once something was appended */
    size_t size, capacity, limit;
    graft_status status; /* OK, NO_MEMORY or LIMIT */
};
void buf_init(struct buf *buf, struct mem *mem, size_t limit);
/* Room for `more` bytes (and the NUL), so that appending them allocates nothing. */
bool buf_reserve(struct buf *buf, size_t more);
bool buf_append(struct buf *buf, const void *bytes, size_t size);
bool buf_puts(struct buf *buf, const char *text);
bool buf_putc(struct buf *buf, char c);
bool buf_printf(struct buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);
/* Hands the bytes over (mem_free them); the buffer is empty afterwards. NULL if it had failed. */
char *buf_take(struct buf *buf, size_t *size);
void buf_free(struct buf *buf);

/* ---- files -------------------------------------------------------------------------------- */

enum map_mode { MAP_SHARED_FILE, MAP_COPY }; /* COPY reads the file: it may change later */

/* A whole file in memory, read-only. An empty file maps to size 0, data non-NULL. */
struct file_map {
    const uint8_t *data;
    size_t size;
    bool mapped;
    struct mem *mem;
    char *path;
};
graft_status file_map_open(struct file_map *map, struct mem *mem, const char *path,
                           enum map_mode mode, graft_error *error);
void file_map_close(struct file_map *map); /* a zeroed map is allowed */

/* Reads a small file whole, NUL-terminated after *size bytes; LIMIT when larger than limit. */
graft_status file_read(struct mem *mem, const char *path, size_t limit, char **out, size_t *size,
                       graft_error *error);

/* A regular file read from its beginning on, in pieces. `path` is borrowed. */
struct file_reader {
    const char *path;
    int fd;
    size_t size; /* of the file when it was opened */
};
graft_status file_reader_open(struct file_reader *r, const char *path, graft_error *error);
/* All of `size` bytes, or IO: also when the file is shorter by now. */
graft_status file_reader_read(struct file_reader *r, void *out, size_t size, graft_error *error);
void file_reader_close(struct file_reader *r); /* one that failed to open is allowed */

/* Writes PATH.tmp-XXXX, then fsync, rename, fsync of the folder. Until commit nothing is visible;
 * abort (or a failed commit) removes the temporary file. Where PATH is a symbolic link, what it points to
 * is replaced. */
struct file_writer {
    FILE *file;
    char *path, *temporary;
    struct mem *mem;
    uint64_t written;
};
graft_status file_writer_open(struct file_writer *w, struct mem *mem, const char *path,
                              graft_error *error);
graft_status file_writer_write(struct file_writer *w, const void *bytes, size_t size,
                               graft_error *error);
graft_status file_writer_pad(struct file_writer *w, size_t alignment, graft_error *error);
/* Flushes the bytes to the disk and closes the temporary file: of a commit only the renaming is left. */
graft_status file_writer_settle(struct file_writer *w, graft_error *error);
graft_status file_writer_commit(struct file_writer *w, graft_error *error);
void file_writer_abort(struct file_writer *w); /* after commit: does nothing */
/* All of the above for bytes at hand. */
graft_status file_write_atomic(struct mem *mem, const char *path, const void *bytes, size_t size,
                               graft_error *error);
/* Flushes which names a folder has: what was made, renamed or removed in it. */
graft_status folder_sync(const char *folder, graft_error *error);

/* A new folder NAME-XXXXXX under $TMPDIR or /tmp, the user's alone. *path is the caller's, as is removing it. */
graft_status folder_temporary(struct mem *mem, const char *name, char **path, graft_error *error);
/* Removes a folder and the files and links in it, or what else has that name, which is one for openat(at, …).
 * Folders in it stay, and then so does it. */
void folder_remove(int at, const char *name);

/* A folder that appears whole: files go into `work`, which commit renames to the target. That may exist as
 * an empty folder; IO when there is something in it. Abort (also after a commit, which it does not undo)
 * removes what was written. */
struct folder_writer {
    char target[PATH_MAX - 16], work[PATH_MAX];
    bool open;
};
graft_status folder_writer_open(struct folder_writer *w, const char *path, graft_error *error);
graft_status folder_writer_commit(struct folder_writer *w, graft_error *error);
void folder_writer_abort(struct folder_writer *w);

bool path_is_dir(const char *path);
bool path_exists(const char *path);
/* IO, naming `out`, when both are one regular file (device and inode): what is read is not written over. */
graft_status path_refuse_same(const char *out, const char *in, graft_error *error);
char *path_join(struct mem *mem, const char *dir, const char *name); /* NULL: no memory */
bool text_ends_with(const char *text, const char *end);
/* A decimal number, all of the text: [+-] digits, with a point or an exponent or neither; 64 digits at most, and finite. With
 * the point of every locale. */
bool decimal_parse(const char *text, double *out);
/* As few digits as give the same number again, NUL-terminated. */
enum { DECIMAL_SIZE = 48 };
void decimal_print(double value, char out[DECIMAL_SIZE]);
const char *path_base(const char *path); /* what follows the last '/' */

/* ---- log ---------------------------------------------------------------------------------- */

void runtime_log(const graft_runtime *runtime, graft_log_level level, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* ---- thread pool -------------------------------------------------------------------------- */

/* The caller is worker 0. pool_run calls work(context, worker, n_workers) once for every worker and
 * returns when all are done; the caller may run the shares of workers that come late. Calls from
 * several threads are served one after the other. Workers spin briefly, then park. Shares run with
 * denormals flushed; the caller's floating-point state is restored on return. Not reentrant: work
 * must not call pool_run on the same pool. */
struct pool;
typedef void (*pool_work)(void *context, int worker, int n_workers);
graft_status pool_open(struct pool **out, struct mem *mem, int threads, graft_error *error);
void pool_close(struct pool **pool);
/* Worker i keeps to the i-th of the processors allowed to the calling thread; worker 0, whoever calls, is left
 * alone. Returns how many are bound: workers without a processor of their own, or whom the system refuses
 * one, run anywhere as before. */
int pool_bind(struct pool *pool);
int processors_allowed(void); /* to the calling thread; at least 1 */
int pool_threads(const struct pool *pool);
void pool_run(struct pool *pool, pool_work work, void *context);
/* The same on the caller alone, as work(context, 0, 1): for work so small that waking the others costs
 * more than it saves. Takes no turn: regions of other threads may run meanwhile. */
void pool_run_alone(pool_work work, void *context);
/* Within a region: returns when *done, which other shares raise with release order, is `wanted`. A share may
 * wait only for what shares that have begun will do, since the caller may yet have to run the others. */
void pool_await(const struct pool *pool, const atomic_llong *done, long long wanted);
/* The static split of n items among workers: [*begin, *end). Boundaries are multiples of `grain`. */
void pool_split(int64_t n, int64_t grain, int worker, int n_workers, int64_t *begin, int64_t *end);

/* ---- runtime ------------------------------------------------------------------------------ */

struct kernels; /* kernels/kernels.h */

/* Built in api/runtime.c; every layer below it may read the fields. */
struct graft_runtime {
    struct mem mem;
    struct pool *pool;
    const struct kernels *kernels;
    graft_log_fn log;
    void *log_user;
    graft_log_level log_level;
    int64_t small_region; /* see runtime_region; 0: no region is small */
    int pid;              /* of the process that made it */
};
/* FORKED when this process is not the one that made the runtime. Every public entry asks. */
graft_status runtime_check(const graft_runtime *runtime, graft_error *error);
/* pool_run on the runtime's pool; pool_run_alone for so few multiply-adds that the others would cost more than they save:
 * fewer than small_region where they sleep, a small share of that where they are up. work must not depend on which. */
void runtime_region(const graft_runtime *runtime, pool_work work, void *context,
                    int64_t multiplies);

/* ---- random numbers ----------------------------------------------------------------------- */

/* Counter-based (Philox 4x32-10, Salmon et al. 2011): value = f(seed, stream, counter). */
void rng_block(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]);
struct rng {
    uint64_t seed, stream, counter;
    uint32_t block[4];
    int left;
};
void rng_init(struct rng *rng, uint64_t seed, uint64_t stream);
uint32_t rng_u32(struct rng *rng);
double rng_uniform(struct rng *rng); /* [0, 1), 53 bits */

/* ---- numbers in files ----------------------------------------------------------------------- */

/* The lowest `bytes` (1 to 8) bytes of a number, little-endian, and back. */
void bytes_put(uint8_t *at, uint64_t value, int bytes);
uint64_t bytes_get(const uint8_t *at, int bytes);

/* ---- hashes ------------------------------------------------------------------------------- */

uint64_t hash_bytes(const void *bytes, size_t size, uint64_t seed); /* for tables; not for files */
graft_status sha256(const void *bytes, size_t size, uint8_t out[32], graft_error *error);
/* Two small letters or digits for each byte, and a NUL: text is [2 size + 1]. */
void hex_write(const uint8_t *bytes, size_t size, char *text);
/* The other way round; false, *bytes being anything, unless the text is 2 size such characters. */
bool hex_read(const char *text, uint8_t *bytes, size_t size);

/* ---- UTF-8 -------------------------------------------------------------------------------- */

/* Decodes one code point at text[0..size): returns its length 1..4, or 0 when it is malformed or
 * cut off (overlong forms, surrogates and values above U+10FFFF are malformed). */
int utf8_decode(const char *text, size_t size, uint32_t *code);
int utf8_encode(uint32_t code, char out[4]); /* length; 0 for surrogates and above U+10FFFF */
/* Length of the longest prefix that ends on a character boundary, leaving at most 3 bytes of an
 * unfinished sequence; malformed bytes count as whole. */
size_t utf8_complete(const char *text, size_t size);
/* Bytes of the control character (U+0000 to U+001F, U+007F to U+009F) that text begins with; 0: it begins with none. */
size_t utf8_control(const char *text, size_t size);

/* ---- names to indices --------------------------------------------------------------------- */

/* Open-addressing table from byte strings (borrowed, must outlive the map) to int32 values. */
struct str_map {
    struct mem *mem;
    struct str_map_slot *slots;
    size_t count, capacity;
    uint64_t seed; /* of the hash: keys come from hostile files */
};
void str_map_init(struct str_map *map, struct mem *mem);
bool str_map_reserve(struct str_map *map, size_t count);
/* false: no memory. An existing key keeps its value and *existing (may be NULL) is set true. */
bool str_map_put(struct str_map *map, const char *key, size_t length, int32_t value,
                 bool *existing);
int32_t str_map_get(const struct str_map *map, const char *key, size_t length); /* -1: absent */
void str_map_free(struct str_map *map);

/* ---- JSON --------------------------------------------------------------------------------- */

/* Parses hostile text: duplicate keys refused, NUL allowed inside strings, trailing bytes refused.
 * Release with json_decref. The error names line and column. */
graft_status json_parse(const char *text, size_t size, json_t **out, graft_error *error);
graft_status json_read(struct mem *mem, const char *path, size_t limit, json_t **out,
                       graft_error *error);
/* Typed access to a member. An absent or null member leaves *out alone and is OK; a member of
 * another type, or outside [min, max], is FORMAT naming the key. */
graft_status json_get_int(const json_t *object, const char *key, int64_t min, int64_t max,
                          int64_t *out, graft_error *error);
graft_status json_get_number(const json_t *object, const char *key, double *out,
                             graft_error *error);
graft_status json_get_bool(const json_t *object, const char *key, bool *out, graft_error *error);
/* *out borrows from the object. */
graft_status json_get_string(const json_t *object, const char *key, const char **out,
                             graft_error *error);

/* Building: takes `value` over; NULL stands for one that there was no memory for. A failure releases *object
 * and makes it NULL, and that sticks: one check at the end is enough. */
void json_put(json_t **object, const char *key, json_t *value);
void json_append(json_t **array, json_t *value);
/* Text of any bytes, a path: what is no UTF-8 becomes U+FFFD. NULL: no memory. */
json_t *json_any_text(const char *text, size_t size);

/* ---- half-precision ----------------------------------------------------------------------- */

float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f); /* nearest even */
static inline float bf16_to_f32(uint16_t b)
{
    union {
        uint32_t u;
        float f;
    } x = {.u = (uint32_t)b << 16};
    return x.f;
}
uint16_t f32_to_bf16(float f); /* nearest even; NaN stays NaN */

/* ---- time --------------------------------------------------------------------------------- */

double time_seconds(void); /* monotonic */

#endif
