/* locale_host.c: a host program that writes numbers with a decimal comma. It prints what graft parsed and
 * printed, so that a run in the C locale and one in another can be compared byte by byte; and checks that
 * its locale is as it was. Usage: locale_host LOCALE MODEL OUT_FOLDER
 */
#include <graft/graft.h>

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static graft_error error;

static void must(graft_status status)
{
    if (status != GRAFT_OK) {
        fprintf(stderr, "locale_host: %s\n", error.message);
        exit(1);
    }
}

/* The chat template of the model renders these in many ways. */
static void print_chat(graft_runtime *runtime, const graft_model *model)
{
    static const char variables[] = "{\"messages\": [], \"half\": 0.5, \"large\": 12345678.9, "
                                    "\"small\": 1.5e-7, \"whole\": 2.0}";
    char *text = NULL;
    size_t size = 0;
    must(graft_chat_render_json(model, variables, &text, &size, &error));
    printf("%s\n", text);
    graft_free(runtime, text);
}

static void print_inspection(graft_runtime *runtime, const char *path)
{
    char *json = NULL;
    must(graft_inspect(runtime, path, &json, &error));
    printf("%s\n", json);
    graft_free(runtime, json);
}

/* Writes OUT/hf (config.json has numbers) and OUT/x.gguf. */
static void convert(graft_runtime *runtime, const char *model, const char *out)
{
    static const char *const names[] = {"x.gguf", "hf"};
    char path[512];
    for (int i = 0; i < 2; i++) {
        graft_convert_options options = graft_convert_options_default();
        options.format = i == 0 ? GRAFT_FORMAT_GGUF : GRAFT_FORMAT_HF;
        options.type = "f32";
        snprintf(path, sizeof path, "%s/%s", out, names[i]);
        must(graft_convert(runtime, model, path, &options, &error));
        print_inspection(runtime, path);
    }
}

static void print_answer(const graft_model *model)
{
    graft_session_options options = graft_session_options_default();
    options.sampling = graft_sampling_for(model);
    options.sampling.seed = 7;
    printf("temperature %d/1000, top_p %d/1000\n", (int)(1000 * options.sampling.temperature),
           (int)(1000 * options.sampling.top_p));
    graft_session *session = NULL;
    must(graft_session_open(model, &options, &session, &error));
    must(graft_session_prompt_text(session, "Pi is 3.14, or 3,14.", 20, &error));
    graft_token token;
    for (int i = 0; i < 20 && graft_session_next(session, &token, &error) == GRAFT_OK; i++) {
        unsigned bits;
        memcpy(&bits, &token.logprob, sizeof bits);
        printf("%d %08x %s\n", (int)token.id, bits, token.text);
    }
    graft_session_close(&session);
}

/* Settings of a YAML file, as they are written back. */
static void print_settings(graft_runtime *runtime, const char *folder)
{
    char path[4096];
    const char *json;
    graft_train_config *config = NULL;
    snprintf(path, sizeof path, "%s/settings.yaml", folder);
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs("learning_rate: 1.5e-4\nwarmup_ratio: 0.25\n", file) < 0 ||
        fclose(file) != 0) {
        fprintf(stderr, "locale_host: cannot write %s\n", path);
        exit(2);
    }
    must(graft_train_config_open(runtime, &config, &error));
    must(graft_train_config_load(config, path, &error));
    must(graft_train_config_json(config, &json, &error));
    printf("%s\n", json);
    graft_train_config_close(&config);
}

int main(int argc, char **argv)
{
    if (argc != 4 || setlocale(LC_ALL, argv[1]) == NULL) {
        fprintf(stderr, "locale_host: no locale %s\n", argc > 1 ? argv[1] : "");
        return 2;
    }
    char point = localeconv()->decimal_point[0];
    if ((point == ',') != (strcmp(argv[1], "C") != 0)) {
        fprintf(stderr, "locale_host: %s writes numbers with '%c'\n", argv[1], point);
        return 2;
    }
    graft_runtime *runtime = NULL;
    graft_model *model = NULL;
    graft_error_init(&error);
    must(graft_runtime_open(NULL, &runtime, &error));
    must(graft_model_open(runtime, argv[2], NULL, &model, &error));
    print_chat(runtime, model);
    print_inspection(runtime, argv[2]);
    convert(runtime, argv[2], argv[3]);
    print_answer(model);
    print_settings(runtime, argv[3]);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    if (localeconv()->decimal_point[0] != point) {
        fprintf(stderr, "locale_host: graft changed the locale\n");
        return 3;
    }
    return 0;
}
