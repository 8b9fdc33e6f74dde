"""Scenes: things change hands and places, and the questions are about how it ended.

Owns the small world that is played out: who holds what, what lies where, who is in which room.
Every question is answered from the state after the last sentence, so a reader has to follow the
moves and not just find the last name.
"""
import words as w
from facts import UNKNOWN, ask_about
from grammar import listing

SPOTS = ["on the table", "on the chair", "under the bed", "on the shelf", "in the box", "by the door",
         "near the window",
         "in the drawer", "under the tree", "in the basket", "behind the sofa", "on the floor", "under the bench",
         "in the cupboard", "next to the lamp", "in the bag"]
ROOMS = "kitchen garden hall yard attic cellar barn school library shop park forest office bathroom".split()
ASIDES = ["It {is|was} a {sunny|rainy|quiet|long|cold} {day|morning|evening}.", "The {cat|dog|baby} {sleeps|slept}.",
          "The {sun|moon} {shines|shone}.", "{Everyone|Nobody} {is|was} {happy|tired|hungry|in a hurry}.",
          "The {wind|rain} {is|was} loud."]
VERBS = {  # (present, past) wordings of each kind of move; $it is the thing, $P the person or a pronoun
    "has": ("$P has a $c $x.", "$P had a $c $x."),
    "puts": ("$P {puts|leaves|lays} $it $spot.", "$P {put|left|laid} $it $spot."),
    "takes": ("$P {takes $it|picks $it up}.", "$P {took $it|picked $it up}."),
    "gives": ("$P {gives|hands} $it to $B.", "$P {gave|handed} $it to $B."),
    "goes": ("$P {goes|walks|runs} to the $room.", "$P {went|walked|ran} to the $room."),
}


class Scene:
    """The state of the world and the sentences that led to it."""

    def __init__(self, m):
        self.m, self.past = m, m.chance(0.5)
        self.people = w.people(m, m.number(2, 3))
        self.things = dict(zip(m.some(w.THINGS, m.number(1, 3)), m.some(w.COLOURS, 3)))
        self.spots, self.rooms = m.some(SPOTS, 6), m.some(ROOMS, 4)
        self.holder, self.lies, self.room, self.gave = {}, {}, {}, {}
        self.said, self.last = [], (None, None)

    def tell(self, kind, person, thing=None, **slots):
        """One sentence; a pronoun may stand for who or what the sentence before was about."""
        m = self.m
        name = person.name
        if self.last[0] is person and m.chance(0.6):
            name = person.he.capitalize()
        it = "it" if thing and self.last[1] == thing and m.chance(0.6) else f"the {thing}"
        s = {"P": name, "it": it, "x": thing, "c": self.things.get(thing), **slots}
        self.said.append(m.say(VERBS[kind][self.past], s))
        self.last = (person, thing)

    def begin(self):
        """Every thing has an owner or a spot to begin with."""
        m = self.m
        for thing, colour in self.things.items():
            if m.chance(0.75):
                owner = m.pick(self.people)
                self.holder[thing] = owner
                self.tell("has", owner, thing)
            else:
                self.lies[thing] = self.spots.pop()
                self.said.append(f"A {colour} {thing} {'was' if self.past else 'is'} {self.lies[thing]}.")
                self.last = (None, thing)

    def move(self):
        """Something happens that can happen now."""
        m, thing = self.m, self.m.pick(sorted(self.things))
        kind = m.number(0, 9)
        if kind <= 2 and self.rooms:
            person = m.pick(self.people)
            self.room[person.name] = self.rooms.pop()
            self.tell("goes", person, room=self.room[person.name])
        elif kind == 3 and m.chance(0.7):
            self.said.append(self.aside())
            self.last = (None, None)
        elif thing in self.lies:
            person = m.pick(self.people)
            del self.lies[thing]
            self.holder[thing] = person
            self.tell("takes", person, thing)
        elif kind <= 6 or not self.spots:
            giver = self.holder[thing]
            taker = m.pick([p for p in self.people if p is not giver])
            self.holder[thing] = taker
            self.gave.setdefault(thing, []).append(giver.name)
            self.tell("gives", giver, thing, B=taker.name)
            self.last = (None, thing)
        else:
            self.lies[thing] = self.spots.pop()
            self.tell("puts", self.holder.pop(thing), thing, spot=self.lies[thing])

    def aside(self):
        """A sentence that changes nothing, in the tense of the rest."""
        m = self.m
        return m.choose(m.pick(ASIDES).replace("{is|was}", "was" if self.past else "is")
                        .replace("{sleeps|slept}", "slept" if self.past else "sleeps")
                        .replace("{shines|shone}", "shone" if self.past else "shines"))

    def questions(self):
        """All (question, answer) pairs that the last state allows, the ones about places and holders twice."""
        m, asked = self.m, []
        now = m.pick(["", " now"])
        for thing, colour in self.things.items():
            if thing in self.lies:
                asked += [(f"Where is the {thing}{now}?", f"The {thing} is {self.lies[thing]}.")] * 2
                asked.append((f"What is {self.lies[thing]}?", f"The {thing} is {self.lies[thing]}."))
            else:
                name = self.holder[thing].name
                asked += [(f"Who has the {thing}{now}?", f"{name} has the {thing}."),
                          (f"Where is the {thing}{now}?", f"{name} has the {thing}.")]
                held = [x for x in self.things if self.holder.get(x) is self.holder[thing]]
                asked.append((f"What does {name} have{now}?", f"{name} has {listing(['the ' + x for x in held])}."))
            if len(self.gave.get(thing, [])) == 1:
                name, = self.gave[thing]
                asked.append((f"Who gave the {thing} away?", f"{name} gave the {thing} away."))
            asked.append((f"What colour is the {thing}?", f"The {thing} is {colour}."))
        for name, room in self.room.items():
            asked.append((f"Where is {name}{now}?", f"{name} is in the {room}."))
        return asked


def scene_doc(m):
    scene = Scene(m)
    if m.chance(0.25):
        names = listing([p.name for p in scene.people])
        scene.said.append(f"{names} {'were' if scene.past else 'are'} {m.pick(['at home', 'friends', 'playing'])}.")
    scene.begin()
    for _ in range(m.number(1, 5)):
        scene.move()
    asked = []
    for pair in scene.m.some(scene.questions(), m.number(2, 3)):
        if pair not in asked:
            asked.append(pair)
    if m.chance(0.1):
        other = m.pick([x for x in w.THINGS if x not in scene.things])
        asked.append((f"Where is the {other}?", UNKNOWN))
    thing = next(iter(scene.things))
    where = scene.lies.get(thing) or scene.holder[thing].name
    return ask_about(m, "facts", ("scene", scene.people[0].name, thing, where), " ".join(scene.said), asked)
