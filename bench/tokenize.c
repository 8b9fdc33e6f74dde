/* tokenize.c: how fast a vocabulary turns a text into ids and back, on one core.
 *
 *   bench/tokenize TOKENIZER TEXT      TOKENIZER: a directory, a tokenizer.json or a .gguf
 *
 * Prints the time to load, and MB/s (10^6 bytes) of encoding and decoding by processor time, best
 * and median of seven runs over the text repeated to 10 MB.
 */
#include "bench/bench.h"
#include "model/tokenizer/tokenizer.h"

#include <time.h>

enum { RUNS = 7, TEXT_BYTES = 10000000 };

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void report(const char *what, double bytes, double seconds[RUNS])
{
    double median = samples_median(seconds, RUNS); /* sorts */
    printf("%-8s %7.1f MB/s best, %7.1f median\n", what, bytes / 1e6 / seconds[0],
           bytes / 1e6 / median);
}

static graft_status open_gguf(const char *path, struct tokenizer **out, graft_error *error)
{
    struct file_map map = {0};
    struct gguf gguf = {0};
    graft_status status = file_map_open(&map, NULL, path, MAP_SHARED_FILE, error);
    if (!status)
        status = gguf_parse(&gguf, NULL, map.data, map.size, error);
    if (!status)
        status = tokenizer_open_gguf(NULL, &gguf, out, error);
    gguf_free(&gguf);
    file_map_close(&map);
    return status;
}

static graft_status open_any(const char *path, struct tokenizer **out, graft_error *error)
{
    char *text = NULL;
    size_t size;
    if (path_is_dir(path))
        return tokenizer_open_dir(NULL, path, out, error);
    if (strlen(path) > 5 && strcmp(path + strlen(path) - 5, ".gguf") == 0)
        return open_gguf(path, out, error);
    graft_status status = file_read(NULL, path, 1u << 30, &text, &size, error);
    if (!status)
        status = tokenizer_parse_json(NULL, text, size, NULL, out, error);
    mem_free(NULL, text);
    return status;
}

static graft_status measure(const struct tokenizer *t, const struct buf *text, graft_error *error)
{
    double encode[RUNS], decode[RUNS];
    size_t count = 0;
    for (int run = 0; run < RUNS; run++) {
        struct tokens ids = {0};
        struct buf out;
        buf_init(&out, NULL, SIZE_MAX);
        double start = cpu_seconds();
        graft_status status = tokenizer_encode(t, text->data, text->size, 0, &ids, error);
        double middle = cpu_seconds();
        if (!status)
            status = tokenizer_decode(t, ids.ids, ids.count, false, &out, error);
        encode[run] = middle - start;
        decode[run] = cpu_seconds() - middle;
        count = ids.count;
        tokens_free(&ids);
        buf_free(&out);
        if (status)
            return status;
    }
    printf("%zu bytes, %zu tokens\n", text->size, count);
    report("encode", (double)text->size, encode);
    report("decode", (double)text->size, decode);
    return GRAFT_OK;
}

int main(int argc, char **argv)
{
    graft_error error;
    struct tokenizer *t = NULL;
    char *part = NULL;
    size_t size = 0;
    struct buf text;
    if (argc != 3) {
        fprintf(stderr, "usage: %s TOKENIZER TEXT\n", argv[0]);
        return 2;
    }
    buf_init(&text, NULL, SIZE_MAX);
    double start = cpu_seconds();
    graft_status status = open_any(argv[1], &t, &error);
    if (!status) {
        printf("%s, %d tokens, loaded in %.3f s\n", tokenizer_kind(t), tokenizer_size(t),
               cpu_seconds() - start);
        status = file_read(NULL, argv[2], 1u << 30, &part, &size, &error);
    }
    if (!status && size == 0)
        status = error_set(&error, GRAFT_INVALID_ARGUMENT, "the text is empty");
    while (!status && text.size < TEXT_BYTES)
        status = buf_append(&text, part, size) ? GRAFT_OK : text.status;
    if (!status)
        status = measure(t, &text, &error);
    if (status)
        fprintf(stderr, "%s\n", error.message);
    mem_free(NULL, part);
    buf_free(&text);
    tokenizer_close(&t);
    return status ? 1 : 0;
}
