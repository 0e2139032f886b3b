"""The stable codes of playbook problems, each with what it means and how it is mended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["CODES"]

CODES: Final[Mapping[str, str]] = {
    "PB001": "The file cannot be read, or is not YAML. Indent with spaces and quote texts that "
    'hold ": " or "#", or that begin with a sign.',
    "PB002": "The file is larger than 256 KiB or nested deeper than 50. Split it.",
    "PB003": "A key stands twice in one map. YAML libraries keep the last one silently; here one "
    "must go.",
    "PB004": "Anchors, aliases and tags are refused: a reviewer must see each value where it is "
    "used. Write it out, or put it under vars.",
    "PB005": "The file is empty, or holds more than one document. One file holds one playbook.",
    "PB006": "A key is no text. Put numbers and true/false in quotes when they are names.",
    "PB010": "A key that nobody reads. Nothing is ignored silently, since a mistyped timeout is a "
    "missing timeout.",
    "PB011": "A key that must be there is missing.",
    "PB012": "A value is of the wrong kind, such as a text where a map is read.",
    "PB013": "A name may hold small letters, digits and one joint: - for playbooks, _ for steps, "
    "inputs and vars, because expressions use those.",
    "PB014": "A word is not one of the few that are known here.",
    "PB015": "A duration is a number with ms, s, m, h or d: 30s, 45m, 4h, 1h30m.",
    "PB016": "A number or duration is outside its bounds.",
    "PB017": "Something is empty that must say something.",
    "PB018": "Something is named twice in one list.",
    "PB020": "The source of a trigger is not one that this server knows; the trigger could never "
    "start anything.",
    "PB021": 'A rule is the exact name, or its beginning followed by one "*".',
    "PB022": "A trigger can never be reached: an earlier one takes all its alerts, or its "
    "condition is never true.",
    "PB023": "Two files hold a playbook of the same name.",
    "PB024": "The list of triggers is empty or holds something that is none.",
    "PB030": "The text of an expression cannot be read.",
    "PB031": "A name or field that does not exist. The names are alert, target, severity and vars; "
    "in steps also incident, inputs, steps, run, and item under for_each.",
    "PB032": "The parts of an expression do not fit together. Nothing is converted by itself.",
    "PB033": "A condition must be true or false, and for_each a list.",
    "PB034": "A function that does not exist.",
    "PB035": "An expression is too long or nested too deep.",
    "PB036": "A pattern, duration or time written in an expression cannot be read.",
    "PB040": "An action that no configured integration has.",
    "PB041": "A parameter that the action does not have.",
    "PB042": "A parameter that the action needs is missing.",
    "PB043": "A parameter is of the wrong type.",
    "PB044": "The action of the step to be undone has no undo.",
    "PB050": "needs names a step that does not exist.",
    "PB051": "Steps wait for each other in a circle.",
    "PB052": "A step reads or undoes one that is not upstream of it. Add it to needs.",
    "PB053": "A step needs itself.",
    "PB070": "A test waits at a step that does not exist.",
    "PB071": "A test expects something of a run that it says does not start.",
}
