/* replay.c: runs one fuzz target on files, without libFuzzer.
 *
 * Arguments are files or folders (read one level deep); those starting with '-' are libFuzzer's
 * and ignored. A finding is a crash or a sanitizer report; the file at hand is printed before it is
 * run, so that it is known. No input at all exits 77: skipped.
 */
#include "base/base.h"

#include <dirent.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_LIMIT = 64 << 20 };

static int replay_file(const char *path)
{
    char *bytes;
    size_t size;
    graft_error error;
    if (file_read(NULL, path, INPUT_LIMIT, &bytes, &size, &error) != GRAFT_OK) {
        fprintf(stderr, "%s: %s\n", path, error.message);
        exit(1);
    }
    printf("%s (%zu bytes)\n", path, size);
    fflush(stdout);
    /* An exact-size copy lets AddressSanitizer see a read of the byte after the end. */
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact)
        exit(1);
    memcpy(exact, bytes, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    mem_free(NULL, bytes);
    return 1;
}

static int replay_folder(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir)
        return 0;
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        char *file = path_join(NULL, path, entry->d_name);
        if (file && !path_is_dir(file))
            count += replay_file(file);
        mem_free(NULL, file);
    }
    closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-')
            continue;
        count += path_is_dir(argv[i]) ? replay_folder(argv[i]) : replay_file(argv[i]);
    }
    printf("%d inputs replayed\n", count);
    return count ? 0 : 77;
}
