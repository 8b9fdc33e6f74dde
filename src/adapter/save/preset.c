/* preset.c: the adapters that people make most, and what each begins with. */
#include "adapter/save/save.h"

static const struct adapter_preset PRESETS[] = {
    {.name = "coder",
     .description = "Writes and explains code",
     .rank = 16,
     .alpha = 32,
     .dropout = 0.05,
     .targets = {"q_proj", "k_proj", "v_proj", "o_proj"},
     .tags = {"coder", "code", "programming"}},
    {.name = "researcher",
     .description = "Gathers, compares and summarises what is known",
     .rank = 8,
     .alpha = 16,
     .dropout = 0.1,
     .targets = {"q_proj", "k_proj", "v_proj"},
     .tags = {"researcher", "analysis", "summary"}},
    {.name = "security",
     .description = "Finds and explains weaknesses",
     .rank = 16,
     .alpha = 32,
     .dropout = 0.05,
     .targets = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
     .tags = {"security", "audit", "vulnerability"}},
    {.name = "architect",
     .description = "Designs systems and weighs the choices",
     .rank = 12,
     .alpha = 24,
     .dropout = 0.05,
     .targets = {"q_proj", "v_proj", "gate_proj", "up_proj"},
     .tags = {"architect", "design", "systems"}},
    {.name = "reviewer",
     .description = "Reviews changes and says what to improve",
     .rank = 8,
     .alpha = 16,
     .dropout = 0.1,
     .targets = {"q_proj", "v_proj"},
     .tags = {"reviewer", "review", "quality"}},
};

const struct adapter_preset *preset_at(size_t i)
{
    return i < ARRAY_LEN(PRESETS) ? &PRESETS[i] : NULL;
}

const struct adapter_preset *preset_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(PRESETS); i++)
        if (!strcmp(PRESETS[i].name, name))
            return &PRESETS[i];
    return NULL;
}
