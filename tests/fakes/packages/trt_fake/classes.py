"""Classes made from the facts: every public name a version has, and none that it lacks.

What a name does is written by hand, in a mix-in per class (see `Maker`). A name of the facts without behaviour
raises NotImplementedError naming itself, when used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from trt_fake.signatures import caller, parse

Facts = Mapping[str, Mapping[str, Any]]

_MODULE = "tensorrt.tensorrt"


class Stored:
    """A property of a mix-in that keeps what is set. A default "Enum.MEMBER" is looked up in the version's enums."""

    def __init__(self, default: Any) -> None:
        self.default = default


class _Meta(type):
    """Refuses a Python subclass whose `__init__` does not call its base's, as pybind11 does."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        if not made.__dict__.get("_constructed"):
            base = next(base for base in cls.__mro__ if base.__dict__.get("_generated"))
            raise TypeError(f"{_MODULE}.{base.__name__}.__init__() must be called when overriding __init__")
        return made


class Bound(metaclass=_Meta):
    """Base of every generated class."""

    _api: SimpleNamespace

    @classmethod
    def _create(cls, **state: Any) -> Any:
        """An object that only TensorRT itself makes."""
        made = cls.__new__(cls)
        made._setup(**state)
        return made

    def _setup(self, **state: Any) -> None:
        if state:
            raise TypeError(f"{type(self).__name__} takes no state")

    def __setattr__(self, name: str, value: Any) -> None:
        subclassed = not type(self).__dict__.get("_generated")
        if not (subclassed or name.startswith("_") or isinstance(getattr(type(self), name, None), property)):
            raise AttributeError(f"'{_MODULE}.{type(self).__name__}' object has no attribute '{name}'")
        super().__setattr__(name, value)


class Enumeration:
    """A pybind11 enum: members are equal to their own kind only, and have `name` and `value`."""

    __members__: dict[str, Any]

    def __init__(self, value: int) -> None:
        self._value = value

    @property
    def value(self) -> int:
        """The number."""
        return self._value

    @property
    def name(self) -> str:
        """The first name that has this number."""
        return next(name for name, member in self.__members__.items() if member._value == self._value)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._value == self._value

    def __hash__(self) -> int:
        return self._value

    def __int__(self) -> int:
        return self._value

    def __index__(self) -> int:
        return self._value

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self.name}: {self._value}>"

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


def enumeration(name: str, members: Mapping[str, int], extra: Mapping[str, Any]) -> type[Enumeration]:
    """An enum called `name`."""
    made = type(name, (Enumeration,), {"__module__": _MODULE, **extra})
    made.__members__ = {member: made(value) for member, value in members.items()}
    for member, instance in made.__members__.items():
        setattr(made, member, instance)
    return made


@dataclass(frozen=True)
class Structure:
    """What is known of one version's classes, each by class name.

    Attributes:
        facts: Enum members, and members with their signatures.
        details: Bases, constructors and the types of properties.
        numbers: Values of the enum members.
    """

    facts: Facts
    details: Facts
    numbers: Mapping[str, list[int]]

    def base(self, name: str) -> str | None:
        """The base class that this version has."""
        return next((base for base in self.details.get(name, {}).get("bases", ()) if base in self.facts), None)

    def constructors(self, name: str) -> list[str] | None:
        """Signatures of the constructor, None if there is none."""
        found: list[str] | None = self.details.get(name, {}).get("operators", {}).get("__init__")
        return found

    def type_of(self, name: str, member: str) -> str:
        """Type of a property."""
        return str(self.details.get(name, {}).get("properties", {}).get(member, "object"))


class Maker:
    """Makes the classes of one version.

    Args:
        api: Namespace that the classes go into and look each other up in.
        structure: What the version has.
        mixins: Behaviour by class name.
    """

    def __init__(self, api: SimpleNamespace, structure: Structure, mixins: Mapping[str, type]) -> None:
        self._api, self._structure, self._mixins = api, structure, mixins

    def make_all(self) -> None:
        """Fill the namespace."""
        for name, facts in self._structure.facts.items():
            if "enum" in facts:
                setattr(self._api, name, self._enum(name, facts))
        for name in self._structure.facts:
            self._class(name)

    def _enum(self, name: str, facts: Mapping[str, Any]) -> type[Enumeration]:
        members = facts["enum"]
        numbers = self._structure.numbers.get(name, [])
        numbered = dict(zip(members, numbers if len(numbers) == len(members) else range(len(members)), strict=True))
        mixin = self._mixins.get(name)
        return enumeration(
            name, numbered, {m: mixin.__dict__[m] for m in facts.get("members", {}) if mixin is not None}
        )

    def _class(self, name: str) -> type:
        made: type | None = getattr(self._api, name, None)
        if made is not None:
            return made
        base_name = self._structure.base(name)
        base = self._class(base_name) if base_name else Bound
        inherited = self._structure.facts[base_name].get("members", {}) if base_name else {}
        mixin = self._mixins.get(name)
        behaviour = dict(vars(mixin)) if mixin else {}
        body: dict[str, Any] = {
            "__module__": _MODULE,
            "__doc__": f"The fake {name}.",
            "_generated": True,
            "_api": self._api,
            "__init__": self._constructor(name, behaviour),
        }
        body |= {key: value for key, value in behaviour.items() if key.startswith("_") and key not in _OBJECT}
        for member, fact in self._structure.facts[name].get("members", {}).items():
            if member in behaviour or member not in inherited:
                body[member] = self._member(name, member, fact, behaviour.get(member))
        made = _Meta(name, (base,), body)
        setattr(self._api, name, made)
        return made

    def _constructor(self, name: str, behaviour: Mapping[str, Any]) -> Any:
        texts = self._structure.constructors(name)
        if texts is None:

            def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
                raise TypeError(f"{_MODULE}.{name}: No constructor defined!")

            return refuse
        construct = behaviour.get("_construct")

        def implementation(self: Any, **bound: Any) -> None:
            object.__setattr__(self, "_constructed", True)
            if construct is not None:
                construct(self, **bound)

        return caller(self._api, name, texts, implementation)

    def _member(self, owner: str, name: str, fact: Any, behaviour: Any) -> Any:
        if isinstance(fact, list):
            signature = parse(fact[0])
            function = caller(self._api, owner, fact, behaviour)
            return staticmethod(lambda *a, **k: function(None, *a, **k)) if signature.static else function
        if fact == "attribute":
            return behaviour
        if isinstance(behaviour, Stored):
            behaviour = _stored(self._api, name, behaviour.default)
        if behaviour is None:
            behaviour = _missing(self._api, owner, name)
        if fact == "property (read-only)":
            return property(behaviour.fget)
        text = f"{name}(self: {owner}, arg0: {self._structure.type_of(owner, name)}) -> None"
        setter = caller(self._api, owner, [text], lambda self, arg0: behaviour.fset(self, arg0))
        return property(behaviour.fget, setter)


_OBJECT = {
    "__module__",
    "__dict__",
    "__weakref__",
    "__doc__",
    "__qualname__",
    "__firstlineno__",
    "__static_attributes__",
}


def _stored(api: SimpleNamespace, name: str, default: Any) -> property:
    slot = f"_stored_{name}"

    def get(self: Any) -> Any:
        if slot in self.__dict__:
            return self.__dict__[slot]
        if isinstance(default, str) and "." in default:
            enum, _, member = default.partition(".")
            return getattr(getattr(api, enum), member)
        return default

    def put(self: Any, value: Any) -> None:
        self.__dict__[slot] = value

    return property(get, put)


def _missing(api: SimpleNamespace, owner: str, name: str) -> property:
    def use(self: Any, *value: Any) -> Any:
        raise NotImplementedError(f"the fake TensorRT {api.__version__} does not implement {owner}.{name}")

    return property(use, use)


def mixins(classes: Iterable[type]) -> dict[str, type]:
    """Mix-ins by the name of the class they are for."""
    return {made.__name__: made for made in classes}
