/* fuzz_registry.c: hostile indices of the registry. The hashes are made right first where the bytes are long
 * enough, since a fuzzer would hardly guess them. What is read must be what the head promises, and writing it
 * again must come to the same names.
 */
#include "adapter/registry/registry_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static uint32_t get_u32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put_u64(uint8_t *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

/* Magic, format, size and hashes as they have to be. */
static void seal(uint8_t *data, size_t size)
{
    size_t n = get_u32(data + 12), table = n * INDEX_ENTRY;
    memcpy(data, INDEX_MAGIC, 8);
    put_u64(data + 8, INDEX_FORMAT | (uint64_t)n << 32);
    put_u64(data + 24, size);
    if (n > (size - INDEX_HEADER) / INDEX_ENTRY)
        return;
    for (size_t i = 0; i < n; i++) {
        uint8_t *entry = data + INDEX_HEADER + i * INDEX_ENTRY;
        size_t offset = get_u32(entry), length = get_u32(entry + 4);
        if (offset <= size && length <= size - offset)
            put_u64(entry + 8, hash_bytes(data + offset, length, INDEX_SEED));
    }
    put_u64(data + 32,
            hash_bytes(data + INDEX_HEADER, table, hash_bytes(data, INDEX_HEADER - 8, INDEX_SEED)));
}

static void check_name(const struct registry_name *name)
{
    int n = (int)name->n_versions;
    require(registry_name_valid(name->name) && strlen(name->base) <= REGISTRY_BASE_MAX);
    require(n > 0 && n <= REGISTRY_VERSIONS_MAX);
    require(name->active >= -1 && name->active < n && name->standby >= -1 && name->standby < n);
    require(name->previous >= -1 && name->previous < n);
    for (int i = 0; i < n; i++) {
        const struct registry_version *v = &name->versions[i];
        require(registry_version_valid(v->version) && !strchr(v->file, '/'));
        require(index_find_version(name, v->version) == i);
        require(strlen(v->description) <= REGISTRY_TEXT_MAX && strlen(v->file) <= INDEX_FILE_MAX);
        require(v->n_tags <= REGISTRY_TAGS_MAX);
        for (size_t j = 0; j < v->n_tags; j++)
            require(strlen(v->tags[j]) <= REGISTRY_NAME_MAX);
    }
}

/* Written again on its own, a name reads the same. */
static void check_again(struct registry_name *name, struct arena *arena)
{
    struct index_view empty = {0}, view;
    struct registry_name again;
    struct buf out;
    buf_init(&out, NULL, SIZE_MAX);
    require(index_write(&out, &empty, name, 1, NULL) == GRAFT_OK);
    require(index_parse(&view, out.data, out.size, NULL) == GRAFT_OK);
    require(index_find(&view, name->name) == 0);
    require(index_read(&view, 0, arena, &again, NULL) == GRAFT_OK);
    require(again.n_versions == name->n_versions && again.active == name->active);
    buf_free(&out);
}

static void check_index(const uint8_t *data, size_t size)
{
    struct index_view view;
    graft_error error = {0};
    graft_status status = index_parse(&view, data, size, &error);
    if (status != GRAFT_OK) {
        require(error.status == status && error.message[0]);
        return;
    }
    index_find(&view, "tenant-00001");
    for (uint32_t i = 0; i < view.n_names; i++) {
        struct arena arena;
        struct registry_name name;
        arena_init(&arena, NULL, 1 << 26);
        if (index_read(&view, i, &arena, &name, NULL) == GRAFT_OK) {
            check_name(&name);
            index_find(&view, name.name);
            check_again(&name, &arena);
        }
        arena_free(&arena);
    }
}

static void check_address(const uint8_t *data, size_t size)
{
    char text[256];
    struct registry_address address;
    size_t length = size < sizeof(text) - 1 ? size : sizeof(text) - 1;
    memcpy(text, data, length);
    text[length] = '\0';
    if (registry_parse_address(text, &address, NULL) != GRAFT_OK)
        return;
    require(address.weight - address.weight == 0);
    require(address.is_path ? address.path_length <= strlen(text)
                            : registry_name_valid(address.name));
    require(!address.version[0] || registry_version_valid(address.version));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_address(data, size);
    check_index(data, size);
    if (size < INDEX_HEADER || size > 1 << 20)
        return 0;
    uint8_t *sealed = malloc(size);
    memcpy(sealed, data, size);
    seal(sealed, size);
    check_index(sealed, size);
    free(sealed);
    return 0;
}
