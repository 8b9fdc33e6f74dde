"""The slot lists of the corpus: names, places, things and the words that go with them.

Owns vocabulary only, no sentence.  People, towns and made-up names are combined from parts, so
that the space of names is far larger than any model could learn by heart.
"""
SHE = """Mara Lena Nora Ida Tilda Anna Clara Elsa Greta Hanna Ines Julia Kira Lucy Mina Nina Olga Petra Rosa Sara
Tess Una Vera Wanda Yara Zoe Alma Bella Cora Dora Edith Flora Gwen Helen Iris Jane Kate Lily May Nell Olive Pearl
Ruth Stella Thea Ursula Violet Willa Ada Beth Celia Dina Emma Freya Hazel Joan Lydia Maud Opal Sonia""".split()
HE = """Tom Ben Carl Dan Emil Felix Georg Hugo Ivan Jonas Karl Leo Max Nils Oskar Paul Rolf Simon Theo Viktor Anton
Boris Conrad David Edgar Frank Gustav Henry Igor Jakob Kurt Lukas Martin Noah Otto Peter Robin Samuel Tobias Walter
Adam Bruno Cyril Dominic Erik Finn Gilbert Harold Isaac Jasper Kaspar Linus Milo Nathan Oliver Quentin Rupert Silas
Tim Victor Wilbur""".split()
SURNAMES = """Lind Berg Stone Wood Hill Marsh Field Brook Lane Hale Frost Reed Swan Wren Cole Dale Ford Grove Holt
Kemp Locke Moss North Page Rowe Shaw Thorn Vale West Young Ash Birch Crane Dunn Flint Gray Hart Kern""".split()
SYLLABLES_1 = """Ba Be Bri Da Do Fa Fe Ga Ha Hol Ja Ka Ki La Lo Ma Me Mo Na Ne Pa Pe Ra Ro Sa Sel Ta Te To Va Ve
Zo""".split()
SYLLABLES_2 = "ba da di fa go ka la li lo ma mi na no ra ri ro sa si ta ti va ve zo".split()
SYLLABLES_3 = "l m n r s rin lan min dor vin mar nel sa la na ra no do ka to".split()

TOWN_STARTS = """Oak Elm Ash Stone River North South East West High Low Green White Black Red Mill Lake Wind Sun Moon
Deer Fox Bear Crow Swan Salt Iron Copper Silver Maple""".split()
TOWN_ENDS = "ford field ton wick bridge dale haven wood port mouth brook ridge".split()

ANIMALS = """fox rabbit mouse owl badger hedgehog squirrel deer otter frog bear wolf duck goose sparrow crow turtle
mole beaver cat dog goat lamb pony hen swan raven lynx weasel toad""".split()
PETS = "cat dog rabbit parrot pony goat hen turtle mouse goose duck lamb".split()
PET_NAMES = """Pip Dot Moss Biscuit Pepper Button Clover Ginger Poppy Smoke Bramble Nutmeg Pebble Socks Rusty Tiger
Honey Bean""".split()
MOODS = "happy proud glad calm cheerful thankful".split()
TRAITS = "kind brave clever gentle patient curious careful quiet cheerful honest shy busy".split()
SIZES = "small tiny little young".split()
COLOURS = "red blue green yellow white black brown grey orange purple silver golden".split()

THINGS = """lantern key kite drum ball map ring bell book basket hat scarf coat boat whistle flute mirror button coin
compass ribbon cup spoon bucket rope ladder hammer brush blanket pillow candle clock umbrella wagon puzzle doll
marble feather shell stone lamp teapot jar box letter notebook pencil glove boot shawl apron violin trumpet chair
stool shovel rake saw needle net fan bag bowl locket medal telescope magnet top sled wheel banner flag pouch""".split()
FOODS = """bread soup cheese honey cake porridge jam stew pie rice butter nuts plums berries carrots beans onions
mushrooms pancakes cookies dumplings noodles""".split()
FRUITS = """apple pear plum cherry peach melon pumpkin carrot tomato potato onion lemon cabbage turnip bean
pepper""".split()
PLURALS = {"tomato": "tomatoes", "potato": "potatoes"}
PLACES = """the mill|the old bridge|the market|the harbour|the forest|the school|the bakery|the river|the hill|
the garden|the library|the barn|the lake|the station|the meadow|the tower|the orchard|the well|the church|the square|
the farm|the beach|the cave|the workshop|the park|the inn|the castle|the field|the windmill|
the lighthouse""".replace("\n", "").split("|")
SPOTS = """under a bench|behind the door|beside a tall tree|in the long grass|on a high shelf|under a pile of leaves|
near the gate|between two stones|inside an empty barrel|on the window sill|under the stairs|behind a bush|
at the bottom of a basket|next to the fire|in an old boot|by the fence|under a wooden cart|
on top of a wall""".replace("\n", "").split("|")
WEATHERS = "rain snow wind fog frost hail".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
SEASONS = "spring summer autumn winter".split()
NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty""".split()

JOBS = """baker teacher farmer doctor sailor carpenter painter gardener miller tailor nurse driver cook singer writer
fisherman shepherd weaver potter smith clerk librarian builder plumber pilot judge barber florist grocer printer
engineer chemist dentist jeweller mason postman""".split()
HOBBIES = """swimming|painting|reading|fishing|dancing|cooking|running|chess|singing|sewing|climbing|gardening|cycling|
drawing|knitting|skating|rowing|baking""".replace("\n", "").split("|")
INSTRUMENTS = "flute violin drum harp trumpet guitar piano fiddle horn whistle".split()
CRAFTS = {"kite": "paper", "boat": "wood", "scarf": "wool", "lamp": "glass", "bowl": "clay", "chair": "oak",
          "basket": "reeds",
          "flag": "cloth", "mask": "leather", "ring": "silver", "sled": "planks", "blanket": "yarn", "bell": "brass",
          "cake": "flour"}
TOOLS = {"bridge": "hammer", "fence": "saw", "clock": "screwdriver", "roof": "ladder", "wheel": "wrench",
         "boat": "rope",
         "window": "knife", "well": "chain", "gate": "file", "cart": "axle", "pump": "pipe", "bell": "hook"}
FEARS = {"the dark": "lantern", "deep water": "rope", "high places": "ladder", "thunder": "blanket", "the cold": "coat",
         "strangers": "whistle", "getting lost": "map", "loud noises": "scarf"}

# Programming and system words
ITEMS = """price score age weight fee gain bill length width height size amount rate level grade temperature
distance speed cost salary point mark mass volume depth delay offset sample reading signal load bonus angle item
number""".split()
THINGS_OWNED = """user order file message task job record event account ticket node page report invoice student book
product device token session""".split()
SERVICES = """login|billing|search|upload|report|payment|mail|chat|booking|order|profile|backup|export|import|photo|
ticket|calendar|survey|admin|delivery""".replace("\n", "").split("|")
TEAMS = "web mobile data platform payments search support tools".split()


def plural(word):
    if word in PLURALS:
        return PLURALS[word]
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


class Person:
    """A name with its pronouns."""

    def __init__(self, name, she):
        self.name = name
        self.he, self.him, self.his = ("she", "her", "her") if she else ("he", "him", "his")

    def slots(self, prefix):
        """Slots for a template: $A for the name; $Ahe, $Ahim, $Ahis, and $AHe, $AHis with capitals."""
        p = prefix
        return {p: self.name, p + "he": self.he, p + "him": self.him, p + "his": self.his,
                p + "He": self.he.capitalize(), p + "His": self.his.capitalize()}


def made_up(m):
    """A name nobody has: two or three syllables."""
    middle = m.pick(SYLLABLES_2) if m.chance(0.5) else ""
    return m.pick(SYLLABLES_1) + middle + m.pick(SYLLABLES_3)


def people(m, n):
    """n people with different names; now and then a made-up name."""
    out, seen = [], set()
    while len(out) < n:
        she = m.chance(0.5)
        name = made_up(m) if m.chance(0.2) else m.pick(SHE if she else HE)
        if name not in seen:
            seen.add(name)
            out.append(Person(name, she))
    return out


def town(m):
    return m.pick(TOWN_STARTS) + m.pick(TOWN_ENDS)


def towns(m, n):
    out = []
    while len(out) < n:
        t = town(m)
        if t not in out:
            out.append(t)
    return out
