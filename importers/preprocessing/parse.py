"""Preprocessing steps as text: ``normalise=slice,clahe:slope=2,bin=1x2x2``.

Steps are separated by commas and carried out in their order. ``NAME=VALUE`` sets the first
parameter of a step, each ``:PARAMETER=VALUE`` another one.

>>> [step_text(step) for step in parse_steps("bin=2,denoise=nlm:strength=1.5")]
['bin=2x2x2', 'denoise=nlm:strength=1.5']
"""

from dataclasses import fields
from typing import Any

from biosegment.errors import SettingsError
from importers.preprocessing import STEPS
from importers.preprocessing.base import Step

_OPTION = "--preprocess"


def parse_steps(text: str) -> tuple[Step, ...]:
    """Return the steps that a text names.

    Raises
    ------
    SettingsError
        If there is no such step or parameter, or it cannot have this value.
    """
    return tuple(_step(item.strip()) for item in text.split(","))


def step_text(step: Step) -> str:
    """Return a step as :func:`parse_steps` takes it, with all parameters."""
    name = next(name for name, kind in STEPS.items() if kind is type(step))
    values = {key: _text(getattr(step, key)) for key in _defaults(type(step))}
    text = f"{name}={values.pop(next(iter(values)))}" if values else name
    return ":".join([text, *(f"{parameter}={value}" for parameter, value in values.items())])


def _step(text: str) -> Step:
    head, *others = text.split(":")
    name, equals, value = head.partition("=")
    if name not in STEPS:
        raise SettingsError(_OPTION, f"has no step {name!r}; there are: {', '.join(STEPS)}")
    kind = STEPS[name]
    parameters = _defaults(kind)
    given = {next(iter(parameters), ""): value} if equals else {}
    given |= {key: value for key, _, value in (other.partition("=") for other in others)}
    if unknown := [key for key in given if key not in parameters]:
        known = ", ".join(parameters) or "none"
        raise SettingsError(_OPTION, f"has no parameter {unknown[0]!r} of {name}; it has: {known}")
    try:
        return kind(**{key: _value(key, given[key], parameters[key]) for key in given})
    except ValueError as exc:
        raise SettingsError(_OPTION, f"cannot have {text!r}: {exc}") from exc


def _defaults(kind: Any) -> dict[str, Any]:  # noqa: ANN401 (a step is a dataclass, Step is not)
    return {field.name: field.default for field in fields(kind)}


def _value(parameter: str, text: str, default: Any) -> Any:  # noqa: ANN401 (of any type)
    """Return a value of the type that the default has."""
    try:
        if isinstance(default, tuple):
            return tuple(int(number) for number in text.split("x"))
        return type(default)(text)
    except ValueError:
        raise ValueError(f"{parameter} must be like {_text(default)}") from None


def _text(value: Any) -> str:  # noqa: ANN401 (of any type)
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
