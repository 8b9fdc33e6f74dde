"""Design notes: the domain of the architect.

Owns the forces and what answers them.  A note names a system, what it must do and the force that
presses on it; the decision follows from the force, with its reason and its price.
"""
from dataclasses import dataclass

import words as w
from grammar import Doc, capital
from stories import articles


@dataclass
class Force:
    name: str
    need: str       # what presses
    choice: str     # what answers it
    why: str
    price: str      # what it costs
    other: str      # the road not taken
    whynot: str


# Slots: $svc the service, $o a thing it holds, $os several, $team, $n.
FORCES = [
    Force("many reads", "Many users read the same $os, but few change them.", "a cache in front of the store",
          "most reads never reach the store", "a $o may be a little out of date", "a larger store",
          "it costs more and only helps for a while"),
    Force("bursts", "The $os come in bursts, many at once and then none.",
          "a queue between the web server and the workers", "the queue holds the $os until a worker is free",
          "a user waits a little for the result", "more web servers", "they would stand idle most of the day"),
    Force("no loss", "No $o may ever be lost, even when the power fails.", "a log that is written before the change",
          "after a crash the log is replayed", "every write takes a little longer", "a backup each night",
          "a day of $os could be lost"),
    Force("large files", "The $os are large and do not fit in memory.", "a stream that reads one block at a time",
          "memory use stays the same for any size", "the code cannot jump back", "reading the whole $o",
          "one large $o would stop the server"),
    Force("offline", "People must work on their $os without a network.", "a local copy that is synced later",
          "the work goes on when the network is down", "two changes to one $o must be merged",
          "a page that only works online", "the people in the field could not use it"),
    Force("two teams", "Two teams work on the $svc service and wait for each other.",
          "a small interface between the two parts", "each team can change its part alone",
          "the interface must be kept stable", "one shared code base", "every change needs both teams"),
    Force("many formats", "New kinds of $os come every month.", "a table of handlers, one for each kind",
          "a new kind is one new entry in the table", "the table must be tested for gaps", "a long chain of conditions",
          "it is hard to read and easy to break"),
    Force("search", "Users look for $os by words in the text.", "an index of words",
          "a search reads the index, not every $o", "the index must be updated with each change", "a scan over all $os",
          "it gets slower with every $o"),
    Force("slow partner", "A partner system is slow and sometimes down.", "a timeout and a few retries with a pause",
          "one slow partner does not stop the $svc service", "some requests take longer", "waiting without a limit",
          "all workers could hang"),
    Force("growth", "The number of $os doubles every year.", "splitting the $os over several stores by id",
          "each store holds only a part", "a query over all $os is harder", "one large machine",
          "it has an end, and it is dear"),
    Force("audit", "We must know who changed each $o and when.", "a history of events that is never changed",
          "any past state can be shown", "the history grows with time", "a field with the last change",
          "it forgets all earlier changes"),
    Force("double clicks", "A user may send the same $o twice.", "a request id that is stored with the $o",
          "the second request is found and ignored", "the ids must be kept for a while", "asking the user to wait",
          "people click twice anyway"),
    Force("old clients", "Old clients cannot be updated at once.", "a version number in every message",
          "the server can speak to old and new clients", "two versions must be tested", "one change for all",
          "old clients would stop working"),
    Force("one slow step", "One slow step makes every page wait.", "doing the slow step in the background",
          "the page is shown at once", "the result comes a little later", "a faster machine",
          "the step would still be slow"),
    Force("config", "Each customer wants other settings for $os.", "settings in a file, one for each customer",
          "no code changes for a new customer", "wrong settings must be caught early",
          "a branch of the code for each customer", "the branches drift apart"),
    Force("hot spot", "Most requests ask for the same few $os.", "a small table of the hot $os in memory",
          "the hot $os are found without a query", "the table must be kept small", "more copies of the store",
          "they would all do the same work"),
]

OPEN = ["{We need|We plan|This note is about} {a new|the} $svc service.",
        "The {$team team} {builds|owns} the $svc service.", "The $svc service {stores|handles} $os."]
ASK = ["{How should we|How would you} design {this|it}?", "What {design|structure} do you {suggest|propose}?",
       "What should we {do|use}?"]


def note(m, s, force, form, opening=""):
    """The answer to a force, as a whole note or in three sentences."""
    parts = (force.need, force.choice, force.why, force.price, force.other, force.whynot)
    need, choice, why, price, other, whynot = (articles(m.fill(part, s)) for part in parts)
    if form == "note":
        return (f"Design note: {s['svc']} service\n\nContext: {opening}{need}\n"
                f"Decision: We use {choice}.\nReason: With it, {why}.\n"
                f"Price: {capital(price)}.\nRejected: {capital(other)}, because {whynot}.")
    return f"I suggest {choice}. Then {why}. The price is that {price}."


def design_doc(m):
    force = m.pick(FORCES)
    o = m.pick(w.THINGS_OWNED)
    s = {"svc": m.pick(w.SERVICES), "o": o, "os": w.plural(o), "team": m.pick(w.TEAMS)}
    key = ("design", force.name, s["svc"], o)
    form = m.number(0, 9)
    if form <= 2:
        return Doc("designs", key, text=note(m, s, force, "note", articles(m.say(m.pick(OPEN), s)) + " "))
    if form <= 4:
        ask = m.say("{Write|Draft} a {short |}design note for {a|the} $svc service. ", s) + m.fill(force.need, s)
        return Doc("designs", key, messages=(("user", articles(ask)), ("assistant", note(m, s, force, "note"))))
    need = articles(m.say(m.pick(OPEN), s) + " " + m.fill(force.need, s))
    turns = [("user", f"{need} {m.say(m.pick(ASK))}"), ("assistant", note(m, s, force, "short"))]
    other, whynot = (articles(m.fill(t, s)) for t in (force.other, force.whynot))
    if m.chance(0.4):
        turns += [("user", m.say("{Why not|What about} ") + other + "?"), ("assistant", "No, because " + whynot + ".")]
    elif m.chance(0.4):
        turns += [("user", m.say("What {is the price|does it cost|is the risk}?")),
                  ("assistant", m.say("The price is that ") + articles(m.fill(force.price, s)) + ".")]
    return Doc("designs", key, messages=tuple(turns))
