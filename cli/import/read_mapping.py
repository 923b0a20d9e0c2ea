"""Runs one Python file of the old tool in the user's own shell and prints, as JSON, the dictionaries in it that are mappings.

`os.getenv('X')` gives a marker instead of a value, so that no secret is copied: it comes out as `env:X`. Modules that are not
installed become empty stand-ins. Whatever the file prints goes to stderr.
"""

import builtins
import datetime
import importlib.abc
import importlib.machinery
import json
import os
import runpy
import sys
import types

# What surrounds a name in the place of a value.
OPEN, CLOSE = "\u27e6", "\u27e7"


class Variable(str):
    """The value of an environment variable that is never looked at. What the file makes of its default is told."""

    def __new__(cls, name, default=None):
        self = super().__new__(cls, OPEN + "env:" + name + CLOSE)
        self.name, self.default = name, default
        return self

    def __int__(self):
        judged(self.name)
        return int(self.default) if self.default is not None else 0

    def __float__(self):
        judged(self.name)
        return float(self.default) if self.default is not None else 0.0

    def __eq__(self, other):
        judged(self.name)
        return str.__eq__(self, other)

    def __ne__(self, other):
        return not self == other

    __hash__ = str.__hash__


seen = []
# Variables that became a number, or decided something, in the file.
decided = []


def judged(name):
    if name not in decided:
        decided.append(name)


def getenv(name, default=None):
    if name not in seen:
        seen.append(name)
    return Variable(str(name), default)


class Environment(dict):
    """In the place of os.environ while the file runs."""

    def __getitem__(self, name):
        return getenv(name)

    def get(self, name, default=None):
        return getenv(name, default)

    def __contains__(self, name):
        return True


class Stand:
    """Anything of a module that is not installed here."""

    def __init__(self, name):
        self.__dict__["_name"] = name

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Stand(self._name + "." + name)

    def __call__(self, *args, **kwargs):
        last = self._name.split(".")[-1]
        if last in ("config", "getenv", "env", "getattr") and args and isinstance(args[0], str):
            return getenv(args[0], kwargs.get("default"))
        # A time zone by its name.
        if last in ("timezone", "ZoneInfo", "gettz") and args and isinstance(args[0], str):
            return args[0]
        return Stand(self._name + "()")

    # The base of a class, a context, a piece of a text.
    def __mro_entries__(self, bases):
        return ()

    def __enter__(self):
        return Stand(self._name + "()")

    def __exit__(self, *args):
        return None

    def __add__(self, other):
        return str(self) + str(other)

    def __radd__(self, other):
        return str(other) + str(self)

    def __getitem__(self, key):
        return Stand(self._name + "[]")

    def __iter__(self):
        return iter(())

    def __str__(self):
        return OPEN + "unknown:" + self._name + CLOSE


missing = []


class Builtins(dict):
    """Names that came with `from … import *` of a module that is not installed."""

    stars = []

    def __missing__(self, name):
        if not self.stars:
            raise KeyError(name)
        return Stand(self.stars[-1] + "." + name)


def attribute_of(module):
    def attribute(name):
        if name == "__all__":
            Builtins.stars.append(module)
        if name.startswith("__"):
            raise AttributeError(name)
        return Stand(module + "." + name)

    return attribute


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in missing:
            missing.append(name.split(".")[0])
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = attribute_of(spec.name)
        return module

    def exec_module(self, module):
        pass


def plain(value, depth=0):
    if depth > 30:
        return None
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return {"minutes": value.total_seconds() / 60}
    if isinstance(value, dict):
        return {str(key): plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one, depth + 1) for one in value]
    if isinstance(value, (Stand, datetime.tzinfo)):
        return str(value)
    return OPEN + "unknown:" + type(value).__name__ + CLOSE


LISTS = ("tables", "collections", "topics", "apis")
SETTINGS = ("timezone", "notify", "encryption_store", "dashboard_store", "slack_notif", "cut_off_time", "fastapi_server")


def is_setting(value):
    """`timezone` may be a class or a function that was imported."""
    if isinstance(value, Stand):
        return value._name.split(".")[0] not in ("pytz", "django", "dateutil", "pendulum")
    return not callable(value) and not isinstance(value, types.ModuleType)


def is_mapping(value):
    return isinstance(value, dict) and "source" in value and ("destination" in value or any(key in value for key in LISTS))


def mappings_in(path, value, depth=0):
    if is_mapping(value):
        yield path, value
    elif depth < 3 and isinstance(value, dict):
        for key, one in value.items():
            yield from mappings_in(path + [str(key)], one, depth + 1)
    elif depth < 3 and isinstance(value, (list, tuple)):
        for i, one in enumerate(value):
            yield from mappings_in(path + [str(i + 1)], one, depth + 1)


def main(file):
    out = sys.stdout
    sys.stdout = sys.stderr
    sys.path.insert(0, os.path.dirname(os.path.abspath(file)))
    os.getenv = getenv
    os.environ = Environment(os.environ)
    sys.meta_path.append(StandIns())
    sys.argv = [file]
    names = runpy.run_path(file, {"__builtins__": Builtins(vars(builtins))}, run_name="mapping_of_" + os.path.basename(file).split(".")[0])
    own = {name: value for name, value in names.items() if not name.startswith("__")}
    found, known = [], []
    for name, value in own.items():
        for path, mapping in mappings_in([name], value):
            # The same dictionary under two names is one mapping.
            if not any(mapping is other for other in known):
                known.append(mapping)
                found.append({"path": path, "mapping": plain(mapping)})
    settings = {}
    for value in [own] + [one for one in own.values() if isinstance(one, dict) and not is_mapping(one)]:
        for key in SETTINGS:
            if key in value and key not in settings and is_setting(value[key]):
                settings[key] = plain(value[key])
    own_function = lambda value: getattr(value, "__module__", "").startswith("mapping_of_")
    # One under a decorator that is not installed is a stand-in.
    functions = [name for name, value in own.items() if isinstance(value, Stand) or (callable(value) and own_function(value))]
    json.dump({"mappings": found, "settings": settings, "functions": functions, "variables": seen, "decided": decided, "missing": missing}, out)


main(sys.argv[1])
