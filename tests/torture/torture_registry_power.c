/* The machine loses power while a registry is changed: at every moment between two calls of the file system, and
 * with every choice of what a disk may have lost, the index opens in a state that was published, and in none older
 * than what was acknowledged. `--long` has more steps.
 */
#include "torture/disk_model.h"
#include "torture/registry_script.h"

static uint64_t steps = 24;

/* In memory where that can be, because many small states are written. */
static void make_folder(char folder[64])
{
    snprintf(folder, 64, "%s/graft-power-XXXXXX", path_is_dir("/dev/shm") ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(folder));
}

static void loader_begin(struct fake_loader *loader)
{
    memset(loader, 0, sizeof(*loader));
    pthread_mutex_init(&loader->mutex, NULL);
    pthread_cond_init(&loader->changed, NULL);
}

/* Does the steps, noting what reaches the disk. */
static void run_steps(const char *root, const char *source)
{
    struct fake_loader loader;
    char home[80];
    loader_begin(&loader);
    snprintf(home, sizeof(home), "%s/home", root);
    disk_watch(root);
    struct registry *registry = script_open(&loader, home, 0);
    for (uint64_t k = 0; k < steps; k++) {
        script_step(registry, source, k);
        disk_acknowledge(k + 1);
    }
    registry_close(&registry);
    disk_stop();
}

/* Is the registry in the state after some step, none before `least`? Then *step is that one. */
static bool is_published(struct registry *registry, uint64_t least, uint64_t *step)
{
    struct registry_stats stats;
    char *listed = script_listed(registry, NULL), *expected = NULL;
    bool good = listed != NULL;
    if (good) {
        registry_stats(registry, &stats);
        expected = script_expected(stats.generation);
        good = stats.generation >= least && !strcmp(listed, expected);
        *step = stats.generation;
    }
    mem_free(NULL, listed);
    mem_free(NULL, expected);
    return good;
}

/* What was left opens, is right, and takes the next step. */
static bool recovers(const struct disk_crash *crash, const char *source)
{
    struct fake_loader loader;
    struct registry *registry = NULL;
    char target[64], home[80];
    uint64_t step = 0;
    loader_begin(&loader);
    make_folder(target);
    disk_write(crash, target);
    snprintf(home, sizeof(home), "%s/home", target);
    struct registry_options options = {
        .home = home,
        .loader = {.open = fake_open, .close = fake_close, .user = &loader},
    };
    bool good = registry_open(&registry, &options, NULL) == GRAFT_OK &&
                is_published(registry, disk_acknowledged(crash->moment), &step);
    if (good) {
        script_step(registry, source, step);
        good = is_published(registry, step + 1, &step);
    }
    registry_close(&registry);
    fixture_remove_tree(target);
    return good;
}

struct scene {
    char root[64], source[64], adapter[80];
    struct rng rng;
};

static void scene_begin(struct scene *s)
{
    make_folder(s->root);
    make_folder(s->source);
    snprintf(s->adapter, sizeof(s->adapter), "%s/a", s->source);
    rng_init(&s->rng, 3, 0);
    run_steps(s->root, s->adapter);
}

static void scene_end(struct scene *s)
{
    disk_forget();
    fixture_remove_tree(s->root);
    fixture_remove_tree(s->source);
}

static void every_moment_leaves_a_published_state_and_all_that_was_acknowledged(void **state)
{
    (void)state;
    struct scene s;
    size_t states = 0;
    scene_begin(&s);
    for (size_t moment = 0; moment <= disk_moments(); moment++)
        for (int i = 0; i < 5; i++, states++) {
            struct disk_crash crash = {
                .moment = moment,
                .loss = i == 0   ? DISK_LOSE_ALL
                        : i == 1 ? DISK_KEEP_NAMES
                                 : DISK_LOSE_SOME,
                .rng = &s.rng,
            };
            if (!recovers(&crash, s.adapter))
                fail_msg("moment %zu of %zu, choice %d: the state is wrong", moment, disk_moments(),
                         i);
        }
    printf("%llu steps, %zu moments, %zu states\n", (unsigned long long)steps, disk_moments(),
           states);
    scene_end(&s);
}

/* The test itself: a disk on which flushing does nothing must come out wrong. */
static void a_disk_that_ignores_flushes_is_noticed(void **state)
{
    (void)state;
    struct scene s;
    size_t wrong_files = 0, wrong_names = 0;
    scene_begin(&s);
    for (size_t moment = 0; moment <= disk_moments(); moment += 5) {
        struct disk_crash files = {moment, DISK_KEEP_NAMES, &s.rng, true, false};
        struct disk_crash names = {moment, DISK_LOSE_ALL, &s.rng, false, true};
        wrong_files += !recovers(&files, s.adapter);
        wrong_names += !recovers(&names, s.adapter);
    }
    assert_true(wrong_files > 0);
    assert_true(wrong_names > 0);
    scene_end(&s);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--long"))
        steps = 120;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_moment_leaves_a_published_state_and_all_that_was_acknowledged),
        cmocka_unit_test(a_disk_that_ignores_flushes_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
