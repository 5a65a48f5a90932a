"""A machine that runs commands for tests of the shell: it keeps its domains and its clock, and refuses what it does not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from state.run import Completed, ReadError

HEADER = "Name                                        ID   Mem VCPUs\tState\tTime(s)\n"
DOM0 = "Domain-0                                     0  1024     8     r-----       0.0\n"


@dataclass(slots=True)
class Guest:
    """A domain. `obeys`: after how many seconds it has shut down; None: never."""

    uuid: str
    domid: int
    obeys: float | None = 1.0
    state: str = "-b----"
    asked_at: float | None = None
    monitor: str = "kept"  # as shut down; gone: its monitor takes it away; reborn: it reboots
    survives: bool = False  # a destroy says that it was done, and nothing was


@dataclass(slots=True)
class Machine:
    """Runner, clock and `xl` in one."""

    guests: list[Guest] = field(default_factory=list)
    fails: set[tuple[str, ...]] = field(default_factory=set)
    down: bool = False
    now: float = 0.0
    ran: list[tuple[str, ...]] = field(default_factory=list)
    answers: dict[tuple[str, ...], str] = field(default_factory=dict)
    coming: list[tuple[float, Guest]] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        timeout_s: float = 15.0,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        del timeout_s, environment
        if self.down:
            raise ReadError(f"{' '.join(argv)}: no answer within 15 s")
        self.ran.append(tuple(argv))
        if tuple(argv) in self.fails:
            return Completed(tuple(argv), 1, "", "libxl: error: it says no\n", len(self.ran), 0.001)
        return Completed(tuple(argv), 0, self._answer(tuple(argv), stdin), "", len(self.ran), 0.001)

    def _answer(self, argv: tuple[str, ...], stdin: str) -> str:
        self._tick()
        match argv:
            case ("xl", "list"):
                rows = (
                    f"{'vm':<40} {g.domid:5d} {256:5d} {1:5d}     {g.state}  {0.0:8.1f}\n"
                    for g in self.guests
                )
                return HEADER + DOM0 + "".join(rows)
            case ("xl", "vm-list"):
                rows = (f"{guest.uuid}  {guest.domid}    vm\n" for guest in self.guests)
                return "UUID                                  ID    name\n" + "".join(rows)
            case ("xl", "shutdown", domid):
                self._guest(domid).asked_at = self.now
                return ""
            case ("xl", "destroy", domid):
                if not self._guest(domid).survives:
                    self.guests.remove(self._guest(domid))
                return ""
        if argv not in self.answers:
            raise AssertionError(f"this machine does not know {argv} {stdin!r}")
        return self.answers[argv]

    def _guest(self, domid: str) -> Guest:
        return next(guest for guest in self.guests if str(guest.domid) == domid)

    def _tick(self) -> None:
        for guest in [*self.guests]:
            if guest.asked_at is None or guest.obeys is None or self.now < guest.asked_at + guest.obeys:
                continue
            if guest.monitor == "kept":
                guest.state = "---s--"
            else:
                self.guests.remove(guest)
                if guest.monitor == "reborn":  # its monitor sleeps two seconds in between
                    self.coming.append((self.now + 2.0, Guest(guest.uuid, guest.domid + 10)))
        self.guests += [guest for at, guest in self.coming if at <= self.now]
        self.coming = [(at, guest) for at, guest in self.coming if at > self.now]
