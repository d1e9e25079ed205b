"""Questions of somebody who learns Python, and where the language reference answers them.

The questions, and the first topic of each, were written before anything was searched; what is found has changed none.
Some use the words of the reference, some are put as one says it who does not know them. The reference tells many things
in more than one place: further topics were added by looking through all of it for the words of an answer.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("QUESTIONS", "Question")


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and where its answer stands."""

    text: str
    """The question as one would type it."""
    answers: dict[str, str]
    """For each topic that answers it, the words in that topic which do; the topic that was meant comes first."""


QUESTIONS = (
    Question(
        "Do my assert checks still run with the option -O?",
        {"assert": "emits no code for an assert statement when optimization is requested"},
    ),
    Question(
        "How do I unpack a list into several variables with a star?",
        {"assignment": "contains one target prefixed with an asterisk"},
    ),
    Question(
        "What is the difference between x += 1 and x = x + 1?",
        {"augassign": 'can be rewritten as "x = x + 1" to achieve a similar, but not exactly equal effect'},
    ),
    Question(
        "How do I write a coroutine with async def?",
        {"async": '"async def"'},
    ),
    Question(
        "How can I compute an attribute when it is looked up and missing?",
        {
            "attribute-access": "Called when the default attribute access fails",
            "attribute-references": 'If an "AttributeError" is raised and the object has a "__getattr__()" method',
        },
    ),
    Question(
        "What do 'and' and 'or' give back when the operands are not True or False?",
        {
            "booleans": "but rather return the last evaluated argument",
            "truth": "always return one of their operands",
        },
    ),
    Question(
        "How do I leave a loop early?",
        {
            "break": "It terminates the nearest enclosing loop",
            "for": 'A "break" statement executed in the first suite terminates the loop',
            "while": 'A "break" statement executed in the first suite terminates the loop',
        },
    ),
    Question(
        "How do I make my objects callable like a function?",
        {
            "callable-types": "Called when the instance is “called” as a function",
            "calls": 'The class must define a "__call__()" method',
            "types": 'can be made callable by defining a "__call__()" method',
        },
    ),
    Question(
        "How do I pass a dictionary as keyword arguments?",
        {"calls": 'If the syntax "**expression" appears in the function call'},
    ),
    Question(
        "Can I chain comparisons such as a < b < c?",
        {"comparisons": "Comparisons can be chained arbitrarily"},
    ),
    Question(
        "How do I skip the rest of this turn of the loop?",
        {
            "continue": "It continues with the next cycle of the nearest enclosing loop",
            "for": "skips the rest of the suite and continues with the next item",
            "while": "skips the rest of the suite and goes back to testing the expression",
        },
    ),
    Question(
        "How do I control what is printed for my own objects?",
        {"customization": "to compute the “informal” or nicely printable string representation of an object"},
    ),
    Question(
        "How do I set a breakpoint and step through my program?",
        {"debugger": "at the location you want to break into the debugger"},
    ),
    Question(
        "How do I write a dictionary comprehension?",
        {
            "dict": "A dict comprehension, in contrast to list and set comprehensions, needs two expressions",
            "typesmapping": "Use a dict comprehension",
        },
    ),
    Question(
        "What happens when an exception is not caught?",
        {
            "exceptions": "When an exception is not handled at all, the interpreter terminates",
            "types": "When the program contains no suitable handler",
        },
    ),
    Question(
        "How do I loop over the items of a list?",
        {"for": 'The "for" statement is used to iterate over the elements of a sequence'},
    ),
    Question(
        "How do I print a number with two decimals?",
        {"formatstrings": "how many digits should be displayed after the decimal point"},
    ),
    Question(
        "Why is a default argument shared between the calls of my function?",
        {"function": "the expression is evaluated once, when the function is defined"},
    ),
    Question(
        "How do I change a module level variable inside a function?",
        {
            "global": 'It would be impossible to assign to a global variable without "global"',
            "naming": 'If the "global" statement occurs within a block',
        },
    ),
    Question(
        "Which words are reserved and cannot be used as variable names?",
        {"identifiers": "The following identifiers are used as reserved words"},
    ),
    Question(
        "What does 'from module import *' bring into my program?",
        {"import": "all public names defined in the module are bound"},
    ),
    Question(
        "How do I test whether an item is in a list?",
        {
            "in": 'The operators "in" and "not in" test for membership',
            "typesseq": '"True" if an item of *s* is',
        },
    ),
    Question(
        "How do I write hexadecimal and binary numbers?",
        {"integers": "hexinteger"},
    ),
    Question(
        "How do I make a small function without a name?",
        {
            "lambda": "are used to create anonymous functions",
            "function": "It is also possible to create anonymous functions",
        },
    ),
    Question(
        "How do I build a new list out of another one in a single expression?",
        {
            "lists": "the list is constructed from the elements resulting from the comprehension",
            "typesseq": "Using a list comprehension",
        },
    ),
    Question(
        "In which scope is a variable looked up?",
        {"naming": "it is resolved using the nearest enclosing scope"},
    ),
    Question(
        "How can an inner function rebind a variable of the outer function?",
        {
            "nonlocal": "allows encapsulated code to rebind",
            "naming": 'The "nonlocal" statement causes corresponding names to refer',
        },
    ),
    Question(
        "How do I overload the plus operator for my class?",
        {
            "numeric-types": 'is an instance of a class that has an "__add__()" method',
            "binary": 'This operation can be customized using the special "__add__()"',
        },
    ),
    Question(
        "When is an object garbage collected?",
        {"objects": "when they become unreachable they may be garbage-collected"},
    ),
    Question(
        "Which operators are evaluated first, multiplication or comparison?",
        {
            "operator-summary": "summarizes the operator precedence",
            "comparisons": "which is lower than that of any arithmetic, shifting or bitwise operation",
        },
    ),
    Question(
        "How do I write a function body that does nothing?",
        {"pass": "when a statement is required syntactically, but no code needs to be executed"},
    ),
    Question(
        "How do I raise my own exception from another one and keep the cause?",
        {"raise": 'The "from" clause is used for exception chaining'},
    ),
    Question(
        "How do I make my own class support len() and indexing?",
        {"sequence-types": 'Called to implement the built-in function "len()"'},
    ),
    Question(
        "How do I shift the bits of a number to the left?",
        {"shifting": "They shift the first argument to the left or right"},
    ),
    Question(
        "How do I remove white space from both ends of a string?",
        {"string-methods": "Return a copy of the string with the leading and trailing characters removed"},
    ),
    Question(
        "How do I write a backslash or a newline in a string?",
        {"strings": "The recognized escape sequences are"},
    ),
    Question(
        "How do I catch several kinds of errors?",
        {"try": 'This search inspects the "except" clauses in turn'},
    ),
    Question(
        "How do I get a value from a dictionary with a default when the key is missing?",
        {"typesmapping": "Return the value for *key* if *key* is in the dictionary, else *default*"},
    ),
    Question(
        "How do I add an item at the end of a list?",
        {"typesseq-mutable": "appends *x* to the end of the"},
    ),
    Question(
        "How do I repeat something as long as a condition holds?",
        {"while": "is used for repeated execution as long as an expression is true"},
    ),
)
