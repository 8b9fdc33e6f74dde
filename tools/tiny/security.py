"""Security notes: the domain of the security reader.

Owns the weaknesses.  A weakness shows in a sentence or in code, has a name, a severity, what an
attacker gains and how to close it.
"""
from dataclasses import dataclass

import words as w
from grammar import Doc, capital, with_article
from programs import fenced
from stories import articles


@dataclass
class Weakness:
    name: str
    severity: str
    seen: str      # where it shows, in words
    code: str      # or in code, when there is any
    impact: str
    fix: str


# Slots: $svc the service, $o a thing it holds, $os several, $field a parameter.
WEAKNESSES = [
    Weakness("SQL injection", "high", "The $svc page puts the $field into a query for $os as text.",
             "query = \"SELECT * FROM $os WHERE $field = '\" + $field + \"'\"\ndb.execute(query)",
             "an attacker can read or change all $os", "use a query with parameters"),
    Weakness("path traversal", "high", "The $svc service opens the file that the $field names in the folder of $os.",
             "path = \"$os/\" + $field\nreturn open(path).read()",
             "an attacker can read any file on the server", "check that the path stays inside the folder of $os"),
    Weakness("hard-coded secret", "high", "The key of the $svc service stands in the code.",
             "$SVC_KEY = \"s3cret-$n\"\nclient = connect($SVC_KEY)",
             "anyone who sees the code has the key", "read the key from the environment and change it"),
    Weakness("weak hash", "medium", "The $svc service stores passwords as MD5.",
             "$o.password = md5(password)\n$o.save()",
             "stolen passwords can be guessed quickly", "use a slow password hash with a salt"),
    Weakness("missing access check", "high", "Any user can open any $o by its id.",
             "def get_$o(request, id):\n    return db.load(\"$o\", id)",
             "a user can read the $os of others", "check that the $o belongs to the user"),
    Weakness("cross-site scripting", "medium", "The $svc page shows the $field without escaping.",
             "page = \"<p>\" + $field + \"</p>\"\nreturn page",
             "an attacker can run a script in the browser of others", "escape the $field before it is shown"),
    Weakness("buffer overflow", "high", "The $svc server copies the $field into a fixed buffer.",
             "char $field[$n];\nstrcpy($field, input);",
             "a long $field overwrites memory", "check the length before the copy"),
    Weakness("open redirect", "low", "After the $svc step, the user is sent to any address in the $field.",
             "return redirect(request[\"$field\"])",
             "an attacker can send users to a false page", "allow only known addresses"),
    Weakness("leaking errors", "low", "Errors of the $svc service are shown in full.",
             "except Exception as error:\n    return str(error)",
             "an attacker learns how the service is built", "log the error and show a short message"),
    Weakness("missing rate limit", "medium", "The $svc service accepts any number of tries.", "",
             "an attacker can guess passwords all day", "limit the tries for each user and address"),
    Weakness("default password", "high", "The $svc service was installed with its default password.", "",
             "anyone who knows the product can log in", "set a new password before the first start"),
    Weakness("missing encryption", "medium", "The $svc service sends $os over plain HTTP.", "",
             "anyone on the network can read the $os", "use HTTPS for all requests"),
    Weakness("secrets in logs", "medium", "The $svc service writes the $field of each user to the log.",
             "log.info(\"$svc: \" + $field)", "anyone who reads the log sees the $field",
             "mask the $field before it is logged"),
    Weakness("command injection", "high", "The $svc service passes the $field to a shell.",
             "os.system(\"convert \" + $field)", "an attacker can run any command on the server",
             "call the program without a shell and check the $field"),
    Weakness("unsafe loading", "high", "The $svc service loads a pickled $o from a request.",
             "$o = pickle.loads(request.body)", "an attacker can run code on the server",
             "use a plain format such as JSON"),
    Weakness("old library", "medium", "The $svc service uses a library with a known hole.", "",
             "an attacker can use the known hole", "update the library and pin its version"),
    Weakness("weak random numbers", "medium", "The $svc service makes its tokens with a simple random function.",
             "token = random.randint(0, $n000)\nsend(token)", "an attacker can guess the token",
             "use the secure random source of the system"),
    Weakness("too many rights", "medium", "The $svc service runs as root.", "",
             "one small hole gives the whole machine away", "run the service as a user with few rights"),
    Weakness("open port", "medium", "The store of the $svc service can be reached from the whole network.", "",
             "anyone can try to log in to the store", "close the port and allow only the $svc service"),
    Weakness("missing expiry date", "low", "The tokens of the $svc service never expire.", "",
             "a stolen token works for ever", "let each token end after a short time"),
]
# The names that take an article in a sentence.
COUNTED = ["hard-coded secret", "weak hash", "missing access check", "buffer overflow", "open redirect",
           "missing rate limit", "default password", "old library", "open port", "missing expiry date"]

FIELDS = "name id title email path query address comment label note code city phone reason link".split()

# A request for a check gets the list, a question gets sentences.
ASK_LIST = ["{Check|Review} this for security{.|, please.}", "{Write|Give me} a security {finding|note}."]
ASK_SHORT = ["{Is this safe|Do you see a risk|Is there a security problem}?",
             "What is the {risk|weakness|security problem} {here|in this}?"]
FOLLOW = [("{How do we|How can we|How do I} fix {it|this}?", "fix"),
          ("{What can an attacker do|What is the impact|What can happen}?", "impact"),
          ("How {severe|bad|serious} is it?", "severity")]
SAFE = [
    ("db.execute(\"SELECT * FROM $os WHERE $field = ?\", [$field])",
     "This is safe. The $field is passed as a parameter."),
    ("page = \"<p>\" + escape($field) + \"</p>\"\nreturn page",
     "This is safe. The $field is escaped before it is shown."),
    ("$SVC_KEY = os.environ[\"$SVC_KEY\"]\nclient = connect($SVC_KEY)",
     "This is safe. The key is read from the environment."),
    ("def get_$o(request, id):\n    $o = db.load(\"$o\", id)\n    require($o.owner == request.user)\n    return $o",
     "This is safe. Only the owner gets the $o."),
    ("char $field[$n];\nsnprintf($field, sizeof($field), \"%s\", input);",
     "This is safe. The copy never exceeds the buffer."),
]


def expand(m, template, s):
    """Fill a template in which $SVC_KEY and $n000 are slots with a tail."""
    for mark, value in (("$SVC_KEY", s["svc"].upper() + "_KEY"), ("$n000", f"{s['n']}000"),
                        ("get_$o", "get_" + s["o"])):
        template = template.replace(mark, value)
    return m.fill(template, s)


def shown(code):
    """A block of code in its language."""
    return fenced("c" if "char " in code else "python", code)


def finding(m, s, weakness, form):
    name, impact, fix = weakness.name, m.fill(weakness.impact, s), m.fill(weakness.fix, s)
    if form == "list":
        return f"Finding: {name}\nSeverity: {weakness.severity}\nImpact: {capital(impact)}.\nFix: {capital(fix)}."
    named = with_article(name) if name in COUNTED else name
    return f"The problem here is {named}. The severity is {weakness.severity}, because {impact}. To fix it, {fix}."


def security_doc(m):
    weakness = m.pick(WEAKNESSES)
    o = m.pick([t for t in w.THINGS_OWNED if t != "user" or weakness.name != "missing access check"])
    s = {"svc": m.pick(w.SERVICES), "o": o, "os": w.plural(o), "field": m.pick(FIELDS),
         "n": m.pick([16, 32, 64, 100, 128, 256])}
    key = ("security", weakness.name, s["svc"], o, s["field"])
    if m.chance(0.1):
        code, verdict = m.pick(SAFE)
        asked = m.say(m.pick(ASK_SHORT[:1] + ASK_LIST[:1])) + "\n" + shown(expand(m, code, s))
        answer = articles(m.fill(verdict, s))
        return Doc("security", ("safe",) + key[2:], messages=(("user", asked), ("assistant", answer)))
    seen = articles(m.fill(weakness.seen, s))
    form, listed = m.number(0, 9), m.chance(0.5)
    asked = m.choose(m.pick(ASK_LIST if listed else ASK_SHORT))
    if form <= 1:
        note = f"Security note: {s['svc']} service\n\n{seen}\n\n{finding(m, s, weakness, 'list')}"
        return Doc("security", key, text=note)
    if weakness.code and form <= 5:
        ask = f"{asked}\n{shown(expand(m, weakness.code, s))}"
    else:
        ask = f"{seen} {asked}"
    turns = [("user", ask), ("assistant", finding(m, s, weakness, "list" if listed else "prose"))]
    if m.chance(0.4):
        q, what = m.pick(FOLLOW)
        answer = {"fix": "To fix it, " + m.fill(weakness.fix, s) + ".",
                  "impact": capital(m.fill(weakness.impact, s)) + ".",
                  "severity": f"The severity is {weakness.severity}."}[what]
        turns += [("user", m.say(q)), ("assistant", answer)]
    return Doc("security", key, messages=tuple(turns))
