"""Small talk: greetings, what the model is, and little tasks with words.

Owns the conversations that fit no other domain.  The small tasks (spell, count, repeat, sort)
teach copying, which every other domain leans on.
"""
import words as w
from facts import knowledge_pair
from grammar import Doc, listing
from stories import articles

GREETINGS = [("{Hello|Hi|Hey|Good day}{!|.|}", "Hello! How can I help you?"),
             ("{Good morning|Good evening}{!|.}", "Hello! How can I help you?"),
             ("How are you?", "I am fine, thank you. How can I help you?"),
             ("{Thank you|Thanks}{!|.|, that helps.}", "You are welcome."),
             ("{Goodbye|Bye|See you}{!|.}", "Goodbye!"),
             ("{Who|What} are you?", "I am graft tiny, a small language model that ships with graft."),
             ("What {can you do|do you do|can I ask you}?",
              "I can tell short stories, answer questions about a text, write small functions, review code, and write "
              "design and security notes."),
             ("{Who made you|Where do you come from}?",
              "I was trained by the graft project on text that it makes itself."),
             ("What is graft?", "graft is a runtime for language models and their adapters."),
             ("What is an adapter?", "An adapter is a small change to a model that gives it a new skill."),
             ("What is a LoRA adapter?",
              "A LoRA adapter is a pair of small matrices that is added to the weights of a model."),
             ("Are you {a person|human}?", "No, I am a small language model."),
             ("Do you know everything?", "No. I am small and know only a little."),
             ("{Can you help me|I need help}{?|.}", "Yes. What do you need?")]


def greeting_turns(m):
    q, a = m.pick(GREETINGS)
    return [("user", m.say(q)), ("assistant", a)], (q,)


def intro_turns(m):
    """The user says who they are; later turns ask for it again."""
    p, = w.people(m, 1)
    thing = m.pick([("I live in $x.", "Where do I live?", "You live in $x.", w.town(m)),
                    ("I am a $x.", "What is my job?", "You are a $x.", m.pick(w.JOBS)),
                    ("I like $x.", "What do I like?", "You like $x.", m.pick(w.HOBBIES)),
                    ("I have a $x.", "What do I have?", "You have a $x.", m.pick(w.PETS)),
                    ("My favourite colour is $x.", "What is my favourite colour?", "Your favourite colour is $x.",
                     m.pick(w.COLOURS))])
    s = {"A": p.name, "x": thing[3]}
    said, q, a = (articles(m.say(t, s)) for t in thing[:3])
    hello = m.say("{Hello|Hi}, {my name is|I am} $A. ", s) + said
    turns = [("user", hello), ("assistant", m.say("Hello, $A! How can I help you?", s)), ("user", q), ("assistant", a)]
    if m.chance(0.5):
        turns += [("user", m.say("{What is my name|Who am I}?")), ("assistant", m.say("Your name is $A.", s))]
    return turns, ("intro", p.name, thing[3])


def words_turns(m):
    """Little tasks with a list of words."""
    pool = m.pick([w.THINGS, w.ANIMALS, w.FRUITS, w.COLOURS, w.JOBS, w.SHE, w.HE])
    items = m.some(pool, m.number(2, 5))
    s = {"list": ", ".join(items), "first": items[0], "last": items[-1], "n": w.NUMBERS[len(items)]}
    task = m.number(0, 5)
    if task == 0:
        q, a = "{How many words are in this list|Count the words}: $list", f"There are {s['n']} words."
    elif task == 1:
        q, a = "{What is the first word|Which word comes first}: $list", f"The first word is {s['first']}."
    elif task == 2:
        q, a = "{What is the last word|Which word comes last}: $list", f"The last word is {s['last']}."
    elif task == 3:
        q, a = "{Repeat|Say again|Copy}: $list", s["list"]
    elif task == 4:
        q, a = "{Write this backwards|Reverse this list|Reverse the order}: $list", ", ".join(reversed(items))
    else:
        q, a = "{Make a list of these|Write these as a list}: $list", "Here is the list: " + listing(items) + "."
    return [("user", m.say(q, s)), ("assistant", a)], ("words", task, *items[:2])


def talk_doc(m):
    parts, turns, keys = m.number(1, 3), [], []
    for _ in range(parts):
        kind = m.number(0, 5)
        if kind <= 1:
            more, key = greeting_turns(m)
        elif kind == 2:
            more, key = intro_turns(m)
        elif kind == 3:
            q, a, k = knowledge_pair(m)
            more, key = [("user", articles(q)), ("assistant", articles(a))], (k,)
        else:
            more, key = words_turns(m)
        turns += more
        keys += key
    return Doc("talk", ("talk", *keys), messages=tuple(turns))
