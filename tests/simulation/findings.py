"""What a run of lives has to say: how much it survived, or the line that repeats its failure."""

import traceback
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What was survived and looked at."""

    lives: int = 0
    power_cuts: int = 0
    kills: int = 0
    stops: int = 0
    writes: int = 0
    points: int = 0
    restores: int = 0
    losses: int = 0
    scans: int = 0
    """Verify and full, that came to their end and were judged."""
    spoils: int = 0
    """Sectors of the secondary that were changed behind the service's back."""
    phases: "Counter[str]" = field(default_factory=Counter)
    """In which phase of which kind of job a life was cut or killed."""

    def ended(self, way: str) -> None:
        """Another life, by `cut`, `kill` or `stop`."""
        if way == "cut":
            self.power_cuts += 1
        elif way == "kill":
            self.kills += 1
        else:
            self.stops += 1

    def add(self, other: "Tally") -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class Failure:
    """A run that found something: the line that replays it, and what happened."""

    seed: int
    lives: int
    what: str
    story: str = ""
    trace: str = ""
    scans: bool = False

    @classmethod
    def told_by(
        cls, error: Exception, seed: int, lives: int, life: int, story: str, scans: bool = False
    ) -> "Failure":
        """Whatever it is, it is a finding."""
        what = f"seed {seed}, life {life}: {type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error)[-12:])
        return cls(seed, lives, what, story, trace, scans)

    def __str__(self) -> str:
        return (
            f"{self.story}\n{self.trace}\n{self.what}\n"
            f"replay: python -m tests.soak --seed {self.seed} --runs 1"
            f" --lives {self.lives} --story{' --scans' if self.scans else ''}"
        )
