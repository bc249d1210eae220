"""What lines have told about runs, messages, conversations and applications, for other lines. Bounded.

The least recently used is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Any, Final

from ingress.dify.containers import Container, Containers, Round, rounds
from ingress.dify.operation import Joins, Within
from tailrace.records import Kind

RUN: Final = "run"
MESSAGE: Final = "message"
CONVERSATION: Final = "conversation"
APP: Final = "app"
NODE: Final = "node"
CONTAINERS: Final = "containers"
"""Executions of an iteration or loop of a run."""
Key = tuple[str, str]
"""What it is about, and its id."""

BYTES: Final = 32 << 20
"""Bytes that are remembered, about."""
_EACH: Final = 400
"""Bytes that one entry takes without its texts, about."""
_OF_AN_APP: Final = ("tenant_id", "app_id", "app_name", "workspace_name")
_OF_A_NODE: Final = (
    *_OF_AN_APP,
    "message_id",
    "conversation_id",
    "user_id",
    "parent_run_id",
    "parent_node_execution_id",
)
_TENANT: Final = ("tenant_id",)
_SHARING: Final = 8
"""Tenants and applications with the same id that are remembered."""
_MESSAGES: Final = 8
"""First messages of a conversation that are remembered: its name belongs to one of them."""


class Facts:
    """What is known about one run, message, conversation or application."""

    __slots__ = ("calls", "containers", "known", "made", "messages", "real", "seen", "size")

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        """Fields of an event."""
        self.seen = False
        """Whether its own line was read: what is not known will not be."""
        self.real = False
        """Of a message: whether Dify sent it."""
        self.made = False
        """Of a message: whether it was made from its run."""
        self.containers = Containers()
        """Of a run: its iterations and loops."""
        self.messages: list[str] = []
        """Of a conversation: its first messages."""
        self.calls: dict[tuple[str, bytes], tuple[int, int, str]] = {}
        """Of a message: what Dify says of a tool's call -> start, line and id of the latest call that it says
        it of."""
        self.size = _EACH

    def get(self, name: str) -> Any:
        """A field; None if it is not known."""
        return self.known.get(name)

    def learn(self, name: str, value: Any, override: bool = False) -> None:
        """Remembers a field, unless it is known already."""
        if value is None or (name in self.known and not override):
            return
        self.known[name] = value
        self.size += 100 + (len(value) if isinstance(value, str) else 8)

    def fits(self, tenant: str | None) -> bool:
        """Whether nothing that is known is of another tenant."""
        own = self.known.get("tenant_id")
        return own is None or tenant is None or own == tenant

    def differs(self, app: str | None) -> bool:
        """Whether it is known to be of another application."""
        own = self.known.get("app_id")
        return own is not None and app is not None and own != app


class Memory:
    """All that is known.

    Args:
        most: bytes that are remembered, about.
    """

    def __init__(self, most: int = BYTES) -> None:
        self._most, self._size = most, 0
        self._entries: OrderedDict[Key, list[Facts]] = OrderedDict()
        self.forgotten = 0
        """Entries that had no room."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes that are remembered, about."""
        return self._size

    def find(
        self,
        about: str,
        id_: str | None,
        tenant: str | None = None,
        app: str | None = None,
        *,
        of_app: bool = False,
    ) -> Facts | None:
        """What is known of an id; None if that is nothing, or not clear because others share the id.

        Args:
            about: what it is the id of.
            id_: the id.
            tenant: whose it is, if that is known.
            app: which application's it is, if that is known. It is asked if several tenants have the id.
            of_app: whether nothing of another application is meant.
        """
        if id_ is None:
            return None
        found = self._entries.get((about, id_))
        if found is None:
            return None
        self._entries.move_to_end((about, id_))
        fitting = [facts for facts in found if facts.fits(tenant) and not (of_app and facts.differs(app))]
        if len(fitting) > 1 and app is not None:
            fitting = [facts for facts in fitting if facts.get("app_id") == app]
        return fitting[0] if len(fitting) == 1 else None

    def learn(self, j: Joins) -> list[Key]:
        """Remembers what an operation tells others.

        Returns:
            What is known better than before.
        """
        tenant, app = j.get("tenant_id"), j.get("app_id")
        told: list[Key] = []
        if tenant is not None and app is not None and self.find(APP, app, tenant) is None:
            self._update(APP, app, j, _OF_AN_APP, [])
        if j.kind == Kind.WORKFLOW_RUN:
            self._run(j, told)
        elif j.kind == Kind.NODE_EXECUTION:
            self._node(j, told)
        elif j.kind == Kind.MESSAGE:
            facts = self._update(MESSAGE, j.source_id, j, None, told, override=True)
            facts.seen = facts.real = True
            self._turn_of(j, j.source_id, told)
        elif j.kind == Kind.TOOL and j.call is not None and j.get("message_id") is not None:
            facts = self._update(MESSAGE, j.get("message_id"), j, (), [])
            if j.call not in facts.calls:
                self._grow(facts, 200 + len(j.call[0]) + len(j.source_id))
            own = (j.get("started_at") or 0, j.number, j.source_id)
            facts.calls[j.call] = max(own, facts.calls.get(j.call, own))
        self._shrink()
        return told

    def _run(self, j: Joins, told: list[Key]) -> None:
        facts = self._update(RUN, j.source_id, j, None, told, override=True)
        facts.seen = True
        message = facts.get("message_id")
        if message is None or facts.get("parent_run_id") is not None:
            return
        turn = self._update(MESSAGE, message, j, None, told)
        turn.seen = True
        self._turn_of(j, message, told)

    def _node(self, j: Joins, told: list[Key]) -> None:
        run = j.get("workflow_run_id")
        facts = self._update(RUN, run, j, _OF_A_NODE, [])
        self._update(NODE, j.source_id, j, _TENANT, told)
        w = j.within
        if w is None or w.node_id is None or w.node_type not in ("iteration", "loop"):
            return
        place = (w.iteration_id, w.iteration_index, w.loop_id, w.loop_index)
        container = Container(j.source_id, j.get("started_at"), j.get("ended_at"), *place)
        if not facts.containers.add(w.node_id, container):
            return
        texts = (w.node_id, w.iteration_id, w.loop_id)
        self._grow(facts, _EACH + sum(len(text) for text in texts if text))
        told += [_of_round(run, (w.node_id, w.iteration_index, w.loop_index)), _of_node(run, w.node_id)]

    def _turn_of(self, j: Joins, message: str, told: list[Key]) -> None:
        conversation = j.get("conversation_id")
        if conversation is None:
            return
        facts = self._update(CONVERSATION, conversation, j, _TENANT, told)
        if message not in facts.messages and len(facts.messages) < _MESSAGES:
            facts.messages.append(message)
            self._grow(facts, 100 + len(message))

    def _update(
        self,
        about: str,
        id_: str,
        j: Joins,
        names: Collection[str] | None,
        told: list[Key],
        override: bool = False,
    ) -> Facts:
        key = (about, id_)
        tenant, app = j.get("tenant_id"), j.get("app_id")
        facts = self.find(about, id_, tenant, app, of_app=override or about == RUN)
        if facts is None:
            facts = Facts()
            sharing = self._entries.setdefault(key, [])
            sharing.append(facts)
            self._size += facts.size + len(id_)
            if len(sharing) > _SHARING:
                gone = sharing.pop(0)
                self._size -= gone.size + len(id_)
                self.forgotten += 1
        before = facts.size
        for name, value in j.known.items():
            if names is None or name in names:
                facts.learn(name, value, override)
        self._size += facts.size - before
        told.append(key)
        return facts

    def _grow(self, facts: Facts, size: int) -> None:
        facts.size += size
        self._size += size

    def _shrink(self) -> None:
        while self._size > self._most and len(self._entries) > 1:
            (_, id_), gone = self._entries.popitem(last=False)
            self._size -= sum(facts.size + len(id_) for facts in gone)
            self.forgotten += 1


def container_keys(run: str, w: Within) -> tuple[Key, ...]:
    """What tells the container of a node: an execution of it, in the round that the node is in if it says so.

    Args:
        run: the node's run.
        w: where the node is.
    """
    ids = [id_ for id_ in (w.loop_id, w.iteration_id) if id_ is not None]
    if len(ids) == 2 and w.iteration_index is not None and w.loop_index is not None:
        return tuple(_of_round(run, round_) for id_ in ids for round_ in rounds(id_, w))
    return tuple(_of_node(run, id_) for id_ in ids)


def _of_round(run: str, round_: Round) -> Key:
    node_id, iteration_index, loop_index = round_
    return CONTAINERS, f"{run}\0{node_id}\0{iteration_index}\0{loop_index}"


def _of_node(run: str, node_id: str) -> Key:
    return CONTAINERS, f"{run}\0{node_id}"
