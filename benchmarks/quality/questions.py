"""Questions of somebody who learns Python, with the topic of the language reference that answers each.

They were written, and their topics chosen, before anything was searched; what is found with them changed none. Some use
the words of the reference, some are put as one says it who does not know them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("QUESTIONS", "Question")


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and where its answer stands."""

    text: str
    """The question as one would type it."""
    topic: str
    """The key in `pydoc_data.topics` of the text that answers it."""
    answer: str
    """Some words of that text that answer it, so that a test can see them there."""


QUESTIONS = (
    Question("Do my assert checks still run with the option -O?", "assert", ""),
    Question("How do I unpack a list into several variables with a star?", "assignment", ""),
    Question("What is the difference between x += 1 and x = x + 1?", "augassign", ""),
    Question("How do I write a coroutine with async def?", "async", ""),
    Question("How can I compute an attribute when it is looked up and missing?", "attribute-access", ""),
    Question("What do 'and' and 'or' give back when the operands are not True or False?", "booleans", ""),
    Question("How do I leave a loop early?", "break", ""),
    Question("How do I make my objects callable like a function?", "callable-types", ""),
    Question("How do I pass a dictionary as keyword arguments?", "calls", ""),
    Question("Can I chain comparisons such as a < b < c?", "comparisons", ""),
    Question("How do I skip the rest of this turn of the loop?", "continue", ""),
    Question("How do I control what is printed for my own objects?", "customization", ""),
    Question("How do I set a breakpoint and step through my program?", "debugger", ""),
    Question("How do I write a dictionary comprehension?", "dict", ""),
    Question("What happens when an exception is not caught?", "exceptions", ""),
    Question("How do I loop over the items of a list?", "for", ""),
    Question("How do I print a number with two decimals?", "formatstrings", ""),
    Question("Why is a default argument shared between the calls of my function?", "function", ""),
    Question("How do I change a module level variable inside a function?", "global", ""),
    Question("Which words are reserved and cannot be used as variable names?", "identifiers", ""),
    Question("What does 'from module import *' bring into my program?", "import", ""),
    Question("How do I test whether an item is in a list?", "in", ""),
    Question("How do I write hexadecimal and binary numbers?", "integers", ""),
    Question("How do I make a small function without a name?", "lambda", ""),
    Question("How do I build a new list out of another one in a single expression?", "lists", ""),
    Question("In which scope is a variable looked up?", "naming", ""),
    Question("How can an inner function rebind a variable of the outer function?", "nonlocal", ""),
    Question("How do I overload the plus operator for my class?", "numeric-types", ""),
    Question("When is an object garbage collected?", "objects", ""),
    Question("Which operators are evaluated first, multiplication or comparison?", "operator-summary", ""),
    Question("How do I write a function body that does nothing?", "pass", ""),
    Question("How do I raise my own exception from another one and keep the cause?", "raise", ""),
    Question("How do I make my own class support len() and indexing?", "sequence-types", ""),
    Question("How do I shift the bits of a number to the left?", "shifting", ""),
    Question("How do I remove white space from both ends of a string?", "string-methods", ""),
    Question("How do I write a backslash or a newline in a string?", "strings", ""),
    Question("How do I catch several kinds of errors?", "try", ""),
    Question("How do I get a value from a dictionary with a default when the key is missing?", "typesmapping", ""),
    Question("How do I add an item at the end of a list?", "typesseq-mutable", ""),
    Question("How do I repeat something as long as a condition holds?", "while", ""),
)
