"""Which expressions cannot be right whatever is seen: told from their text and the kinds of what they can see.

Coarse, and on the safe side: what is not known to be wrong is left to the evaluation. Kinds are those of JSON.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from bounceback.engine.cel_functions import NAMESPACES
from bounceback.engine.cel_shape import TOKEN

NUMBER, STRING, BOOL, LIST, MAP, NULL = "a number", "a string", "true or false", "a list", "a map", "null"
ANY: Final = ""

VARIABLES: Final = {
    **dict.fromkeys(("milliseconds", "ttl", "daysLeft", "value", "exitCode"), NUMBER),
    **dict.fromkeys(("code", "issuer", "subject", "version", "cipher", "line", "pod", "output", "errors"), STRING),
    **dict.fromkeys(("answers", "names", "chain", "rows", "objects"), LIST),
    **dict.fromkeys(("headers", "labels", "event", "object", "before", "clear", "after"), MAP),
}
"""Of those that are not here nothing is known: json, reply, and what a store tells of itself."""
RESULTS: Final = {
    **dict.fromkeys(("size", "int", "uint", "double", "quantity"), NUMBER),
    "string": STRING,
    "bool": BOOL,
    **dict.fromkeys(("has", "all", "exists", "exists_one", "startsWith", "endsWith", "matches"), BOOL),
    **dict.fromkeys(("contains", "equivalent"), BOOL),
    **dict.fromkeys(("map", "filter", "distinct"), LIST),
}
DECIDING: Final = frozenset({"all", "exists", "exists_one", "filter"})
LOOPS: Final = DECIDING | {"map"}
BINARY: Final = (("||",), ("&&",), ("==", "!=", "<", "<=", ">", ">=", "in"), ("+", "-"), ("*", "/", "%"))
"""From the loosest to the tightest."""
DEEPEST: Final = 64
"""Parts within parts that are looked into: what stands deeper is left to the evaluation."""
PAIRS: Final = frozenset({"||", "&&", "==", "!=", "<=", ">="})


class _WrongError(Exception):
    """The message says what, and where."""


class _UnknownError(Exception):
    """Something that this does not understand: nothing is said of it."""


@dataclass(frozen=True, slots=True)
class _Word:
    kind: str
    text: str
    at: int


def mistyped(expression: str, variables: Collection[str]) -> str | None:
    """What makes an expression that compiles impossible to answer with true or false; None: nothing that is known."""
    kinds = {name: VARIABLES.get(name, ANY) for name in variables}
    if "status" in kinds:  # of HTTP a number, of gRPC a word
        kinds["status"] = NUMBER if "headers" in kinds else STRING
    reader = _Reader(expression, _words(expression), kinds)
    try:
        found = reader.choice()
        if reader.now.kind != "end":
            return None
    except _UnknownError:
        return None
    except _WrongError as wrong:
        return str(wrong)
    return f"must be true or false, and is {found}" if found not in (ANY, BOOL) else None


def _words(expression: str) -> list[_Word]:
    words: list[_Word] = []
    for found in TOKEN.finditer(expression):
        kind, text = found.lastgroup or "", found[0]
        if kind == "comment":
            continue
        last = words[-1] if words else None
        if last and kind == "mark" and last.text + text in PAIRS and last.at + 1 == found.start():
            words[-1] = _Word("mark", last.text + text, last.at)
        else:
            words.append(_Word(kind, text, found.start()))
    return [*words, _Word("end", "", len(expression))]


class _Reader:
    """Goes over the words once; each method reads one kind of part, and returns what it comes to."""

    def __init__(self, expression: str, words: Sequence[_Word], kinds: dict[str, str]) -> None:
        self._expression = expression
        self._words = words
        self._kinds = kinds
        self._index = self._depth = 0

    @property
    def now(self) -> _Word:
        return self._words[self._index]

    def _next(self) -> _Word:
        word = self.now
        self._index += word.kind != "end"
        return word

    def _takes(self, text: str) -> bool:
        if self.now.text != text or self.now.kind == "string":
            return False
        self._index += 1
        return True

    def _needs(self, text: str) -> None:
        if not self._takes(text):
            raise _UnknownError

    def choice(self) -> str:
        """a ? b : c, or less."""
        self._deeper()
        found = self._choice()
        self._depth -= 1
        return found

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise _UnknownError

    def _choice(self) -> str:
        start = self.now
        found = self._binary(0)
        if not self._takes("?"):
            return found
        self._must(found, BOOL, start, "what stands before ?")
        one = self.choice()
        self._needs(":")
        other = self.choice()
        return one if one == other else ANY

    def _binary(self, level: int) -> str:
        if level == len(BINARY):
            return self._unary()
        found = self._binary(level + 1)
        while self.now.text in BINARY[level] and self.now.kind != "string":
            word = self._next()
            found = self._of_two(word, found, self._binary(level + 1))
        return found

    def _of_two(self, word: _Word, one: str, other: str) -> str:
        sign, known = word.text, ANY not in (one, other)
        if sign in ("||", "&&"):
            self._must(one, BOOL, word, f"what stands before {sign}")
            self._must(other, BOOL, word, f"what stands behind {sign}")
            return BOOL
        if sign == "in":
            if other in (NUMBER, STRING, BOOL):
                self._wrong(word, f"in looks through a list or the keys of a map, and this is {other}")
            return BOOL
        if sign in ("==", "!="):
            if known and one != other and NULL not in (one, other):
                self._wrong(word, f"{one} is never equal to {other}; int(), double() and string() convert")
            return BOOL
        together = {NUMBER, STRING, LIST} if sign == "+" else {NUMBER} if sign in "-*/%" else {NUMBER, STRING, BOOL}
        if (known and one != other) or {one, other} - together - {ANY}:
            self._wrong(word, f"{sign} cannot be used on {one or 'any value'} and {other or 'any value'}")
        return BOOL if sign[0] in "<>" else one or other

    def _unary(self) -> str:
        word = self.now
        if not (self._takes("!") or self._takes("-")):
            return self._member(self._primary())
        self._deeper()
        found, wanted = self._unary(), BOOL if word.text == "!" else NUMBER
        self._depth -= 1
        self._must(found, wanted, word, f"what stands behind {word.text}")
        return BOOL if word.text == "!" else found

    def _member(self, found: str) -> str:
        while True:
            if self._takes("["):
                self.choice()
                self._needs("]")
                found = ANY
            elif self._takes("."):
                word = self._next()
                if word.kind != "name":
                    raise _UnknownError
                if self._takes("("):
                    found = self._called(word.text)
                elif found in (ANY, MAP):
                    found = ANY
                else:
                    self._wrong(word, f"{found} has no field {word.text}")
            else:
                return found

    def _primary(self) -> str:
        word = self._next()
        if word.kind == "number":
            return NUMBER
        if word.kind == "string":
            return ANY if word.text[:2].lower().strip("r'\"") == "b" else STRING
        if word.kind == "name":
            return self._named(word)
        if word.text == "(":
            found = self.choice()
            self._needs(")")
            return found
        if word.text in ("[", "{"):
            self._arguments("]" if word.text == "[" else "}")
            return LIST if word.text == "[" else MAP
        raise _UnknownError

    def _named(self, word: _Word) -> str:
        if word.text in ("true", "false", "null"):
            return NULL if word.text == "null" else BOOL
        if self._takes("("):
            return self._called(word.text)
        if word.text in NAMESPACES and self._takes("."):
            function = self._next().text
            self._needs("(")
            return self._called(function)
        if self.now.text == "{":
            raise _UnknownError
        return self._kinds.get(word.text, ANY)

    def _called(self, function: str) -> str:
        """From behind the bracket that opens. What a loop binds may be anything."""
        if function not in LOOPS:
            self._arguments(")")
            return RESULTS.get(function, ANY)
        bound = self._next()
        before = self._kinds
        self._kinds = {**before, bound.text: ANY}
        self._needs(",")
        start = self.now
        found = self.choice()
        if function in DECIDING:
            self._must(found, BOOL, start, f"what {function}() asks of each")
        self._needs(")")
        self._kinds = before
        return RESULTS[function]

    def _arguments(self, end: str) -> None:
        while not self._takes(end):
            self.choice()
            if not (self._takes(",") or self._takes(":")) and self.now.text != end:
                raise _UnknownError

    def _must(self, found: str, wanted: str, word: _Word, what: str) -> None:
        if found not in (ANY, wanted):
            self._wrong(word, f"{what} must be {wanted}, and is {found}")

    def _wrong(self, word: _Word, message: str) -> None:
        before = self._expression[: word.at]
        line, column = before.count("\n") + 1, word.at - (before.rfind("\n") + 1) + 1
        raise _WrongError(f"line {line}, column {column}: {message}")
