/* card.c: what is known of an adapter before it is added: from the caller, from its files, from its path.
 *
 * The caller's word goes first. What does not fit the index is refused here, so that everything behind it may
 * rely on lengths and on UTF-8.
 */
#include "registry_internal.h"

#include <sys/stat.h>
#include <time.h>

static bool ends_with(const char *text, const char *ending)
{
    size_t n = strlen(text), m = strlen(ending);
    return n > m && !strcmp(text + n - m, ending);
}

bool card_recognise(const struct registry_loader *loader, const char *path)
{
    struct stat info;
    if (loader->recognise)
        return loader->recognise(loader->user, path);
    if (stat(path, &info) != 0)
        return false;
    if (!S_ISDIR(info.st_mode))
        return S_ISREG(info.st_mode) && ends_with(path, ".gguf");
    char *config = path_join(NULL, path, "adapter_config.json");
    bool found = config && path_exists(config);
    mem_free(NULL, config);
    return found;
}

/* The last part of a path without an ending that says what kind of file it is. */
static const char *name_from_path(const char *path, struct arena *arena)
{
    size_t length = strlen(path);
    while (length && path[length - 1] == '/')
        length--;
    size_t begin = length;
    while (begin && path[begin - 1] != '/')
        begin--;
    char *name = arena_strndup(arena, path + begin, length - begin);
    if (name && ends_with(name, ".gguf"))
        name[strlen(name) - strlen(".gguf")] = '\0';
    else if (name && ends_with(name, ".safetensors"))
        name[strlen(name) - strlen(".safetensors")] = '\0';
    return name;
}

static bool is_text(const char *text, size_t limit)
{
    size_t length = strlen(text);
    uint32_t code;
    if (length > limit)
        return false;
    for (size_t i = 0, step; i < length; i += step)
        if (!(step = (size_t)utf8_decode(text + i, length - i, &code)))
            return false;
    return true;
}

static graft_status check(const struct registry_card *card, graft_error *error)
{
    if (!registry_name_valid(card->name))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "\"%.100s\" is no adapter name: a letter or digit, then at most %d "
                         "letters, digits, '.', '_' or '-'; give the adapter another",
                         card->name, REGISTRY_NAME_MAX - 1);
    if (card->version && !registry_version_valid(card->version))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "\"%.100s\" is no version of an adapter: MAJOR.MINOR.PATCH is",
                         card->version);
    if (!is_text(card->description, REGISTRY_TEXT_MAX))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the description is no UTF-8, or has more than %d bytes",
                         REGISTRY_TEXT_MAX);
    if (!is_text(card->base, REGISTRY_BASE_MAX))
        return error_set(error, GRAFT_INVALID_ARGUMENT, "\"%.100s\" is no fingerprint of a base",
                         card->base);
    if (card->n_tags > REGISTRY_TAGS_MAX)
        return error_set(error, GRAFT_LIMIT, "%zu tags, at most %d", card->n_tags,
                         REGISTRY_TAGS_MAX);
    for (size_t i = 0; i < card->n_tags; i++)
        if (!card->tags[i][0] || !is_text(card->tags[i], REGISTRY_NAME_MAX))
            return error_set(error, GRAFT_INVALID_ARGUMENT, "\"%.100s\" is no tag", card->tags[i]);
    return GRAFT_OK;
}

/* `given` over what is there. */
static void lay_over(struct registry_card *card, const struct registry_card *given)
{
    card->name = given->name ? given->name : card->name;
    card->version = given->version ? given->version : card->version;
    card->description = given->description ? given->description : card->description;
    card->base = given->base ? given->base : card->base;
    card->tags = given->tags ? given->tags : card->tags;
    card->n_tags = given->tags ? given->n_tags : card->n_tags;
    card->created = given->created ? given->created : card->created;
    card->modified = given->modified ? given->modified : card->modified;
    card->memory = given->memory ? given->memory : card->memory;
}

graft_status card_complete(const struct registry_loader *loader, const char *path,
                           const struct registry_card *given, struct arena *arena,
                           struct registry_card *out, graft_error *error)
{
    struct registry_card card = {0};
    int64_t now = (int64_t)time(NULL);
    graft_status status = GRAFT_OK;
    if (!path_exists(path)) {
        status = error_set(error, GRAFT_NOT_FOUND, "there is no such file or folder");
    } else if (!card_recognise(loader, path)) {
        status = error_set(error, GRAFT_FORMAT,
                           "no adapter is here (a folder with adapter_config.json, or a GGUF "
                           "file, is one)");
    } else if (loader->describe) {
        status = loader->describe(loader->user, path, arena, &card, error);
    }
    if (status != GRAFT_OK) {
        error_at_file(error, path);
        return status;
    }
    if (given)
        lay_over(&card, given);
    card.name = card.name ? card.name : name_from_path(path, arena);
    card.description = card.description ? card.description : "";
    card.base = card.base ? card.base : "";
    card.created = card.created ? card.created : now;
    card.modified = card.modified ? card.modified : now;
    if (!card.name)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a name");
    status = check(&card, error);
    if (status == GRAFT_OK)
        *out = card;
    else
        error_at_file(error, path);
    return status;
}
