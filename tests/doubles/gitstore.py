"""The little of Git that both forges' doubles need: files by commit, branches, what was written."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field

DOCKERFILE = """ARG BASE=registry.example/base:1
FROM registry.example/base:1.2 AS tools
# not this one: registry.example/base:1
FROM registry.example/base:1
RUN echo registry.example/base:1
"""
VALUES = f"""# what the chart is given
cart:
  image:
    registry: registry.example
    repository: shop/cart
    tag: "1.4" # moves
    digest: sha256:{"0" * 64}
"""
MAIN = "main"


@dataclass
class GitStore:
    """One repository. ``made`` counts the writes that acted, by operation."""

    files: dict[str, str] = field(
        default_factory=lambda: {"Dockerfile": DOCKERFILE, "shop/cart/values.yaml": VALUES}
    )
    commits: dict[str, dict[str, str]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    made: Counter[str] = field(default_factory=Counter)
    hide_branches_for: int = 0  # looks at a new branch that say it is not there
    roots: dict[str, str] = field(default_factory=dict)  # commit -> where its branch began

    def __post_init__(self) -> None:
        """Make the first commit of the main branch."""
        self.branches[MAIN] = self.store(self.files)

    def store(self, files: dict[str, str]) -> str:
        """Keep a commit and return its name."""
        name = hashlib.sha1(repr((len(self.commits), files)).encode()).hexdigest()
        self.commits[name] = dict(files)
        return name

    def push(self, branch: str, start: str, file: str, text: str) -> str:
        """Commit one file onto a commit and let the branch point there."""
        made = self.store({**self.commits[start], file: text})
        self.roots[made] = self.roots.get(start, start)
        self.branches[branch] = made
        return made

    def edit(self, file: str, text: str) -> str:
        """Somebody else commits to the main branch."""
        return self.push(MAIN, self.branches[MAIN], file, text)

    def merge(self, sha: str) -> str:
        """Take what a branch changed into the main branch and return what that got."""
        root, base = self.commits[self.roots.get(sha, sha)], self.commits[self.branches[MAIN]]
        own = {file: text for file, text in self.commits[sha].items() if root.get(file) != text}
        self.branches[MAIN] = self.store({**base, **own})
        return self.branches[MAIN]

    def shown(self, branch: str) -> str | None:
        """The branch's newest commit as a look shows it: late, where the double is told so."""
        if branch != MAIN and branch in self.branches and self.hide_branches_for > 0:
            self.hide_branches_for -= 1
            return None
        return self.branches.get(branch)

    def at(self, ref: str, file: str) -> str | None:
        """A file's text at a commit or branch."""
        return self.commits.get(self.branches.get(ref, ref), {}).get(file)

    def own(self) -> list[str]:
        """The branches beside the main one."""
        return [name for name in self.branches if name != MAIN]

    def changed(self, sha: str) -> int:
        """How many files of a commit differ from the main branch's."""
        main = self.commits[self.branches[MAIN]]
        return sum(main.get(file) != text for file, text in self.commits[sha].items())


def blob(text: str) -> str:
    """The name of a file's content, as Git makes it."""
    data = text.encode()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
