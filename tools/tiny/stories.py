"""Short stories, and questions whose answers stand in them.

Owns the plots.  A plot is data: what it needs (slots), its sentences in order, each with
alternatives, and the facts that hold in it as (question, answer) pairs.  The story domain tells
them; the fact domain also asks about them.
"""
import re
from dataclasses import dataclass

import words as w
from grammar import Doc, slot


@dataclass
class Plot:
    name: str
    key: tuple        # slots that make the combination for the held-out split
    subject: str      # what the story is about, for a request
    beats: list       # sentences; a list entry offers alternatives
    facts: list       # (question, answer)


@dataclass
class Story:
    plot: Plot
    slots: dict
    text: str

    @property
    def key(self):
        return (self.plot.name,) + tuple(self.slots[k] for k in self.plot.key)


ENDINGS = [
    "{From that day on|After that}, $A and $B were {good|close|the best of} friends.",
    "{That night|That evening}, $A went to bed {tired but $mood|with a smile|and slept well}.",
    "$A was $mood, and so was $B.",
    "{And that is how|That was the day when} $A learned that {friends help each other|it is good to ask for "
    "help|small things matter|patience pays}.",
    "$B {laughed|smiled} and said, \"{We did it together|That was a good day|What a day}!\"",
    "They {walked|went} home together {in the evening light|before it was dark|and sang a song}.",
    "$A never forgot {that day|what $B had done}.",
]

PLOTS = [
    Plot("lost", ("A", "thing", "spot"), "someone who loses a $thing", [
        ["$A {lived|lived with $Ahis family} {near|close to} $place. $AHe had a $colour $thing that $Ahe "
         "{loved|liked} very much.",
         "{Once upon a time|Long ago}, a $trait {child|person} named $A lived near $place. $A had a $colour $thing."],
        ["{One morning|One day|On $day}, the $thing was gone.", "{One day|On $day}, $A could not find the $thing.",
         "{But one day|On $day}, $A lost the $thing."],
        ["$A {looked|searched} {everywhere|all day}, but {it was not there|could not see it}. $AHe {felt sad|began to "
         "cry|was very sad}.",
         "$A was sad and {looked in every room|looked all over $place}."],
        ["Then $B {came by|came along}. \"Why are you sad?\" asked $B. \"I lost my $thing,\" said $A.",
         "$A asked $B, \"Have you seen my $thing?\" \"No,\" said $B, \"but I will help you.\""],
        ["{Together they looked|They looked together} for a long time. {At last|In the end}, $B found the $thing "
         "$spot.",
         "$B had an idea and looked $spot. {There was the $thing|The $thing was there}!"],
        ["$A {hugged|thanked} $B. \"Thank you!\" {said $A|$Ahe said}.", "\"Thank you, $B!\" said $A."],
    ], [("What did $A lose?", "$A lost a $colour $thing."), ("Where was the $thing?", "The $thing was $spot."),
        ("Who found the $thing?", "$B found the $thing."), ("What colour was the $thing?", "The $thing was $colour."),
        ("Where did $A live?", "$A lived near $place.")]),

    Plot("storm", ("A", "B", "place", "food"), "a storm at $place", [
        ["{On $day|One day}, $A was at $place when the sky {turned dark|grew dark}.",
         "$A was {walking|playing} near $place {on $day|one afternoon}. {Dark clouds came|The sky grew dark}."],
        ["{Soon|Then} {a big storm came|the wind began to blow and the rain fell}.",
         "The {wind|storm} was {loud|strong}, and {rain fell|the trees shook}."],
        ["$A {ran|hurried} to the {small house|little hut} of $B and knocked {on the door|three times}.",
         "$A saw a light and ran to it. It was the {house|hut} of $B."],
        ["\"Come in,\" said $B. \"{You are wet|You must be cold}.\"",
         "$B opened the door and {said, \"Come in and get warm.\"|let $Ahim in.}"],
        ["$B {gave|offered} $A some $food and a $colour $cloth.",
         "They sat by the fire and ate $food. $B gave $A a $colour $cloth."],
        ["$A {told|read} a story while the storm {passed|went by}.",
         "They {played a game|sang songs} until the storm was over."],
        ["{In the morning|After an hour}, the sun {came out|was shining}, and $A {went home|could go home}.",
         "{Soon|At last} the rain stopped, and {there was a rainbow|the birds sang again}."],
    ], [("Where was $A when the {storm came|sky grew dark}?", "$A was near $place."),
        ("Who helped $A?", "$B helped $A."),
        ("What did $A eat?", "$A ate $food."), ("What did $B give $A to keep warm?", "$B gave $A a $colour $cloth.")]),

    Plot("making", ("A", "craft", "B"), "making a $craft", [
        ["$A wanted to make a $craft {for|as a gift for} $B.",
         "{One day|On $day}, $A {decided|wanted} to make a $craft. It was {for|a gift for} $B."],
        ["But $Ahe had no $material.", "$AHe needed $material, {but there was none at home|but had none}."],
        ["So $A went to $place and {asked for|bought} some $material.",
         "$A {walked|went} to $place and {found|got} some $material there."],
        ["$AHe worked {all day|for $n days}.", "It took $n days.", "$A worked {slowly and with care|every evening}."],
        ["{The first $craft broke|The first one fell apart}, but $A {did not give up|tried again}.",
         "It was hard, but $A {kept going|did not stop}."],
        ["{At last|In the end}, the $craft was {ready|done}. It was $colour and {very fine|beautiful}."],
        ["$B {loved|was happy with} the $craft.", "\"{What a fine|This is the best} $craft!\" said $B."],
    ], [("What did $A make?", "$A made a $craft."), ("Who was the $craft for?", "The $craft was for $B."),
        ("What did $A need?", "$A needed $material."),
        ("Where did $A {get|find} the $material?", "$A got the $material at $place."),
        ("What colour was the $craft?", "The $craft was $colour.")]),

    Plot("seed", ("A", "fruit", "place"), "a $fruit that grows", [
        ["{In $season|One day in $season}, $A found a {tiny|small} seed near $place.",
         "$A had a small seed. {It came from|$B had found it near} $place."],
        ["\"What will it be?\" {asked|wondered} $A.", "$AHe put it in the {ground|earth} beside $Ahis house."],
        ["$A {gave it water|watered it} every {day|morning}.", "Every {day|morning}, $A gave the seed some water."],
        ["{For a long time|For many days}, nothing {happened|grew}. \"Be patient,\" said $B.",
         "$B said, \"{Wait|Give it time}.\" $A waited for $n weeks."],
        ["Then a {green|little} leaf came {up|out of the ground}.", "Then, one day, there was a small green plant."],
        ["The plant grew {and grew|tall}, and {soon|by $season2} there were $n $fruits {on it|to pick}.",
         "{By $season2|In $season2}, $A {picked|had} $n $fruits."],
        ["$A {shared|ate} the $fruits with $B.", "$A gave half of the $fruits to $B."],
    ], [("What grew from the seed?", "The seed grew into a plant with $fruits."),
        ("How many $fruits did $A {have|get}?", "$A had $n $fruits."), ("Who told $A to wait?", "$B told $A to wait."),
        ("When did $A have the $fruits?", "$A had the $fruits in $season2."),
        ("Where did the seed come from?", "The seed came from near $place.")]),

    Plot("repair", ("A", "broken", "town"), "a broken $broken", [
        ["The $broken in $town was {broken|old and broken}. {Nobody could use it|Everyone was worried}.",
         "{One day|On $day}, the $broken in $town broke."],
        ["\"Who can {fix|mend} it?\" asked the people.", "The people of $town {did not know what to do|were sad}."],
        ["$A, the {$trait|young|old} $job, said, \"I will try.\"",
         "$A was a $job. \"{I can fix it|Let me try},\" said $A."],
        ["$AHe {took|brought} a $tool and went to work.", "$A needed a $tool, and $B {brought|lent} $Ahim one."],
        ["$B helped and held the {light|other end}.",
         "$B came to help, {and they worked all night|and together they were fast}."],
        ["{After $n hours|After $n days}, the $broken was {like new|good again}.",
         "It took $n hours, but then the $broken {worked|was good} again."],
        ["The people {cheered|clapped} and gave $A {lots|plenty} of $food.",
         "Everyone was glad. They {thanked|gave $food to} $A and $B."],
    ], [("What was broken?", "The $broken was broken."), ("Who {fixed|mended} the $broken?", "$A fixed the $broken."),
        ("What did $A use?", "$A used a $tool."), ("What was the job of $A?", "$A was a $job."),
        ("Where was the $broken?", "The $broken was in $town."),
        ("Who helped $A?", "$B helped $A.")]),

    Plot("letter", ("A", "B", "town"), "a letter for $B", [
        ["$A had to {carry|bring} a letter to $B in $town.",
         "{One morning|On $day}, $A got a letter for $B, who lived in $town."],
        ["The {way|road} was long, and there was {snow|fog|rain}.",
         "$AHe {set out|left} early {in the morning|with some $food in a bag}."],
        ["At $place, $A {met|saw} a $animal that {was stuck in a fence|had hurt its leg}.",
         "Near $place, a $animal {stood in the road|was in the way and looked hungry}."],
        ["$A {stopped to help it|helped the $animal}.", "$AHe gave it some $food, and it was glad."],
        ["The $animal {showed $Ahim|knew} a {short|quick} path {through the hills|by the water}.",
         "Then the $animal walked with $Ahim {all the way|to the end of the road}."],
        ["{At last|In the evening}, $A {came to|reached} $town and gave the letter to $B.",
         "So $A {reached|got to} $town in time, and $B {took|read} the letter."],
        ["\"{Good news|Wonderful}!\" said $B. \"My {sister|brother|friend} is coming home.\"",
         "$B read it and {smiled|danced with joy}."],
    ], [("Who was the letter for?", "The letter was for $B."), ("Where did $B live?", "$B lived in $town."),
        ("{What animal|Which animal} did $A {meet|help}?", "$A met a $animal."),
        ("Where did $A {meet|see} the $animal?", "$A met the $animal near $place.")]),

    Plot("fear", ("A", "fear", "B"), "someone who is afraid of $fear", [
        ["$A was afraid of $fear.",
         "{Once there was|There was} a $trait {child|young person} named $A who was afraid of $fear."],
        ["{Every night|Each day}, $Ahe {hid|stayed} {in bed|at home}.",
         "The other children laughed, {and $A felt small|but $A could not help it}."],
        ["$B {saw this|heard about it} and {gave|brought} $Ahim a $colour $help.",
         "{One day|On $day}, $B came with a $colour $help. \"Take this,\" said $B."],
        ["\"{When you are afraid|If you feel afraid}, hold the $help,\" {said $B|$B told $Ahim}.",
         "\"It will help you,\" {said $B|$B said}."],
        ["{The next day|Soon}, $A had to go to $place alone.",
         "Then {the $pet ran|the little $pet ran} off to $place, and $A had to {find|follow} it."],
        ["$AHe held the $help and took one step, and then another.",
         "{With the $help in $Ahis hand|Holding the $help}, $A {went|walked} on."],
        ["$A was not afraid {any more|of $fear any more}.",
         "\"I did it!\" {said|called} $A. {$B was proud.|\"I am not afraid now!\"}"],
    ], [("What was $A afraid of?", "$A was afraid of $fear."),
        ("What did $B give {to $A|$A}?", "$B gave $A a $colour $help."),
        ("Who helped $A?", "$B helped $A."), ("Where did $A have to go?", "$A had to go to $place.")]),

    Plot("trade", ("A", "thing", "thing2"), "a trade at the market", [
        ["$A {had|owned} a $colour $thing but {wanted|needed} a $thing2.",
         "$A took a $colour $thing to the market in $town. $AHe wanted a $thing2."],
        ["At the market, $A {asked|went to} $C first. \"{I have no|I do not have a} $thing2,\" said $C.",
         "$C did not {want|need} the $thing."],
        ["Then $A met $B, who had a {fine|good|new} $thing2.",
         "{Next to the well|By the gate} stood $B with a $thing2."],
        ["\"{Will you trade|Shall we trade}?\" asked $A. \"My $thing for your $thing2.\"",
         "\"I will give you my $thing for your $thing2,\" said $A."],
        ["$B {thought about it|looked at the $thing for a while} and said, \"{Yes|Good|Gladly}.\"",
         "\"That is {fair|a fair trade},\" said $B."],
        ["So $B got the $thing, and $A {got|took home} the $thing2.",
         "They {shook hands|traded}. Now $A had the $thing2 and $B had the $thing."],
    ], [("What did $A {want|need}?", "$A wanted a $thing2."),
        ("What did $A give {to $B|$B}?", "$A gave $B a $colour $thing."),
        ("Who had {a|the} $thing2?", "$B had the $thing2."), ("Who got the $thing?", "$B got the $thing."),
        ("What did $A get?", "$A got a $thing2.")]),

    Plot("race", ("animal", "animal2", "place"), "a race between {a|the} $animal and {a|the} $animal2", [
        ["{Once upon a time|One day|Long ago}, {a|the} $animal and {a|the} $animal2 {wanted to race|had a race} to "
         "$place.",
         "\"I am {fast|faster than you},\" said the $animal. \"Then let us race to $place,\" said the $animal2."],
        ["The $judge {said, \"Go!\"|rang a bell}, and they ran.",
         "{An old|A wise} $judge was the judge. \"Ready? Go!\""],
        ["The $animal was {first|in front}, but then it {fell into a hole|hurt its foot}.",
         "{Half way|Soon} the $animal {fell|slipped} and could not {get up|run}."],
        ["The $animal2 {stopped|came back} and {helped it up|helped}.",
         "\"{Wait|Stay there}, I will help you,\" said the $animal2."],
        ["{They walked|So they walked} to $place together.", "{Side by side|Slowly}, they {came to|reached} $place."],
        ["\"{You both win|Both of you win},\" said the $judge, and {gave them some $food|they ate $food together}.",
         "The $judge said, \"{A good friend is better than a prize|You are both winners}.\""],
        ["{From that day on|After that}, the $animal and the $animal2 were friends.",
         "And they {never raced again|were friends for the rest of their days}."],
    ], [("Who needed help?", "The $animal needed help."),
        ("Who helped the $animal?", "The $animal2 helped the $animal."),
        ("Where did they race to?", "They raced to $place."), ("Who was the judge?", "The $judge was the judge.")]),

    Plot("box", ("A", "thing", "place", "B"), "a key and a box", [
        ["{On $day|One day}, $A found {an old|a small} key {near|at} $place.",
         "$A was {walking|playing} near $place and found a $colour key."],
        ["\"What does it open?\" {asked|said} $A.", "$AHe put it in {a pocket|$Ahis pocket} and {went|ran} home."],
        ["$B {said, \"I know an old box $spot.\"|told $Ahim about a box $spot.}",
         "Then $B {showed $Ahim|pointed to} a box $spot."],
        ["The key {fit|turned}, and the box {opened|was open}.",
         "$A {put|turned} the key in the lock. {Click|It opened}!"],
        ["{Inside|In the box}, there was {only a|a} $colour2 $thing.", "A $colour2 $thing was {inside|in the box}."],
        ["\"It {was|belonged to} {my grandmother|my grandfather|our teacher},\" said $B.",
         "\"I {lost|looked for} that $thing years ago!\" {said|cried} $B."],
        ["$A gave the $thing to $B.", "They {put it on a shelf|kept it} for all to see."],
    ], [("What did $A find {near|at} $place?", "$A found a key."),
        ("What was in the box?", "A $colour2 $thing was in the box."),
        ("Where was the box?", "The box was $spot."), ("Who knew about the box?", "$B knew about the box."),
        ("Where did $A find the key?", "$A found the key near $place.")]),

    Plot("rescue", ("A", "pet", "pname"), "a lost $pet", [
        ["{One|On a} {cold|rainy} {day|night}, $A heard a {small|soft} {sound|cry} near $place.",
         "$A was on the way {home|to $place} {when there was a soft cry|when $Ahe heard a cry}."],
        ["It was a {tiny|small|little} $colour $pet. It was {cold|wet} and {hungry|alone}.",
         "A {tiny|little} $colour $pet {sat|lay} $spot."],
        ["$A {took|carried} it home and gave it {some $food|milk and a warm bed}.",
         "\"{Poor thing|Do not be afraid},\" said $A, and took it home."],
        ["$AHe {named|called} it $pname.", "\"I will call you $pname,\" said $A."],
        ["{The next day|After $n days}, $pname was {strong|well} again.",
         "Day by day, $pname {grew|became} {stronger|bigger}."],
        ["{Then|One day}, $B came and {asked|said}, \"{May I play with|What a sweet $pet! May I pet} $pname?\"",
         "$B {helped|came every day} to {feed|play with} $pname."],
        ["Now $pname {lives|sleeps} {in the house of $A|at the foot of the bed} and is never {cold|alone}.",
         "{And so|Now} $A has a {good|new} friend."],
    ], [("What did $A find?", "$A found a $colour $pet."), ("What did $A call the $pet?", "$A called the $pet $pname."),
        ("What is the name of the $pet?", "The $pet is named $pname."),
        ("What colour was the $pet?", "The $pet was $colour.")]),

    Plot("music", ("A", "instrument", "B", "town"), "someone who learns the $instrument", [
        ["$A wanted to play the $instrument, {but it was hard|but the notes came out wrong}.",
         "{One day|In $season}, $A {got|was given} a $instrument. " "{The first sound was awful|It was not easy to "
                                                                    "play}."],
        ["The $animal {ran away|covered its ears} when it heard the {noise|sound}.",
         "{Nobody wanted to listen|The neighbours closed their windows}."],
        ["\"{Play a little every day|Do not stop},\" said $B, the old $job.",
         "$B, {who was a|the} $job, said, \"{Practise every day|I will teach you}.\""],
        ["So $A {played|practised} {every evening|every morning} {for $n weeks|at $place}.",
         "{For $n weeks|All $season}, $A practised at $place."],
        ["{Slowly|Little by little}, the {sound|song} {grew sweet|became better}.",
         "{Soon|Then} the birds {began to sing along|came to listen}."],
        ["At the {$season|summer|town} fair in $town, $A played {for everyone|a song}.",
         "On $day, $A played in $town, and {all the people|everyone} {danced|clapped}."],
        ["\"I knew you could do it,\" said $B.", "$A {bowed|smiled} and thanked $B."],
    ], [("What did $A {learn to play|play}?", "$A learned to play the $instrument."),
        ("Who helped $A?", "$B helped $A."),
        ("Where did $A practise?", "$A practised at $place."),
        ("Where did $A play for {the people|everyone}?", "$A played in $town."),
        ("What was the job of $B?", "$B was a $job.")]),
]


def make_slots(m):
    """Everything any plot may need; unused slots cost nothing."""
    a, b, c = w.people(m, 3)
    craft, broken, fear = (m.pick(sorted(t)) for t in (w.CRAFTS, w.TOOLS, w.FEARS))
    thing, thing2, cloth = m.some(w.THINGS, 2) + [m.pick(["blanket", "coat", "scarf", "shawl"])]
    animal, animal2, judge = m.some(w.ANIMALS, 3)
    colour, colour2 = m.some(w.COLOURS, 2)
    season = m.number(0, 3)
    fruit = m.pick(w.FRUITS)
    return {**a.slots("A"), **b.slots("B"), **c.slots("C"), "thing": thing, "thing2": thing2, "cloth": cloth,
            "craft": craft, "material": w.CRAFTS[craft], "broken": broken, "tool": w.TOOLS[broken],
            "fear": fear, "help": w.FEARS[fear], "animal": animal, "animal2": animal2, "judge": judge,
            "colour": colour, "colour2": colour2, "season": w.SEASONS[season], "season2": w.SEASONS[(season + 1) % 4],
            "fruit": fruit, "fruits": w.plural(fruit), "place": m.pick(w.PLACES), "spot": m.pick(w.SPOTS),
            "day": m.pick(w.DAYS), "mood": m.pick(w.MOODS), "trait": m.pick(w.TRAITS), "food": m.pick(w.FOODS),
            "n": m.pick(w.NUMBERS[2:13]), "town": w.town(m), "job": m.pick(w.JOBS), "pet": m.pick(w.PETS),
            "pname": m.pick(w.PET_NAMES), "instrument": m.pick(w.INSTRUMENTS)}


def articles(text):
    """\"a\" becomes \"an\" before the sound of a vowel, but not where it is a name: "a and b"."""
    return re.sub(r"\b([Aa]) (?!(?:and|is|if|or) )(?=[aeioAEIO]|um|un[^i]|up|hones|hour)", r"\1n ", text)


def make_story(m):
    plot, slots = m.pick(PLOTS), make_slots(m)
    text = m.lines(plot.beats, slots)
    if "$B" in str(plot.beats) and m.chance(0.6):
        text += " " + m.say(m.pick(ENDINGS), slots)
    return Story(plot, slots, articles(text))


REQUESTS = [
    "{Tell|Write} {me |}a {short |little |}story about $what.",
    "{Please tell|Can you tell|Can you write} me a story about $what{?|.}",
    "I {want|would like} to hear a story about $what.", "{Make up|Invent} a story about $what.",
    "A story about $what, please.",
]
NAMED = ["$A", "$A and $B", "$what", "$A and a $thing", "$what. The hero is {named|called} $A",
         "$what, with $A and $B"]


def request(m, story):
    """What a user may say to get this story; it names the parts that the story must use."""
    slots = dict(story.slots)
    slots["what"] = m.say(story.plot.subject, slots)
    if story.plot.name == "race":
        about = "$what"
    else:
        about = m.pick(NAMED)
        if "$thing" in about and "thing" not in story.plot.key:
            about = "$A and $what"
    slots["what"] = m.say(about, slots)
    return articles(m.say(m.pick(REQUESTS), slots)), slots


def story_doc(m):
    story = make_story(m)
    if m.chance(0.45):
        ask, _ = request(m, story)
        return Doc("stories", story.key, messages=(("user", ask), ("assistant", story.text)))
    return Doc("stories", story.key, text=story.text)


def is_told(story, answer):
    """Whether every slot of the answer stands in the story: some beats leave one out."""
    return all(str(slot(story.slots, name)) in story.text for name in re.findall(r"\$(\w+)", answer))


def story_question_doc(m):
    """A story, then two to four questions, raw or as a conversation."""
    story = make_story(m)
    told = [f for f in story.plot.facts if is_told(story, f[1])]
    facts = m.some(told, m.number(min(2, len(told)), min(4, len(told))))
    asked = [(articles(m.say(q, story.slots)), articles(m.say(a, story.slots))) for q, a in facts]
    if m.chance(0.35):
        body = "".join(f"\n\nQuestion: {q}\nAnswer: {a}" for q, a in asked)
        return Doc("facts", story.key, text=story.text + body)
    lead = m.say("{Read this story and answer: |Here is a story. |Read the story. ||}")
    turns = [("user", f"{lead}{story.text}\n\n{asked[0][0]}"), ("assistant", asked[0][1])]
    for q, a in asked[1:]:
        turns += [("user", q), ("assistant", a)]
    return Doc("facts", story.key, messages=tuple(turns))
