"""What a run of lives has to say: how much it survived, or the line that repeats its failure."""

from dataclasses import dataclass


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

    def __str__(self) -> str:
        return (
            f"{self.story}\n{self.trace}\n{self.what}\n"
            f"replay: python -m tests.soak --seed {self.seed} --runs 1"
            f" --lives {self.lives} --story"
        )
