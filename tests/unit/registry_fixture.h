/* registry_fixture.h: registries in scratch folders, and a loader whose adapters are one line of text.
 *
 * A fake adapter is a folder with adapter_config.json; its text is the handle. The loader counts what it opens and
 * closes, refuses texts that begin with "bad", and can be made to wait in the middle of opening a given text.
 */
#ifndef GRAFT_REGISTRY_FIXTURE_H
#define GRAFT_REGISTRY_FIXTURE_H

#include "test_support.h"

#include "adapter/registry/registry.h"

#include <ftw.h>
#include <pthread.h>
#include <sys/stat.h>

struct fake {
    char text[256];
};

struct fake_loader {
    atomic_int opened, closed;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    const char *gate; /* opening this text waits while it is set */
    int waiting;
};

static inline graft_status fake_open(void *user, const char *path, void **handle, size_t *bytes,
                                     graft_error *error)
{
    struct fake_loader *loader = user;
    char *text, *config = path_join(NULL, path, "adapter_config.json");
    size_t size;
    graft_status status = file_read(NULL, config, 255, &text, &size, error);
    mem_free(NULL, config);
    if (status != GRAFT_OK)
        return status;
    pthread_mutex_lock(&loader->mutex);
    while (loader->gate && !strcmp(loader->gate, text)) {
        loader->waiting++;
        pthread_cond_broadcast(&loader->changed);
        pthread_cond_wait(&loader->changed, &loader->mutex);
        loader->waiting--;
    }
    pthread_mutex_unlock(&loader->mutex);
    if (!strncmp(text, "bad", 3)) {
        mem_free(NULL, text);
        return error_set(error, GRAFT_FORMAT, "a bad adapter");
    }
    struct fake *fake = calloc(1, sizeof(*fake));
    memcpy(fake->text, text, size + 1);
    mem_free(NULL, text);
    atomic_fetch_add(&loader->opened, 1);
    *handle = fake;
    *bytes = 100;
    return GRAFT_OK;
}

static inline void fake_close(void *user, void *handle)
{
    struct fake_loader *loader = user;
    atomic_fetch_add(&loader->closed, 1);
    memset(handle, 0xEE, sizeof(struct fake)); /* whoever still reads it shall notice */
    free(handle);
}

/* Texts are "NAME VERSION BASE ..." where the adapter says so itself; "-" says nothing. */
static inline graft_status fake_describe(void *user, const char *path, struct arena *arena,
                                         struct registry_card *card, graft_error *error)
{
    char *text, *config = path_join(NULL, path, "adapter_config.json"), *at;
    size_t size;
    (void)user;
    graft_status status = file_read(NULL, config, 255, &text, &size, error);
    mem_free(NULL, config);
    if (status != GRAFT_OK)
        return status;
    if (!strncmp(text, "worse", 5)) {
        mem_free(NULL, text);
        return error_set(error, GRAFT_FORMAT, "an adapter not fit to be added");
    }
    const char **fields[] = {&card->name, &card->version, &card->base};
    at = text;
    for (size_t i = 0; i < ARRAY_LEN(fields) && *at; i++) {
        size_t length = strcspn(at, " ");
        if (length && strncmp(at, "-", length) != 0)
            *fields[i] = arena_strndup(arena, at, length);
        at += length + (at[length] == ' ');
    }
    mem_free(NULL, text);
    return GRAFT_OK;
}

struct fixture {
    struct scratch s;
    char home[80];
    struct fake_loader loader;
    struct mem mem;
    struct registry *registry;
};

static inline struct registry *fixture_open(struct fixture *f, size_t budget)
{
    struct registry *registry = NULL;
    struct registry_options options = {
        .home = f->home,
        .mem = &f->mem,
        .budget = budget,
        .loader = {.open = fake_open, .close = fake_close, .user = &f->loader},
    };
    graft_error error = {0};
    if (registry_open(&registry, &options, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    return registry;
}

static inline void fixture_begin(struct fixture *f, size_t budget)
{
    memset(f, 0, sizeof(*f));
    scratch_open(&f->s);
    snprintf(f->home, sizeof(f->home), "%s/home", f->s.folder);
    pthread_mutex_init(&f->loader.mutex, NULL);
    pthread_cond_init(&f->loader.changed, NULL);
    mem_init(&f->mem, NULL);
    f->registry = fixture_open(f, budget);
}

static inline int fixture_remove_one(const char *path, const struct stat *info, int type,
                                     struct FTW *at)
{
    (void)info;
    (void)type;
    (void)at;
    return remove(path);
}

static inline void fixture_remove_tree(const char *path)
{
    nftw(path, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Nothing may be left: no adapter open, no memory in use. */
static inline void fixture_end(struct fixture *f)
{
    registry_close(&f->registry);
    assert_int_equal(atomic_load(&f->loader.opened), atomic_load(&f->loader.closed));
    assert_int_equal(atomic_load(&f->mem.bytes_in_use), 0);
    pthread_cond_destroy(&f->loader.changed);
    pthread_mutex_destroy(&f->loader.mutex);
    fixture_remove_tree(f->s.folder);
}

/* An adapter FOLDER/NAME of that text; the path is valid until the next call. */
static inline const char *fixture_adapter(struct fixture *f, const char *name, const char *text)
{
    static _Thread_local char path[256];
    char config[300];
    snprintf(path, sizeof(path), "%s/%s", f->s.folder, name);
    mkdir(path, 0777);
    snprintf(config, sizeof(config), "%s/adapter_config.json", path);
    assert_int_equal(file_write_atomic(NULL, config, text, strlen(text), NULL), GRAFT_OK);
    return path;
}

/* Adds NAME@VERSION with the text. */
static inline graft_status fixture_add(struct fixture *f, const char *name, const char *version,
                                       const char *text, enum registry_place place,
                                       graft_error *error)
{
    struct registry_card card = {.name = name, .version = version};
    return registry_add(f->registry, fixture_adapter(f, "source", text), &card, place, NULL, error);
}

static inline void fixture_have(struct fixture *f, const char *name, const char *version,
                                const char *text, enum registry_place place)
{
    graft_error error = {0};
    if (fixture_add(f, name, version, text, place, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
}

#endif
