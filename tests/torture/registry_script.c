/* registry_script.c: see registry_script.h. The model knows nothing of files or formats. */
#include "torture/registry_script.h"

enum { NAMES = 4, STEPS = 6, KEEP = 64 };

struct registry *script_open(struct fake_loader *loader, const char *home, size_t budget)
{
    struct registry *registry = NULL;
    struct registry_options options = {
        .home = home,
        .budget = budget,
        .loader = {.open = fake_open, .close = fake_close, .user = loader},
    };
    graft_error error = {0};
    graft_status status = registry_open(&registry, &options, &error);
    REQUIRE(status == GRAFT_OK, "%s: %s", home, error.message);
    return registry;
}

void script_adapter(const char *folder, const char *text)
{
    char path[256];
    mkdir(folder, 0777);
    snprintf(path, sizeof(path), "%s/adapter_config.json", folder);
    FILE *file = fopen(path, "w");
    REQUIRE(file && fputs(text, file) >= 0 && fclose(file) == 0, "%s", path);
}

/* ---- the steps -------------------------------------------------------------------------------- */

/* Steps of one name, by turns: publish a new version, stage one, promote it, roll back, pin or unpin, remove the
 * version that was rolled back. */
struct step {
    int name, what;
    unsigned long long version;
    bool pin;
};

static struct step step_of(uint64_t k)
{
    uint64_t turn = k / NAMES;
    return (struct step){(int)(k % NAMES), (int)(turn % STEPS), turn / STEPS,
                         turn / STEPS % 2 == 0};
}

static graft_status add(struct registry *registry, const char *folder, const struct step *s,
                        enum registry_place place, graft_error *error)
{
    char name[8], version[32], text[64];
    snprintf(name, sizeof(name), "n%d", s->name);
    snprintf(version, sizeof(version), "1.%llu.%d", s->version, s->what);
    snprintf(text, sizeof(text), "%s %s", name, version);
    struct registry_card card = {.name = name, .version = version, .created = 1, .modified = 1};
    script_adapter(folder, text);
    return registry_add(registry, folder, &card, place, NULL, error);
}

void script_step(struct registry *registry, const char *folder, uint64_t k)
{
    struct step s = step_of(k);
    char name[8], staged[40];
    graft_error error = {0};
    graft_status status = GRAFT_INTERNAL;
    snprintf(name, sizeof(name), "n%d", s.name);
    snprintf(staged, sizeof(staged), "n%d@1.%llu.1", s.name, s.version);
    switch (s.what) {
    case 0:
        status = add(registry, folder, &s, REGISTRY_PUBLISH, &error);
        break;
    case 1:
        status = add(registry, folder, &s, REGISTRY_STAGE, &error);
        break;
    case 2:
        status = registry_promote(registry, name, NULL, &error);
        break;
    case 3:
        status = registry_rollback(registry, name, NULL, &error);
        break;
    case 4:
        status = registry_pin(registry, name, s.pin, &error);
        break;
    default:
        status = registry_remove(registry, staged, &error);
        break;
    }
    REQUIRE(status == GRAFT_OK, "step %llu: %s", (unsigned long long)k, error.message);
}

/* ---- the model -------------------------------------------------------------------------------- */

/* Versions 1.i.0 for i < n stay for ever, and at most one 1.(n-1).1 is there beside them. */
struct model {
    unsigned long long n;
    bool pinned, second;
    char active[32], standby[32], previous[32];
};

static void model_step(struct model *m, const struct step *s)
{
    char kept[32];
    switch (s->what) {
    case 0:
        memcpy(m->previous, m->active, sizeof(kept));
        snprintf(m->active, sizeof(m->active), "1.%llu.0", s->version);
        m->n++;
        break;
    case 1:
        snprintf(m->standby, sizeof(m->standby), "1.%llu.1", s->version);
        m->second = true;
        break;
    case 2:
        memcpy(m->previous, m->active, sizeof(kept));
        memcpy(m->active, m->standby, sizeof(kept));
        m->standby[0] = '\0';
        break;
    case 3:
        memcpy(kept, m->active, sizeof(kept));
        memcpy(m->active, m->previous, sizeof(kept));
        memcpy(m->previous, kept, sizeof(kept));
        break;
    case 4:
        m->pinned = s->pin;
        break;
    default:
        m->second = false;
        m->previous[0] = '\0';
        break;
    }
}

static void write_version(struct buf *out, const char *version, const char *active,
                          const char *standby, const char *previous)
{
    buf_printf(out, " %s%s%s%s", version, strcmp(version, active) ? "" : "*",
               strcmp(version, standby) ? "" : ">", strcmp(version, previous) ? "" : "<");
}

char *script_expected(uint64_t g)
{
    struct model models[NAMES] = {{0}};
    struct buf out;
    char version[32];
    for (uint64_t k = 0; k < g; k++) {
        struct step s = step_of(k);
        model_step(&models[s.name], &s);
    }
    buf_init(&out, NULL, SIZE_MAX);
    buf_puts(&out, "");
    for (int i = 0; i < NAMES; i++) {
        const struct model *m = &models[i];
        if (!m->n)
            continue;
        buf_printf(&out, "n%d%s:", i, m->pinned ? "!" : "");
        for (unsigned long long v = 0; v < m->n + m->second; v++) {
            bool second = v == m->n;
            snprintf(version, sizeof(version), "1.%llu.%d", second ? v - 1 : v, second);
            write_version(&out, version, m->active, m->standby, m->previous);
        }
        buf_putc(&out, '\n');
    }
    return buf_take(&out, NULL);
}

/* ---- what is there ------------------------------------------------------------------------------ */

struct listing {
    struct buf out, addresses; /* addresses: NUL-terminated, one after the other */
};

static const char *version_at(const struct registry_name *name, int slot)
{
    return slot == REGISTRY_NO_SLOT ? "" : name->versions[slot].version;
}

static bool list_name(void *user, const struct registry_name *name)
{
    struct listing *listing = user;
    buf_printf(&listing->out, "%s%s:", name->name, name->pinned ? "!" : "");
    for (size_t i = 0; i < name->n_versions; i++) {
        const char *version = name->versions[i].version;
        write_version(&listing->out, version, version_at(name, name->active),
                      version_at(name, name->standby), version_at(name, name->previous));
        buf_printf(&listing->addresses, "%s@%s", name->name, version);
        buf_putc(&listing->addresses, '\0');
    }
    buf_putc(&listing->out, '\n');
    return true;
}

char *script_listed(struct registry *registry, graft_error *error)
{
    struct listing listing;
    buf_init(&listing.out, NULL, SIZE_MAX);
    buf_init(&listing.addresses, NULL, SIZE_MAX);
    buf_puts(&listing.out, "");
    graft_status status = registry_list(registry, NULL, list_name, &listing, error);
    for (size_t at = 0; status == GRAFT_OK && at < listing.addresses.size;
         at += strlen(listing.addresses.data + at) + 1)
        status = registry_verify(registry, listing.addresses.data + at, error);
    buf_free(&listing.addresses);
    if (status == GRAFT_OK)
        return buf_take(&listing.out, NULL);
    buf_free(&listing.out);
    return NULL;
}
