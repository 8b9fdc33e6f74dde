/* template_runner.c: renders templates for templates.py. One JSON object a line on standard input,
 * {"template", "context", "now"?}; one a line on standard output, {"output"} or {"error", "status"}.
 */
#include "model/template/template.h"

static json_t *run_case(const json_t *request)
{
    struct chat_template *t = NULL;
    graft_error error = {0};
    char *text = NULL;
    size_t size = 0;
    const json_t *source = json_object_get(request, "template");
    graft_status status =
        template_compile(NULL, json_string_value(source), json_string_length(source), &t, &error);
    if (status == GRAFT_OK)
        status = template_render(t, NULL, json_object_get(request, "context"),
                                 json_integer_value(json_object_get(request, "now")), NULL, &text,
                                 &size, &error);
    json_t *reply = status == GRAFT_OK ? json_pack("{s:s%}", "output", text, size)
                                       : json_pack("{s:s,s:s}", "error", error.message, "status",
                                                   graft_status_text(status));
    mem_free(NULL, text);
    template_free(&t);
    return reply;
}

int main(void)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    while ((size = getline(&line, &capacity, stdin)) > 0) {
        json_t *request = json_loadb(line, (size_t)size, JSON_ALLOW_NUL, NULL);
        json_t *reply =
            request != NULL ? run_case(request) : json_pack("{s:s}", "error", "no JSON");
        char *text = json_dumps(reply, JSON_COMPACT);
        puts(text != NULL ? text : "{\"error\":\"not printable\"}");
        fflush(stdout);
        free(text);
        json_decref(reply);
        json_decref(request);
    }
    free(line);
    return 0;
}
