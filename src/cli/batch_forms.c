/* batch_forms.c: schemas and grammars of requests, compiled: a file of requests has few, and many requests with each.
 */
#include "batch.h"

static void drop(struct batch_form *form)
{
    mem_free(NULL, form->text);
    graft_constraint_close(&form->constraint);
    *form = (struct batch_form){0};
}

static graft_status compile(struct batch_form *form, graft_model *model,
                            const struct batch_request *request, graft_error *error)
{
    size_t size = strlen(request->form);
    graft_status status =
        request->is_schema
            ? graft_constraint_from_schema(model, request->form, size, &form->constraint, error)
            : graft_constraint_from_gbnf(model, request->form, size, &form->constraint, error);
    if (status != GRAFT_OK) {
        return status;
    }
    form->is_schema = request->is_schema;
    form->text = mem_strdup(NULL, request->form);
    return form->text != NULL ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "out of memory");
}

graft_status batch_forms_find(struct batch_forms *forms, graft_model *model,
                              const struct batch_request *request, const graft_constraint **out,
                              graft_error *error)
{
    struct batch_form *oldest = &forms->kept[0];
    for (size_t i = 0; i < BATCH_FORMS; i++) {
        struct batch_form *form = &forms->kept[i];
        if (form->text != NULL && form->is_schema == request->is_schema &&
            strcmp(form->text, request->form) == 0) {
            form->used = ++forms->uses;
            *out = form->constraint;
            return GRAFT_OK;
        }
        oldest = form->used < oldest->used ? form : oldest;
    }
    drop(oldest);
    graft_status status = compile(oldest, model, request, error);
    if (status != GRAFT_OK) {
        drop(oldest);
        return status;
    }
    oldest->used = ++forms->uses;
    *out = oldest->constraint;
    return GRAFT_OK;
}

void batch_forms_close(struct batch_forms *forms)
{
    for (size_t i = 0; i < BATCH_FORMS; i++) {
        drop(&forms->kept[i]);
    }
}
