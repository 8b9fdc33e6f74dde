"""Facts and questions about them: the domain of the researcher.

Owns: short texts with several people or things in them, questions that need the right one picked
out, studies with a finding to be weighed, summaries, and a small stock of general knowledge.
An answer stands in the text, or says that the text does not tell.
"""
import words as w
from grammar import Doc, capital, listing
from stories import articles, story_question_doc

UNKNOWN = "The text does not say."


def ask_about(m, domain, key, text, asked):
    """The text with its questions, raw or as a conversation."""
    text = articles(text)
    asked = [(articles(q), articles(a)) for q, a in asked]
    if m.chance(0.3):
        return Doc(domain, key, text=text + "".join(f"\n\nQuestion: {q}\nAnswer: {a}" for q, a in asked))
    lead = m.say("{|||Read this: |Here is a text. |Use the text to answer. |Text: }")
    first = f"{lead}{text}\n\n{asked[0][0]}" if m.chance(0.7) else f"{asked[0][0]}\n\n{text}"
    turns = [("user", first), ("assistant", asked[0][1])]
    for q, a in asked[1:]:
        turns += [("user", q), ("assistant", a)]
    return Doc(domain, key, messages=tuple(turns))


def profile(m, person, place):
    """Facts of one person: {topic: (sentence, question, answer)}, all filled in."""
    thing, food, pet, pname = m.pick(w.THINGS), m.pick(w.FOODS), m.pick(w.PETS), m.pick(w.PET_NAMES)
    s = {**person.slots("A"), "town": place, "job": m.pick(w.JOBS), "hobby": m.pick(w.HOBBIES), "food": food,
         "pet": pet, "pname": pname, "colour": m.pick(w.COLOURS), "thing": thing, "n": m.pick(w.NUMBERS[2:13]),
         "fruits": w.plural(m.pick(w.FRUITS)), "day": m.pick(w.DAYS), "age": m.number(6, 89), "place": m.pick(w.PLACES),
         "instrument": m.pick(w.INSTRUMENTS)}
    table = {
        "town": ("$AHe {lives in|is from|comes from} $town.", "Where {does $A live|is $A from}?", "$A lives in $town."),
        "job": ("$AHe {works as|is} a $job.", "{What is the job of $A|What does $A do for work}?", "$A is a $job."),
        "hobby": ("$AHe {likes|loves|enjoys} $hobby.", "What does $A {like|like to do}?", "$A likes $hobby."),
        "food": ("$AHis favourite food is $food.", "What is the favourite food of $A?",
                 "The favourite food of $A is $food."),
        "pet": ("$AHe has a $colour $pet named $pname.", "{What is the name of the $pet|What pet does $A have}?",
                "$A has a $colour $pet named $pname."),
        "thing": ("$AHe {owns|carries|keeps} a $colour $thing.", "What colour is the $thing of $A?",
                  "The $thing of $A is $colour."),
        "fruits": ("On $day, $Ahe bought $n $fruits.", "How many $fruits did $A buy?", "$A bought $n $fruits."),
        "age": ("$AHe is $age years old.", "How old is $A?", "$A is $age years old."),
        "place": ("$AHe {often goes|likes to go} to $place.", "Where does $A {often|like to} go?",
                  "$A likes to go to $place."),
        "instrument": ("$AHe plays the $instrument.", "{What|Which instrument} does $A play?",
                       "$A plays the $instrument."),
    }
    return s, table


def people_doc(m):
    """One to three people, each with a few facts; questions pick among them."""
    group = w.people(m, m.number(1, 3))
    places = w.towns(m, len(group))
    per_person = {1: 4, 2: 3, 3: 2}[len(group)]
    sentences, asked, missing, used = [], [], [], []
    common = m.some(["town", "job", "hobby", "food", "pet", "thing", "fruits", "age", "place", "instrument"],
                    per_person)
    for person, place in zip(group, places):
        s, table = profile(m, person, place)
        topics = common if m.chance(0.7) else m.some(sorted(table), per_person)
        for i, topic in enumerate(topics):
            said, q, a = table[topic]
            if i == 0:  # the first sentence names the person
                said = said.replace("$AHe", "$A").replace("$Ahe bought", "$A bought")
                said = said.replace("$AHis favourite food is", "The favourite food of $A is")
            sentences.append(m.say(said, s))
            asked.append((m.say(q, s), m.say(a, s)))
        used += [s["town"] if "town" in topics else s["job"], person.name]
        others = [t for t in ("town", "job", "hobby", "food", "age", "instrument") if t not in topics]
        missing.append(m.say(table[m.pick(others)][1], s))
    asked = m.some(asked, min(len(asked), m.number(1, 4)))
    if m.chance(0.18):
        asked.append((m.pick(missing), UNKNOWN))
    return ask_about(m, "facts", ("people", *common, *used), " ".join(sentences), asked)


WHO = [
    ("town", "$A {lives in|is from} $x.", "Who {lives in|is from} $x?", "$A lives in $x.",
     "Where {does $A live|is $A from}?", "$A lives in $x."),
    ("job", "$A is a $x.", "Who is {the|a} $x?", "$A is the $x.", "What is the job of $A?", "$A is a $x."),
    ("thing", "$A has a $x.", "Who has {a|the} $x?", "$A has the $x.", "What does $A have?", "$A has a $x."),
    ("hobby", "$A likes $x.", "Who likes $x?", "$A likes $x.", "What does $A like?", "$A likes $x."),
    ("day", "$A {comes|visits} on $x.", "Who {comes|visits} on $x?", "$A comes on $x.", "When does $A {come|visit}?",
     "$A comes on $x."),
    ("colour", "$A {wears a|has a} $x coat.", "Who {wears|has} the $x coat?", "$A has the $x coat.",
     "What colour is the coat of $A?", "The coat of $A is $x."),
    ("food", "$A made $x.", "Who made $x?", "$A made $x.", "What did $A make?", "$A made $x."),
    ("instrument", "$A plays the $x.", "Who plays the $x?", "$A plays the $x.", "What does $A play?",
     "$A plays the $x."),
]
POOLS = {"job": w.JOBS, "thing": w.THINGS, "hobby": w.HOBBIES, "day": w.DAYS, "colour": w.COLOURS, "food": w.FOODS,
         "instrument": w.INSTRUMENTS}


def who_doc(m):
    """The same kind of fact for several people: find the one who fits."""
    topic, said, q, a, q_back, a_back = m.pick(WHO)
    group = w.people(m, m.number(2, 5))
    values = w.towns(m, len(group)) if topic == "town" else m.some(POOLS[topic], len(group))
    said = m.choose(said)
    rows = [{**p.slots("A"), "x": v} for p, v in zip(group, values)]
    text = " ".join(m.fill(said, r) for r in rows)
    picked = m.some(rows, m.number(1, len(rows)))
    pairs = [m.pick([(q, a), (q, a), (q_back, a_back)]) for _ in picked]
    asked = [(m.say(ask, r), m.say(say, r)) for (ask, say), r in zip(pairs, picked)]
    return ask_about(m, "facts", (topic, rows[0]["A"], rows[0]["x"]), text, asked)


def place_doc(m):
    """A town, a house or a shop with its parts."""
    t, other = w.towns(m, 2)
    a, b = w.people(m, 2)
    fruits = [w.plural(f) for f in m.some(w.FRUITS, 3)]
    numbers = m.some(w.NUMBERS[2:20], 3)
    things = m.some(w.THINGS, 3)
    spots = ["on the table", "on the chair", "under the bed", "on the shelf", "in the box", "by the door",
             "near the window", "in the drawer"]
    s = {**a.slots("A"), **b.slots("B"), "town": t, "other": other, "year": m.number(1200, 1990),
         "n": m.number(2, 99) * 100,
         "food": m.pick(w.FOODS), "place": m.pick(w.PLACES), "animal": m.pick(w.ANIMALS), "month": m.pick(w.MONTHS),
         "day": m.pick(w.DAYS), "m": m.number(2, 60), "river": w.made_up(m), "job": m.pick(w.JOBS)}
    kind = m.pick(["town", "stock", "room", "plan"])
    if kind == "town":
        facts = [("$town {lies|is} on the river $river.", "{On which river is $town|Which river is $town on}?",
                  "$town is on the river $river."),
                 ("The town was {founded|built} in $year.", "When was $town {founded|built}?",
                  "$town was founded in $year."),
                 ("About $n people live there.", "How many people live in $town?", "About $n people live in $town."),
                 ("It is {known|famous} for its $food.", "What is $town {known|famous} for?",
                  "$town is known for its $food."),
                 ("It is $m kilometres from $other.", "How far is $town from $other?",
                  "$town is $m kilometres from $other."),
                 ("The {mayor|head} of the town is $A.", "Who is the mayor of $town?", "The mayor of $town is $A."),
                 ("The fair is in $month.", "When is the fair?", "The fair is in $month.")]
        facts = [facts[0]] + m.some(facts[1:], m.number(2, 4))
    elif kind == "stock":
        rows = list(zip(numbers, fruits))
        s["list"] = listing([f"{n} {f}" for n, f in rows])
        facts = [("{The shop in $town|The basket|$A} has $list.", "How many $f are there?", "There are $n $f.")]
        text = m.say(facts[0][0], s)
        asked = [(f"How many {f} are there?", f"There are {n} {f}.") for n, f in m.some(rows, m.number(1, 3))]
        return ask_about(m, "facts", ("stock", *rows[0], *rows[1]), text, asked)
    elif kind == "room":
        rows = list(zip(things, m.some(spots, 3)))
        text = m.say("{In the room of $A|In the house of $A|At home with $A}, ", s)
        text += listing([f"the {x} is {y}" for x, y in rows]) + "."
        asked = [(f"Where is the {x}?", f"The {x} is {y}.") for x, y in m.some(rows, m.number(1, 3))]
        if m.chance(0.3):
            x, y = m.pick(rows)
            asked.append((f"What is {y}?", f"The {x} is {y}."))
        return ask_about(m, "facts", ("room", *rows[0], *rows[1]), text, asked)
    else:
        rows = list(zip(m.some(w.DAYS, 3), m.some(w.HOBBIES, 3)))
        text = " ".join(m.say("On $d, $A has $h.", {**s, "d": d, "h": h}) for d, h in rows)
        asked = []
        for d, h in m.some(rows, m.number(1, 3)):
            asked.append(m.pick([(f"When does {a.name} have {h}?", f"{a.name} has {h} on {d}."),
                                 (f"What does {a.name} have on {d}?", f"On {d}, {a.name} has {h}.")]))
        return ask_about(m, "facts", ("plan", a.name, *rows[0]), text, asked)
    text = " ".join(m.say(f[0], s) for f in facts)
    asked = [(m.say(q, s), m.say(a_, s)) for _, q, a_ in m.some(facts, m.number(1, 3))]
    return ask_about(m, "facts", ("town", t, s["food"], s["month"]), text, asked)


# Studies: a question, two groups, a measure; the finding follows from the numbers.
STUDIES = [
    ("$fruit plants", "{more light|warm water|ash in the soil|loud music|old tea leaves|a cover of straw}",
     "grow taller", "centimetres", "was $x centimetres high"),
    ("{hens|ducks|geese}", "{corn|oats|a larger yard|more light|fresh grass|a quiet barn}", "lay more eggs", "eggs",
     "laid $x eggs"),
    ("{children|students|pupils}", "{a short walk|more sleep|a good breakfast|daily practice|quiet music|small groups}",
     "remember more words", "words", "remembered $x words"),
    ("{runners|swimmers|rowers}", "{an extra meal|a day of rest|cold baths|new shoes|short naps}", "train longer",
     "minutes", "trained for $x minutes"),
    ("{bees|ants|birds}", "{red flowers|sweet water|a warm box|tall trees|a new hive}", "come more often", "visits",
     "made $x visits"),
    ("{bakers|cooks|weavers|potters}", "{a new oven|a sharp tool|a second helper|a written plan|better light}",
     "make more each day", "pieces", "made $x pieces"),
]


def study_doc(m):
    """A small study and what it shows; a small sample makes weak evidence."""
    who, what, effect, unit, result = (m.choose(t) for t in m.pick(STUDIES))
    low, high = sorted(m.some(range(10, 99), 2))
    size = m.pick([4, 5, 6, 8, 40, 50, 60, 80])
    works = m.chance(0.65)
    a, = w.people(m, 1)
    s = {**a.slots("A"), "who": who.replace("$fruit", m.pick(w.FRUITS)), "what": what, "effect": effect, "unit": unit,
         "x": high if works else low, "y": low if works else high, "n": size, "town": w.town(m)}
    s["with"] = result.replace("$x", str(s["x"]))
    s["without"] = result.replace("$x", str(s["y"]))
    text = m.say("$A {tested|studied|wanted to know} whether $what can {help|make} $who $effect. "
                 "There were $n in each group. The group with $what $with{ on average|}. "
                 "The {other|second} group $without{ on average|}.", s)
    small = size < 10
    strength = "weak, because the groups were small" if small else "strong, because the groups were large"
    yes, so = ("Yes", "helped") if works else ("No", "did not help")
    question = m.choose("{What does the study show|Did $what help|What did $A find}?")
    finding = f"{yes}. " if question.startswith("Did") else ""
    finding += m.say(f"With $what it was $x $unit, in the other group $y $unit, so $what {so}.", s)
    asked = [
        (m.fill(question, s), finding),
        (m.say("How {strong|good} is the evidence?", s), f"The evidence is {strength}."),
        (m.say("How large were the groups?", s), m.say("There were $n in each group.", s)),
        (m.say("{Give|Write} a {short |}summary.", s),
         m.say("$A tested $what with $who. ", s) + ("It helped." if works else "It did not help.")
         + f" The evidence is {'weak' if small else 'strong'}."),
    ]
    doc = ask_about(m, "facts", ("study", s["what"], s["who"], size, works), text, m.some(asked, m.number(1, 3)))
    return doc


SUMMARIES = [
    ("{On $day|Yesterday}, $A {walked|went} to $place. {The weather was fine|It was a long way}. There $Ahe {met|saw} "
     "$B, and they {ate $food|talked for an hour}. {Later|Then} $A {bought|found} a $colour $thing and went home.",
     "$A went to $place, met $B and came home with a $colour $thing."),
    ("The $job of $town is $A. Every $day $Ahe {opens the shop|starts work} {at six|early}. {Many people come|People "
     "come from far away}. They like $Ahis $food. {This week|Last week} $B came to help.",
     "$A is the $job of $town, and $B came to help."),
    ("There was a {storm|fire|flood} in $town on $day. The $thing of $A was {lost|broken}. {Nobody was hurt|All "
     "people were safe}. $B {gave|brought} $A some $food and a new $thing.",
     "After what happened in $town, $B gave $A food and a new $thing."),
    ("$A and $B {argued|talked} about the $thing. $A wanted to {sell|keep} it. $B wanted to {give it away|paint it "
     "$colour}. {In the end|After an hour}, they {agreed|decided} to take it to $place.",
     "$A and $B talked about the $thing and took it to $place."),
]


def summary_doc(m):
    a, b = w.people(m, 2)
    s = {**a.slots("A"), **b.slots("B"), "day": m.pick(w.DAYS), "place": m.pick(w.PLACES), "food": m.pick(w.FOODS),
         "colour": m.pick(w.COLOURS), "thing": m.pick(w.THINGS), "job": m.pick(w.JOBS), "town": w.town(m)}
    text, short = (articles(m.say(t, s)) for t in m.pick(SUMMARIES))
    key = ("summary", a.name, s["thing"], s["place"])
    if m.chance(0.3):
        return Doc("facts", key, text=f"{text}\n\nSummary: {short}")
    ask = m.say("{Summarise this|Give a short summary|Sum this up|Summarise the text}{:|.}")
    return Doc("facts", key, messages=(("user", f"{ask}\n\n{text}"), ("assistant", short)))


CAPITALS = {"France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
            "Austria": "Vienna",
            "Poland": "Warsaw", "Sweden": "Stockholm", "Norway": "Oslo", "Denmark": "Copenhagen", "Finland": "Helsinki",
            "Greece": "Athens", "Ireland": "Dublin", "England": "London", "Scotland": "Edinburgh", "Japan": "Tokyo",
            "China": "Beijing",
            "India": "New Delhi", "Russia": "Moscow", "Egypt": "Cairo", "Kenya": "Nairobi", "Canada": "Ottawa",
            "Mexico": "Mexico City",
            "Cuba": "Havana", "Peru": "Lima", "Chile": "Santiago", "Hungary": "Budapest", "Belgium": "Brussels",
            "Turkey": "Ankara", "Iceland": "Reykjavik"}
OPPOSITES = """big small|hot cold|fast slow|high low|light dark|old new|happy sad|full empty|open closed|wet dry|
strong weak|early late|hard soft|long short|loud quiet|clean dirty|rich poor|near far|up down|left right|day night|
first last|sweet sour|thick thin|heavy light""".replace("\n", "").split("|")
BABIES = {"cat": "kitten", "dog": "puppy", "cow": "calf", "horse": "foal", "sheep": "lamb", "goat": "kid",
          "hen": "chick", "duck": "duckling",
          "bear": "cub", "fox": "cub", "deer": "fawn", "frog": "tadpole", "goose": "gosling", "pig": "piglet",
          "swan": "cygnet"}
MAKES = {"bees": "honey", "hens": "eggs", "cows": "milk", "sheep": "wool", "spiders": "webs", "bakers": "bread",
         "tailors": "clothes",
         "potters": "pots", "masons": "walls", "farmers": "food"}
LEGS = {"dog": "four", "cat": "four", "spider": "eight", "bird": "two", "ant": "six", "horse": "four", "snake": "no",
        "bee": "six", "fish": "no", "hen": "two"}
USES = {"hammer": "drive nails", "saw": "cut wood", "needle": "sew cloth", "ladder": "climb up", "key": "open a lock",
        "umbrella": "keep dry in the rain",
        "clock": "tell the time", "map": "find the way", "lamp": "give light", "broom": "sweep the floor",
        "spoon": "eat soup", "compass": "find north",
        "kettle": "boil water", "brush": "paint or clean", "rope": "tie things together", "oven": "bake bread"}
PLAIN = [("How many days {are in a week|does a week have}?", "A week has seven days."),
         ("How many months {are in a year|does a year have}?", "A year has twelve months."),
         ("How many minutes {are in an hour|does an hour have}?", "An hour has sixty minutes."),
         ("How many hours {are in a day|does a day have}?", "A day has twenty-four hours."),
         ("What colour is {the sky|a clear sky}?", "The sky is blue."), ("What colour is grass?", "Grass is green."),
         ("What colour is snow?", "Snow is white."),
         ("What do plants need{| to grow}?", "Plants need light, water and air."),
         ("What is ice?", "Ice is frozen water."), ("What is rain?", "Rain is water that falls from clouds."),
         ("What is the sun?", "The sun is a star."), ("What is the moon?", "The moon goes around the earth."),
         ("Where do fish live?", "Fish live in water."),
         ("When does the sun rise?", "The sun rises in the morning."),
         ("What comes after winter?", "Spring comes after winter."),
         ("What comes after summer?", "Autumn comes after summer.")]


def after(items, i):
    return items[i], items[(i + 1) % len(items)]


def knowledge_pair(m):
    """(question, answer, key) from the stock of general knowledge."""
    kind = m.number(0, 9)
    if kind <= 1:
        k = m.pick(sorted(CAPITALS))
        c = CAPITALS[k]
        return m.pick([(f"What is the capital of {k}?", f"The capital of {k} is {c}."),
                       (f"{c} is the capital of which country?", f"{c} is the capital of {k}.")]) + (k,)
    if kind == 2:
        a, b = m.pick(OPPOSITES).split()
        if m.chance(0.4) and b != "light":
            a, b = b, a
        q = m.say("{What is the opposite of $a?|Give me the opposite of $a.|The opposite of $a is what?}", {"a": a})
        return q, f"The opposite of {a} is {b}.", a
    if kind == 3:
        k = m.pick(sorted(BABIES))
        q = m.say("What {is a young $a called|do you call a young $a|is a baby $a called}?", {"a": k})
        return q, f"A young {k} is called a {BABIES[k]}.", k
    if kind == 4:
        k = m.pick(sorted(MAKES))
        return f"What do {k} make?", f"{capital(k)} make {MAKES[k]}.", k
    if kind == 5:
        k = m.pick(sorted(LEGS))
        return f"How many legs does a {k} have?", f"A {k} has {LEGS[k]} legs.", k
    if kind == 6:
        k = m.pick(sorted(USES))
        q = m.say("{What is a $k for|What do you do with a $k|Why do we need a $k}?", {"k": k})
        return q, f"A {k} is used to {USES[k]}.", k
    if kind == 7:
        items, word = m.pick([(w.DAYS, "day"), (w.MONTHS, "month")])
        a, b = after(items, m.number(0, len(items) - 1))
        return m.pick([(f"What {word} comes after {a}?", f"{b} comes after {a}."),
                       (f"What {word} comes before {b}?", f"{a} comes before {b}.")]) + (a,)
    if kind == 8:
        key = m.number(0, 10), m.number(0, 10)
        a, b = (w.NUMBERS[k] for k in key)
        q = m.say("What is $a {plus|and} $b?", {"a": a, "b": b})
        return q, f"{capital(a)} plus {b} is {w.NUMBERS[sum(key)]}.", key
    q, a = m.pick(PLAIN)
    q = m.say(q)
    return q, a, q


def knowledge_doc(m):
    """One to three questions of general knowledge, in one conversation."""
    pairs = [knowledge_pair(m) for _ in range(m.number(1, 3))]
    key = ("knowledge", *(p[2] for p in pairs))
    pairs = [(articles(q), articles(a)) for q, a, _ in pairs]
    if m.chance(0.2):
        return Doc("facts", key, text="\n\n".join(f"Question: {q}\nAnswer: {a}" for q, a in pairs))
    return Doc("facts", key, messages=tuple(t for q, a in pairs for t in (("user", q), ("assistant", a))))
