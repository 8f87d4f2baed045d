"""Topic names, filters with named parameters, and the trie that matches them.

Rules of MQTT 5.0, 4.7: a topic name has levels separated by `/`; a filter may have `+` for one whole level and
`#` for all that remain, as its last level; neither wildcard at the first level matches a topic that begins
with `$`. A filter may also name a level: `site/{site}/{device}/telemetry` matches like `site/+/+/telemetry` and
tells what the levels held. Matching never uses regular expressions: its cost is the topic's levels times the
trie's branches that match them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from millstream.errors import TopicError

T = TypeVar("T")

MAX_BYTES = 65_535  # a UTF-8 string of MQTT has a two-byte length (1.5.4)
MAX_LEVELS = 128  # AWS IoT Core allows 8, EMQX 128; bounds the work and memory a single topic can cost


def check_topic(topic: str) -> None:
    """Raise `TopicError` unless `topic` can be published to."""
    _check_text(topic, "topic name")
    if "+" in topic or "#" in topic:
        raise TopicError(f"topic name {topic!r} has a wildcard; wildcards are for subscriptions")


def check_filter(text: str) -> None:
    """Raise `TopicError` unless `text` is a filter in MQTT's own notation (braces have no meaning)."""
    _check_text(text, "topic filter")
    levels = text.split("/")
    for number, level in enumerate(levels):
        if "#" in level and (level != "#" or number != len(levels) - 1):
            raise TopicError(f"topic filter {text!r}: '#' must be the whole last level")
        if "+" in level and level != "+":
            raise TopicError(f"topic filter {text!r}: '+' must be a whole level")


def _check_text(text: str, what: str) -> None:
    if not text:
        raise TopicError(f"a {what} must have at least one character")
    if "\0" in text:
        raise TopicError(f"{what} {text!r} has a null character")
    if not text.isascii() and not _is_unicode(text):
        raise TopicError(f"{what} {text!r} is no valid Unicode")
    if len(text) > MAX_BYTES // 4 and len(text.encode()) > MAX_BYTES:
        raise TopicError(f"a {what} of more than {MAX_BYTES} bytes")
    if text.count("/") >= MAX_LEVELS:
        raise TopicError(f"a {what} of more than {MAX_LEVELS} levels")


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can say it: bytes of a command line that are no UTF-8 become halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Filter:
    """A topic filter whose levels may have names.

    `text` is as written, `mqtt` the same filter for MQTT, `names` the level each name stands for (from 0).
    """

    text: str
    mqtt: str
    names: dict[str, int]

    @staticmethod
    def parse(text: str) -> Filter:
        """Raise `TopicError`, naming the place, if `text` is not a filter."""
        names: dict[str, int] = {}
        levels = text.split("/")
        for number, level in enumerate(levels):
            if "{" not in level and "}" not in level:
                continue
            name = level[1:-1]
            if level != f"{{{name}}}" or not name.isidentifier():
                raise TopicError(
                    f"topic filter {text!r}: level {level!r} is not a name in braces; write a whole level as {{device}}"
                )
            if name in names:
                raise TopicError(f"topic filter {text!r} has the name {{{name}}} twice")
            names[name] = number
            levels[number] = "+"
        mqtt = "/".join(levels)
        check_filter(mqtt)
        return Filter(text, mqtt, names)

    def matches(self, topic: str) -> bool:
        """Whether the filter matches this topic name."""
        return filter_matches(self.mqtt, topic)

    def parameters(self, topic: str) -> dict[str, str] | None:
        """What the named levels hold in `topic`, or None if the filter does not match it."""
        if not self.matches(topic):
            return None
        if not self.names:
            return {}
        levels = topic.split("/")
        return {name: levels[number] for name, number in self.names.items()}


@lru_cache(maxsize=4096)
def filter_matches(mqtt_filter: str, topic: str) -> bool:
    """Whether a filter in MQTT's notation matches a topic name."""
    if topic.startswith("$") and mqtt_filter[:1] in ("+", "#"):
        return False
    wanted = mqtt_filter.split("/")
    levels = topic.split("/")
    for number, want in enumerate(wanted):
        if want == "#":
            return True
        if number == len(levels) or want not in ("+", levels[number]):
            return False
    return len(wanted) == len(levels)


def filter_covers(wide: str, narrow: str) -> bool:
    """Whether `wide` matches every topic that `narrow` matches: a filter, or a topic name, which matches itself. (That
    `+/#` covers `#` is not seen.)"""
    if narrow.startswith("$") and wide[:1] in ("+", "#"):
        return False
    allowed, levels = wide.split("/"), narrow.split("/")
    for number, allow in enumerate(allowed):
        if allow == "#":
            return True
        if number == len(levels) or levels[number] == "#" or allow not in ("+", levels[number]):
            return False
    return len(allowed) == len(levels)


class _Node(Generic[T]):
    __slots__ = ("children", "values")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.values: dict[T, None] = {}


class Trie(Generic[T]):
    """Filters in MQTT's notation, each with the values that were added under it; `match` finds the values.

    `version` grows with every change, so that a caller may keep what it found until then.
    """

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._size = 0
        self.version = 0

    def __len__(self) -> int:
        return self._size

    def add(self, mqtt_filter: str, value: T) -> None:
        """Add `value` under a filter (adding it again changes nothing)."""
        node = self._root
        for level in mqtt_filter.split("/"):
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        if value not in node.values:
            node.values[value] = None
            self._size += 1
            self.version += 1

    def remove(self, mqtt_filter: str, value: T) -> None:
        """Remove what `add` added; absent is fine. Branches that become empty are pruned."""
        path = [self._root]
        levels = mqtt_filter.split("/")
        for level in levels:
            child = path[-1].children.get(level)
            if child is None:
                return
            path.append(child)
        if value not in path[-1].values:
            return
        del path[-1].values[value]
        self._size -= 1
        self.version += 1
        for parent, level, node in zip(reversed(path[:-1]), reversed(levels), reversed(path[1:]), strict=True):
            if node.values or node.children:
                break
            del parent.children[level]

    def match(self, topic: str) -> list[T]:
        """The values of every filter that matches, each once, in the order of the filters' breadth-first walk."""
        found: dict[T, None] = {}
        for values in self._walk(topic):
            found.update(values)
        return list(found)

    def matched_by(self, mqtt_filter: str) -> list[T]:
        """The other way about: where topics were added, the values of those that a filter matches."""
        nodes = [self._root]
        for number, level in enumerate(mqtt_filter.split("/")):
            hidden = number == 0  # a wildcard at the first level finds no topics that begin with `$` (4.7.2)
            if level == "#":
                found = [] if hidden else list(nodes)  # "a/#" matches "a" too (4.7.1.2)
                found += [node for parent in nodes for child in _children(parent, hidden) for node in _below(child)]
                return [value for node in found for value in node.values]
            if level == "+":
                nodes = [child for node in nodes for child in _children(node, hidden)]
            else:
                nodes = [node.children[level] for node in nodes if level in node.children]
        return [value for node in nodes for value in node.values]

    def _walk(self, topic: str) -> Iterator[dict[T, None]]:
        hidden = topic.startswith("$")
        nodes = [self._root]
        for number, level in enumerate(topic.split("/")):
            wild = not (hidden and number == 0)
            following: list[_Node[T]] = []
            for node in nodes:
                children = node.children
                if wild and (rest := children.get("#")) is not None:
                    yield rest.values
                if (child := children.get(level)) is not None:
                    following.append(child)
                if wild and (child := children.get("+")) is not None:
                    following.append(child)
            nodes = following
            if not nodes:
                return
        for node in nodes:
            yield node.values
            if (rest := node.children.get("#")) is not None:  # "a/#" matches "a" too (4.7.1.2)
                yield rest.values


def _children(node: _Node[T], hidden: bool) -> list[_Node[T]]:
    """What a wildcard finds; `hidden`: but for what begins with `$`."""
    return [child for level, child in node.children.items() if not (hidden and level.startswith("$"))]


def _below(node: _Node[T]) -> Iterator[_Node[T]]:
    """A node and all below it."""
    nodes = [node]
    while nodes:
        node = nodes.pop()
        yield node
        nodes.extend(node.children.values())
