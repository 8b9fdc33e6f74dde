/* keys.c: no name twice in one object, which no automaton can see to.
 *
 * Reads the JSON that is generated, byte by byte, and keeps a hash of each name of every object that is open. Nodes are only added,
 * never changed, so that to look ahead is to read and to put the place back. Names that differ in escapes alone would pass
 * for different ones: grammars of schemas write a name in one way only.
 */
#include "constraint_internal.h"

static const uint64_t HASH_BEGIN = 0xCBF29CE484222325U, HASH_FACTOR = 0x100000001B3U;

graft_status keys_open(struct keys *k, struct mem *mem, graft_error *error)
{
    k->mem = mem;
    k->nodes = mem_alloc(mem, KEYS_MAX * sizeof *k->nodes);
    if (k->nodes == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory to match a grammar");
    }
    k->nodes[0] = (struct key_node){0};
    keys_reset(k);
    return GRAFT_OK;
}

void keys_close(struct keys *k)
{
    mem_free(k->mem, k->nodes);
    *k = (struct keys){0};
}

void keys_reset(struct keys *k)
{
    k->at = (struct key_place){.n_nodes = 1};
}

/* 0: no room. */
static uint32_t add_node(struct keys *k, struct key_node node)
{
    if (k->at.n_nodes == KEYS_MAX) {
        return 0;
    }
    k->nodes[k->at.n_nodes] = node;
    return k->at.n_nodes++;
}

/* The name that ends here becomes one of its object's. */
static bool add_name(struct keys *k)
{
    struct key_node object = k->nodes[k->at.top];
    for (uint32_t name = object.names; name != 0; name = k->nodes[name].names) {
        if (k->nodes[name].hash == k->at.hash) {
            return false;
        }
    }
    object.names = add_node(k, (struct key_node){.hash = k->at.hash, .names = object.names});
    k->at.top = object.names != 0 ? add_node(k, object) : 0;
    return k->at.top != 0;
}

static bool read_in_string(struct keys *k, char c)
{
    struct key_place *at = &k->at;
    if (c == '"' && !at->escaped) {
        at->in_string = false;
        return !at->is_name || add_name(k);
    }
    at->escaped = c == '\\' && !at->escaped;
    at->hash = (at->hash ^ (uint8_t)c) * HASH_FACTOR;
    return true;
}

static bool read_outside(struct keys *k, char c)
{
    struct key_place *at = &k->at;
    switch (c) {
    case '"':
        at->in_string = true;
        at->is_name = at->expects_name;
        at->expects_name = at->escaped = false;
        at->hash = HASH_BEGIN;
        return true;
    case '{':
    case '[':
        at->expects_name = c == '{';
        at->top = add_node(k, (struct key_node){.parent = at->top, .object = c == '{'});
        return at->top != 0;
    case '}':
    case ']':
        at->expects_name = false;
        at->top = k->nodes[at->top].parent;
        return true;
    case ',':
        at->expects_name = k->nodes[at->top].object;
        return true;
    default:
        return true;
    }
}

bool keys_read(struct keys *k, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (!(k->at.in_string ? read_in_string(k, bytes[i]) : read_outside(k, bytes[i]))) {
            return false;
        }
    }
    return true;
}
