"""The prompts whose answers are pinned: (name, kind, prompt, most tokens to generate).

Owns the choice only.  They cover every domain, raw and as chat; there are a few more than are
needed, since one whose answer hangs on a near tie is passed over.
"""


def ask(*turns):
    """A conversation that starts with the user."""
    return [{"role": "user" if i % 2 == 0 else "assistant", "content": t} for i, t in enumerate(turns)]


PEOPLE = ("Mara lives in Oakford. She works as a baker. She has a grey cat named Pip. "
          "Oskar lives in Lakeport. He works as a judge. He has a white goat named Moss.")
STORE = "The basket has seven apples and three plums."
STUDY = ("Ines tested whether a short walk can help students remember more words. There were 60 in each group. "
         "The group with a short walk remembered 48 words. The other group remembered 31 words.")
TRADE = ("Milo owned a golden mirror but needed a blanket. Stella did not want the mirror. By the gate stood Rosa "
         "with a "
         "blanket. \"Will you trade?\" asked Milo. Rosa said, \"Gladly.\" They shook hands.")
STORM = ("There was a storm in Elmwick on Friday. The boat of Sara was lost. Nobody was hurt. David gave Sara some "
         "soup "
         "and a new boat.")
BALL = "Tom has a red ball. Anna has a key. Tom puts the ball under the tree. Anna goes to the garden."

PROMPTS = [
    ("story_guitar", "raw", "In summer, Clara got a guitar.", 32),
    ("story_letter", "chat", ask("Tell me a story about Hugo and a letter for Rosa."), 96),
    ("facts_turns", "chat",
     ask(PEOPLE + "\n\nWhat is the job of Mara?", "Mara is a baker.", "What is the job of Oskar?"), 48),
    ("facts_count", "raw", STORE + "\n\nQuestion: How many plums are there?\nAnswer:", 48),
    ("facts_who", "chat", ask("Tom likes rowing. Ida likes chess.\n\nWho likes chess?"), 48),
    ("facts_where", "chat", ask(BALL + "\n\nWhere is the ball?", "The ball is under the tree.", "Where is Anna?"), 48),
    ("facts_study", "chat", ask(STUDY + "\n\nHow strong is the evidence?"), 48),
    ("facts_story", "chat", ask(TRADE + "\n\nWho had a blanket?"), 48),
    ("facts_summary", "raw", STORM + "\n\nSummary:", 64),
    ("code_python", "chat", ask("Write a Python function that returns the largest price."), 96),
    ("code_c", "chat", ask("Write a C function that returns the sum of all weights."), 96),
    ("code_raw", "raw", "# Return the smallest score.\ndef min_score(scores):\n", 64),
    ("review_loop", "chat",
     ask("Review this code:\n"
         "```c\n"
         "int sum_prices(const int *prices, int n) {\n"
         "    int total = 0;\n"
         "    for (int i = 0; i <= n; i++) {\n"
         "        total += prices[i];\n"
         "    }\n"
         "    return total;\n"
         "}\n"
         "```"), 64),
    ("review_file", "chat",
     ask("Is there a bug here?\n"
         "```python\n"
         "def load_report(path):\n"
         "    file = open(path)\n"
         "    return file.read()\n"
         "```"), 64),
    ("design_cache", "chat",
     ask("The search service stores books. Many users read the same books, but few change them. What should we use?"),
     64),
    ("design_note", "raw",
     "Design note: billing service\n\nContext: The billing service stores invoices. No invoice may ever be lost, even "
     "when the power fails.\n", 96),
    ("security_sql", "chat",
     ask("Is this safe?\n"
         "```python\n"
         "query = \"SELECT * FROM orders WHERE name = '\" + name + \"'\"\n"
         "db.execute(query)\n"
         "```"), 64),
    ("security_limit", "chat", ask("The login service accepts any number of tries. What is the risk here?"), 64),
    ("talk_who", "chat", ask("Who are you?"), 48),
    ("talk_name", "chat",
     ask("Hello, my name is Lena. I live in Foxhaven.", "Hello, Lena! How can I help you?", "Where do I live?"), 48),
    # spares
    ("story_key", "raw", "On Monday, Tom found a small key near the mill. \"What does it open?\" asked Tom.", 48),
    ("story_bridge", "raw", "The bridge in Oakford was old and broken.", 64),
    ("story_kite", "raw", "Leo wanted to make a kite for Ada.", 48),
    ("facts_bees", "chat", ask("What do bees make?"), 48),
    ("facts_one", "chat",
     ask("Lena lives in Deerhaven. She works as a painter. She has a black dog named Pepper.\n\nWhere does Lena live?"),
     48),
    ("code_explain", "chat",
     ask("What does this code do?\n"
         "```python\n"
         "def scale_ages(ages, factor):\n"
         "    return [age * factor for age in ages]\n"
         "```"), 64),
]
