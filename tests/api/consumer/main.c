/* A program of somebody else: it uses the public headers and has functions of its own whose names
 * graft uses inside. If those were not hidden, this would not link, or graft would call these. */
#include <graft/graft.h>

#include <stdio.h>
#include <string.h>

void *mem_alloc(void *mem, size_t bytes);
void mem_free(void *mem, void *block);
int error_set(void);
int pool_open(void);
int runtime_check(void);

static int called;

void *mem_alloc(void *mem, size_t bytes)
{
    (void)mem;
    (void)bytes;
    called = 1;
    return NULL;
}

void mem_free(void *mem, void *block)
{
    (void)mem;
    (void)block;
    called = 1;
}

int error_set(void)
{
    return called = 1;
}

int pool_open(void)
{
    return called = 1;
}

int runtime_check(void)
{
    return called = 1;
}

int main(void)
{
    graft_runtime *runtime = NULL;
    graft_error error;
    graft_error_init(&error);
    if (strcmp(graft_version(), GRAFT_VERSION_STRING) != 0)
        return 1;
    if (graft_runtime_open(NULL, &runtime, &error) != GRAFT_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 2;
    }
    graft_runtime_close(&runtime);
    if (called) {
        fprintf(stderr, "graft called a function of this program\n");
        return 3;
    }
    printf("graft %s\n", graft_version());
    return 0;
}
